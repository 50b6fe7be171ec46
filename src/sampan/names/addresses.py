"""Addresses of the internet protocol, as text."""

from __future__ import annotations


def is_address(text: str) -> bool:
    """Whether a text is an IPv4 or IPv6 address, without brackets and port."""
    import ipaddress  # not before it is asked: the command line starts without it

    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
