"""Making shims and finding them again: the `Launcher` of `runtime.interface`.

::

    zygote = await Zygote.start(preload=launcher.PRELOAD)
    launcher = await Launcher.start(LauncherConfig(exec_root="/run/sampan", engine_id="a1b2"), zygote)
    shim = await launcher.launch(launch)

A few shims are parked ahead of demand (`shim.parking`). The usual container takes one of them, and finds its process,
namespaces, netlink sockets and cgroup ready. Whatever differs from the usual gets a fresh shim.
"""

from __future__ import annotations

import asyncio
import os
import select
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from sampan.cgroups import DEFAULT_PARENT, CgroupError, detect
from sampan.errors import NotSupported, SystemFailure
from sampan.linux import process, sockets
from sampan.runtime.interface import Sandbox
from sampan.runtime.shim import record
from sampan.runtime.shimclient import (
    Connection,
    ShimHandle,
    ShimLost,
    exit_status,
    open_pidfd,
    readable,
    remove_bundle,
)

if TYPE_CHECKING:
    from sampan.oci.runtime import Spec
    from sampan.runtime.interface import ContainerLaunch, ExitStatus
    from sampan.zygote.client import Child, Zygote

SHIM_ENTRY = "sampan.runtime.shim.main:main"
PRELOAD = ("sampan.runtime.shim.main",)
"""What the zygote must have imported before it forks shims."""

_USUAL_NAMESPACES = frozenset({"pid", "mount", "uts", "ipc", "network", "cgroup"})


class LauncherConfig(NamedTuple):
    """Where shims live and how many wait."""

    exec_root: str
    """Bundles are `<exec_root>/shims/<container id>`."""
    engine_id: str
    """Tells this engine's parked cgroups from another's on the same machine."""
    cgroup_parent: str = DEFAULT_PARENT
    parked: int = 4
    seccomp_cache: str = ""
    """Directory of compiled filters; default beneath `exec_root`."""


class _Spare(NamedTuple):
    """A forked shim without a container."""

    child: Child
    connection: Connection
    sandbox: Sandbox | None

    def discard(self) -> None:
        """Let it go: it cleans up when its connection closes."""
        self.connection.close()
        self.child.close()
        if self.sandbox is not None:
            for descriptor in self.sandbox:
                os.close(descriptor)


