"""`run` and `create`."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING, Any

from sampan.cli.command import PROGRAM, flag, option, verb
from sampan.cli.errors import ExitStatus, describe, start_status
from sampan.cli.options.body import attached, create_body
from sampan.cli.options.flags import container_flags
from sampan.cli.values import STRING
from sampan.client.api import EngineAnswer
from sampan.client.http import quote
from sampan.errors import InvalidParameter, NotFound, NotModified, SampanError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sampan.cli.session import Session
    from sampan.client.http import Response
    from sampan.client.streams import RawStream

_PULLS = ("always", "missing", "never")
_CREATE_EXAMPLES = """
$ sampan create --name web -p 8080:80 busybox httpd -f
$ sampan start web
"""
_RUN_EXAMPLES = """
$ sampan run --rm busybox echo hello
$ sampan run -it --rm debian bash
$ sampan run -d --name web -p 8080:80 busybox httpd -f
$ sampan run --rm -v "$PWD":/src -w /src busybox ls
"""


@verb(
    "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    "Create a new container",
    arity=(1, None),
    aliases=("container create", "create"),
    examples=_CREATE_EXAMPLES,
    interspersed=False,
)
@container_flags
def create(session: Session, args: tuple[str, ...], **flags: Any) -> None:
    """Print the id of the new container."""
    body = _body(args, flags, "create", detach=not flags["attach"] and not flags["interactive"])
    try:
        container = _create(session, args[0], body, flags)
    except SampanError as error:
        raise _failed(error, "create") from error
    print(container)


@verb(
    "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    "Create and run a new container from an image",
    arity=(1, None),
    aliases=("container run", "run"),
    examples=_RUN_EXAMPLES,
    interspersed=False,
)
@container_flags
@flag("-d", "--detach", help="Run container in background and print container ID")
@option("--detach-keys", kind=STRING, default="", help="Override the key sequence for detaching a container")
@flag("--sig-proxy", default=True, help="Proxy received signals to the process")
def run(
    session: Session, args: tuple[str, ...], detach: bool, detach_keys: str, sig_proxy: bool, **flags: Any
) -> None:
    """Exit code: the container's, or 125 to 127 when it could not be started."""
    body = _body(args, flags, "run", detach=detach)
    if detach and flags["attach"]:
        raise InvalidParameter("conflicting options: cannot specify both --attach and --detach")
    streams = attached(flags, detach=detach)
    _check_tty(flags["tty"], streams[0])
    if any(streams):
        from sampan.cli.terminal import chosen_keys

        detach_keys = chosen_keys(detach_keys)  # before anything is made
    try:
        container = _create(session, args[0], body, flags)
    except SampanError as error:
        raise _failed(error, "run") from error
    if not any(streams):
        _start_detached(session, container)
        return
    Foreground(session, container, flags, streams, detach_keys, sig_proxy).run()


def _check_tty(tty: bool, stdin: bool) -> None:
    from sampan.cli.terminal import is_terminal

    if tty and stdin and not is_terminal(0):
        raise ExitStatus(1, "the input device is not a TTY")


def _body(args: tuple[str, ...], flags: dict[str, Any], command: str, *, detach: bool) -> dict[str, Any]:
    """The request's body. A mistake in the flags ends with 125, whatever it says: 127 and 126 speak of the container's program."""
    try:
        if flags["pull"] not in _PULLS:
            raise InvalidParameter(
                f'invalid pull option: \'{flags["pull"]}\': must be one of "always", "missing" or "never"'
            )
        return create_body(flags, args[0], args[1:], detach=detach)
    except SampanError as error:
        raise ExitStatus(125, _see_help(describe(error), command)) from error


def _see_help(message: str, command: str) -> str:
    return f"{PROGRAM}: {message}\n\nRun '{PROGRAM} {command} --help' for more information"


def _failed(error: SampanError, command: str) -> ExitStatus:
    message = describe(error)
    if command == "run":
        message = _see_help(message, command)
    reason = error.__cause__.reason if isinstance(error.__cause__, EngineAnswer) else ""
    if reason and reason not in str(error):
        message += f"\n{PROGRAM}: {reason}"
    return ExitStatus(start_status(error) if command == "run" else 1, message)


def _create(session: Session, image: str, body: dict[str, Any], flags: dict[str, Any]) -> str:
    """Create the container, pulling its image if need be; its id."""
    if flags["tty"]:
        from sampan.cli.terminal import size

        body["HostConfig"]["ConsoleSize"] = list(size())
    with _cidfile(flags["cidfile"]) as write_id:
        answer = _create_or_pull(session, image, body, flags)
        write_id(str(answer["Id"]))
    for warning in answer.get("Warnings") or []:
        print(f"WARNING: {warning}", file=sys.stderr)
    return str(answer["Id"])


