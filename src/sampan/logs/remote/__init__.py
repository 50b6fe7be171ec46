"""Log drivers that send a container's output elsewhere.

The shim writes the local file in any case (it is what `docker logs` reads); a *sink* is what a driver adds to it, and
`sampan.logs.shipping` moves lines from the file to the sink.

`interface`  a line, its origin, and what a sink does
`address`    the addresses in drivers' options
`syslog` `gelf` `fluentd` `journald`   the sinks, with the checks of their options
`drivers`    by name: which options there are, and the sink for a container
"""
