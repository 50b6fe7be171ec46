"""Types of the Engine API's container requests: configuration, host configuration, mounts, health, resources.

Null and absent are one thing in Go's JSON, but null and `[]` are two when a value is printed again, and clients compare:
`docker inspect` shows what `docker create` sent. Lists and maps are therefore optional here and keep what came.

`wire` turns one of these structs back into what dockerd prints, leaving out empty values where Go's type says `omitempty`.
Source: the Engine API definition, v1.24 to v1.56, `ContainerConfig` and `HostConfig`.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import Meta, Struct, field

from sampan.engineapi.decode import Words

Weight = Annotated[int, Meta(ge=0, le=65535)]
"""Go's uint16."""
Size = Annotated[int, Meta(ge=0)]
"""Go's unsigned integers."""


class HealthConfig(Struct, rename="pascal", omit_defaults=True):
    """How to find out whether a container is healthy. Durations are nanoseconds; 0 means inherit, then the default."""

    test: list[str] | None = None
    """[] inherits; ["NONE"], ["CMD", args…] or ["CMD-SHELL", command]."""
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


class ContainerConfig(Struct, rename="pascal", kw_only=True):
    """The portable half of a container's configuration; an image's configuration has the same shape."""

    OMIT_EMPTY: ClassVar[frozenset[str]] = frozenset(
        {
            "ExposedPorts",
            "Healthcheck",
            "ArgsEscaped",
            "NetworkDisabled",
            "MacAddress",
            "StopSignal",
            "StopTimeout",
            "Shell",
        }
    )

    hostname: str = ""
    domainname: str = ""
    user: str = ""
    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    exposed_ports: dict[str, dict[str, Any] | None] | None = None
    tty: bool = False
    open_stdin: bool = False
    stdin_once: bool = False
    env: list[str] | None = None
    cmd: Words | None = None
    healthcheck: HealthConfig | None = None
    args_escaped: bool = False
    image: str = ""
    volumes: dict[str, dict[str, Any] | None] | None = None
    working_dir: str = ""
    entrypoint: Words | None = None
    network_disabled: bool = False
    mac_address: str = ""
    on_build: list[str] | None = None
    labels: dict[str, str] | None = None
    stop_signal: str = ""
    stop_timeout: int | None = None
    """Seconds; -1 waits for ever."""
    shell: Words | None = None


class LogConfig(Struct, rename="pascal"):
    """Log driver and its options."""

    type: str = ""
    config: dict[str, str] | None = None


class RestartPolicy(Struct, rename="pascal"):
    """no, always, unless-stopped, or on-failure with an optional maximum of retries (0: no maximum)."""

    name: str = ""
    maximum_retry_count: int = 0


class PortBinding(Struct):
    """One host side of a published port; empty HostPort means any free one."""

    host_ip: str = field(name="HostIp", default="")
    host_port: str = field(name="HostPort", default="")


class WeightDevice(Struct, rename="pascal"):
    """Block I/O weight of one device, 10 to 1000."""

    path: str = ""
    weight: Weight = 0


class ThrottleDevice(Struct, rename="pascal"):
    """Bytes or operations a second of one device."""

    path: str = ""
    rate: Size = 0


class DeviceMapping(Struct, rename="pascal"):
    """A host device made visible in the container."""

    path_on_host: str = ""
    path_in_container: str = ""
    cgroup_permissions: str = ""


class DeviceRequest(Struct, rename="pascal"):
    """Devices asked for by capability (`--gpus`) or CDI name."""

    driver: str = ""
    count: int = 0
    device_ids: list[str] | None = field(name="DeviceIDs", default=None)
    capabilities: list[list[str]] | None = None
    options: dict[str, str] | None = None


class Ulimit(Struct, rename="pascal"):
    """One resource limit; -1 is unlimited."""

    name: str = ""
    hard: int = 0
    soft: int = 0


class BindOptions(Struct, rename="pascal", omit_defaults=True):
    """Options of a bind mount."""

    propagation: str = ""
    non_recursive: bool = False
    create_mountpoint: bool = False
    read_only_non_recursive: bool = False
    read_only_force_recursive: bool = False


class VolumeDriverConfig(Struct, rename="pascal", omit_defaults=True):
    """Driver of a volume that a mount creates."""

    name: str = ""
    options: dict[str, str] | None = None

    def __post_init__(self) -> None:
        self.options = self.options or None  # shown again only when there are any


class VolumeOptions(Struct, rename="pascal", omit_defaults=True):
    """Options of a volume mount."""

    no_copy: bool = False
    labels: dict[str, str] | None = None
    driver_config: VolumeDriverConfig | None = None
    subpath: str = ""


class ImageOptions(Struct, rename="pascal", omit_defaults=True):
    """Options of an image mount."""

    subpath: str = ""


class TmpfsOptions(Struct, rename="pascal", omit_defaults=True):
    """Options of a tmpfs mount."""

    size_bytes: int = 0
    mode: int = 0
    options: list[list[str]] | None = None


class Mount(Struct, rename="pascal", omit_defaults=True):
    """What `--mount` says: type, source, target and options."""

    type: str = ""
    source: str = ""
    target: str = ""
    read_only: bool = False
    consistency: str = ""
    bind_options: BindOptions | None = None
    volume_options: VolumeOptions | None = None
    image_options: ImageOptions | None = None
    tmpfs_options: TmpfsOptions | None = None


