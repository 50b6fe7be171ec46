"""Further processes in a running container: `docker exec`.

An exec is made (`create`), started once (`start`), and can be inspected until its container is gone, or for a while after it ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from typing import TYPE_CHECKING, NamedTuple

from sampan.containers import capabilities
from sampan.containers.container import Container
from sampan.containers.launch_errors import exec_failure
from sampan.containers.security import parse_security_options
from sampan.containers.spec import capability_sets, environment, merge_environment
from sampan.errors import Conflict, InvalidParameter, NotFound, SampanError, SystemFailure
from sampan.names.names import new_id
from sampan.runtime.container import users
from sampan.runtime.interface import ExecLaunch, LaunchError

if TYPE_CHECKING:
    from sampan.containers.record import ContainerRecord
    from sampan.containers.services import ContainerSettings, Services
    from sampan.engineapi.container import ExecConfig
    from sampan.oci.runtime import Process
    from sampan.runtime.interface import AttachStream, ExecHandle, ExitStatus, Shim

_START_PATIENCE = 10.0
"""Seconds, as dockerd's."""
_KEPT_AFTER_END = 300.0
"""Seconds for which an ended exec can still be inspected."""


class Exec:
    """One exec and where it is in its life."""

    def __init__(self, container: Container, config: ExecConfig) -> None:
        self.id = new_id()
        self.container = container
        self.config = config
        self.started = False
        self.running = False
        self.exit_code: int | None = None
        self.pid = 0
        self.handle: ExecHandle | None = None
        self.launched = asyncio.Event()
        """Its process exists, or could not be made."""
        self.ended = asyncio.Event()
        self.ended_at = 0.0

    @property
    def command(self) -> str:
        """As events print it."""
        words = self.config.cmd or [""]
        return f"{words[0]} {' '.join(words[1:])}"

    def container_ended(self) -> None:
        """The container's init is gone, and every process of it."""
        if self.running:
            self.finish(137)

    def finish(self, code: int) -> None:
        """It has ended."""
        self.running = False
        self.exit_code = code
        self.pid = 0
        self.ended_at = time.monotonic()
        self.container.execs.pop(self.id, None)
        self.launched.set()
        self.ended.set()


class StartedExec(NamedTuple):
    """A started exec and the client's connection to it (None when detached)."""

    exec: Exec
    stream: AttachStream | None


