"""The container that a shim keeps: launch, start, exit, close."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from sampan.errors import reason_of
from sampan.linux import process, sockets
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
    from sampan.runtime.interface import LaunchHead, LogConfig
    from sampan.runtime.shim.loop import Loop
    from sampan.runtime.shim.maker import Maker
    from sampan.runtime.shim.parking import Parked, Site


class Container:
    """State `making` → `created` → `running` → `exited`. `close` takes everything back."""

    def __init__(self, loop: Loop, site: Site, head: LaunchHead) -> None:
        """What the shim keeps itself: streams and log. Raises LaunchError, with everything taken back."""
        self.id = head["id"]
        self.bundle = head["bundle"]
        self.state = "making"
        self.runtime: NativeRuntime | ForeignRuntime
        self.on_oom: Callable[[], None] | None = None
        self._loop = loop
        self._site = site
        self._head = head
        self._start_time = 0
        self._oom_watch: OomWatch | None = None
        self._streams = Streams(head["stdio"])
        self.give_streams(self._streams)
        try:
            record.reserve(self.bundle)
            self._log = _open_log(head["log"])
        except BaseException:
            self._streams.close()
            raise
        self._pump = Pump(loop, self._streams, self._log)

    def make(
        self,
        maker: Maker,
        launch: int,
        parked: Parked | None,
        then: Callable[[LaunchError | None], None],
    ) -> None:
        """Have it brought to `created`. `launch`: the ContainerLaunch in memory, the caller's descriptor.

        `then` is called with what went wrong: then nothing of it is left but processes and cgroup, which the caller ends.
        """

        def made(error: LaunchError | None, answer: dict[str, Any], descriptors: dict[str, int]) -> None:
            self._streams.close_theirs()
            if answer.get("helper"):
                os.waitpid(answer["helper"], 0)  # it has ended: ours, like the stub that it cloned
            if error is None:
                pid, pidfd = (parked.pid, parked.pidfd) if parked else (answer["pid"], descriptors["pidfd"])
                self._created(answer["cgroup"], pid, {**descriptors, "pidfd": pidfd}, parked)
            else:
                self._streams.close()
                self._close_log()
            then(error)

        maker.ask({"call": "make"}, (launch, *(self._streams.theirs or ())), made)

    def make_foreign(self, launch: int) -> None:
        """Bring it to `created` with another runtime's program, here. Raises LaunchError, with everything taken back."""
        try:
            runtime = ForeignRuntime(self._loop, self._site, sockets.from_memory(launch))  # type: ignore[arg-type]
            self.runtime = runtime
            # Already now: what the program has made when we are killed is found by its cgroup.
            unfinished = {"cgroup": runtime.cgroup.path, "boot_id": process.boot_id()}
            record.write(self.bundle, record.STATE, unfinished)
            record.reserve(self.bundle)
            console = runtime.create(self._streams.theirs)
        except BaseException:
            self._streams.close()
            self._close_log()
            raise
        self._streams.close_theirs()
        self._supervise(runtime.pid, console)
        self.init.signal = runtime.kill

    def _created(self, cgroup: str, pid: int, made: dict[str, int], parked: Parked | None) -> None:
        self.runtime = NativeRuntime(
            self._site.layout.cgroup(cgroup),
            pid,
            made,
            parked.sandbox if parked is not None else None,
            private_pids=self._head["private_pids"],
        )
        self._supervise(pid, made.get("console"))

    def _supervise(self, pid: int, console: int | None) -> None:
        if console is not None:
            self._streams.set_console(console)
        self.init = Supervised(self._loop, pid, self.runtime.pidfd, self._streams, self._pump)
        self.init.on_exit = self._ended
        self.init.on_told = self._close_log
        self.state = "created"
        self._start_time = process.start_time(pid)
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
        owner = self._head["owner"]
        if owner is not None:
            streams.give_to(owner[0], owner[1])

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
        if self._log is not None and (self._pump.finished or self.state in ("making", "exited")):
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


def _open_log(log: LogConfig) -> LogWriter | None:
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
        reason = f"open {error.filename}: {reason_of(error)}"
        raise LaunchError(f"failed to initialize logging driver: {reason}", "other") from error
