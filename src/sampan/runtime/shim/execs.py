"""Further processes in a running container: `docker exec` and health probes.

A maker (`making`) clones the new process and makes it the program; `prepare` lets it begin when an exec is created, before
it is started.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from sampan.runtime.interface import LaunchError
from sampan.runtime.shim import parking
from sampan.runtime.shim.protocol import Refused
from sampan.runtime.shim.pump import Pump
from sampan.runtime.shim.streams import Streams
from sampan.runtime.shim.supervised import Supervised

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sampan.oci.runtime import Process
    from sampan.runtime.container.config import JoinConfig
    from sampan.runtime.interface import ExecLaunch, HealthProbe, Stdio
    from sampan.runtime.shim.container import Container
    from sampan.runtime.shim.loop import Loop, Timer
    from sampan.runtime.shim.maker import Crew
    from sampan.runtime.shim.protocol import Request

SPARE_SECONDS = 5.0
"""A prepared process that no exec took is ended after this."""
PROBE_OUTPUT = 4096
"""Bytes of a probe's output that are kept; three dots say that there was more."""

_PROBE_STDIO: Stdio = {"tty": False, "open_stdin": False, "stdin_once": False}


class Prepared:
    """A stub beside the container's init, and the maker that holds its channel."""

    def __init__(self, container: Container, crew: Crew) -> None:
        self._crew = crew
        self._maker = crew.take()
        self.pid = 0
        """Known, as `pidfd`, once the maker has cloned it."""
        self.pidfd = -1
        self._error: LaunchError | None = None
        request = {"call": "join", "pid": container.init.pid, "cgroup": container.runtime.cgroup.path}
        self._maker.ask(request, (), self._cloned)

    def _cloned(self, error: LaunchError | None, answer: dict[str, Any], made: dict[str, int]) -> None:
        self._error = error
        self.pid = answer.get("pid", 0)
        self.pidfd = made.get("pidfd", -1)

    def become(
        self,
        config: JoinConfig,
        descriptors: Sequence[int],
        then: Callable[[LaunchError | None, int | None], None],
        *,
        filtered: bool,
    ) -> None:
        """Make it the program; `then` is called with what went wrong (the stub is gone then), or the terminal's master.

        `descriptors` stay the caller's: the standard streams if there is no terminal, and the filter's file if `filtered`.
        """

        def answered(error: LaunchError | None, answer: dict[str, Any], made: dict[str, int]) -> None:
            self._crew.release(self._maker)
            error = self._error or error
            if error is not None:
                self._end()
                for descriptor in made.values():
                    os.close(descriptor)
            then(error, made.get("console"))

        self._maker.ask({"call": "become", "config": config, "seccomp": filtered}, descriptors, answered)

    def discard(self) -> None:
        """It is not wanted: end it, and its maker."""
        self._crew.dismiss(self._maker)
        self._end()

    def _end(self) -> None:
        if self.pid:
            parking.end(self.pid)
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1


