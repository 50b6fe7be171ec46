"""From the engine's configuration to what each service is told."""

from __future__ import annotations

import json
import os
from pathlib import Path

from sampan.containers.host import host_features
from sampan.containers.services import ContainerSettings
from sampan.engine.config import NATIVE_RUNTIMES, EngineConfig, cdi_directories
from sampan.engineapi.container import Ulimit
from sampan.errors import InvalidParameter, SampanError, reason_of
from sampan.networks.options import NetworkOptions
from sampan.oci.remapping import Remapping
from sampan.registry.proxies import ProxySettings, proxies_of_process
from sampan.registry.settings import RegistrySettings
from sampan.runtime.launcher import LauncherConfig
from sampan.seccomp import load_profile

_DEFAULT_CGROUP_PARENT = "/docker"


def launcher_config(config: EngineConfig, engine_id: str) -> LauncherConfig:
    """Where shims live."""
    return LauncherConfig(
        exec_root=config.exec_root,
        engine_id=engine_id.replace("-", "")[:8],
        cgroup_parent=config.cgroup_parent or _DEFAULT_CGROUP_PARENT,
        seccomp_cache=str(config.data_path / "seccomp"),
    )


def container_settings(config: EngineConfig, remapping: Remapping | None) -> ContainerSettings:
    """Defaults and limits of containers."""
    return ContainerSettings(
        root=config.data_path / "containers",
        exec_root=config.exec_path,
        cgroup_parent=config.cgroup_parent or _DEFAULT_CGROUP_PARENT,
        runtimes=dict.fromkeys(NATIVE_RUNTIMES)
        | {name: [runtime.path, *runtime.runtime_args] for name, runtime in config.runtimes.items()},
        default_runtime=config.default_runtime,
        remapping=remapping,
        default_stop_timeout=config.default_stop_timeout,
        default_shm_size=config.default_shm_size,
        default_ipc_mode=config.default_ipc_mode,
        default_cgroupns_mode=config.default_cgroupns_mode,
        default_ulimits=[
            Ulimit(limit.name or name, hard=limit.hard, soft=limit.soft)
            for name, limit in config.default_ulimits.items()
        ],
        init=config.init,
        init_path=config.init_path,
        log_driver=config.log_driver,
        log_opts=config.log_opts,
        cdi_spec_dirs=cdi_directories(config),
        seccomp_profile=_seccomp_profile(config.seccomp_profile),
        no_new_privileges=config.no_new_privileges,
        dns=config.dns,
        dns_search=config.dns_search,
        dns_options=config.dns_opts,
        live_restore=config.live_restore,
        shutdown_timeout=config.shutdown_timeout,
    )


def _seccomp_profile(name: str) -> str:
    """The text of the profile that a path names; `unconfined` and `builtin` as they are. Raises `InvalidParameter`."""
    if name in ("", "builtin", "unconfined"):
        return name
    try:
        text = Path(name).read_text()
        load_profile(text.encode())
    except OSError as error:
        raise InvalidParameter(f"opening seccomp profile ({name}) failed: {reason_of(error)}") from error
    except (SampanError, UnicodeDecodeError) as error:
        raise InvalidParameter(f"decoding seccomp profile ({name}) failed: {error}") from error
    return text


def registry_settings(config: EngineConfig) -> RegistrySettings:
    """Registries: the proxies of the configuration, each that it does not name from the environment (as dockerd does)."""
    around = proxies_of_process()
    proxies = ProxySettings(
        http=config.proxies.http_proxy or around.http,
        https=config.proxies.https_proxy or around.https,
        exceptions=config.proxies.no_proxy or around.exceptions,
    )
    return RegistrySettings(
        mirrors=tuple(config.registry_mirrors),
        insecure=tuple(config.insecure_registries),
        proxies=proxies,
        signature_policy=config.signature_policy,
        downloads=config.max_concurrent_downloads,
        uploads=config.max_concurrent_uploads,
        attempts=config.max_download_attempts,
    )


def network_options(config: EngineConfig) -> NetworkOptions:
    """Bridges, address pools, DNS and firewall."""
    return NetworkOptions(
        data_root=config.data_path,
        bridge=config.bridge,
        bip=config.bip,
        bip6=config.bip6,
        fixed_cidr=config.fixed_cidr,
        fixed_cidr_v6=config.fixed_cidr_v6,
        default_gateway=config.default_gateway,
        default_gateway_v6=config.default_gateway_v6,
        default_address_pools=tuple((pool.base, pool.size) for pool in config.default_address_pools),
        default_network_opts=config.default_network_opts,
        dns=tuple(config.dns),
        dns_search=tuple(config.dns_search),
        dns_opts=tuple(config.dns_opts),
        host_gateway_ips=tuple(config.host_gateway_ips),
        icc=config.icc,
        ip=config.ip,
        ip_forward=config.ip_forward,
        ip_forward_no_drop=config.ip_forward_no_drop,
        ip_masq=config.ip_masq,
        iptables=config.iptables,
        ip6tables=config.ip6tables,
        ipv6=config.ipv6,
        mtu=config.mtu,
        allow_direct_routing=config.allow_direct_routing,
        bridge_accept_fwmark=config.bridge_accept_fwmark,
        userland_proxy=config.userland_proxy,
    )


def reloaded_attributes(config: EngineConfig) -> dict[str, str]:
    """What dockerd's `reload` event says: everything that a reload may change, as it is now."""
    return {
        "name": os.uname().nodename,
        "debug": _word(config.debug),
        "default-cgroupns-mode": config.default_cgroupns_mode
        or ("private" if host_features().unified else "host"),
        "default-ipc-mode": config.default_ipc_mode,
        "default-runtime": config.default_runtime,
        "default-shm-size": str(config.default_shm_size),
        "default-stop-timeout": str(config.default_stop_timeout),
        "features": "map["
        + " ".join(f"{key}:{_word(on)}" for key, on in sorted(config.features.items()))
        + "]",
        "insecure-registries": json.dumps(config.insecure_registries),
        "labels": json.dumps(config.labels),
        "live-restore": _word(config.live_restore),
        "max-concurrent-downloads": str(config.max_concurrent_downloads),
        "max-concurrent-uploads": str(config.max_concurrent_uploads),
        "max-download-attempts": str(config.max_download_attempts),
        "registry-mirrors": json.dumps(config.registry_mirrors),
        "runtimes": " ".join(
            f"{name}:{path}"
            for name, path in [
                *((name, "sampan-runtime") for name in NATIVE_RUNTIMES),
                *((name, runtime.path) for name, runtime in config.runtimes.items()),
            ]
        ),
        "shutdown-timeout": str(config.shutdown_timeout),
    }


def _word(value: bool) -> str:
    return str(value).lower()
