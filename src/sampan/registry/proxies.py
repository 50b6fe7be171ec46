"""Which proxy, if any, a request goes through: HTTP_PROXY, HTTPS_PROXY and NO_PROXY as Go reads them.

NO_PROXY is a list of names (`example.com` and all below it; `.example.com` only below), addresses, CIDR ranges, each with an
optional port, or `*`. Loopback never goes through a proxy.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping

import msgspec
from yarl import URL


class ProxySettings(msgspec.Struct, kw_only=True, frozen=True):
    """Addresses of proxies (`http://`, `https://`, `socks5://`, `socks5h://`; a bare `host:port` is http)."""

    http: str = ""
    https: str = ""
    exceptions: str = ""

    def proxy_for(self, url: URL) -> URL | None:
        """The proxy for a request, or None to connect directly."""
        proxy = self.https if url.scheme == "https" else self.http
        host = url.host or ""
        if not proxy or _is_loopback(host) or self._excepted(host, url.port):
            return None
        return URL(proxy if "://" in proxy else f"http://{proxy}")

    def _excepted(self, host: str, port: int | None) -> bool:
        for entry in self.exceptions.split(","):
            rule = entry.strip().lower()
            if rule == "*" or (rule and _matches(rule, host.lower().rstrip("."), port)):
                return True
        return False


def proxies_from(environment: Mapping[str, str]) -> ProxySettings:
    """The settings of the usual variables; lower-case names count where the upper-case one is not set."""

    def value(name: str) -> str:
        return environment.get(name) or environment.get(name.lower(), "")

    return ProxySettings(http=value("HTTP_PROXY"), https=value("HTTPS_PROXY"), exceptions=value("NO_PROXY"))


def proxies_of_process() -> ProxySettings:
    """The settings of this process' environment."""
    return proxies_from(os.environ)


def _matches(rule: str, host: str, port: int | None) -> bool:
    address = _address(host)
    try:
        network = ipaddress.ip_network(rule, strict=False)
    except ValueError:
        pass
    else:
        return address is not None and address in network
    name, colon, wanted_port = rule.rpartition(":")
    if colon and wanted_port.isdigit():
        if int(wanted_port) != port:
            return False
        rule = name.strip("[]")
        if (exact := _address(rule)) is not None:
            return exact == address
    if address is not None:
        return False
    rule = rule.removeprefix("*")
    if rule.startswith("."):
        return host.endswith(rule)
    return host == rule or host.endswith("." + rule)


def _is_loopback(host: str) -> bool:
    address = _address(host)
    return host == "localhost" or (address is not None and address.is_loopback)


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None
