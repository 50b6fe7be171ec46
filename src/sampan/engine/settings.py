"""From the engine's configuration to what each service is told."""

from __future__ import annotations

from sampan.containers.services import ContainerSettings
from sampan.engine.config import NATIVE_RUNTIMES, EngineConfig
from sampan.engineapi.container import Ulimit
from sampan.networks.options import NetworkOptions
from sampan.runtime.launcher import LauncherConfig

_DEFAULT_CGROUP_PARENT = "/docker"


def launcher_config(config: EngineConfig, engine_id: str) -> LauncherConfig:
    """Where shims live."""
    return LauncherConfig(
        exec_root=config.exec_root,
        engine_id=engine_id.replace("-", "")[:8],
        cgroup_parent=config.cgroup_parent or _DEFAULT_CGROUP_PARENT,
        seccomp_cache=str(config.data_path / "seccomp"),
    )


def container_settings(config: EngineConfig) -> ContainerSettings:
    """Defaults and limits of containers."""
    return ContainerSettings(
        root=config.data_path / "containers",
        exec_root=config.exec_path,
        cgroup_parent=config.cgroup_parent or _DEFAULT_CGROUP_PARENT,
        runtimes=dict.fromkeys(NATIVE_RUNTIMES)
        | {name: [runtime.path, *runtime.runtime_args] for name, runtime in config.runtimes.items()},
        default_runtime=config.default_runtime,
        default_shm_size=config.default_shm_size,
        default_ipc_mode=config.default_ipc_mode,
        default_cgroupns_mode=config.default_cgroupns_mode,
        default_ulimits=[
            Ulimit(limit.name, limit.soft, limit.hard) for limit in config.default_ulimits.values()
        ],
        init=config.init,
        log_driver=config.log_driver,
        log_opts=config.log_opts,
        seccomp_profile=config.seccomp_profile,
        no_new_privileges=config.no_new_privileges,
        dns=config.dns,
        dns_search=config.dns_search,
        dns_options=config.dns_opts,
        live_restore=config.live_restore,
        shutdown_timeout=config.shutdown_timeout,
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