@contextlib.contextmanager
def _cidfile(path: str) -> Iterator[Callable[[str], object]]:
    """The file for the new container's id, made before the container is; empty it goes again."""
    if not path:
        yield str
        return
    if os.path.exists(path):
        raise InvalidParameter(
            f"container ID file found, make sure the other container isn't running or delete {path}"
        )
    try:
        file = open(path, "w", encoding="ascii")  # noqa: SIM115  # closed below
    except OSError as error:
        reason = (error.strerror or "").lower()
        raise InvalidParameter(f"failed to create the container ID file: open {path}: {reason}") from None
    with file:
        try:
            yield file.write
        finally:
            if not file.tell():
                os.unlink(path)


def _create_or_pull(
    session: Session, image: str, body: dict[str, Any], flags: dict[str, Any]
) -> dict[str, Any]:
    query = {"name": flags["name"] or None, "platform": flags["platform"] or None}

    def ask() -> dict[str, Any]:
        answer: dict[str, Any] = session.call("POST", "/containers/create", query, body)
        return answer

    def pull() -> None:
        from sampan.cli.pulling import pull

        pull(session.api, image, platform=flags["platform"], quiet=flags["quiet"], out=sys.stderr)

    if flags["pull"] == "always":
        pull()
    try:
        return ask()
    except NotFound as error:
        if flags["pull"] != "missing" or not any(words in str(error).lower() for words in _PULLED_FOR):
            raise
    if not flags["quiet"]:
        print(f"Unable to find image '{_with_tag(image)}' locally", file=sys.stderr)
    pull()
    return ask()


_PULLED_FOR = ("no such image", "does not provide the specified platform")


def _with_tag(image: str) -> str:
    return image if "@" in image or ":" in image.rpartition("/")[2] else image + ":latest"


def _start_detached(session: Session, container: str) -> None:
    try:
        session.call("POST", f"/containers/{container}/start")
    except SampanError as error:
        raise _failed(error, "run") from error
    print(container)
    sys.stdout.flush()


class Foreground:
    """A container that this terminal stays attached to until it ends."""

    def __init__(
        self,
        session: Session,
        container: str,
        flags: dict[str, Any],
        streams: tuple[bool, bool, bool],
        detach_keys: str,
        sig_proxy: bool,
    ) -> None:
        self._session = session
        self._container = container
        self._path = f"/containers/{quote(container)}"
        self._tty = flags["tty"]
        self._removed = flags["rm"]
        self._streams = streams
        self._detach_keys = detach_keys
        self._sig_proxy = sig_proxy

    def run(self) -> None:
        """Always leaves through ExitStatus, unless the user detached."""
        with self._attach() as stream:
            condition = "removed" if self._removed else "next-exit"
            waiting = self._session.api.request("POST", self._path + "/wait", {"condition": condition})
            self._start(waiting)
            if self._converse(stream):
                waiting.close()
                return
        answer = waiting.json()
        status = int(answer["StatusCode"])
        if status:
            self._say_why(answer)
        raise ExitStatus(status)

    def _attach(self) -> RawStream:
        stdin, stdout, stderr = self._streams
        query: dict[str, Any] = {"stream": True, "stdin": stdin, "stdout": stdout, "stderr": stderr}
        query["detachKeys"] = self._detach_keys
        return self._session.api.hijack("POST", self._path + "/attach", query)

    def _start(self, waiting: Response) -> None:
        try:
            self._session.call("POST", self._path + "/start")
        except NotModified:
            return
        except SampanError as error:
            if self._removed:
                waiting.read()  # the engine removes it: leave only afterwards
            raise _failed(error, "run") from error

    def _converse(self, stream: RawStream) -> bool:
        from sampan.cli.streaming import Conversation, proxied_signals, window_size

        with contextlib.ExitStack() as stack:
            if self._sig_proxy:
                stack.enter_context(proxied_signals(self._kill))
            if self._tty:
                stack.enter_context(window_size(self._resize))
            conversation = Conversation(
                stream, tty=self._tty, stdin=self._streams[0], detach_keys=self._detach_keys
            )
            return conversation.run()

    def _kill(self, name: str) -> None:
        self._session.call_beside(self._path + "/kill", {"signal": name})

    def _resize(self, rows: int, columns: int) -> None:
        self._session.call_beside(self._path + "/resize", {"h": rows, "w": columns})

    @staticmethod
    def _say_why(answer: dict[str, Any]) -> None:
        """One line about a container that failed at once, when there is more to say than its code."""
        if reason := answer.get("SampanReason"):
            print(f"{PROGRAM}: {reason}", file=sys.stderr)
