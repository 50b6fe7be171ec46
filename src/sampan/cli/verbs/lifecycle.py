"""stop, restart, kill, pause, unpause, wait, rm, rename."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sampan.cli.command import flag, option, verb
from sampan.cli.errors import ExitStatus, describe
from sampan.cli.values import INT, STRING
from sampan.client.http import quote
from sampan.errors import NotFound, NotModified, SampanError

if TYPE_CHECKING:
    from collections.abc import Callable

    from sampan.cli.session import Session

_MANY = "[OPTIONS] CONTAINER [CONTAINER...]"


def _each(session: Session, names: tuple[str, ...], act: Callable[[str], Any]) -> None:
    """Do it to each, print the name of each that worked; an error does not stop the others."""
    for name in names:
        try:
            act(name)
        except NotModified:
            pass
        except SampanError as error:
            session.complain(error)
            continue
        print(name)


def _post(session: Session, verb: str, query: dict[str, Any] | None = None) -> Callable[[str], Any]:
    return lambda name: session.call("POST", f"/containers/{quote(name)}/{verb}", query)


@verb(_MANY, "Stop one or more running containers", arity=(1, None), aliases=("container stop", "stop"))
@option("-s", "--signal", kind=STRING, help="Signal to send to the container")
@option("-t", "--timeout", "--time", kind=INT, help="Seconds to wait before killing the container")
def stop(session: Session, args: tuple[str, ...], signal: str | None, timeout: int | None) -> None:
    _each(session, args, _post(session, "stop", {"signal": signal, "t": timeout}))


@verb(_MANY, "Restart one or more containers", arity=(1, None), aliases=("container restart", "restart"))
@option("-s", "--signal", kind=STRING, help="Signal to send to the container")
@option("-t", "--timeout", "--time", kind=INT, help="Seconds to wait before killing the container")
def restart(session: Session, args: tuple[str, ...], signal: str | None, timeout: int | None) -> None:
    _each(session, args, _post(session, "restart", {"signal": signal, "t": timeout}))


@verb(_MANY, "Kill one or more running containers", arity=(1, None), aliases=("container kill", "kill"))
@option("-s", "--signal", kind=STRING, help="Signal to send to the container")
def kill(session: Session, args: tuple[str, ...], signal: str | None) -> None:
    _each(session, args, _post(session, "kill", {"signal": signal}))


@verb(
    "CONTAINER [CONTAINER...]",
    "Pause all processes within one or more containers",
    arity=(1, None),
    aliases=("container pause", "pause"),
)
def pause(session: Session, args: tuple[str, ...]) -> None:
    _each(session, args, _post(session, "pause"))


@verb(
    "CONTAINER [CONTAINER...]",
    "Unpause all processes within one or more containers",
    arity=(1, None),
    aliases=("container unpause", "unpause"),
)
def unpause(session: Session, args: tuple[str, ...]) -> None:
    _each(session, args, _post(session, "unpause"))


@verb(
    "CONTAINER [CONTAINER...]",
    "Block until one or more containers stop, then print their exit codes",
    arity=(1, None),
    aliases=("container wait", "wait"),
)
def wait(session: Session, args: tuple[str, ...]) -> None:
    for name in args:
        try:
            answer = session.call("POST", f"/containers/{quote(name)}/wait")
        except SampanError as error:
            session.complain(error)
            continue
        print(answer["StatusCode"], flush=True)


@verb(
    _MANY,
    "Remove one or more containers",
    arity=(1, None),
    aliases=("container rm", "container remove", "rm"),
    examples="$ sampan rm -f web\n$ sampan rm -v $(sampan ps -aq)",
)
@flag("-f", "--force", help="Force the removal of a running container (uses SIGKILL)")
@flag("-l", "--link", help="Remove the specified link")
@flag("-v", "--volumes", help="Remove anonymous volumes associated with the container")
def rm(session: Session, args: tuple[str, ...], force: bool, link: bool, volumes: bool) -> None:
    query = {"force": force, "v": volumes, "link": link}
    for given in args:
        name = given.strip("/")
        try:
            session.call("DELETE", f"/containers/{quote(name, keep='/' if link else '')}", query)
        except NotFound as error:
            failed = session.failed
            session.complain(error)
            session.failed = failed or not force  # gone is what -f asks for
            continue
        except SampanError as error:
            session.complain(error)
            continue
        print(given)


@verb("CONTAINER NEW_NAME", "Rename a container", arity=(2, 2), aliases=("container rename", "rename"))
def rename(session: Session, args: tuple[str, ...]) -> None:
    old, new = (name.strip() for name in args)
    if not old or not new:
        raise ExitStatus(1, "Error: Neither old nor new names may be empty")
    try:
        session.call("POST", f"/containers/{quote(old)}/rename", {"name": new})
    except SampanError as error:
        raise ExitStatus(1, f"{describe(error)}\nError: failed to rename container named {old}") from error
