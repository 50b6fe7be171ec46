"""What is stored of a container: the record (who it is and how it was configured) and the run state.

The record changes by rename, update, connect and disconnect; the run state at every transition. Both are JSON documents in one row.
Times are nanoseconds since the epoch, 0 for never.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct, field

from sampan.engineapi.container import ContainerConfig, HostConfig

Status = Literal["created", "running", "paused", "restarting", "removing", "exited", "dead"]


class MountRecord(Struct, kw_only=True, omit_defaults=True):
    """One mount of a container, resolved at creation."""

    type: Literal["bind", "volume", "tmpfs", "image"]
    destination: str
    source: str = ""
    """Host path of a bind, place of a mounted image; empty for volumes and tmpfs."""
    name: str = ""
    """Volume name."""
    driver: str = ""
    mode: str = ""
    """The mode as it was written in `-v` (`z`, `ro,rslave`)."""
    read_only: bool = False
    propagation: str = ""
    recursive: bool = True
    """Bind recursively."""
    read_only_recursive: Literal["", "no", "force"] = ""
    """How read-only reaches submounts: "" as far as the kernel can, no, or fail when it cannot."""
    no_copy: bool = False
    subpath: str = ""
    anonymous: bool = False
    """The volume was made for this container and goes with `rm -v`."""
    create_source: bool = False
    """`-v`: a missing host directory is made."""
    options: list[str] = field(default_factory=list)
    """Mount options of a tmpfs."""
    image_id: str = ""
    """Of a mounted image: its id, while `name` is what the user called it."""
    from_spec: bool = False
    """It came from `Mounts`, not from `Binds`, an image or another container."""


class ProbeResult(Struct, kw_only=True):
    """One finished health probe."""

    start: int
    end: int
    exit_code: int
    output: str


class HealthRecord(Struct, kw_only=True):
    """Health of a running container with a health check."""

    status: Literal["starting", "healthy", "unhealthy"] = "starting"
    failing_streak: int = 0
    log: list[ProbeResult] = field(default_factory=list)


class RunState(Struct, kw_only=True):
    """Where a container is in its life."""

    status: Status = "created"
    exit_code: int = 0
    error: str = ""
    """Why the last start failed, in dockerd's words."""
    reason: str = ""
    """One line for a person when a container failed at once: what is behind the exit code."""
    started_at: int = 0
    finished_at: int = 0
    oom_killed: bool = False
    restart_count: int = 0
    stopped_by_user: bool = False
    """Stored before the signal is sent: a container that the user stopped stays stopped."""
    removing: bool = False
    """Removal has begun: recovery finishes it."""
    removing_volumes: bool = False
    """With its anonymous volumes (`rm -v`)."""
    resume_at_start: bool = False
    """The engine itself paused it, for a commit: should that engine die, the next one resumes it."""
    pid: int = 0
    """Host pid of init while running."""
    boot_id: str = ""
    health: HealthRecord | None = None

    @property
    def running(self) -> bool:
        """True while Docker says `Running`: also when paused, and between two runs of a restarting container."""
        return self.status in ("running", "paused", "restarting")

    @property
    def begun(self) -> bool:
        """True once a start was tried: its own files (hosts, resolv.conf, hostname) are then in place."""
        return self.started_at != 0 or self.status != "created"

    @property
    def alive(self) -> bool:
        """True while there is a process."""
        return self.status in ("running", "paused")


class ContainerRecord(Struct, kw_only=True):
    """Who a container is."""

    id: str
    name: str
    """Without the slash that Docker prints in front."""
    created: int
    image_id: str
    manifest: dict[str, Any] | None = None
    """Descriptor of the platform's manifest."""
    platform: str = "linux"
    path: str = ""
    args: list[str] = field(default_factory=list)
    config: ContainerConfig
    """The user's configuration merged with the image's."""
    host_config: HostConfig
    mounts: list[MountRecord] = field(default_factory=list)
    driver: str = "overlayfs"
    app_armor_profile: str = ""
    process_label: str = ""
    mount_label: str = ""