class Launcher:
    """See `runtime.interface.Launcher`."""

    def __init__(self, config: LauncherConfig, zygote: Zygote) -> None:
        self._config = config
        self._zygote = zygote
        self._layout = detect()
        self._parent = "/" + config.cgroup_parent.strip("/")
        self._shims = os.path.join(config.exec_root, "shims")
        self._seccomp_cache = config.seccomp_cache or os.path.join(config.exec_root, "seccomp")
        self._spares: deque[_Spare] = deque()
        self._parked_count = 0
        self._filling: asyncio.Task[None] | None = None
        self._wanted = asyncio.Event()
        self._handles: set[ShimHandle] = set()
        self._mounts = _MountTable()

    @classmethod
    async def start(cls, config: LauncherConfig, zygote: Zygote) -> Launcher:
        """Remove what a predecessor's parked shims left, and begin to park new ones in the background."""
        launcher = cls(config, zygote)
        os.makedirs(launcher._shims, mode=0o700, exist_ok=True)
        await asyncio.to_thread(launcher._sweep)
        if config.parked:
            launcher._wanted.set()
            launcher._filling = asyncio.create_task(launcher._fill())
        return launcher

    async def launch(self, launch: ContainerLaunch) -> ShimHandle:
        """Bring a container to `created`. Raises LaunchError, SystemFailure; nothing is left then."""
        if launch.get("runtime"):
            raise NotSupported("containers of a foreign OCI runtime (--runtime) are not supported yet")
        _make_bundle(launch["bundle"])
        spare = self._take() if self._is_usual(launch) else None
        if spare is None:
            spare = await self._fork(None)
        try:
            description, _ = await spare.connection.call("launch", {"launch": launch})
        except BaseException as error:
            spare.discard()
            # The shim is to be gone, with all it made, before anybody tries again.
            await asyncio.shield(spare.child.wait())
            remove_bundle(launch["bundle"])
            if isinstance(error, ShimLost):
                raise SystemFailure("the shim ended while it made the container") from None
            raise
        finally:
            self._wanted.set()
        pidfd = os.dup(spare.child.pidfd)
        spare.child.close()
        return self._handle(spare.connection, description, launch["bundle"], pidfd, spare.sandbox)

    async def adopt(self, container_id: str) -> ShimHandle | None:
        """The live shim of a container. None: there is none, and nothing of it but its exit record is left."""
        bundle = os.path.join(self._shims, container_id)
        connection: Connection | None = None
        try:
            connection = Connection.open(bundle)
            description, _ = await connection.call("hello")
            if "init_pid" not in description:
                raise ShimLost("shim without a container")
            pidfd = open_pidfd(description["pid"], description["shim_start_time"])
        except (OSError, ShimLost):
            if connection is not None:
                connection.close()
            await asyncio.to_thread(self._remove_remains, bundle)
            return None
        return self._handle(connection, description, bundle, pidfd, None)

    async def exit_record(self, container_id: str) -> ExitStatus | None:
        fields = record.read(os.path.join(self._shims, container_id), record.EXIT)
        return None if fields is None else exit_status(fields)

    async def close(self) -> None:
        """Stop parked shims and the zygote; containers stay."""
        if self._filling is not None:
            self._filling.cancel()
            await asyncio.gather(self._filling, return_exceptions=True)
        spares, self._spares = self._spares, deque()
        for spare in spares:
            ended = os.dup(spare.child.pidfd)
            spare.discard()
            try:
                await readable(ended)
            finally:
                os.close(ended)
        for handle in list(self._handles):
            handle.detach()
        self._mounts.close()
        await self._zygote.close()

    def _handle(
        self,
        connection: Connection,
        description: dict[str, Any],
        bundle: str,
        pidfd: int,
        sandbox: Sandbox | None,
    ) -> ShimHandle:
        handle = ShimHandle(
            connection, description, bundle, pidfd, sandbox, self._closed, self._remove_remains
        )
        self._handles.add(handle)
        return handle

    def _closed(self, handle: ShimHandle) -> None:
        self._handles.discard(handle)

    # --- parking

    def _is_usual(self, launch: ContainerLaunch) -> bool:
        """Whether a parked shim's preparations fit."""
        spec: Spec = launch["spec"]
        linux = spec.get("linux", {})
        namespaces = linux.get("namespaces", [])
        return (
            launch["private_network"]
            and not any(namespace.get("path") for namespace in namespaces)
            and {namespace["type"] for namespace in namespaces} <= _USUAL_NAMESPACES
            and {namespace["type"] for namespace in namespaces} >= _USUAL_NAMESPACES - {"cgroup"}
            and not linux.get("uidMappings")
            and os.path.dirname(linux.get("cgroupsPath", "")) == self._parent
        )

    def _take(self) -> _Spare | None:
        if self._mounts.changed():
            # Their mount namespaces are copies of a table that is no longer the host's.
            for stale in self._spares:
                stale.discard()
            self._spares.clear()
        while self._spares:
            spare = self._spares.popleft()
            if not select.select([spare.child.pidfd], [], [], 0)[0]:
                return spare
            spare.discard()  # somebody killed it
        return None

    async def _fill(self) -> None:
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            while len(self._spares) < self._config.parked:
                self._parked_count += 1
                name = f"sampan-parked-{self._config.engine_id}-{os.getpid()}-{self._parked_count}"
                try:
                    self._spares.append(await self._fork(f"{self._parent}/{name}"))
                except SystemFailure:
                    # Without a spare the next container is slower, not broken; it will say what is wrong.
                    break

    async def _fork(self, park: str | None) -> _Spare:
        ours, theirs = sockets.pair()
        with theirs:
            try:
                child = await self._zygote.fork(
                    SHIM_ENTRY, {"park": park, "seccomp_cache": self._seccomp_cache}, [theirs.fileno()]
                )
            except BaseException:
                ours.close()
                raise
        connection = Connection(ours)
        if park is None:
            return _Spare(child, connection, None)
        parked: asyncio.Future[Sandbox] = asyncio.get_running_loop().create_future()

        def event(message: dict[str, Any], descriptors: list[int]) -> None:
            if parked.done():
                for descriptor in descriptors:
                    os.close(descriptor)
            else:
                parked.set_result(Sandbox(*descriptors))

        def lost() -> None:
            if not parked.done():
                parked.set_exception(SystemFailure("a shim could not be parked"))

        connection.on_event = event
        connection.on_lost = lost
        try:
            sandbox = await parked
        except BaseException:
            connection.close()
            child.close()
            raise
        connection.on_lost = None
        return _Spare(child, connection, sandbox)

    # --- leftovers

    def _sweep(self) -> None:
        """Parked cgroups of this engine whose shims were killed before they could remove them."""
        prefix = f"sampan-parked-{self._config.engine_id}-"
        names: set[str] = set()
        for directory in self._layout.cgroup(self._parent).paths.values():
            try:
                names.update(name for name in os.listdir(directory) if name.startswith(prefix))
            except FileNotFoundError:
                continue
        for name in names:
            self._remove_cgroup(f"{self._parent}/{name}")

    def _remove_remains(self, bundle: str) -> None:
        """What a killed shim left of its container: processes, cgroup, socket."""
        state = record.read(bundle, record.STATE)
        if state is None:
            return
        if state["boot_id"] == process.boot_id():
            self._remove_cgroup(state["cgroup"])
        ended = record.read(bundle, record.EXIT)
        remove_bundle(bundle)
        if ended is not None:
            os.makedirs(bundle, mode=0o700, exist_ok=True)
            record.write(bundle, record.EXIT, ended)

    def _remove_cgroup(self, path: str) -> None:
        group = self._layout.cgroup(path)
        try:
            group.kill()
            group.delete()
        except CgroupError:
            pass  # gone, or held by a process in the kernel's hands: the next start tries again


class _MountTable:
    """Notices changes of the host's mount table that parked shims do not get by propagation."""

    def __init__(self) -> None:
        self._file = os.open("/proc/self/mountinfo", os.O_RDONLY | os.O_CLOEXEC)
        self._poll = select.poll()
        self._poll.register(self._file, select.POLLPRI)
        self._poll.poll(0)
        self._propagates = _root_is_shared()

    def changed(self) -> bool:
        """Whether a mount came or went since the last call, and does not arrive in slave namespaces by itself."""
        return bool(self._poll.poll(0)) and not self._propagates

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def _root_is_shared() -> bool:
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            fields = line.partition(" - ")[0].split(" ")
            if fields[4] == "/":
                return any(field.startswith("shared:") for field in fields[6:])
    return False


def _make_bundle(bundle: str) -> None:
    """An empty bundle: what an earlier run left (its exit record) is no longer news."""
    try:
        os.mkdir(bundle, 0o700)
    except FileExistsError:
        remove_bundle(bundle)
        os.mkdir(bundle, 0o700)
