"""What the verbs stand on: the services below, the containers themselves, and the settings of this engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sampan.containers.container import Container
    from sampan.containers.registry import ContainerRegistry
    from sampan.engineapi.container import HostConfig, Ulimit
    from sampan.events import EventBus
    from sampan.images.interface import Images
    from sampan.networks.interface import Networks
    from sampan.oci.remapping import Remapping
    from sampan.runtime.interface import Launcher
    from sampan.snapshots.interface import Snapshotter
    from sampan.volumes.interface import Volumes
    from sampan.zygote.workers import Workers


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerSettings:
    """The engine's configuration as far as containers see it; the names are those of daemon.json."""

    root: Path
    """`<data-root>/containers`: one directory per container."""
    exec_root: Path
    """Run-time files of this engine; a container's bundle is `shims/<id>` beneath it."""
    cgroup_parent: str = "/docker"
    runtimes: Mapping[str, list[str] | None] = field(
        default_factory=lambda: {"runc": None, "io.containerd.runc.v2": None}
    )
    """Runtime name → argv prefix of its program; None is the native runtime."""
    default_runtime: str = "runc"
    remapping: Remapping | None = None
    """The mapping of every container's user namespace (`--userns-remap`)."""
    default_shm_size: int = 64 << 20
    default_stop_timeout: int = 10
    default_ipc_mode: str = "private"
    default_cgroupns_mode: str = ""
    default_ulimits: Sequence[Ulimit] = ()
    init: bool = False
    init_path: str = ""
    """Process 1 of `--init` with a foreign runtime; "" is docker-init or tini."""
    log_driver: str = "json-file"
    log_opts: Mapping[str, str] = field(default_factory=dict)
    cdi_spec_dirs: Sequence[str] = ()
    """Where vendors' device specifications are; later ones count more."""
    seccomp_profile: str = ""
    """`unconfined`, or a profile as JSON; "" is Docker's."""
    no_new_privileges: bool = False
    dns: Sequence[str] = ()
    dns_search: Sequence[str] = ()
    dns_options: Sequence[str] = ()
    live_restore: bool = False
    shutdown_timeout: int = 15

    def remapping_of(self, host: HostConfig) -> Remapping | None:
        """The mapping of a container with this configuration; None when it is in the host's user namespace."""
        return None if host.userns_mode == "host" else self.remapping


@dataclass(slots=True, kw_only=True)
class Services:
    """Handed to every verb."""

    settings: ContainerSettings
    """Replaced as a whole when the configuration is reloaded: read it anew at each use."""
    registry: ContainerRegistry
    events: EventBus
    images: Images
    snapshots: Snapshotter
    networks: Networks
    volumes: Volumes
    launcher: Launcher
    workers: Workers
    clock: Callable[[], int]
    """Nanoseconds since the epoch."""

    def publish(self, container: Container, action: str, extra: Mapping[str, str] | None = None) -> None:
        """An event of a container, with its labels, image and name as attributes."""
        attributes = container.event_attributes()
        if extra:
            attributes.update(extra)
        self.events.publish("container", action, container.id, attributes)

    def directory(self, container_id: str) -> Path:
        """Where a container's own files live: log, hosts, hostname, resolv.conf."""
        return self.settings.root / container_id

    def bundle(self, container_id: str) -> str:
        """The shim's run-time directory of a container."""
        return str(self.settings.exec_root / "shims" / container_id)
