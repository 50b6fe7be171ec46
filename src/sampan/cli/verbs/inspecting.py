"""inspect, for everything."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from sampan.cli.command import flag, option, verb
from sampan.cli.errors import ExitStatus, describe
from sampan.cli.gotemplate import Template, TemplateError
from sampan.cli.values import STRING, platform_objects
from sampan.client.http import quote
from sampan.errors import InvalidParameter, NotFound, SampanError

if TYPE_CHECKING:
    from collections.abc import Callable

    from sampan.cli.session import Session

_PATHS = {
    "container": "/containers/{}/json",
    "image": "/images/{}/json",
    "network": "/networks/{}",
    "volume": "/volumes/{}",
}
_FORMAT_HELP = "Format output: json, or a Go template"


def _one(session: Session, kind: str, name: str, query: dict[str, Any] | None = None) -> Any:
    return session.call("GET", _PATHS[kind].format(quote(name, keep="/:@" if kind == "image" else "")), query)


def _any(session: Session, name: str, *, size: bool) -> Any:
    """Whatever bears the name, in docker's order: container, image, network, volume."""
    for kind in _PATHS:
        try:
            return _one(session, kind, name, {"size": size or None} if kind == "container" else None)
        except NotFound:
            continue
        except InvalidParameter:
            if kind != "image":
                raise
    raise NotFound(f"No such object: {name}")


def show(names: tuple[str, ...], format: str, look_up: Callable[[str], Any]) -> None:
    """Print each object. What is not found is reported at the end, after what was."""
    template = None if format in ("", "json") else _parse(format)
    found, errors = [], []
    for name in names:
        try:
            found.append(look_up(name))
        except SampanError as error:
            errors.append(error)
    if template is not None:
        for item in found:
            try:
                print(template.render(item))
            except TemplateError as error:
                print()
                raise TemplateError(f"template parsing error: {error}") from None
        if errors and not found:
            print()
    elif format == "json":
        sys.stdout.write(json.dumps(found, separators=(",", ":"), ensure_ascii=False) + "\n")
    else:
        print(json.dumps(found, indent=4, ensure_ascii=False))
    if errors:
        raise ExitStatus(1, "\n".join(_worded(error) for error in errors))


def _worded(error: SampanError) -> str:
    text = describe(error)
    return text if text.startswith("Error") else f"Error: {text}"


def _parse(format: str) -> Template:
    try:
        return Template(format.replace(r"\t", "\t").replace(r"\n", "\n"))
    except TemplateError as error:
        raise TemplateError(f"template parsing error: {error}") from None


@verb(
    "[OPTIONS] NAME|ID [NAME|ID...]",
    "Return low-level information on Docker objects",
    arity=(1, None),
    aliases=("inspect",),
    examples="$ sampan inspect --format '{{.NetworkSettings.IPAddress}}' web",
)
@option("-f", "--format", kind=STRING, default="", help=_FORMAT_HELP)
@flag("-s", "--size", help="Display total file sizes if the type is container")
@option("--type", kind=STRING, default="", help="Only inspect objects of the given type")
def inspect(session: Session, args: tuple[str, ...], format: str, size: bool, type: str) -> None:
    if type and type not in _PATHS:
        raise InvalidParameter(
            f'unknown type: "{type}": must be one of ' + ", ".join(f'"{kind}"' for kind in sorted(_PATHS))
        )
    if type:
        show(args, format, lambda name: _one(session, type, name))
    else:
        show(args, format, lambda name: _any(session, name, size=size))


@verb(
    "[OPTIONS] CONTAINER [CONTAINER...]",
    "Display detailed information on one or more containers",
    arity=(1, None),
    aliases=("container inspect",),
)
@option("-f", "--format", kind=STRING, default="", help=_FORMAT_HELP)
@flag("-s", "--size", help="Display total file sizes")
def container_inspect(session: Session, args: tuple[str, ...], format: str, size: bool) -> None:
    show(args, format, lambda name: _one(session, "container", name, {"size": size or None}))


@verb(
    "[OPTIONS] IMAGE [IMAGE...]",
    "Display detailed information on one or more images",
    arity=(1, None),
    aliases=("image inspect",),
)
@option("-f", "--format", kind=STRING, default="", help=_FORMAT_HELP)
@option("--platform", kind=STRING, default="", help="Inspect the given platform of a multi-platform image")
def image_inspect(session: Session, args: tuple[str, ...], format: str, platform: str) -> None:
    query = {"platform": platform_objects((platform,) if platform else ())}
    show(args, format, lambda name: _one(session, "image", name, query))


@verb(
    "[OPTIONS] NETWORK [NETWORK...]",
    "Display detailed information on one or more networks",
    arity=(1, None),
    aliases=("network inspect",),
)
@option("-f", "--format", kind=STRING, default="", help=_FORMAT_HELP)
@flag("-v", "--verbose", help="Verbose output for diagnostics")
def network_inspect(session: Session, args: tuple[str, ...], format: str, verbose: bool) -> None:
    show(args, format, lambda name: _one(session, "network", name, {"verbose": verbose or None}))


@verb(
    "[OPTIONS] VOLUME [VOLUME...]",
    "Display detailed information on one or more volumes",
    arity=(1, None),
    aliases=("volume inspect",),
)
@option("-f", "--format", kind=STRING, default="", help=_FORMAT_HELP)
def volume_inspect(session: Session, args: tuple[str, ...], format: str) -> None:
    show(args, format, lambda name: _one(session, "volume", name))