class Execs:
    """All execs of this engine."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._all: dict[str, Exec] = {}
        self._waits: set[asyncio.Task[None]] = set()

    async def create(self, container: Container, config: ExecConfig, name: str) -> Exec:
        """`name` is what the client calls the container.

        Raises `Conflict` when the container does not run, `InvalidParameter` without a command or for a user that the
        container does not have.
        """
        if not config.cmd:
            raise InvalidParameter("No exec command specified")
        await container.settled()
        check_can_exec(container, name)
        if config.user:
            await asyncio.to_thread(_check_user, container, config.user)
        self._forget_old()
        exec = Exec(container, config)
        self._all[exec.id] = exec
        container.execs[exec.id] = exec
        self._prepare(container)
        self._services.publish(container, f"exec_create: {exec.command}", {"execID": exec.id})
        return exec

    def _prepare(self, container: Container) -> None:
        """Let the shim make a process ready while the client takes the exec's id and asks for its start."""
        task = asyncio.create_task(_prepared(container.shim))
        self._waits.add(task)
        task.add_done_callback(self._waits.discard)

    def get(self, exec_id: str) -> Exec:
        """Raises `NotFound("No such exec instance: x")`."""
        exec = self._all.get(exec_id)
        if exec is None or self._services.registry.by_id(exec.container.id) is None:
            raise NotFound(f"No such exec instance: {exec_id}")
        return exec

    async def start(
        self, exec: Exec, *, attach: tuple[bool, bool, bool] | None, console: tuple[int, int] | None = None
    ) -> StartedExec:
        """Run it. `attach` says which of (stdin, stdout, stderr) the client wants; None detaches.

        Raises `Conflict` for one that runs or ran, `InvalidParameter` when the program cannot be executed (exit code 126 or 127).
        """
        container, services = exec.container, self._services
        if exec.exit_code is not None:
            raise Conflict(f"exec command {exec.id} has already run")
        if exec.started:
            raise Conflict(f"exec command {exec.id} is already running")
        check_can_exec(container)
        exec.started = True
        services.publish(container, f"exec_start: {exec.command}", {"execID": exec.id})
        assert container.shim is not None
        try:
            if exec.config.working_dir and not exec.config.working_dir.startswith("/"):
                raise LaunchError("Cwd must be an absolute path", "other")
            launch = await self._launch(exec, console)
            handle, stream = await container.shim.exec(launch, attach=attach)
        except LaunchError as error:
            failure = exec_failure(error)
            exec.finish(failure.exit_code)
            raise failure from error
        except SampanError:
            exec.finish(126)
            raise
        exec.handle = handle
        exec.pid = handle.pid
        exec.running = True
        exec.launched.set()
        task = asyncio.create_task(self._await_end(exec, handle))
        self._waits.add(task)
        task.add_done_callback(self._waits.discard)
        return StartedExec(exec, stream)

    async def resize(self, exec: Exec, rows: int, columns: int) -> None:
        """Clients resize while the exec is about to start: this waits for it. Raises `SystemFailure` when it does not come."""
        try:
            async with asyncio.timeout(_START_PATIENCE):
                await exec.launched.wait()
        except TimeoutError:
            raise SystemFailure("timeout waiting for exec session ready") from None
        if exec.handle is None or not exec.running:
            raise Conflict(f"exec command {exec.id} is not running")
        if exec.config.tty:
            await exec.handle.resize(rows, columns)

    async def _await_end(self, exec: Exec, handle: ExecHandle) -> None:
        try:
            status: ExitStatus = await handle.wait()
            code = status.code
        except SampanError:
            code = 137  # the shim is gone, and everything in its container
        if exec.running:
            exec.finish(code)
        self._services.publish(exec.container, "exec_die", {"execID": exec.id, "exitCode": str(code)})

    async def _launch(self, exec: Exec, console: tuple[int, int] | None) -> ExecLaunch:
        config = exec.config
        console = console or (
            (config.console_size[0], config.console_size[1]) if config.console_size else None
        )
        process = build_process(
            self._services.settings,
            exec.container.record,
            config.cmd or [],
            env=config.env or [],
            working_dir=config.working_dir,
            privileged=config.privileged,
            tty=config.tty,
        )
        if config.tty and console and any(console):
            process["consoleSize"] = {"height": console[0], "width": console[1]}
        return {
            "exec_id": exec.id,
            "process": process,
            "stdio": {
                "tty": config.tty,
                "open_stdin": config.attach_stdin,
                "stdin_once": True,
            },
            "privileged": config.privileged,
            "user": config.user or exec.container.record.config.user,
            "groups": list(exec.container.record.host_config.group_add or ()),
        }

    def _forget_old(self) -> None:
        horizon = time.monotonic() - _KEPT_AFTER_END
        for exec in list(self._all.values()):
            if exec.ended_at and exec.ended_at < horizon:
                del self._all[exec.id]


def build_process(
    settings: ContainerSettings,
    record: ContainerRecord,
    arguments: list[str],
    *,
    env: list[str],
    working_dir: str,
    privileged: bool,
    tty: bool,
) -> Process:
    """The OCI process of an exec or a health probe; its user is resolved by the runtime."""
    host = record.host_config
    granted = capabilities.effective(host.cap_add, host.cap_drop, privileged=host.privileged or privileged)
    process: Process = {
        "terminal": tty,
        "cwd": working_dir or record.config.working_dir or "/",
        "args": list(arguments),
        "env": merge_environment(environment(record, tty=tty), env),
        "user": {"uid": 0, "gid": 0},
        "capabilities": capability_sets(granted),
        "noNewPrivileges": parse_security_options(
            host.security_opt or (), no_new_privileges=settings.no_new_privileges
        ).no_new_privileges,
        "oomScoreAdj": host.oom_score_adj,
    }
    if record.app_armor_profile:  # of a privileged exec as well: it is the container that is confined
        process["apparmorProfile"] = record.app_armor_profile
    return process


async def _prepared(shim: Shim | None) -> None:
    if shim is not None:
        with contextlib.suppress(SampanError, LaunchError):  # the start will say what is wrong
            await shim.prepare_exec()


def _check_user(container: Container, user: str) -> None:
    """Raises `InvalidParameter` for a user or group that the container's own files do not have. In a thread."""
    assert container.shim is not None
    try:
        root = os.open(f"/proc/{container.shim.init_pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return  # it has just ended: the start will say so
    try:
        users.resolve(root, user, [])
    except LaunchError as error:
        raise InvalidParameter(str(error)) from None
    finally:
        os.close(root)


def check_can_exec(container: Container, name: str = "") -> None:
    """Raises `Conflict` in dockerd's words unless the container runs and is not paused."""
    state = container.state
    if not state.running or container.shim is None:
        if state.status == "restarting":
            raise Conflict(f"Container {container.id} is restarting, wait until the container is running")
        raise Conflict(f"container {container.id} is not running")
    if state.status == "paused":
        raise Conflict(f"Container {name or container.id} is paused, unpause the container before exec")
