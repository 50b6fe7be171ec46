"""A shim's life gone through in the zygote, before any shim is forked: what is written once is then shared by all.

Python writes to memory also where a program only reads: it counts calls of a function until it specialises its code,
fills caches of attribute lookups, keeps the blocks that objects leave behind. In a fork each such page becomes the
process's own. So the zygote plays a container from park to close, with a maker and an init that only say their lines.
Nothing of it reaches outside a directory of its own, which is removed.
"""

from __future__ import annotations

import contextlib
import gc
import os
import socket
import stat
from typing import Any

from sampan.cgroups import Layout
from sampan.linux import heap, sockets
from sampan.runtime.interface import LaunchError
from sampan.runtime.shim import rootrehearsal
from sampan.runtime.shim.loop import Loop
from sampan.runtime.shim.maker import Crew
from sampan.runtime.shim.parking import Site
from sampan.runtime.shim.service import Service, count_descriptors

_PLACES = "/tmp/.sampan-rehearsal-"
ROUNDS = 10
"""More than the eight calls after which the interpreter specialises a function, and then looks at it again."""


def rehearse() -> None:
    """Go through `ROUNDS` lives. Does nothing where no directory can be made."""
    _remove_abandoned()
    place = f"{_PLACES}{os.getpid()}"
    try:
        os.mkdir(place, 0o700)
    except OSError:
        return
    try:
        for _ in range(ROUNDS):
            Stage(place).play()
        # Where mounting is forbidden there are no stubs to do it for.
        with contextlib.suppress(OSError, LaunchError):
            rootrehearsal.rehearse(place)
        gc.collect()
        heap.plug_holes()
    finally:
        _remove(place)


def _remove_abandoned() -> None:
    """Places of zygotes that were killed at it. Only what is ours: anybody may make entries in /tmp."""
    directory, prefix = os.path.split(_PLACES)
    for name in os.listdir(directory):
        place, pid = f"{directory}/{name}", name.removeprefix(prefix)
        if name.startswith(prefix) and pid.isdecimal() and not os.path.exists(f"/proc/{pid}"):
            try:
                status = os.lstat(place)
            except FileNotFoundError:
                continue  # somebody else was quicker
            if stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid():
                _remove(place)


