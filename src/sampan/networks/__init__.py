"""Networks: bridges, addresses, ports and names for containers."""
