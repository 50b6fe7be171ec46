"""A container's /etc/hosts and /etc/hostname. Format: hosts(5), fields separated by a tab as dockerd writes them."""

from __future__ import annotations

from collections.abc import Sequence

_STANDARD = (
    ("127.0.0.1", "localhost"),
    ("::1", "localhost ip6-localhost ip6-loopback"),
    ("fe00::", "ip6-localnet"),
    ("ff00::", "ip6-mcastprefix"),
    ("ff02::1", "ip6-allnodes"),
    ("ff02::2", "ip6-allrouters"),
)


def hosts_file(
    *,
    hostname: str,
    domainname: str,
    addresses: Sequence[str],
    extra: Sequence[tuple[str, str]] = (),
) -> str:
    """The file: the standard names, `extra` (address, names) of `--add-host` and links, and the container's own name for
    each address."""
    own = full_hostname(hostname, domainname)
    names = f"{own} {own.partition('.')[0]}" if "." in own.strip(".") else own
    lines = [*_STANDARD, *extra, *((address, names) for address in addresses)]
    return "".join(f"{address}\t{name}\n" for address, name in lines)


def full_hostname(hostname: str, domainname: str) -> str:
    """The host name with its domain."""
    return f"{hostname}.{domainname}" if domainname else hostname
