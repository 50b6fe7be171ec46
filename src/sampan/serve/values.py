"""How the text of a flag becomes the value that daemon.json would hold, and how a value is shown again.

Every reader raises `ValueError` or `InvalidParameter` with dockerd's words for a text that is none.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from typing import Any

from sampan.errors import InvalidParameter
from sampan.names.booleans import word_for
from sampan.names.units import bytes_size, parse_memory

_DOMAIN = re.compile(
    r"(?:[a-zA-Z0-9_](?:[a-zA-Z0-9_-]*[a-zA-Z0-9_])?)(?:\.[a-zA-Z0-9_](?:[a-zA-Z0-9_-]*[a-zA-Z0-9_])?)*\.?"
)


def read_bool(text: str) -> bool:
    """Go's ParseBool."""
    value = word_for(text)
    if value is None:
        raise ValueError(f'strconv.ParseBool: parsing "{text}": invalid syntax')
    return value


def read_int(text: str) -> int:
    """Go's ParseInt with base 0: decimal, 0x, 0o, 0b."""
    try:
        return int(text, 0)
    except ValueError:
        raise ValueError(f'strconv.ParseInt: parsing "{text}": invalid syntax') from None


def read_pair(text: str) -> tuple[str, str]:
    """`key=value`."""
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise ValueError(f"invalid key=value pair: {text}")
    return key, value


def read_address(text: str) -> str:
    """An IP address; anything else is refused."""
    try:
        return str(ipaddress.ip_address(text.strip()))
    except ValueError:
        raise ValueError(f'failed to parse IP: "{text}"') from None


def read_host_address(text: str) -> str:
    """The address of a DNS server or of the host, as netip parses it."""
    try:
        return str(ipaddress.ip_address(text.strip()))
    except ValueError:
        raise ValueError(f'ParseAddr("{text}"): unable to parse IP') from None


def read_label(text: str) -> str:
    """`key=value`, or dockerd's complaint."""
    if "=" not in text:
        raise ValueError(f"bad attribute format: {text}")
    if not text.partition("=")[0].strip():
        raise ValueError(f"invalid label format: '{text}'")
    return text


def read_search_domain(text: str) -> str:
    """A domain; `.` alone means none at all."""
    text = text.strip(" ")
    if text != "." and (len(text) > 255 or not _DOMAIN.fullmatch(text)):
        raise ValueError(f"{text} is not a valid domain")
    return text


def read_mirror(text: str) -> str:
    """The URL of a registry mirror: http or https, without credentials, query and fragment."""
    scheme, separator, rest = text.partition("://")
    if not separator or not scheme:
        raise ValueError(
            f"invalid mirror: no scheme specified for \"{text}\": must use either 'https://' or 'http://'"
        )
    if scheme not in ("http", "https"):
        raise ValueError(
            f"invalid mirror: unsupported scheme \"{scheme}\" in \"{text}\": must use either 'https://' or 'http://'"
        )
    if "?" in rest or "#" in rest:
        raise ValueError(f'invalid mirror: query or fragment at end of the URI "{text}"')
    user, at, place = rest.partition("/")[0].rpartition("@")
    if at:
        shown = f"{scheme}://{user.partition(':')[0]}:xxxxx@{place}"
        raise ValueError(f'invalid mirror: username/password not allowed in URI "{shown}"')
    return text.removesuffix("/") + "/"


def read_index_name(text: str) -> str:
    """The name of a registry."""
    name = "docker.io" if text == "index.docker.io" else text
    if name.startswith("-") or name.endswith("-"):
        raise ValueError(f"invalid index name ({name}). Cannot begin or end with a hyphen")
    return name


def _read_pools(text: str) -> list[dict[str, Any]]:
    pool: dict[str, Any] = {}
    for part in text.split(","):
        key, equals, value = part.partition("=")
        if not equals:
            raise ValueError(f"invalid field '{part}' must be a key=value pair")
        if key.lower() not in ("base", "size"):
            raise ValueError(f"unexpected key '{key}' in '{part}'")
        try:
            pool[key.lower()] = (
                int(value) if key.lower() == "size" else str(ipaddress.ip_network(value, False))
            )
        except ValueError as error:
            raise ValueError(f"invalid {key} value: {value}: {error}") from None
    if set(pool) != {"base", "size"}:
        raise ValueError("base and size are both needed, as in base=172.80.0.0/16,size=24")
    return [pool]


def _read_mapmap(text: str) -> dict[str, dict[str, str]]:
    driver, equals, pair = text.partition("=")
    if not driver or not equals:
        raise ValueError(f"invalid mapmap format, should be like bridge=key=value: {text}")
    key, value = read_pair(pair)
    return {driver: {key: value}}


def _read_ulimits(text: str) -> dict[str, dict[str, Any]]:
    name, equals, limits = text.partition("=")
    if not equals:
        raise ValueError(f"invalid ulimit argument: {text}")
    soft, colon, hard = limits.partition(":")
    low, high = int(soft), int(hard if colon else soft)
    if high != -1 and (low > high or low == -1):
        raise ValueError(f"ulimit soft limit must be less than or equal to hard limit: {low} > {high}")
    return {name: {"Name": name, "Soft": low, "Hard": high}}


def _read_feature(text: str) -> dict[str, bool]:
    name, equals, value = text.partition("=")
    return {name: read_bool(value) if equals else True}


def _read_nri(text: str) -> dict[str, Any]:
    """`enable=true,socket-path=/run/nri.sock`"""
    pairs = dict(read_pair(part) for part in text.split(","))
    return {key: read_bool(value) if key == "enable" else value for key, value in pairs.items()}


def _list_of(read: Callable[[str], str]) -> Callable[[str], list[str]]:
    return lambda text: [read(text)]


READERS: dict[str, Callable[[str], Any]] = {
    "string": str,
    "ip": read_address,
    "bool": read_bool,
    "int": read_int,
    "bytes": parse_memory,
    "list": _list_of(str),
    "addresses": _list_of(read_host_address),
    "labels": _list_of(read_label),
    "domains": _list_of(read_search_domain),
    "mirrors": _list_of(read_mirror),
    "registries": _list_of(read_index_name),
    "map": lambda text: dict([read_pair(text)]),
    "mapmap": _read_mapmap,
    "pools": _read_pools,
    "features": _read_feature,
    "ulimits": _read_ulimits,
    "nri": _read_nri,
}
"""By the kind of a flag."""


def shown(kind: str, value: Any) -> str:
    """A flag's value as dockerd prints it where it conflicts with the file's."""
    if kind == "bytes":
        return bytes_size(value)
    if kind == "ulimits":
        return (
            "[" + " ".join(f"{name}={limit['Soft']}:{limit['Hard']}" for name, limit in value.items()) + "]"
        )
    return as_go(value)


def as_go(value: Any) -> str:
    """A value as Go's %v prints it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "[" + " ".join(as_go(item) for item in value) + "]"
    if isinstance(value, dict):
        return "map[" + " ".join(f"{key}:{as_go(value[key])}" for key in sorted(value)) + "]"
    return str(value)


def read_size(key: str, value: Any) -> int:
    """A size in daemon.json: dockerd wants text ("64m"); plain bytes are taken too. Raises `InvalidParameter`."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str):
        return parse_memory(value)
    raise InvalidParameter(f"{key}: invalid size: {as_go(value)}")
