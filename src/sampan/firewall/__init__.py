"""The engine's rules in the kernel's packet filter: tables of its own, through libnftables."""
