"""Texts that dockerd's decoder reads as addresses, prefixes and ports: what is none fails as the JSON does, before anything else.

The words are those of Go's `net/netip` and of the API's own port type, for clients and their tests know them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from sampan.engineapi.container import ContainerConfig, HostConfig
from sampan.engineapi.network import IPAM, EndpointSettings
from sampan.errors import InvalidParameter

_MAC = re.compile(r"[0-9a-fA-F]{2}(?:([:-])[0-9a-fA-F]{2})(?:\1[0-9a-fA-F]{2}){4}")
_NUMBER = re.compile(r"[+-]?\d+")


def check_create(config: ContainerConfig, host: HostConfig, endpoints: Iterable[EndpointSettings]) -> None:
    """Raises `InvalidParameter` for the first bad text of a container's configuration."""
    for port in config.exposed_ports or ():
        _port(port)
    for port, bindings in (host.port_bindings or {}).items():
        _port(port)
        for binding in bindings or ():
            _address(binding.host_ip)
    for address in host.dns or ():
        _address(address)
    for settings in endpoints:
        check_endpoint(settings)


def check_endpoint(settings: EndpointSettings) -> None:
    """The same for an endpoint's wanted addresses."""
    if settings.ipam_config is not None:
        wanted = settings.ipam_config
        for address in (wanted.ipv4_address, wanted.ipv6_address, *(wanted.link_local_ips or ())):
            _address(address)
    if settings.mac_address and not _MAC.fullmatch(settings.mac_address):
        raise _invalid(f"address {settings.mac_address}: invalid MAC address")


def check_ipam(ipam: IPAM | None) -> None:
    """The same for a network's pools."""
    for pool in (ipam.config if ipam else None) or ():
        _prefix(pool.subnet)
        _prefix(pool.ip_range)
        _address(pool.gateway)
        for address in (pool.auxiliary_addresses or {}).values():
            _address(address)


def _port(text: str) -> None:
    number = text.partition("/")[0]
    if not text:
        raise _invalid("invalid port: value is empty")
    if not number:
        raise _invalid("invalid port '': value is empty")
    if not number.isascii() or not _NUMBER.fullmatch(number):
        raise _invalid(f"invalid port '{number}': invalid syntax")
    if not 0 <= int(number) <= 65535:
        raise _invalid(f"invalid port '{number}': value out of range")


def _address(text: str) -> None:
    if text and (reason := _address_fault(text)):
        raise _invalid(f'ParseAddr("{text}"): {reason}')


def _prefix(text: str) -> None:
    if not text:
        return
    address, slash, bits = text.rpartition("/")
    if not slash:
        raise _invalid(f"netip.ParsePrefix(\"{text}\"): no '/'")
    if reason := _address_fault(address):
        raise _invalid(f'netip.ParsePrefix("{text}"): ParseAddr("{address}"): {reason}')
    if not bits.isascii() or not bits.isdigit() or (len(bits) > 1 and bits[0] == "0"):
        raise _invalid(f'netip.ParsePrefix("{text}"): bad bits after slash: "{bits}"')
    if int(bits) > (128 if ":" in address else 32):
        raise _invalid(f'netip.ParsePrefix("{text}"): prefix length out of range')


def _address_fault(text: str) -> str:
    """Why the text is no address; empty when it is one."""
    for character in text:
        if character == ".":
            return _v4_fault(text)
        if character == ":":
            return _v6_fault(text)
        if character == "%":
            return "missing IPv6 address"
    return "unable to parse IP"


def _v4_fault(text: str) -> str:
    fields = text.split(".")
    for number, field in enumerate(fields):
        bad = next((character for character in field if not "0" <= character <= "9"), "")
        if bad:
            rest = ".".join([field[field.index(bad) :], *fields[number + 1 :]])
            return f'unexpected character (at "{rest}")'
        if not field:
            return f'IPv4 field must have at least one digit (at "{".".join(fields[number:])}")'
        if len(field) > 1 and field[0] == "0":
            return "IPv4 field has octet with leading zero"
        if int(field) > 255:
            return "IPv4 field has value >255"
    if len(fields) != 4:
        return "IPv4 address too short" if len(fields) < 4 else "IPv4 address too long"
    return ""


def _v6_fault(text: str) -> str:
    import ipaddress

    address, percent, zone = text.partition("%")
    if percent and not zone:
        return "zone must be a non-empty string"
    try:
        ipaddress.IPv6Address(address)
    except ValueError:
        return "unable to parse IP"
    return ""


def _invalid(reason: str) -> InvalidParameter:
    return InvalidParameter(f"invalid JSON: {reason}")
