"""What the client is configured with: daemon.json's keys about registries, and limits of patience."""

from __future__ import annotations

import msgspec

from sampan.registry.proxies import ProxySettings
from sampan.version import __version__

CERTIFICATE_DIRECTORIES = ("/etc/docker/certs.d", "/etc/containerd/certs.d")


class RegistrySettings(msgspec.Struct, kw_only=True, frozen=True):
    """Times are in seconds."""

    mirrors: tuple[str, ...] = ()
    """Addresses that are tried before docker.io, in this order."""
    insecure: tuple[str, ...] = ()
    """Hosts, `host:port`s and CIDR ranges whose certificate is not checked and that may speak plain HTTP. Loopback always may."""
    proxies: ProxySettings = ProxySettings()
    certificate_directories: tuple[str, ...] = CERTIFICATE_DIRECTORIES
    """Where `HOST/ca.crt`, `HOST/client.cert` and `HOST/client.key` are looked for."""
    signature_policy: str = ""
    """A file of containers-policy.json(5)'s form that pulls and loads obey; empty: everything may come in."""
    downloads: int = 3
    """Blobs fetched at the same time."""
    uploads: int = 5
    attempts: int = 5
    """Times that something is tried which makes no progress."""
    connect_timeout: float = 30
    read_timeout: float = 60
    """Silence after which a connection counts as broken."""
    retry_delay: float = 1
    """Pause before the second attempt; it doubles with each."""
    retry_after_max: float = 60
    """Longest pause that a server may ask for (Retry-After) and get; beyond that the request is refused."""
    user_agent: str = f"docker/{__version__} sampan/{__version__}"


LOCAL_RANGES = ("127.0.0.0/8", "::1/128")
"""Always insecure, as in Docker: what never leaves the machine needs no certificate."""
