"""`attach` and `start`."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from sampan.cli.command import flag, option, verb
from sampan.cli.errors import DETACHED, ExitStatus
from sampan.cli.values import STRING
from sampan.client.http import quote
from sampan.errors import Conflict, InvalidParameter, NotModified, SampanError

if TYPE_CHECKING:
    from sampan.cli.session import Session
    from sampan.client.streams import RawStream


@verb(
    "[OPTIONS] CONTAINER",
    "Attach local standard input, output, and error streams to a running container",
    arity=(1, 1),
    aliases=("container attach", "attach"),
    examples="$ sampan attach web            # ctrl-p ctrl-q detaches",
)
@option("--detach-keys", kind=STRING, default="", help="Override the key sequence for detaching a container")
@flag("--no-stdin", help="Do not attach STDIN")
@flag("--sig-proxy", default=True, help="Proxy all received signals to the process")
def attach(
    session: Session, args: tuple[str, ...], detach_keys: str, no_stdin: bool, sig_proxy: bool
) -> None:
    """Exit code: the container's; 1 when the user detached, as docker's."""
    details = session.call("GET", f"/containers/{quote(args[0])}/json")
    state = details["State"]
    if not state["Running"]:
        raise Conflict("You cannot attach to a stopped container, start it first")
    if state["Paused"]:
        raise Conflict("You cannot attach to a paused container, unpause it first")
    if state["Restarting"]:
        raise Conflict("You cannot attach to a restarting container, wait until it is running")
    attachment = Attachment(
        session, details, stdin=not no_stdin, detach_keys=detach_keys, sig_proxy=sig_proxy
    )
    with attachment.open() as stream:
        waiting = session.api.request("POST", f"/containers/{details['Id']}/wait")
        if attachment.converse(stream):
            waiting.close()
            raise ExitStatus(1, DETACHED)
    raise ExitStatus(int(waiting.json()["StatusCode"]))


@verb(
    "[OPTIONS] CONTAINER [CONTAINER...]",
    "Start one or more stopped containers",
    arity=(1, None),
    aliases=("container start", "start"),
    examples="$ sampan start web db\n$ sampan start -ai shell",
)
@flag("-a", "--attach", help="Attach STDOUT/STDERR and forward signals")
@option("--detach-keys", kind=STRING, default="", help="Override the key sequence for detaching a container")
@flag("-i", "--interactive", help="Attach container's STDIN")
def start(session: Session, args: tuple[str, ...], attach: bool, detach_keys: str, interactive: bool) -> None:
    """Print each name that was started; with -a or -i stay with the one container until it ends."""
    if attach or interactive:
        if len(args) > 1:
            raise InvalidParameter("you cannot start and attach multiple containers at once")
        _start_attached(session, args[0], detach_keys, interactive)
        return
    failed = []
    for name in args:
        try:
            session.call("POST", f"/containers/{quote(name)}/start")
        except NotModified:
            pass
        except SampanError as error:
            session.complain(error)
            failed.append(name)
            continue
        print(name)
    if failed:
        raise ExitStatus(1, f"Error: failed to start containers: {', '.join(failed)}")


def _start_attached(session: Session, name: str, detach_keys: str, interactive: bool) -> None:
    details = session.call("GET", f"/containers/{quote(name)}/json")
    attachment = Attachment(
        session, details, stdin=interactive, detach_keys=detach_keys, sig_proxy=not details["Config"]["Tty"]
    )
    removes = details["HostConfig"].get("AutoRemove")
    with attachment.open() as stream:
        waiting = session.api.request(
            "POST", f"/containers/{details['Id']}/wait", {"condition": "removed" if removes else "next-exit"}
        )
        try:
            session.call("POST", f"/containers/{details['Id']}/start")
        except NotModified:
            pass
        if attachment.converse(stream):
            waiting.close()
            return
    status = int(waiting.json()["StatusCode"])
    raise ExitStatus(status)


class Attachment:
    """The streams of an existing container, from this terminal."""

    def __init__(
        self, session: Session, details: dict[str, Any], *, stdin: bool, detach_keys: str, sig_proxy: bool
    ) -> None:
        from sampan.cli.terminal import chosen_keys, is_terminal

        self._session = session
        self._path = f"/containers/{details['Id']}"
        self._tty = bool(details["Config"]["Tty"])
        self._stdin = stdin and bool(details["Config"]["OpenStdin"])
        self._detach_keys = chosen_keys(detach_keys)
        self._sig_proxy = sig_proxy
        if self._stdin and self._tty and not is_terminal(0):
            raise InvalidParameter("the input device is not a TTY")

    def open(self) -> RawStream:
        query: dict[str, Any] = {"stream": True, "stdin": self._stdin, "stdout": True, "stderr": True}
        query["detachKeys"] = self._detach_keys
        return self._session.api.hijack("POST", self._path + "/attach", query)

    def converse(self, stream: RawStream) -> bool:
        """Copy until the streams end; True when the user detached."""
        from sampan.cli.streaming import Conversation, proxied_signals, window_size

        with contextlib.ExitStack() as stack:
            if self._sig_proxy:
                stack.enter_context(proxied_signals(self._kill))
            if self._tty:
                stack.enter_context(window_size(self._resize))
            return Conversation(stream, tty=self._tty, stdin=self._stdin, detach_keys=self._detach_keys).run()

    def _kill(self, name: str) -> None:
        self._session.call_beside(self._path + "/kill", {"signal": name})

    def _resize(self, rows: int, columns: int) -> None:
        self._session.call_beside(self._path + "/resize", {"h": rows, "w": columns})
