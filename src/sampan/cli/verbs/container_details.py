"""logs, top, port, diff."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sampan.cli.command import flag, option, verb
from sampan.cli.streaming import write_all
from sampan.cli.table import align
from sampan.cli.values import STRING
from sampan.client.http import quote
from sampan.client.streams import STDERR, demultiplex
from sampan.errors import InvalidParameter, NotFound

if TYPE_CHECKING:
    from sampan.cli.session import Session


@verb(
    "[OPTIONS] CONTAINER",
    "Fetch the logs of a container",
    arity=(1, 1),
    aliases=("container logs", "logs"),
    examples="$ sampan logs -f --tail 100 web\n$ sampan logs --since 10m -t web",
)
@flag("--details", help="Show extra details provided to logs")
@flag("-f", "--follow", help="Follow log output")
@option(
    "--since",
    kind=STRING,
    help='Show logs since timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m")',
)
@option("-n", "--tail", kind=STRING, default="all", help="Number of lines to show from the end of the logs")
@flag("-t", "--timestamps", help="Show timestamps")
@option("--until", kind=STRING, help="Show logs before a timestamp or relative time")
def logs(
    session: Session,
    args: tuple[str, ...],
    details: bool,
    follow: bool,
    since: str | None,
    tail: str,
    timestamps: bool,
    until: str | None,
) -> None:
    container = session.call("GET", f"/containers/{quote(args[0])}/json")
    query = {
        "stdout": True,
        "stderr": True,
        "details": details or None,
        "follow": follow or None,
        "since": _log_moment("since", since),
        "tail": tail,
        "timestamps": timestamps or None,
        "until": _log_moment("until", until),
    }
    response = session.api.request("GET", f"/containers/{container['Id']}/logs", query)
    for stream, payload in demultiplex(response.blocks(), tty=bool(container["Config"]["Tty"])):
        write_all(2 if stream == STDERR else 1, payload)


def _log_moment(flag: str, text: str | None) -> str | None:
    try:
        return moment(text)
    except InvalidParameter as error:
        raise InvalidParameter(f'invalid value for "{flag}": {error}') from None


def moment(text: str | None) -> str | None:
    """A time as the API takes it: seconds since the epoch with nanoseconds. Raises `InvalidParameter`."""
    if not text:
        return None
    import time

    from sampan.names.times import parse_timestamp

    nanoseconds = parse_timestamp(text, time.time_ns())
    return f"{nanoseconds // 10**9}.{nanoseconds % 10**9:09d}"


@verb(
    "CONTAINER [ps OPTIONS]",
    "Display the running processes of a container",
    arity=(1, None),
    aliases=("container top", "top"),
    examples="$ sampan top web -o pid,rss,cmd",
    interspersed=False,
)
def top(session: Session, args: tuple[str, ...]) -> None:
    name, *options = args
    answer = session.call("GET", f"/containers/{quote(name)}/top", {"ps_args": " ".join(options) or None})
    rows = [answer["Titles"], *(answer["Processes"] or [])]
    print(align(["\t".join(row) for row in rows], least=20), end="")


@verb(
    "CONTAINER [PRIVATE_PORT[/PROTO]]",
    "List port mappings or a specific mapping for the container",
    arity=(1, 2),
    aliases=("container port", "port"),
)
def port(session: Session, args: tuple[str, ...]) -> None:
    published = session.call("GET", f"/containers/{quote(args[0])}/json")["NetworkSettings"]["Ports"] or {}
    if len(args) == 2:
        wanted = args[1] if "/" in args[1] else f"{args[1]}/tcp"
        if not published.get(wanted):
            raise NotFound(f"Error: No public port '{args[1]}' published for {args[0]}")
        for binding in published[wanted]:
            print(_host(binding["HostIp"], binding["HostPort"]))
        return
    order = sorted(published, key=lambda key: (int(key.partition("/")[0]), key))
    for key in order:
        for binding in published[key] or []:
            print(f"{key} -> {_host(binding['HostIp'], binding['HostPort'])}")


def _host(address: str, port: str) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


@verb(
    "CONTAINER",
    "Inspect changes to files or directories on a container's filesystem",
    arity=(1, 1),
    aliases=("container diff", "diff"),
)
def diff(session: Session, args: tuple[str, ...]) -> None:
    for change in session.call("GET", f"/containers/{quote(args[0])}/changes") or []:
        print("CAD"[change["Kind"]], change["Path"])
