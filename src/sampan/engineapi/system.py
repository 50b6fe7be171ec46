"""Types of the Engine API's system requests: version, info, login."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET, Struct, UnsetType, field


class Component(Struct, rename="pascal"):
    """One part of the engine and its version."""

    name: str
    version: str
    details: dict[str, str]


class PlatformName(Struct, rename="pascal"):
    """The product's name."""

    name: str


class Version(Struct, rename={"api_version": "ApiVersion", "min_api_version": "MinAPIVersion"}):
    """`GET /version`."""

    platform: PlatformName = field(name="Platform")
    components: list[Component] = field(name="Components")
    version: str = field(name="Version")
    api_version: str
    min_api_version: str
    git_commit: str = field(name="GitCommit")
    go_version: str = field(name="GoVersion")
    """Which language runs the engine; the name is the API's."""
    os: str = field(name="Os")
    arch: str = field(name="Arch")
    kernel_version: str = field(name="KernelVersion")
    build_time: str = field(name="BuildTime")


class PluginsInfo(Struct, rename="pascal"):
    """Names of the drivers that containers can ask for."""

    volume: list[str]
    network: list[str]
    authorization: list[str] | None
    log: list[str]


class Commit(Struct, rename={"id": "ID"}):
    """The version of a helper program."""

    id: str


class IndexInfo(Struct, rename="pascal"):
    """How one registry is reached."""

    name: str
    mirrors: list[str]
    secure: bool
    official: bool


class RegistryConfig(
    Struct,
    rename={
        "insecure_registry_cidrs": "InsecureRegistryCIDRs",
        "index_configs": "IndexConfigs",
        "mirrors": "Mirrors",
    },
):
    """How registries are reached."""

    insecure_registry_cidrs: list[str]
    index_configs: dict[str, IndexInfo]
    mirrors: list[str] | None


class SwarmInfo(Struct, rename={"node_id": "NodeID"}):
    """Swarm's state on this machine."""

    node_id: str = ""
    node_addr: str = field(name="NodeAddr", default="")
    local_node_state: str = field(name="LocalNodeState", default="inactive")
    control_available: bool = field(name="ControlAvailable", default=False)
    error: str = field(name="Error", default="")
    remote_managers: list[Any] | None = field(name="RemoteManagers", default=None)


class RuntimeInfo(Struct, omit_defaults=True):
    """One OCI runtime that containers can ask for."""

    path: str
    runtime_args: list[str] | None = field(default=None, name="runtimeArgs")


class FirewallInfo(Struct, rename="pascal"):
    """Which firewall the published ports live in."""

    driver: str


class DeviceInfo(Struct, rename="pascal"):
    """A device that containers can ask for by name."""

    source: str
    id: str = field(name="ID")


class SystemInfo(Struct, kw_only=True, rename="pascal"):
    """`GET /info`. Counts are objects, memory is bytes."""

    id: str = field(name="ID")
    containers: int
    containers_running: int
    containers_paused: int
    containers_stopped: int
    images: int
    driver: str
    driver_status: list[list[str]]
    plugins: PluginsInfo
    memory_limit: bool
    swap_limit: bool
    cpu_cfs_period: bool
    cpu_cfs_quota: bool
    cpu_shares: bool = field(name="CPUShares")
    cpu_set: bool = field(name="CPUSet")
    pids_limit: bool
    ipv4_forwarding: bool = field(name="IPv4Forwarding")
    debug: bool
    n_fd: int = field(name="NFd")
    oom_kill_disable: bool
    n_goroutines: int
    system_time: str
    logging_driver: str
    cgroup_driver: str
    cgroup_version: str
    n_events_listener: int
    kernel_version: str
    operating_system: str
    os_version: str = field(name="OSVersion")
    os_type: str = field(name="OSType")
    architecture: str
    index_server_address: str
    registry_config: RegistryConfig
    ncpu: int = field(name="NCPU")
    mem_total: int
    generic_resources: None = None
    docker_root_dir: str
    http_proxy: str
    https_proxy: str
    no_proxy: str
    name: str
    labels: list[str]
    experimental_build: bool
    server_version: str
    runtimes: dict[str, RuntimeInfo]
    default_runtime: str
    swarm: SwarmInfo
    live_restore_enabled: bool
    isolation: str = ""
    init_binary: str
    containerd_commit: Commit
    runc_commit: Commit
    init_commit: Commit
    security_options: list[str]
    firewall_backend: FirewallInfo
    cdi_spec_dirs: list[str] = field(name="CDISpecDirs")
    discovered_devices: list[DeviceInfo] | UnsetType = UNSET
    warnings: list[str] | None