class Execs:
    """The further processes of one container."""

    def __init__(self, loop: Loop, container: Container, crew: Crew) -> None:
        self._loop = loop
        self._container = container
        self._crew = crew
        self._starting: dict[Prepared, Callable[[LaunchError | None, int | None], None]] = {}
        self._processes: dict[str, Supervised] = {}
        self._probes: set[Supervised] = set()
        self._spare: Prepared | None = None
        self._spare_timer: Timer | None = None

    def get(self, exec_id: str) -> Supervised:
        """Raises Refused for an unknown one, or one whose end was told and taken."""
        try:
            return self._processes[exec_id]
        except KeyError:
            raise Refused("no-exec", f"no exec {exec_id}") from None

    def prepare(self) -> None:
        """Make a process ready for the next exec."""
        if self._spare is None:
            self._spare = Prepared(self._container, self._crew)
            self._spare_timer = self._loop.after(SPARE_SECONDS, self.drop_spare)

    def start(
        self,
        request: Request,
        launch: ExecLaunch,
        attach: tuple[bool, bool, bool] | None,
        client: int | None,
    ) -> None:
        """Start a process, its streams connected to `client` (a stream socket, ours now); replies with its pid."""
        stdin, stdout, stderr = attach or (False, False, False)
        try:
            streams = Streams(launch["stdio"], (stdin, stdout, stderr))
            self._container.give_streams(streams)
        except BaseException:
            if client is not None:
                os.close(client)
            raise

        def started(supervised: Supervised) -> None:
            self._processes[launch["exec_id"]] = supervised
            request.reply({"pid": supervised.pid})

        pump = Pump(self._loop, streams, None)
        if client is not None:
            pump.attach(client, stdin=stdin, stdout=stdout, stderr=stderr)
        config = self._config(launch["process"])
        if "user" in launch:
            config["user"] = launch["user"]
            config["groups"] = launch.get("groups", [])
        self._launch(request, config, streams, pump, started)

    def probe(self, request: Request, probe: HealthProbe, template: Process) -> None:
        """Run a health command with `template`'s user, environment and directory; replies when it has ended."""
        streams = Streams(_PROBE_STDIO)
        pump = Pump(self._loop, streams, None)
        output = bytearray()
        pump.tap = lambda data: output.extend(data[: PROBE_OUTPUT + 1 - len(output)])
        timed_out = False

        def started(supervised: Supervised) -> None:
            def expired() -> None:
                nonlocal timed_out
                if supervised.running:
                    timed_out = True
                    supervised.kill(9)

            timer = self._loop.after(probe["timeout_ns"] / 1e9, expired)
            self._probes.add(supervised)

            def told() -> None:
                timer.cancel()
                self._probes.discard(supervised)
                assert supervised.status is not None
                code = -1 if timed_out else supervised.status.code
                if len(output) > PROBE_OUTPUT:
                    output[PROBE_OUTPUT:] = b"..."
                request.reply(
                    {"code": code, "output": bytes(output).decode("latin-1"), "timed_out": timed_out}
                )
                supervised.dispose()

            supervised.on_told = told

        command: Process = {**template, "args": probe["args"], "terminal": False}
        config = self._config(command)
        if "user" in probe:
            config["user"] = probe["user"]
            config["groups"] = probe.get("groups", [])
        self._launch(request, config, streams, pump, started)

    def close(self) -> None:
        """Forget all; the container's end has ended or will end them."""
        self.drop_spare()
        for prepared, told in list(self._starting.items()):
            prepared.discard()
            told(LaunchError("the container has ended", "other"), None)
        self._end_strays()
        for supervised in [*self._processes.values(), *self._probes]:
            if supervised.running:
                try:
                    supervised.kill(9)
                except Refused:
                    pass
                supervised.reap()
            supervised.dispose()
        self._processes.clear()
        self._probes.clear()

    def _launch(
        self,
        request: Request,
        config: JoinConfig,
        streams: Streams,
        pump: Pump,
        started: Callable[[Supervised], None],
    ) -> None:
        try:
            prepared = self._take()
        except BaseException:
            pump.close_clients()
            streams.close()
            raise

        def became(error: LaunchError | None, console: int | None) -> None:
            del self._starting[prepared]
            streams.close_theirs()
            if error is not None:
                if not prepared.pid:
                    self._end_strays()
                pump.close_clients()
                streams.close()
                request.refuse(f"launch:{error.kind}", str(error))
                return
            if console is not None:
                streams.set_console(console)
            supervised = Supervised(self._loop, prepared.pid, prepared.pidfd, streams, pump)
            started(supervised)
            pump.begin()

        seccomp = self._container.native.seccomp
        descriptors = [*(streams.theirs or ()), *([seccomp] if seccomp >= 0 else [])]
        self._starting[prepared] = became
        prepared.become(config, descriptors, became, filtered=seccomp >= 0)

    def _config(self, command: Process) -> JoinConfig:
        return {
            "id": self._container.id,
            "process": command,
            "die_with_parent": True,
            "bundle": self._container.bundle,
        }

    def _take(self) -> Prepared:
        if self._spare is None:
            return Prepared(self._container, self._crew)
        spare, self._spare = self._spare, None
        if self._spare_timer is not None:
            self._spare_timer.cancel()
        return spare

    def drop_spare(self) -> None:
        """End the process that was made ready, if there is one. Also before the cgroup is frozen: it could not be ended then."""
        if self._spare is not None:
            spare = self._take()
            spare.discard()
            if not spare.pid:
                self._end_strays()

    def _end_strays(self) -> None:
        """End the stub of a maker that was lost before it could tell of it."""
        waiting = [*self._starting, *([self._spare] if self._spare is not None else [])]
        if all(prepared.pid for prepared in waiting):
            known = [s.pid for s in (self._container.init, *self._processes.values(), *self._probes)]
            parking.end_children({*known, *(prepared.pid for prepared in waiting), *self._crew.pids})
