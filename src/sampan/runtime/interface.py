"""What the engine and a shim say to each other, as types: the seam between `containers` and `runtime`.

A container's life seen from here::

    shim = await launcher.launch(ContainerLaunch(...))   # namespaces, cgroup, rootfs and init exist; init
    waits # the network service configures shim.sandbox now, pending attaches connect
    await shim.start()                                    # init executes the user's program
    status = await shim.wait()                            # also after an engine restart: launcher.adopt(id)
    await shim.close()                                    # everything of it is gone: process, mounts, cgroup,
    socket

Light on purpose (dataclasses would cost the zygote an import of `inspect`): plain classes with slots, and
TypedDicts where JSON crosses a process boundary.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, NotRequired, Protocol, TypedDict

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sampan.oci.runtime import Mount, Process, Resources, Spec


class LogConfig(TypedDict):
    """Where and how the shim writes the container's output; `driver` none writes nothing."""

    driver: Literal["json-file", "local", "none"]
    path: str
    """The active log file; rotated ones are `path.1`, `path.2`…"""
    max_size: int
    """Bytes at which the file is rotated; -1 for never."""
    max_file: int
    compress: bool
    attrs: NotRequired[dict[str, str]]
    """Extra attributes written with each json-file line (log-opts labels, env, tag)."""


class Stdio(TypedDict):
    """How the container's standard streams are wired."""

    tty: bool
    open_stdin: bool
    """False: stdin is /dev/null."""
    stdin_once: bool
    """Close stdin when the first attached client that sent input leaves."""


class HealthProbe(TypedDict):
    """One health command; the shim enforces the deadline, the engine schedules."""

    args: list[str]
    timeout_ns: int
    user: NotRequired[str]
    """Docker's USER syntax, as in `ContainerLaunch`."""
    groups: NotRequired[list[str]]


class ContainerLaunch(TypedDict):
    """Everything a shim needs to bring a container to the state `created`."""

    id: str
    """64 hex digits."""
    bundle: str
    """Directory of run-time files of this container, under the exec root, owned by the shim."""
    spec: Spec
    """OCI runtime spec. `root.path` is ignored when `rootfs` is given."""
    seccomp: NotRequired[str]
    """Path of the compiled filter; set by the launcher in place of the spec's `linux.seccomp`."""
    rootfs: list[Mount]
    """Mounts (from the snapshotter) that make the root file system, done in the shim's private mount
    namespace.
    """
    stdio: Stdio
    log: LogConfig
    runtime: NotRequired[list[str]]
    """argv prefix of a foreign OCI runtime (`["/usr/sbin/runc"]`); absent: the native one."""
    user: NotRequired[str]
    """Docker's USER syntax (`name:group`, `1000`), resolved by the container's own files, inside; replaces the
    spec's ids, and leaves anyone but root only the bounding set of the capabilities.
    """
    groups: NotRequired[list[str]]
    """Beside `user`: further groups by name or number (`--group-add`)."""
    private_network: bool
    """True: the sandbox gets a network namespace of its own; False: what the spec's namespaces say."""
    init: bool
    """True: Sampan's own init runs as pid 1, forwards signals and reaps (`--init`)."""


class LaunchHead(TypedDict):
    """What of a launch the shim keeps itself; the whole goes by in memory to the process that makes the container."""

    id: str
    bundle: str
    cgroup: str
    """Path of the cgroup that the container gets."""
    foreign: bool
    """Whether another runtime's program makes it."""
    stdio: Stdio
    log: LogConfig
    owner: tuple[int, int] | None
    """The host's ids of the container's root; None without a user namespace."""
    private_pids: bool
    """Whether the container has a pid namespace of its own, whose end is the end of all its processes."""


class ExecLaunch(TypedDict):
    """A further process in a running container."""

    exec_id: str
    process: Process
    stdio: Stdio
    privileged: NotRequired[bool]
    user: NotRequired[str]
    """Docker's USER syntax, as in `ContainerLaunch`."""
    groups: NotRequired[list[str]]


class ExitStatus(NamedTuple):
    """How a process ended."""

    code: int
    """0-255; 128+n after signal n, as Docker reports it."""
    at_ns: int
    """Wall-clock time of the exit, nanoseconds since the epoch."""
    oom_killed: bool
    reason: str
    """One line when there is more to say than the code (exec failed: not found…); else empty."""


class Sandbox(NamedTuple):
    """Descriptors into a container's network namespace; the caller owns (closes) them.

    The sockets were created inside the namespace, so the engine configures it without ever entering it.
    """

    netns_fd: int
    route_fd: int
    """AF_NETLINK, NETLINK_ROUTE."""
    netfilter_fd: int
    """AF_NETLINK, NETLINK_NETFILTER."""


