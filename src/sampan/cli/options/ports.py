"""`-p` and `--expose`: port specifications."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sampan.errors import InvalidParameter

if TYPE_CHECKING:
    from collections.abc import Iterable

PROTOCOLS = ("tcp", "udp", "sctp")


class Published(NamedTuple):
    """What the flags say: the API's ExposedPorts and PortBindings."""

    exposed: dict[str, dict[str, Any]]
    bindings: dict[str, list[dict[str, str]]]


def published(specs: Iterable[str], expose: Iterable[str]) -> Published:
    """All `-p` and `--expose` of a command line. Raises InvalidParameter in docker's words.

    >>> published(["127.0.0.1:8080:80"], [])
    Published(exposed={'80/tcp': {}}, bindings={'80/tcp': [{'HostIp': '127.0.0.1', 'HostPort': '8080'}]})
    """
    exposed: dict[str, dict[str, Any]] = {}
    bindings: dict[str, list[dict[str, str]]] = {}
    for spec in specs:
        for key, binding in _long_form(spec) if "=" in spec else parse_spec(spec):
            exposed[key] = {}
            bindings.setdefault(key, []).append(binding)
    for spec in expose:
        for key in _exposed(spec):
            exposed.setdefault(key, {})
    return Published(exposed, bindings)


def parse_spec(spec: str) -> list[tuple[str, dict[str, str]]]:
    """`[[IP:]HOST[-HOST]:]CONTAINER[-CONTAINER][/PROTO]` as (container port, binding) pairs."""
    address, host, container = _split(spec)
    container, protocol = _protocol(container)
    if not container:
        raise InvalidParameter(f"no port specified: {spec}<empty>")
    first, last = _range(container, "containerPort")
    _check_address(address, spec)
    if not host:
        return [
            (f"{port}/{protocol}", {"HostIp": address, "HostPort": ""}) for port in range(first, last + 1)
        ]
    host_first, host_last = _range(host, "hostPort")
    if last - first != host_last - host_first:
        if first != last:
            raise InvalidParameter(
                f"invalid ranges specified for container and host Ports: {container} and {host}"
            )
        # One container port and a range of host ports: any free one of the range.
        return [(f"{first}/{protocol}", {"HostIp": address, "HostPort": f"{host_first}-{host_last}"})]
    return [
        (f"{first + step}/{protocol}", {"HostIp": address, "HostPort": str(host_first + step)})
        for step in range(last - first + 1)
    ]


def _split(spec: str) -> tuple[str, str, str]:
    address, host, container = "", "", spec
    if ":" in spec:
        rest, _, container = spec.rpartition(":")
        address, _, host = rest.rpartition(":") if ":" in rest and not rest.endswith("]") else ("", "", rest)
    if address.startswith("[") and address.endswith("]"):
        address = address[1:-1]
    return address, host, container


def _protocol(port: str) -> tuple[str, str]:
    number, separator, protocol = port.partition("/")
    protocol = protocol.lower() if separator else "tcp"
    if separator and not protocol:
        protocol = "tcp"
    if protocol not in PROTOCOLS:
        raise InvalidParameter(f"invalid proto: {protocol}")
    return number, protocol


def _range(text: str, what: str) -> tuple[int, int]:
    first, separator, last = text.partition("-")
    try:
        low, high = int(first), int(last) if separator else int(first)
    except ValueError:
        raise InvalidParameter(f"invalid {what}: {text}") from None
    if not (0 <= low <= 65535 and 0 <= high <= 65535) or high < low:
        raise InvalidParameter(f"invalid {what}: {text}")
    return low, high


def _check_address(address: str, spec: str) -> None:
    if not address:
        return
    import ipaddress

    try:
        ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        raise InvalidParameter(f"invalid IP address: {address}") from None


def _long_form(spec: str) -> list[tuple[str, dict[str, str]]]:
    """`target=80,published=8080,protocol=tcp`."""
    fields = dict(part.partition("=")[::2] for part in spec.split(","))
    unknown = fields.keys() - {"target", "published", "protocol", "mode"}
    if unknown:
        raise InvalidParameter(f"invalid field key {sorted(unknown)[0]}")
    if not fields.get("target"):
        raise InvalidParameter(f"invalid port: {spec}: target is required")
    host = fields.get("published", "")
    return parse_spec(f"{host}{':' if host else ''}{fields['target']}/{fields.get('protocol', 'tcp')}")


def _exposed(spec: str) -> list[str]:
    if ":" in spec:
        raise InvalidParameter(f"invalid port format for --expose: {spec}")
    port, protocol = _protocol(spec)
    try:
        first, last = _range(port, "port")
    except InvalidParameter:
        reason = f"invalid range specified for port: {port}"
        for number in port.split("-", 1):
            if not number.isdecimal():
                reason = f'strconv.ParseUint: parsing "{number}": invalid syntax'
                break
        raise InvalidParameter(f"invalid range format for --expose: {port}, error: {reason}") from None
    return [f"{number}/{protocol}" for number in range(first, last + 1)]