class Stage:
    """One life: the service, and whoever it speaks to."""

    def __init__(self, place: str) -> None:
        self._place = place
        os.mkdir(f"{place}/bundle", 0o700)
        for directory in (f"{place}/docker", f"{place}/docker/parked", f"{place}/docker/id"):
            os.makedirs(directory, exist_ok=True)
        self._loop = Loop()
        self._engine, self._shim = sockets.pair()
        self._engine.setblocking(False)
        self._maker: socket.socket | None = None
        self._children: list[Child] = []
        self._ids = 0
        site = Site(Layout("v1", {"memory": place, "freezer": place}, None), place)
        crew = Crew(self._loop, self._spawn)
        self._service = Service(self._loop, site, crew, count_descriptors())
        self._service.accept(self._shim)

    def play(self) -> None:
        """Raises whatever goes wrong, with no process left: a machine that stands still for seconds lets timers come in between."""
        try:
            self._service.park("/docker/parked")
            self._answer_park()
            stub = self._launch()
            self._live(stub)
            self._exec()
            self._end(stub)
        except BaseException:
            for child in reversed(self._children):  # the later ones hold what the earlier ones wait for
                child.break_off()
            raise

    # --- the others' lines

    def _spawn(self) -> tuple[int, socket.socket]:
        ours, self._maker = sockets.pair(blocking=False)
        return os.getpid(), ours  # no child of ours: waiting for it ends at once

    def _child(self) -> Child:
        child = Child()
        self._children.append(child)
        return child

    def _call(self, name: str, arguments: dict[str, Any], descriptors: list[int]) -> None:
        self._ids += 1
        sockets.send(self._engine, {"id": self._ids, "call": name, **arguments}, descriptors)
        self._loop.run_what_is_ready()

    def _hear(self) -> None:
        """Take what the engine is told."""
        self._loop.run_what_is_ready()
        while True:
            try:
                message, descriptors = sockets.receive(self._engine)
            except BlockingIOError:
                return
            _close(descriptors)
            if "error" in message:
                raise RuntimeError(f"rehearsal: {message['error']}")

    def _asked(self) -> list[int]:
        """Take the maker's next request; its descriptors."""
        assert self._maker is not None
        return sockets.receive(self._maker)[1]

    def _answer(self, answer: dict[str, Any], descriptors: dict[str, int]) -> None:
        assert self._maker is not None
        sockets.send(self._maker, {**answer, "names": list(descriptors)}, list(descriptors.values()))
        _close(list(descriptors.values()))
        self._hear()

    def _answer_park(self) -> None:
        self._asked()
        self._stub = self._child()
        sandbox = {
            name: os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC) for name in ("netns", "route", "netfilter")
        }
        self._answer({"pid": self._stub.pid}, {"pidfd": os.pidfd_open(self._stub.pid), **sandbox})

    def _launch(self) -> list[int]:
        place = self._place
        with open(f"{place}/docker/id/memory.oom_control", "w", encoding="ascii") as file:
            file.write("oom_kill_disable 0\nunder_oom 0\noom_kill 0\n")
        for name in ("cgroup.event_control", "cgroup.procs", "freezer.state"):
            with open(f"{place}/docker/id/{name}", "w", encoding="ascii"):
                pass
        head = {
            "id": "0" * 64,
            "bundle": f"{place}/bundle",
            "cgroup": "/docker/id",
            "foreign": False,
            "stdio": {"tty": False, "open_stdin": True, "stdin_once": False},
            "log": {
                "driver": "json-file",
                "path": f"{place}/log",
                "max_size": -1,
                "max_file": 1,
                "compress": False,
            },
            "owner": None,
            "private_pids": True,
        }
        whole = sockets.in_memory({"id": "0" * 64})
        self._call("launch", {"head": head}, [whole])
        os.close(whole)
        launch, *streams = self._asked()
        os.close(launch)
        channel, self._init = sockets.pair()
        os.set_blocking(streams[0], False)
        seccomp = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        self._answer(
            {"pid": self._stub.pid, "cgroup": "/docker/id"}, {"seccomp": seccomp, "channel": channel.detach()}
        )
        return streams

    def _live(self, streams: list[int]) -> None:
        client, ours = socket.socketpair()
        client.setblocking(False)
        with client:
            self._call("hello", {}, [])
            self._call("wait", {}, [])
            self._call("attach", {"stdin": True, "stdout": True, "stderr": True}, [ours.fileno()])
            ours.close()
            self._init.shutdown(socket.SHUT_WR)  # as an execve that succeeds
            self._call("start", {}, [])
            self._init.close()
            os.write(streams[1], b"said\n")
            client.send(b"heard\n")
            self._hear()
            os.read(streams[0], 100)
            client.recv(100)
            self._call("keep", {"name": "ports"}, [streams[1]])
        self._hear()

    def _exec(self) -> None:
        self._call("prepare_exec", {}, [])
        _close(self._asked())
        child = self._child()
        self._answer({"pid": child.pid}, {"pidfd": os.pidfd_open(child.pid)})
        launch = {
            "exec_id": "1",
            "process": {"args": ["true"], "env": [], "cwd": "/"},
            "stdio": {"tty": False, "open_stdin": False, "stdin_once": False},
        }
        self._call("exec", {"launch": launch, "attach": None}, [])
        _close(self._asked())
        self._answer({}, {})
        child.end()
        self._call("wait", {"exec_id": "1"}, [])
        self._hear()

    def _end(self, streams: list[int]) -> None:
        _close(streams)
        self._stub.end()
        self._hear()
        for name in ("memory.oom_control", "cgroup.event_control", "cgroup.procs", "freezer.state"):
            os.unlink(f"{self._place}/docker/id/{name}")  # a real cgroup's go with their directory
        self._call("close", {"stay": True}, [])
        self._hear()
        self._engine.close()
        self._shim.close()
        self._loop.close()
        if self._maker is not None:
            self._maker.close()


class Child:
    """A process that does nothing until it is let go."""

    def __init__(self) -> None:
        told, self._tell = os.pipe2(os.O_CLOEXEC)
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._tell)
            os.read(told, 1)
            os._exit(0)
        os.close(told)

    def end(self) -> None:
        """Let it end; somebody else reaps it."""
        self._let_go()
        os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)

    def break_off(self) -> None:
        """Let it end, and reap it, whatever has become of it."""
        self._let_go()
        try:
            os.waitpid(self.pid, 0)
        except ChildProcessError:
            pass

    def _let_go(self) -> None:
        if self._tell >= 0:
            os.close(self._tell)
            self._tell = -1


def _close(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _remove(place: str) -> None:
    for directory, directories, files in os.walk(place, topdown=False):
        for name in files:
            os.unlink(f"{directory}/{name}")
        for name in directories:
            os.rmdir(f"{directory}/{name}")
    os.rmdir(place)