class LaunchError(Exception):
    """The program could not be started: `kind` decides Docker's exit code (127 not found, 126 not executable,
    125 else). "lost": a process of ours was killed meanwhile.
    """

    def __init__(
        self, message: str, kind: Literal["not-found", "permission", "format", "other", "lost"]
    ) -> None:
        super().__init__(message)
        self.kind = kind


class AttachStream(Protocol):
    """A client's connection to a process's standard streams, straight from the shim's socket.

    Output arrives as Docker sends it: raw bytes for a tty, else frames of an 8-byte header (stream, 0, 0, 0,
    big-endian length) and payload. The shim stops reading the process's output while an attached client does
    not read: nothing is lost, the process feels the back-pressure.
    """

    async def read(self) -> bytes:
        """Next bytes of output; b"" when the process's streams are closed and drained."""
        ...

    async def write(self, data: bytes) -> None:
        """Bytes for stdin; waits while the process does not read."""
        ...

    async def close_stdin(self) -> None:
        """No more input from this client."""
        ...

    async def close(self) -> None: ...


class ExecHandle(Protocol):
    """A started exec."""

    pid: int

    async def wait(self) -> ExitStatus: ...
    async def resize(self, rows: int, columns: int) -> None: ...
    async def kill(self, signal: int) -> None: ...


class Shim(Protocol):
    """The engine's handle of one container's shim. Valid until `close`; a lost shim makes `wait` return code
    137, reason "shim lost".
    """

    id: str
    pid: int
    init_pid: int
    """Host pid of the container's init."""
    init_start_time: int
    """Field 22 of /proc/PID/stat: with the boot id it identifies the process for ever."""
    cgroup: str
    """The container's cgroup path, relative to the hierarchies' mounts."""

    async def sandbox(self) -> Sandbox: ...
    async def start(self) -> None:
        """Let init execute the program. Raises LaunchError with runc's kind of message when exec fails."""
        ...

    async def wait(self) -> ExitStatus: ...
    async def kill(self, signal: int, *, all_processes: bool = False) -> None: ...
    async def attach(self, *, stdin: bool, stdout: bool, stderr: bool) -> AttachStream: ...
    async def resize(self, rows: int, columns: int) -> None: ...
    async def prepare_exec(self) -> None:
        """A hint that an exec will follow soon: part of its work begins now."""
        ...

    async def exec(
        self, launch: ExecLaunch, *, attach: tuple[bool, bool, bool] | None
    ) -> tuple[ExecHandle, AttachStream | None]:
        """Start a further process; `attach` says which of (stdin, stdout, stderr) come back as a stream."""
        ...

    async def probe(self, probe: HealthProbe, process: Process) -> tuple[int, bytes]:
        """Run a health command: exit code (or -1 on timeout, killed) and its first 4096 bytes of output."""
        ...

    async def pause(self) -> None: ...
    async def resume(self) -> None: ...
    async def update(self, resources: Resources) -> None: ...
    async def processes(self) -> list[int]:
        """Host pids of all processes in the container."""
        ...

    async def reopen_logs(self) -> None: ...
    async def keep(self, name: str, fds: list[int]) -> None:
        """Let the shim hold duplicates of descriptors (port and DNS sockets) for an engine to come."""
        ...

    async def kept(self, name: str) -> list[int]:
        """The descriptors held under that name, now the caller's as well; empty when there are none."""
        ...

    async def close(self) -> None:
        """Kill what is left and wait until process, cgroup, mounts and socket are gone."""
        ...


class Launcher(Protocol):
    """Makes shims and finds them again."""

    async def launch(
        self, launch: ContainerLaunch, *, configure: Callable[[Sandbox], Awaitable[None]] | None = None
    ) -> Shim:
        """Bring a container to `created`. Raises LaunchError, SystemFailure; nothing is left then.

        `configure` sets up a private network through the sandbox, whose descriptors are lent: at the same time as the shim
        makes the container, where the sandbox exists already. When it has raised, `launch` raises the same.
        """
        ...

    async def adopt(self, container_id: str) -> Shim | None:
        """The live shim of a container, after an engine restart; None when there is none (its remains are
        removed).
        """
        ...

    async def exit_record(self, container_id: str) -> ExitStatus | None:
        """The exit that a shim recorded while no engine was listening, if any."""
        ...

    async def close(self) -> None:
        """Stop parked processes and the zygote; running containers and their shims stay."""
        ...


OnExit = "Callable[[str, ExitStatus], Awaitable[None]]"
