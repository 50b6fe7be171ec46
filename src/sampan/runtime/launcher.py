"""Making shims and finding them again: the `Launcher` of `runtime.interface`.

::

    zygote = await Zygote.start(preload=launcher.PRELOAD)
    launcher = await Launcher.start(LauncherConfig(exec_root="/run/sampan", engine_id="a1b2"), zygote)
    shim = await launcher.launch(launch)

A few shims are parked ahead of demand (`pool`). The usual container takes one of them, and finds its process,
namespaces, netlink sockets and cgroup ready. Whatever differs from the usual gets a fresh shim.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any, NamedTuple

from sampan.cgroups import DEFAULT_PARENT, CgroupError, detect
from sampan.errors import SystemFailure
from sampan.linux import process, sockets
from sampan.runtime.interface import LaunchError
from sampan.runtime.pool import ShimPool, ShimSettings, Spare
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
from sampan.seccomp import compiled_file

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sampan.oci.runtime import Seccomp, Spec
    from sampan.runtime.interface import ContainerLaunch, ExitStatus, LaunchHead, Sandbox
    from sampan.zygote.client import Zygote

PRELOAD = ("sampan.runtime.shim.main:prepare",)
"""What the zygote must have imported, and done, before it forks shims."""

_FILTERS = 64
"""Seccomp profiles whose compiled files are remembered."""
_USUAL_NAMESPACES = frozenset({"pid", "mount", "uts", "ipc", "network", "cgroup"})


class _SpareLost(SystemFailure):
    """A shim was killed while it made a container."""


class LauncherConfig(NamedTuple):
    """Where shims live and how many wait."""

    exec_root: str
    """Bundles are `<exec_root>/shims/<container id>`."""
    engine_id: str
    """Tells this engine's parked cgroups from another's on the same machine."""
    cgroup_parent: str = DEFAULT_PARENT
    parked: int = 2
    """At rest, 5 MB each with its stub. Under load there are more (`pool`)."""
    seccomp_cache: str = ""
    """Directory of compiled filters; default beneath `exec_root`."""


class Launcher:
    """See `runtime.interface.Launcher`."""

    def __init__(self, config: LauncherConfig, zygote: Zygote) -> None:
        self._config = config
        self._zygote = zygote
        self._layout = detect()
        self._parent = "/" + config.cgroup_parent.strip("/")
        self._parked_prefix = f"sampan-parked-{config.engine_id}-"
        self._shims = os.path.join(config.exec_root, "shims")
        self._seccomp_cache = config.seccomp_cache or os.path.join(config.exec_root, "seccomp")
        self._pool: ShimPool
        self._handles: set[ShimHandle] = set()
        self._filters: dict[int, tuple[Seccomp, str]] = {}
        """By identity: the profile, kept so that its identity stays its own, and its compiled file."""

    @classmethod
    async def start(cls, config: LauncherConfig, zygote: Zygote) -> Launcher:
        """Remove what a predecessor's parked shims left, and begin to park new ones in the background."""
        launcher = cls(config, zygote)
        os.makedirs(launcher._shims, mode=0o700, exist_ok=True)
        await asyncio.to_thread(launcher._sweep)
        launcher._pool = ShimPool(
            zygote,
            f"{launcher._parent}/{launcher._parked_prefix}",
            ShimSettings(launcher._layout, launcher._seccomp_cache),
            config.parked,
        )
        return launcher

    async def launch(
        self, launch: ContainerLaunch, *, configure: Callable[[Sandbox], Awaitable[None]] | None = None
    ) -> ShimHandle:
        """See `runtime.interface.Launcher`."""
        if not launch.get("runtime"):
            launch = await self._with_compiled_filter(launch)
        spare = await self._pool.take() if self._is_usual(launch) else None
        if spare is None:
            return await self._launch_with(await self._pool.fork_unparked(), launch, configure)
        try:
            return await self._launch_with(spare, launch, configure)
        except (LaunchError, _SpareLost) as error:
            lost = not isinstance(error, LaunchError) or error.kind == "lost"
            if not lost or launch["spec"].get("hooks"):
                raise  # hooks are not run twice
        # Something that had waited for this container was killed, before or just now: the container does without.
        return await self._launch_with(await self._pool.fork_unparked(), launch, configure)

    async def _launch_with(
        self,
        spare: Spare,
        launch: ContainerLaunch,
        configure: Callable[[Sandbox], Awaitable[None]] | None,
    ) -> ShimHandle:
        _make_bundle(launch["bundle"])
        configuring: asyncio.Future[None] | None = None
        if configure is not None and spare.sandbox is not None:
            configuring = asyncio.ensure_future(configure(spare.sandbox))
        try:
            handle = await self._launch_in(spare, launch)
        except BaseException:
            if configuring is not None:
                # Not cancelled: what it has begun in the kernel is to be complete when the caller takes it back.
                await asyncio.wait({configuring})
                if not configuring.cancelled():
                    configuring.exception()  # seen; the launch's own error is the one to tell
            spare.discard()
            # The shim is to be gone, with all it made, before anybody tries again.
            await asyncio.shield(spare.child.wait())
            remove_bundle(launch["bundle"])
            raise
        try:
            if configuring is not None:
                await configuring
            elif configure is not None:
                await configure(await handle.borrow_sandbox())
        except BaseException:
            await handle.close()
            raise
        if configure is not None:
            handle.drop_sandbox()
        return handle

    async def _launch_in(self, spare: Spare, launch: ContainerLaunch) -> ShimHandle:
        head = _head_of(launch)
        whole = sockets.in_memory(launch)  # type: ignore[arg-type]
        call = asyncio.ensure_future(spare.connection.call("launch", {"head": head}, [whole]))
        try:
            description, _ = await asyncio.shield(call)
        except asyncio.CancelledError:
            # A shim that has made its container keeps it, whoever disconnects: it is told to end it.
            await asyncio.wait({call})
            if not call.cancelled() and call.exception() is None:
                pidfd = os.dup(spare.child.pidfd)
                await self._handle(spare.connection, call.result()[0], launch["bundle"], pidfd, None).close()
            raise
        except ShimLost:
            # Killed: what it had made has ended with it, but for the cgroup. (A parked one is found by the next start.)
            await readable(spare.child.pidfd)
            await asyncio.to_thread(self._remove_cgroup, head["cgroup"])
            raise _SpareLost("the shim ended while it made the container") from None
        finally:
            os.close(whole)
        return self._handle(spare.connection, description, launch["bundle"], os.dup(spare.child.pidfd), spare)

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
        await self._pool.close()
        await asyncio.to_thread(self._sweep)  # of those that were killed
        for handle in list(self._handles):
            handle.detach()
        await self._zygote.close()

    def _handle(
        self,
        connection: Connection,
        description: dict[str, Any],
        bundle: str,
        pidfd: int,
        spare: Spare | None,
    ) -> ShimHandle:
        handle = ShimHandle(
            connection, description, bundle, pidfd, spare, self._pool, self._closed, self._remove_remains
        )
        self._handles.add(handle)
        return handle

    def _closed(self, handle: ShimHandle) -> None:
        self._handles.discard(handle)

    async def _with_compiled_filter(self, launch: ContainerLaunch) -> ContainerLaunch:
        """The request with its seccomp profile, three quarters of its size, replaced by the compiled program's path."""
        linux = launch["spec"].get("linux", {})
        profile = linux.get("seccomp")
        if profile is None:
            return launch
        # Profiles are resolved once and then shared by the containers' specs: the same object is the same profile.
        known = self._filters.get(id(profile))
        path = known[1] if known is not None else None
        if path is None or not os.path.exists(path):
            path = await asyncio.to_thread(compiled_file, profile, self._seccomp_cache)
            if path is None:
                return launch  # the cache cannot be written: the shim compiles
            if len(self._filters) >= _FILTERS:
                self._filters.clear()
            self._filters[id(profile)] = (profile, path)
        lean = {key: value for key, value in linux.items() if key != "seccomp"}
        return {**launch, "spec": {**launch["spec"], "linux": lean}, "seccomp": path}  # type: ignore[typeddict-item]

    def _is_usual(self, launch: ContainerLaunch) -> bool:
        """Whether a parked shim's preparations fit."""
        spec: Spec = launch["spec"]
        linux = spec.get("linux", {})
        namespaces = linux.get("namespaces", [])
        return (
            launch["private_network"]
            and not launch.get("runtime")
            and not any(namespace.get("path") for namespace in namespaces)
            and {namespace["type"] for namespace in namespaces} <= _USUAL_NAMESPACES
            and {namespace["type"] for namespace in namespaces} >= _USUAL_NAMESPACES - {"cgroup"}
            and not linux.get("uidMappings")
            and os.path.dirname(linux.get("cgroupsPath", "")) == self._parent
        )

    # --- leftovers

    def _sweep(self) -> None:
        """Parked cgroups of this engine whose shims were killed before they could remove them."""
        prefix = self._parked_prefix
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


def _head_of(launch: ContainerLaunch) -> LaunchHead:
    linux = launch["spec"].get("linux", {})
    uids, gids = linux.get("uidMappings"), linux.get("gidMappings")
    return {
        "id": launch["id"],
        "bundle": launch["bundle"],
        "cgroup": linux.get("cgroupsPath") or f"{DEFAULT_PARENT}/{launch['id']}",
        "foreign": bool(launch.get("runtime")),
        "stdio": launch["stdio"],
        "log": launch["log"],
        "owner": (uids[0]["hostID"], gids[0]["hostID"]) if uids and gids else None,
        "private_pids": any(n["type"] == "pid" and not n.get("path") for n in linux.get("namespaces", [])),
    }


def _make_bundle(bundle: str) -> None:
    """An empty bundle: what an earlier run left (its exit record) is no longer news."""
    try:
        os.mkdir(bundle, 0o700)
    except FileExistsError:
        remove_bundle(bundle)
        os.mkdir(bundle, 0o700)