class Resources(Struct, rename="pascal", kw_only=True):
    """Limits: what cgroups enforce, plus devices and rlimits. Zero means no limit; sizes are bytes."""

    cpu_shares: int = 0
    memory: int = 0
    nano_cpus: int = 0
    """Billionths of a CPU."""
    cgroup_parent: str = ""
    blkio_weight: Weight = 0
    blkio_weight_device: list[WeightDevice] | None = None
    blkio_device_read_bps: list[ThrottleDevice] | None = None
    blkio_device_write_bps: list[ThrottleDevice] | None = None
    blkio_device_read_iops: list[ThrottleDevice] | None = field(name="BlkioDeviceReadIOps", default=None)
    blkio_device_write_iops: list[ThrottleDevice] | None = field(name="BlkioDeviceWriteIOps", default=None)
    cpu_period: int = 0
    """Microseconds, as all CFS and real-time figures."""
    cpu_quota: int = 0
    cpu_realtime_period: int = 0
    cpu_realtime_runtime: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    devices: list[DeviceMapping] | None = None
    device_cgroup_rules: list[str] | None = None
    device_requests: list[DeviceRequest] | None = None
    memory_reservation: int = 0
    memory_swap: int = 0
    """Memory and swap together; -1 is unlimited swap."""
    memory_swappiness: int | None = None
    oom_kill_disable: bool | None = None
    pids_limit: int | None = None
    ulimits: list[Ulimit] | None = None
    cpu_count: int = 0
    cpu_percent: int = 0
    io_maximum_iops: int = field(name="IOMaximumIOps", default=0)
    io_maximum_bandwidth: int = field(name="IOMaximumBandwidth", default=0)


class HostConfig(Resources, rename="pascal", kw_only=True):
    """The half of a container's configuration that belongs to this machine."""

    OMIT_EMPTY: ClassVar[frozenset[str]] = frozenset(
        {"Annotations", "StorageOpt", "Tmpfs", "Sysctls", "Runtime", "Mounts", "Init"}
    )

    binds: list[str] | None = None
    container_id_file: str = field(name="ContainerIDFile", default="")
    log_config: LogConfig = field(default_factory=LogConfig)
    network_mode: str = ""
    port_bindings: dict[str, list[PortBinding] | None] | None = None
    restart_policy: RestartPolicy = field(default_factory=RestartPolicy)
    auto_remove: bool = False
    volume_driver: str = ""
    volumes_from: list[str] | None = None
    console_size: list[Size] = field(default_factory=lambda: [0, 0])
    """[height, width]"""
    annotations: dict[str, str] | None = None
    cap_add: Words | None = None
    cap_drop: Words | None = None
    cgroupns_mode: str = ""
    dns: list[str] | None = None
    dns_options: list[str] | None = None
    dns_search: list[str] | None = None
    extra_hosts: list[str] | None = None
    group_add: list[str] | None = None
    ipc_mode: str = ""
    cgroup: str = ""
    links: list[str] | None = None
    oom_score_adj: int = 0
    pid_mode: str = ""
    privileged: bool = False
    publish_all_ports: bool = False
    readonly_rootfs: bool = False
    security_opt: list[str] | None = None
    storage_opt: dict[str, str] | None = None
    tmpfs: dict[str, str] | None = None
    uts_mode: str = field(name="UTSMode", default="")
    userns_mode: str = ""
    shm_size: int = 0
    sysctls: dict[str, str] | None = None
    runtime: str = ""
    isolation: str = ""
    mounts: list[Mount] | None = None
    masked_paths: list[str] | None = None
    readonly_paths: list[str] | None = None
    init: bool | None = None


class UpdateRequest(Resources, rename="pascal", kw_only=True):
    """Body of POST /containers/{id}/update: only what is not zero is changed."""

    restart_policy: RestartPolicy = field(default_factory=RestartPolicy)


class ExecConfig(Struct, rename="pascal", kw_only=True):
    """Body of POST /containers/{id}/exec."""

    user: str = ""
    privileged: bool = False
    tty: bool = False
    console_size: list[int] | None = None
    attach_stdin: bool = False
    attach_stderr: bool = False
    attach_stdout: bool = False
    detach: bool = False
    detach_keys: str = ""
    env: list[str] | None = None
    working_dir: str = ""
    cmd: Words | None = None


class ExecStart(Struct, rename="pascal", kw_only=True):
    """Body of POST /exec/{id}/start."""

    detach: bool = False
    tty: bool = False
    console_size: list[int] | None = None


class HealthcheckResult(Struct, rename="pascal"):
    """One finished probe; times are RFC 3339 with nanoseconds."""

    start: str
    end: str
    exit_code: int
    """0 healthy, 1 unhealthy, -1 the probe did not finish."""
    output: str


class MountPoint(Struct, rename="pascal"):
    """A mount as `docker inspect` shows it."""

    type: str
    name: str = ""
    source: str = ""
    destination: str = ""
    driver: str = ""
    mode: str = ""
    rw: bool = field(name="RW", default=True)
    propagation: str = ""


_MOUNT_POINT_OMIT = ("Name", "Driver")


def wire(value: ContainerConfig | HostConfig) -> dict[str, Any]:
    """The struct as dockerd prints it: Go's names, null for what is absent, nothing for what `omitempty` leaves out."""
    built: dict[str, Any] = msgspec.to_builtins(value)
    for name in value.OMIT_EMPTY:
        if (
            built[name] is None
            or built[name] == ""
            or built[name] == {}
            or built[name] == []
            or built[name] is False
        ):
            if name == "Init" and built[name] is False:
                continue  # a pointer in Go: false was said, only null is empty
            del built[name]
    return built


def wire_mount(mount: MountPoint) -> dict[str, Any]:
    """A mount point as dockerd prints it; tmpfs and binds have neither Name nor Driver."""
    built: dict[str, Any] = msgspec.to_builtins(mount)
    for name in _MOUNT_POINT_OMIT:
        if not built[name]:
            del built[name]
    return built
