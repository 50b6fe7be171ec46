"""From a registry's name to the addresses at which it is reached."""

from __future__ import annotations

import contextlib
import ipaddress
from typing import NamedTuple

from yarl import URL

from sampan.errors import InvalidParameter
from sampan.names.reference import DEFAULT_DOMAIN, LEGACY_DEFAULT_DOMAIN
from sampan.registry import lookups
from sampan.registry.hostsfile import Trust, listed_hosts
from sampan.registry.settings import LOCAL_RANGES, RegistrySettings

HUB_HOST = "registry-1.docker.io"
"""Where docker.io's repositories really are."""

HUB_INDEX = "https://index.docker.io/v1/"
"""The key of docker.io's credentials in Docker's `config.json`, and the address of its search."""


class Endpoint(NamedTuple):
    """One address of a registry."""

    url: URL
    """Scheme, host and port; paths begin with `/v2/`."""
    mirror: bool = False
    resolves: bool = True
    """Whether it is asked what a tag means."""
    trust: Trust | None = None
    listed: str = ""
    """Where a mirror is configured: what to change, for messages."""

    @property
    def host(self) -> str:
        """Host and, when it is not the scheme's own, port."""
        return self.url.authority


def endpoints_of(domain: str, settings: RegistrySettings) -> list[Endpoint]:
    """The mirrors of a registry, then the registry: docker.io's of `registry-mirrors`, then any registry's of `hosts.toml`.

    Reads a small file. Raises `InvalidParameter` for a mirror that is no address, or a file that cannot be read.
    """
    own = HUB_HOST if domain in (DEFAULT_DOMAIN, LEGACY_DEFAULT_DOMAIN) else domain
    mirrors: list[Endpoint] = []
    if own == HUB_HOST:
        listed = ", ".join(f'"{text}"' for text in settings.mirrors)
        line = f'the line of daemon.json is "registry-mirrors": [{listed}]'
        mirrors = [Endpoint(mirror_url(text), mirror=True, listed=line) for text in settings.mirrors]
    for host in listed_hosts(domain, settings.certificate_directories):
        mirrors.append(Endpoint(host.url, True, host.resolves, host.trust, f"the file is {host.file}"))
    return [*mirrors, Endpoint(URL(f"https://{own}"))]


def mirror_url(text: str) -> URL:
    """The address of a mirror. Raises `InvalidParameter` in dockerd's words."""
    try:
        url = URL(text)
    except ValueError as error:
        raise InvalidParameter(f'invalid mirror: "{text}" is not a valid URI: {error}') from None
    if url.user is not None or url.password is not None:
        raise InvalidParameter(
            f'invalid mirror: username/password not allowed in URI "{url.with_user(None)}"'
        )
    if url.scheme not in ("http", "https"):
        raise InvalidParameter(
            f"invalid mirror: unsupported scheme \"{url.scheme}\" in \"{text}\": must use either 'https://' or 'http://'"
        )
    if not url.host or url.path not in ("", "/") or url.query_string or url.fragment:
        raise InvalidParameter(f'invalid mirror: path, query, or fragment at end of the URI "{text}"')
    return url.origin()


def host_of(address: str) -> str:
    """The registry that a key of Docker's credentials means: `https://host:5000/v1/` is `host:5000`."""
    _, scheme, rest = address.rpartition("://")
    host = rest.partition("/")[0] if scheme else address.partition("/")[0]
    return DEFAULT_DOMAIN if host in (LEGACY_DEFAULT_DOMAIN, HUB_HOST) else host


async def is_insecure(url: URL, settings: RegistrySettings) -> bool:
    """Whether a host may speak plain HTTP or show a certificate that nobody vouches for.

    It may when it is listed, or when an address of it is in a listed range or is the machine's own. A name or address without a
    port is that host's usual port, as for dockerd; a range covers every port.
    """
    host = url.host or ""
    names = {url.authority, f"{host}:{url.port}"} | ({host} if url.is_default_port() else set())
    ranges = [ipaddress.ip_network(text) for text in LOCAL_RANGES]
    for entry in settings.insecure:
        text = entry.removeprefix("http://").removeprefix("https://").rstrip("/")
        if text in names:
            return True
        if "/" in text:
            with contextlib.suppress(ValueError):  # settings were checked when they were read
                ranges.append(ipaddress.ip_network(text, strict=False))
    return any(address in network for address in await _addresses(host) for network in ranges)


async def _addresses(host: str) -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    try:
        return [ipaddress.ip_address(host.strip("[]"))]
    except ValueError:
        pass
    try:
        return [ipaddress.ip_address(address) for address in await lookups.addresses(host)]
    except (OSError, UnicodeError):
        return []
