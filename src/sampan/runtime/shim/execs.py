"""Further processes in a running container: `docker exec` and health probes.

On cgroup v1 moving the new process into the container's cgroup costs an RCU grace period (9-14 ms). It happens in a
short-lived child of the shim, while the process itself enters the namespaces; and `prepare` lets all that begin
when an exec is created, before it is started.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from sampan.linux import process
from sampan.runtime.interface import LaunchError
from sampan.runtime.shim.loop import READ
from sampan.runtime.shim.protocol import Refused
from sampan.runtime.shim.pump import Pump
from sampan.runtime.shim.streams import Streams
from sampan.runtime.shim.supervised import Supervised

if TYPE_CHECKING:
    from collections.abc import Callable

    from sampan.oci.runtime import Process
    from sampan.runtime.container.config import JoinConfig
    from sampan.runtime.container.stub import Stub
    from sampan.runtime.interface import ExecLaunch, HealthProbe, Stdio
    from sampan.runtime.shim.container import Container
    from sampan.runtime.shim.loop import Loop, Timer
    from sampan.runtime.shim.protocol import Request

SPARE_SECONDS = 5.0
"""A prepared process that no exec took is ended after this."""
PROBE_OUTPUT = 4096

_PROBE_STDIO: Stdio = {"tty": False, "open_stdin": False, "stdin_once": False}


class Prepared:
    """A stub on its way into the container's cgroup."""

    def __init__(self, loop: Loop, container: Container) -> None:
        self._loop = loop
        self.stub: Stub = container.native.prepare_exec()
        self._mover: int | None = None
        self._mover_fd = -1
        self._then: Callable[[bool], None] | None = None
        self._moved = True
        if container.native.execs_need_attach:
            self._mover = _attach_in_child(container, self.stub.pid)
            self._mover_fd = process.pidfd_open(self._mover)
            loop.watch(self._mover_fd, READ, self._mover_ended)

    def when_in_cgroup(self, then: Callable[[bool], None]) -> None:
        """Call `then(whether it worked)` once the stub is in the cgroup: now, if it is."""
        if self._mover is None:
            then(self._moved)
        else:
            self._then = then

    def discard(self) -> None:
        """End the stub."""
        process.pidfd_send_signal(self.stub.pidfd, 9)
        os.waitpid(self.stub.pid, 0)
        self.stub.close()
        if self._mover is not None:
            self._then = None
            self._mover_ended(0)

    def _mover_ended(self, mask: int) -> None:
        assert self._mover is not None
        self._loop.forget(self._mover_fd)
        os.close(self._mover_fd)
        _, status = os.waitpid(self._mover, 0)
        self._mover = None
        self._moved = status == 0
        if self._then is not None:
            self._then(self._moved)


def _attach_in_child(container: Container, pid: int) -> int:
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        container.runtime.cgroup.attach(pid)
        status = 0
    finally:
        os._exit(status)


class Execs:
    """The further processes of one container."""

    def __init__(self, loop: Loop, container: Container) -> None:
        self._loop = loop
        self._container = container
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
            self._spare = Prepared(self._loop, self._container)
            self._spare_timer = self._loop.after(SPARE_SECONDS, self._drop_spare)

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
        pump.tap = lambda data: output.extend(data[: PROBE_OUTPUT - len(output)])
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
        self._drop_spare()
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

        def failed(kind: str, message: str) -> None:
            prepared.discard()
            pump.close_clients()
            streams.close()
            request.refuse(kind, message)

        try:
            console = prepared.stub.configure_join(
                config, stdio=streams.theirs, seccomp=self._container.native.seccomp
            )
        except LaunchError as error:
            failed(f"launch:{error.kind}", str(error))
            return
        if console is not None:
            streams.set_console(console)
        streams.close_theirs()

        def in_cgroup(moved: bool) -> None:
            if not moved:
                failed("failed", "cannot move the process into the container's cgroup")
                return
            try:
                prepared.stub.start()
            except LaunchError as error:
                failed(f"launch:{error.kind}", str(error))
                return
            supervised = Supervised(self._loop, prepared.stub.pid, os.dup(prepared.stub.pidfd), streams, pump)
            prepared.stub.close()
            started(supervised)
            pump.begin()

        prepared.when_in_cgroup(in_cgroup)

    def _config(self, command: Process) -> JoinConfig:
        return {"id": self._container.id, "process": command, "die_with_parent": True}

    def _take(self) -> Prepared:
        if self._spare is None:
            return Prepared(self._loop, self._container)
        spare, self._spare = self._spare, None
        if self._spare_timer is not None:
            self._spare_timer.cancel()
        return spare

    def _drop_spare(self) -> None:
        if self._spare is not None:
            self._take().discard()
