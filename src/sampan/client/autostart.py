"""Starting an engine when none answers.

The engine is spawned once per run directory however many clients ask at the same time: a lock file is held from the
look ("does anybody answer?") until the new engine answers. It starts in a session of its own with a chosen working
directory, umask and environment, so nothing of the caller stays alive in it; the interpreter runs isolated (-I), so
neither the caller's PYTHONPATH nor its working directory can put code into a root process.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, NamedTuple

from sampan.client.endpoint import Endpoint, runtime_directory
from sampan.client.wire import open_wire
from sampan.errors import NotSupported, SampanError, Unavailable

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

READY_TIMEOUT = 30.0
ELSEWHERE = "containers need Linux: on this system point sampan at an engine elsewhere (-H tcp://HOST:2376 or DOCKER_HOST)"
_KEEP_ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "TZ", "HOME", "XDG_RUNTIME_DIR", "XDG_DATA_HOME")
_KEEP_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")
_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_children: list[subprocess.Popen[bytes]] = []


class EngineCommand(NamedTuple):
    """What is started: arguments for `python -I -m sampan.serve`, and where its log goes."""

    arguments: tuple[str, ...] = ()
    log: str = ""
    """Path; empty for `engine.log` in the run directory."""


def ensure_engine(endpoint: Endpoint, command: EngineCommand = EngineCommand()) -> None:  # noqa: B008 — immutable
    """Return when an engine answers at the endpoint, having started one if need be.

    Raises NotSupported off Linux, Unavailable with the last lines of the engine's log when it does not come up.
    """
    if not sys.platform.startswith("linux"):
        raise NotSupported(ELSEWHERE)
    directory = os.path.dirname(endpoint.socket_path) or runtime_directory()
    try:
        os.makedirs(directory, mode=0o755, exist_ok=True)
        lock = os.open(os.path.join(directory, "start.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Unavailable(
            f"cannot start the engine: {error.filename}: {error.strerror}; "
            "run as root (sudo), or point DOCKER_HOST at an engine that runs"
        ) from error
    try:
        import fcntl

        fcntl.flock(lock, fcntl.LOCK_EX)
        if not answers(endpoint):
            _start(endpoint, command, directory)
    finally:
        os.close(lock)


def answers(endpoint: Endpoint) -> bool:
    """True when something listens at the endpoint."""
    try:
        open_wire(endpoint).close()
    except SampanError:
        return False
    return True


def _start(endpoint: Endpoint, command: EngineCommand, directory: str) -> None:
    import subprocess

    log_path = command.log or os.path.join(directory, "engine.log")
    ready, ready_in_engine = os.pipe()
    try:
        with open(log_path, "ab") as log:
            start_of_log = log.tell()
            process = subprocess.Popen(
                [
                    *(sys.executable, "-I", "-m", "sampan.serve", "--on-demand", "-H", endpoint.url),
                    *(f"--ready-fd={ready_in_engine}", *command.arguments),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                umask=0o022,
                start_new_session=True,
                pass_fds=(ready_in_engine,),
                env=_environment(),
            )
    finally:
        os.close(ready_in_engine)
    _children[:] = [child for child in _children if child.poll() is None]  # reap those that left
    _children.append(process)
    try:
        if _is_ready(ready):
            return
    finally:
        os.close(ready)
    try:
        process.wait(1)  # its end of the pipe closes a moment before it is gone
        state = "ended at its start"
    except subprocess.TimeoutExpired:
        state = f"did not get ready within {READY_TIMEOUT:.0f} s"
    lines = "\n".join("  " + line for line in _tail(log_path, start_of_log))
    raise Unavailable(f"the engine {state}; the end of {log_path}:\n{lines or '  (empty)'}")


def _is_ready(pipe: int) -> bool:
    """True when the engine wrote its byte; False when the pipe closed without (it died) or the time is up."""
    import select

    return bool(select.select([pipe], [], [], READY_TIMEOUT)[0]) and os.read(pipe, 1) != b""


def _environment() -> dict[str, str]:
    """What an engine may know of its caller: locale, paths, proxies, what is Sampan's own, and nothing else."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in _KEEP_ENVIRONMENT + _KEEP_PROXIES or name.startswith("SAMPAN_")
    }
    return {"PATH": _DEFAULT_PATH, **kept}


def _tail(path: str, start: int, lines: int = 12) -> Iterator[str]:
    try:
        with open(path, "rb") as file:
            file.seek(max(start, os.path.getsize(path) - 8192))
            yield from file.read().decode("utf-8", "replace").splitlines()[-lines:]
    except OSError as error:
        yield f"({error.strerror})"
