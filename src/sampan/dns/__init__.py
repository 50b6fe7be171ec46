"""Names for containers: the embedded resolver at 127.0.0.11 and the files resolv.conf, hosts and hostname."""
