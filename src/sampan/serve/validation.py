"""What dockerd checks of a configuration before it starts, whether the command line or the file said it. The words are its own."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable
from urllib.parse import urlsplit

from sampan.containers.log_options import check_log_options
from sampan.engine.config import EngineConfig
from sampan.errors import InvalidParameter
from sampan.serve import values

_LOG_LEVELS = ("panic", "fatal", "error", "warn", "info", "debug", "trace")
_STORAGE_DRIVERS = ("", "overlayfs", "overlay2", "native", "vfs")


def validate(config: EngineConfig) -> None:
    """Raises `InvalidParameter` for the first thing that is wrong."""
    try:
        for check in (_logging, _addresses, _numbers, _talking, _containers, _network):
            check(config)
    except ValueError as error:
        raise InvalidParameter(
            f"merged configuration validation from file and command line flags failed: {error}"
        ) from None


def _logging(config: EngineConfig) -> None:
    if config.log_level.lower() not in _LOG_LEVELS:
        raise ValueError(f"invalid logging level: {config.log_level}")
    if config.log_format not in ("text", "json"):
        raise ValueError(f"invalid log format: {config.log_format}")


def _addresses(config: EngineConfig) -> None:
    config.dns = _each(values.read_host_address, config.dns)
    config.dns_search = _each(values.read_search_domain, config.dns_search)
    config.host_gateway_ips = _each(values.read_host_address, config.host_gateway_ips)
    for version in (4, 6):
        if sum(ipaddress.ip_address(text).version == version for text in config.host_gateway_ips) > 1:
            raise ValueError(f"only one IPv{version} host gateway IP address can be specified")
    for key in ("default_gateway", "default_gateway_v6", "ip"):
        if text := getattr(config, key):
            setattr(config, key, values.read_address(text))


def _numbers(config: EngineConfig) -> None:
    if config.mtu < 0:
        raise ValueError(f"invalid default MTU: {config.mtu}")
    for key in ("max_concurrent_downloads", "max_concurrent_uploads", "max_download_attempts"):
        if getattr(config, key) < 0:
            raise ValueError(f"invalid {key.replace('_', ' ')}: {getattr(config, key)}")
    if config.default_stop_timeout < -1:
        raise ValueError(f"invalid default stop timeout: {config.default_stop_timeout}")


def _talking(config: EngineConfig) -> None:
    _each(values.read_label, config.labels)
    by_key: dict[str, str] = {}
    for label in config.labels:
        key, _, value = label.partition("=")
        if by_key.setdefault(key, value) != value:
            raise ValueError(f"conflict labels for {key}={value} and {key}={by_key[key]}")
    for host in config.hosts:
        if host.strip():
            _host(host.strip())
    config.registry_mirrors = _each(values.read_mirror, config.registry_mirrors)
    config.insecure_registries = _each(values.read_index_name, config.insecure_registries)


def _host(text: str) -> None:
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = "tcp", text
    if scheme == "unix" and "://" in rest:
        raise ValueError(f"invalid bind address ({text}): invalid unix address: {rest}")
    if scheme == "tcp":
        try:
            parts = urlsplit("//" + rest)
            if parts.path:
                raise ValueError("should not contain a path element")
            if parts.port == 0:
                raise ValueError("invalid port: 0")
        except ValueError as error:
            raise ValueError(f"invalid bind address ({text}): {error}") from None
    if scheme not in ("unix", "tcp", "fd"):
        raise ValueError(f"invalid bind address ({text}): unsupported proto '{scheme}'")


def _containers(config: EngineConfig) -> None:
    for option in config.exec_opts:
        key, equals, value = (part.strip() for part in option.partition("="))
        if not equals or not key or not value:
            raise ValueError(f"invalid exec-opt ({option}): must be formatted 'opt=value'")
        if key.lower() == "isolation":
            raise ValueError(f"invalid exec-opt ({option}): option 'isolation' is only supported on windows")
        if key.lower() != "native.cgroupdriver":
            raise ValueError(f"invalid exec-opt ({option}): unknown option: '{key.lower()}'")
        if value not in ("cgroupfs", "systemd"):
            raise ValueError(f'invalid cgroup driver "{value}" (only systemd and cgroupfs are available)')
    try:
        check_log_options(config.log_driver, config.log_opts)
    except InvalidParameter as error:
        raise ValueError(f"failed to set log opts: {error}") from None
    if config.default_ipc_mode not in ("private", "shareable"):
        raise ValueError(
            f'default IPC mode setting ({config.default_ipc_mode}) is invalid; use "shareable" or "private"'
        )
    if config.default_cgroupns_mode not in ("", "host", "private"):
        raise ValueError(
            f'invalid default cgroup namespace ({config.default_cgroupns_mode}): use "host" or "private"'
        )
    if config.storage_driver not in _STORAGE_DRIVERS:
        raise ValueError(
            f'configured driver "{config.storage_driver}" not available: '
            + ", ".join(filter(None, _STORAGE_DRIVERS))
            + " are"
        )


def _network(config: EngineConfig) -> None:
    if config.fixed_cidr_v6:
        try:
            ipaddress.IPv6Network(config.fixed_cidr_v6, strict=False)
        except ValueError as error:
            raise ValueError(f"invalid fixed-cidr-v6: {error}") from None
    if config.firewall_backend not in ("", "iptables", "nftables"):
        raise ValueError('invalid firewall-backend: allowed values are "iptables" and "nftables"')
    mark, _, mask = config.bridge_accept_fwmark.partition("/")
    for kind, text in (("mark", mark), ("mask", mask)):
        if text and not _is_word(text):
            raise ValueError(
                f'invalid bridge-accept-fwmark: invalid firewall {kind} "{config.bridge_accept_fwmark}"'
            )


def _is_word(text: str) -> bool:
    """True for an unsigned number of 32 bits, decimal or hexadecimal."""
    try:
        return 0 <= int(text, 0) < 1 << 32
    except ValueError:
        return False


def _each(read: Callable[[str], str], texts: Iterable[str]) -> list[str]:
    return [read(text) for text in texts]
