"""The container that a shim keeps: launch, start, exit, close."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from sampan.linux import process
from sampan.logs.writer import open_writer
from sampan.runtime.interface import ExitStatus, LaunchError
from sampan.runtime.shim import record
from sampan.runtime.shim.foreign import ForeignRuntime
from sampan.runtime.shim.native import NativeRuntime
from sampan.runtime.shim.protocol import Refused
from sampan.runtime.shim.pump import Pump
from sampan.runtime.shim.streams import Streams
from sampan.runtime.shim.supervised import Supervised

if TYPE_CHECKING:
    from collections.abc import Callable

    from sampan.cgroups import OomWatch
    from sampan.logs.writer import LogWriter
    from sampan.runtime.interface import ContainerLaunch
    from sampan.runtime.shim.loop import Loop
    from sampan.runtime.shim.parking import Parked, Site


class Container:
    """State `created` → `running` → `exited`. Made by a successful launch; `close` takes everything back."""

    def __init__(self, loop: Loop, site: Site, launch: ContainerLaunch, parked: Parked | None) -> None:
        """Bring it to `created`. Blocks for milliseconds. Raises LaunchError, with everything taken back."""
        self.id = launch["id"]
        self.bundle = launch["bundle"]
        self.state = "created"
        self.on_oom: Callable[[], None] | None = None
        self._loop = loop
        self._log: LogWriter | None = None
        self._oom_watch: OomWatch | None = None
        self._owner = _first_ids(launch)
        self._streams = Streams(launch["stdio"])
        self.give_streams(self._streams)
        try:
            self._log = _open_log(launch)
            self.runtime: NativeRuntime | ForeignRuntime = (
                ForeignRuntime(loop, site, launch)
                if launch.get("runtime")
                else NativeRuntime(site, launch, parked)
            )
            console = self.runtime.create(self._streams.theirs)
            if console is not None:
                self._streams.set_console(console)
        except BaseException:
            self._streams.close()
            if self._log is not None:
                self._log.close()
            raise
        self._streams.close_theirs()
        self._pump = Pump(loop, self._streams, self._log)
        self.init = Supervised(loop, self.runtime.pid, self.runtime.pidfd, self._streams, self._pump)
        self.init.on_exit = self._ended
        if isinstance(self.runtime, ForeignRuntime):
            self.init.signal = self.runtime.kill
        self.init.on_told = self._close_log
        self._start_time = process.start_time(self.init.pid)
        record.write(self.bundle, record.STATE, self.describe() | {"boot_id": process.boot_id()})

    def describe(self) -> dict[str, Any]:
        """What an engine needs to know, now or after a restart."""
        return {
            "container": self.id,
            "pid": os.getpid(),
            "shim_start_time": process.start_time(os.getpid()),
            "state": self.state,
            "init_pid": self.init.pid,
            "init_start_time": self._start_time,
            "cgroup": self.runtime.cgroup.path,
        }

    def give_streams(self, streams: Streams) -> None:
        """Make them the container's own, if it has a user namespace."""
        if self._owner is not None:
            streams.give_to(*self._owner)

    @property
    def native(self) -> NativeRuntime:
        """The runtime of a container that we have made ourselves."""
        assert isinstance(self.runtime, NativeRuntime)
        return self.runtime

    @property
    def pump(self) -> Pump:
        return self._pump

    def start(self) -> None:
        """Let init execute the program. Raises LaunchError (the container is then `exited`), Refused in another state."""
        if self.state != "created":
            raise Refused("wrong-state", f"container is {self.state}")
        self._pump.begin()
        self.state = "running"
        self.runtime.start()
        self._oom_watch = self._watch_oom()

    def reopen_log(self) -> None:
        if self._log is not None:
            self._log.reopen()

    def close(self) -> None:
        """End whatever is left, and remove cgroup and records. Blocks until the kernel has let go."""
        if self.init.running or not self.runtime.private_pids:
            self.runtime.kill_all()
        if self.init.running:
            self.init.reap()
        self.init.dispose()
        self._close_log()
        if self._oom_watch is not None:
            self._loop.forget(self._oom_watch.fileno())
            self._oom_watch.close()
        self.runtime.delete()
        record.remove(self.bundle)

    def _ended(self, status: ExitStatus) -> ExitStatus:
        self.state = "exited"
        if not self.runtime.private_pids:
            # Processes that init left behind would run on for ever, in nobody's charge.
            self.runtime.kill_all()
        status = status._replace(oom_killed=self.runtime.oom_kills() > 0)
        record.write(self.bundle, record.EXIT, status._asdict())
        return status

    def _close_log(self) -> None:
        # Only when all is written: a slow client may hold output back beyond the end of the process.
        if self._log is not None and (self._pump.finished or self.state == "exited"):
            log, self._log = self._log, None
            self._pump.stop_logging()
            try:
                log.close()
            except OSError:
                pass

    def _watch_oom(self) -> OomWatch | None:
        watch = self.runtime.watch_oom()
        if watch is None:
            return None

        def ready(mask: int) -> None:
            if watch.read() and self.on_oom is not None:
                self.on_oom()

        self._loop.watch(watch.fileno(), 1, ready)
        return watch


def _first_ids(launch: ContainerLaunch) -> tuple[int, int] | None:
    """The host's ids of the container's root; None without a user namespace."""
    linux = launch["spec"].get("linux", {})
    uids, gids = linux.get("uidMappings"), linux.get("gidMappings")
    return (uids[0]["hostID"], gids[0]["hostID"]) if uids and gids else None


def _open_log(launch: ContainerLaunch) -> LogWriter | None:
    log = launch["log"]
    try:
        return open_writer(
            log["driver"],
            log["path"],
            max_size=log["max_size"],
            max_file=log["max_file"],
            compress=log["compress"],
            attrs=log.get("attrs"),
        )
    except OSError as error:
        raise LaunchError(f"failed to initialize logging driver: {error}", "other") from error
