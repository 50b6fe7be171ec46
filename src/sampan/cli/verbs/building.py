"""`sampan build`."""

from __future__ import annotations

import itertools
import os
import sys
from typing import TYPE_CHECKING, Any

from sampan.cli.building import show
from sampan.cli.command import flag, listing, option, verb
from sampan.cli.streaming import BLOCK, blocks
from sampan.cli.values import STRING
from sampan.errors import InvalidParameter, NotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from tarfile import TarInfo

    from sampan.cli.session import Session
    from sampan.dockerfile.ignore import Ignore

_STDIN = "-"


@verb(
    "[OPTIONS] PATH | URL | -",
    "Build an image from a Dockerfile",
    arity=(1, 1),
    aliases=("image build", "build"),
    examples="$ sampan build -t app .\n$ sampan build -t app -f Dockerfile.test --build-arg VERSION=2 .",
)
@listing("--add-host", kind=STRING, help='Add a custom host-to-IP mapping ("host:ip")')
@listing("--build-arg", kind=STRING, help="Set build-time variables")
@option("-f", "--file", kind=STRING, default="", help='Name of the Dockerfile (default: "PATH/Dockerfile")')
@option("--iidfile", kind=STRING, default="", help="Write the image ID to a file")
@listing("--label", kind=STRING, help="Set metadata for an image")
@option(
    "--network", kind=STRING, default="", help="Set the networking mode for the RUN instructions during build"
)
@flag("--no-cache", help="Do not use cache when building the image")
@listing("--no-cache-filter", kind=STRING, help="Do not cache specified stages")
@option("--platform", kind=STRING, default="", help="Set platform if server is multi-platform capable")
@flag("--pull", help="Always attempt to pull a newer version of the image")
@flag("-q", "--quiet", help="Suppress the build output and print image ID on success")
@listing("-t", "--tag", kind=STRING, help='Name and optionally a tag in the "name:tag" format')
@option("--target", kind=STRING, default="", help="Set the target build stage to build")
def build(session: Session, args: tuple[str, ...], **given: Any) -> None:
    import json

    query = {
        "buildargs": json.dumps(_pairs(given["build_arg"], os.environ.get)),
        "dockerfile": "Dockerfile",
        "extrahosts": ",".join(given["add_host"]) or None,
        "labels": json.dumps(_pairs(given["label"], lambda _: "")),
        "networkmode": given["network"] or None,
        "nocache": given["no_cache"],
        "nocachefilter": ",".join(given["no_cache_filter"]) or None,
        "platform": given["platform"] or None,
        "pull": given["pull"],
        "t": list(given["tag"]),
        "target": given["target"] or None,
        "trace": "json",
        "version": 2,
    }
    body, changes = _context(args[0], given["file"])
    from sampan.cli.credentials import config_header

    response = session.api.request("POST", "/build", {**query, **changes}, body, headers=config_header())
    image = show(response.json_stream(), quiet=given["quiet"])
    if given["quiet"]:
        print(image)
    if given["iidfile"]:
        with open(given["iidfile"], "w") as file:
            file.write(image)


def _pairs(given: tuple[str, ...], default: Callable[[str], str | None]) -> dict[str, str | None]:
    """`name=value` flags; a name alone takes what `default` says of it."""
    pairs = (text.partition("=") for text in given)
    return {name: value if equals else default(name) for name, equals, value in pairs}


def _context(path: str, file: str) -> tuple[bytes | Iterable[bytes] | None, dict[str, Any]]:
    """The body of the request, and what it changes of the query."""
    if path == _STDIN:
        return _from_stdin(file)
    if path.startswith(("http://", "https://", "git://", "git@")):
        return None, {"remote": path, "dockerfile": file or "Dockerfile"}
    if not os.path.isdir(path):
        raise NotFound(f'unable to prepare context: path "{path}" not found')
    name = _inside(path, file) if file else "Dockerfile"
    if not os.path.exists(os.path.join(path, name)):
        raise NotFound(
            f"unable to prepare context: unable to evaluate symlinks in Dockerfile path:"
            f" lstat {os.path.join(os.path.abspath(path), name)}: no such file or directory"
        )
    return _packed(path, _ignored(path, name), keep=(name, ".dockerignore")), {"dockerfile": name}


def _inside(path: str, file: str) -> str:
    name = os.path.relpath(os.path.realpath(file), os.path.realpath(path))
    if name.startswith("../"):
        raise InvalidParameter(
            f"unable to prepare context: the Dockerfile ({file}) must be within the build context ({path})"
        )
    return name


def _from_stdin(file: str) -> tuple[bytes | Iterable[bytes], dict[str, Any]]:
    """An archive as it is; a Dockerfile alone becomes one."""
    from sampan.client.archives import pack_file

    start = sys.stdin.buffer.read(BLOCK)
    is_archive = start[257:262] == b"ustar" or start.startswith(
        (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")
    )
    if is_archive:
        return itertools.chain([start], blocks(sys.stdin.buffer)), {"dockerfile": file or "Dockerfile"}
    return pack_file("Dockerfile", start + sys.stdin.buffer.read(), 0o644), {}


def _ignored(path: str, dockerfile: str) -> Ignore:
    from sampan.dockerfile.ignore import Ignore

    for name in (f"{dockerfile}.dockerignore", ".dockerignore"):
        try:
            with open(os.path.join(path, name), encoding="utf-8") as file:
                return Ignore.read(file.read())
        except FileNotFoundError:
            continue
    return Ignore([])


def _packed(top: str, ignore: Ignore, keep: tuple[str, ...]) -> Iterator[bytes]:
    """The directory as a tar. What is ignored stays here, but the Dockerfile and `.dockerignore` are needed to build."""
    from sampan.client.archives import pack_files

    return pack_files(_sent(top, ignore, keep), _make_anonymous)


def _sent(top: str, ignore: Ignore, keep: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for directory, folders, files in os.walk(top):
        inside = os.path.relpath(directory, top)
        prefix = "" if inside == "." else inside + "/"
        folders[:] = sorted(name for name in folders if not ignore.skips(prefix + name))
        for name in sorted([*folders, *files]):
            path = prefix + name
            if path in keep or not ignore.excludes(path):
                yield os.path.join(directory, name), path


def _make_anonymous(entry: TarInfo) -> None:
    """Whose the files are here says nothing elsewhere."""
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
