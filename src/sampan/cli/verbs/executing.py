"""`exec`."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from sampan.cli.command import flag, listing, option, verb
from sampan.cli.errors import DETACHED, ExitStatus, describe, start_status
from sampan.cli.options.texts import environment
from sampan.cli.values import STRING
from sampan.client.http import quote
from sampan.errors import InvalidParameter, NotFound, SampanError

if TYPE_CHECKING:
    from sampan.cli.session import Session


@verb(
    "[OPTIONS] CONTAINER COMMAND [ARG...]",
    "Execute a command in a running container",
    arity=(2, None),
    aliases=("container exec", "exec"),
    examples="$ sampan exec web ps\n$ sampan exec -it web sh\n$ echo hi | sampan exec -i web tee /tmp/greeting",
    interspersed=False,
)
@flag("-d", "--detach", help="Detached mode: run command in the background")
@option("--detach-keys", kind=STRING, default="", help="Override the key sequence for detaching a container")
@listing("-e", "--env", kind=STRING, help="Set environment variables")
@listing("--env-file", kind=STRING, help="Read in a file of environment variables")
@flag("-i", "--interactive", help="Keep STDIN open even if not attached")
@flag("--privileged", help="Give extended privileges to the command")
@flag("-t", "--tty", help="Allocate a pseudo-TTY")
@option("-u", "--user", kind=STRING, default="", help='Username or UID (format: "<name|uid>[:<group|gid>]")')
@option("-w", "--workdir", kind=STRING, default="", help="Working directory inside the container")
def exec_(session: Session, args: tuple[str, ...], detach: bool, detach_keys: str, **flags: Any) -> None:
    """Exit code: the command's; 126 and 127 when it could not be executed; 1 when the user detached, as docker's."""
    from sampan.cli.terminal import chosen_keys

    container, *command = args
    detach_keys = chosen_keys(detach_keys)
    if not detach:
        _check_tty(flags)
    body = {
        "Cmd": command,
        "User": flags["user"],
        "Privileged": flags["privileged"],
        "Tty": flags["tty"],
        "AttachStdin": flags["interactive"] and not detach,
        "AttachStdout": not detach,
        "AttachStderr": not detach,
        "Detach": detach,
        "DetachKeys": detach_keys,
        "Env": environment(flags["env_file"], flags["env"]),
        "WorkingDir": flags["workdir"],
    }
    exec_id = session.call("POST", f"/containers/{quote(container)}/exec", None, body)["Id"]
    try:
        if detach:
            session.call("POST", f"/exec/{exec_id}/start", None, {"Detach": True, "Tty": flags["tty"]})
            return
        detached = _converse(session, exec_id, flags, detach_keys)
    except NotFound:
        raise
    except SampanError as error:
        status = start_status(error)
        raise ExitStatus(status if status != 125 else 1, describe(error)) from error
    if detached:
        raise ExitStatus(1, DETACHED)
    raise ExitStatus(int(session.call("GET", f"/exec/{exec_id}/json")["ExitCode"] or 0))


def _check_tty(flags: dict[str, Any]) -> None:
    from sampan.cli.terminal import is_terminal

    if flags["tty"] and flags["interactive"] and not is_terminal(0):
        raise InvalidParameter("the input device is not a TTY")


def _converse(session: Session, exec_id: str, flags: dict[str, Any], detach_keys: str) -> bool:
    """Run it from this terminal; True when the user detached."""
    from sampan.cli.streaming import Conversation, window_size

    def resize(rows: int, columns: int) -> None:
        session.call_beside(f"/exec/{exec_id}/resize", {"h": rows, "w": columns})

    body: dict[str, Any] = {"Detach": False, "Tty": flags["tty"]}
    if flags["tty"]:
        from sampan.cli.terminal import size

        body["ConsoleSize"] = list(size())
    with contextlib.ExitStack() as stack:
        stream = stack.enter_context(session.api.hijack("POST", f"/exec/{exec_id}/start", None, body))
        if flags["tty"]:
            stack.enter_context(window_size(resize))
        return Conversation(
            stream, tty=flags["tty"], stdin=flags["interactive"], detach_keys=detach_keys
        ).run()
