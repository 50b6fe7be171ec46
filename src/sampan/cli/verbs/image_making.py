"""Images from archives and containers: load, save, import, export, commit, pull, bootstrap."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, BinaryIO

from sampan.cli import pulling
from sampan.cli.command import flag, listing, option, verb
from sampan.cli.streaming import blocks, write_all
from sampan.cli.terminal import is_terminal
from sampan.cli.values import STRING, platform_objects
from sampan.client.http import quote
from sampan.errors import InvalidParameter
from sampan.names.reference import parse_normalized

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sampan.cli.session import Session


def _open(path: str) -> BinaryIO:
    try:
        return open(path, "rb")
    except OSError as error:
        raise InvalidParameter(f"open {path}: {(error.strerror or '').lower()}") from None


def _write_out(pieces: Iterable[bytes], path: str) -> None:
    """To a file, which appears complete or not at all, or to stdout."""
    if not path:
        for block in pieces:
            write_all(1, block)
        return
    partial = f"{path}.sampan-partial"
    try:
        with open(partial, "wb") as file:
            for block in pieces:
                file.write(block)
        os.replace(partial, path)
    finally:
        if os.path.exists(partial):
            os.unlink(partial)


def _refuse_terminal(path: str, what: str) -> None:
    if not path and is_terminal(1):
        raise InvalidParameter(f"cowardly refusing to {what} to a terminal. Use the -o flag or redirect")


@verb(
    "[OPTIONS]",
    "Load an image from a tar archive or STDIN",
    aliases=("image load", "load"),
    examples="$ sampan load -i busybox.tar",
)
@option("-i", "--input", kind=STRING, default="", help="Read from tar archive file, instead of STDIN")
@listing("--platform", kind=STRING, help="Load only the given platform(s)")
@flag("-q", "--quiet", help="Suppress the load output")
def load(session: Session, args: tuple[str, ...], input: str, platform: tuple[str, ...], quiet: bool) -> None:
    if not input and is_terminal(0):
        raise InvalidParameter("requested load from stdin, but stdin is empty")
    with _open(input) if input else sys.stdin.buffer as file:
        query = {"quiet": quiet or not sys.stdout.isatty(), "platform": platform_objects(platform)}
        _load(session, file, query)


def _load(session: Session, file: BinaryIO, query: dict[str, Any]) -> None:
    response = session.api.request("POST", "/images/load", query, blocks(file))
    pulling.show(response.json_stream(), quiet=False, out=sys.stdout)


@verb(
    "[OPTIONS] IMAGE [IMAGE...]",
    "Save one or more images to a tar archive (streamed to STDOUT by default)",
    arity=(1, None),
    aliases=("image save", "save"),
    examples="$ sampan save busybox | gzip > busybox.tar.gz",
)
@option("-o", "--output", kind=STRING, default="", help="Write to a file, instead of STDOUT")
@listing("--platform", kind=STRING, help="Save only the given platform(s)")
def save(session: Session, args: tuple[str, ...], output: str, platform: tuple[str, ...]) -> None:
    _refuse_terminal(output, "save")
    query = {"names": list(args), "platform": platform_objects(platform)}
    _write_out(session.api.request("GET", "/images/get", query).blocks(), output)


@verb(
    "[OPTIONS] CONTAINER",
    "Export a container's filesystem as a tar archive",
    arity=(1, 1),
    aliases=("container export", "export"),
)
@option("-o", "--output", kind=STRING, default="", help="Write to a file, instead of STDOUT")
def export(session: Session, args: tuple[str, ...], output: str) -> None:
    _refuse_terminal(output, "save")
    _write_out(session.api.request("GET", f"/containers/{quote(args[0])}/export").blocks(), output)


@verb(
    "[OPTIONS] file|URL|- [REPOSITORY[:TAG]]",
    "Import the contents from a tarball to create a filesystem image",
    arity=(1, 2),
    aliases=("image import", "import"),
    examples="$ sampan import rootfs.tar.gz alpine:3.20",
)
@listing("-c", "--change", kind=STRING, help="Apply Dockerfile instruction to the created image")
@option("-m", "--message", kind=STRING, default="", help="Set commit message for imported image")
@option("--platform", kind=STRING, default="", help="Set platform if server is multi-platform capable")
def import_(
    session: Session, args: tuple[str, ...], change: tuple[str, ...], message: str, platform: str
) -> None:
    source = args[0]
    query: dict[str, Any] = {
        "message": message or None,
        "platform": platform or None,
        "changes": list(change),
    }
    query["repo"] = args[1] if len(args) == 2 else None
    if source.startswith(("http://", "https://")):
        response = session.api.request("POST", "/images/create", query | {"fromSrc": source})
    else:
        with sys.stdin.buffer if source == "-" else _open(source) as file:
            response = session.api.request("POST", "/images/create", query | {"fromSrc": "-"}, blocks(file))
    pulling.show(response.json_stream(), quiet=False, out=sys.stdout)


@verb(
    "[OPTIONS] CONTAINER [REPOSITORY[:TAG]]",
    "Create a new image from a container's changes",
    arity=(1, 2),
    aliases=("container commit", "commit"),
    examples='$ sampan commit -c \'CMD ["httpd", "-f"]\' web web:v1',
)
@option(
    "-a",
    "--author",
    kind=STRING,
    default="",
    help='Author (e.g., "John Hannibal Smith <hannibal@a-team.com>")',
)
@listing("-c", "--change", kind=STRING, help="Apply Dockerfile instruction to the created image")
@option("-m", "--message", kind=STRING, default="", help="Commit message")
@flag("-p", "--pause", default=True, help="Pause container during commit")
def commit(
    session: Session, args: tuple[str, ...], author: str, change: tuple[str, ...], message: str, pause: bool
) -> None:
    query: dict[str, Any] = {"container": args[0], "author": author or None, "comment": message or None}
    query |= {"changes": list(change), "pause": None if pause else False}
    if len(args) == 2:
        reference = parse_normalized(args[1])
        if reference.digest:
            raise InvalidParameter("cannot commit to digest reference")
        query |= {"repo": reference.name, "tag": reference.tag or "latest"}
    print(session.call("POST", "/commit", query, {})["Id"])


@verb(
    "[OPTIONS] NAME[:TAG|@DIGEST]",
    "Download an image from a registry",
    arity=(1, 1),
    aliases=("image pull", "pull"),
)
@flag("-a", "--all-tags", help="Download all tagged images in the repository")
@option("--platform", kind=STRING, default="", help="Set platform if server is multi-platform capable")
@flag("-q", "--quiet", help="Suppress verbose output")
def pull(session: Session, args: tuple[str, ...], all_tags: bool, platform: str, quiet: bool) -> None:
    if all_tags and not parse_normalized(args[0]).is_name_only:
        raise InvalidParameter("tag can't be used with --all-tags/-a")
    pulling.pull(session.api, args[0], platform=platform, quiet=quiet, out=sys.stdout, every_tag=all_tags)
    if quiet:
        print(parse_normalized(args[0]))


@verb(
    "[OPTIONS] busybox|debian[:SUITE]",
    "Make a base image from this machine's packages, without any hub",
    arity=(1, 1),
    aliases=("image bootstrap",),
    examples="$ sampan image bootstrap busybox\n$ sampan image bootstrap debian:bookworm",
)
@option("--include", kind=STRING, default="", help="Debian packages to add, separated by commas")
@option("-o", "--output", kind=STRING, default="", help="Keep the archive here instead of loading it")
@option("-t", "--tag", kind=STRING, default="", help="Name of the image, instead of debian:SUITE")
def bootstrap(session: Session, args: tuple[str, ...], include: str, output: str, tag: str) -> None:
    import shutil
    import tempfile
    from pathlib import Path

    from sampan.images.bootstrap import build

    with tempfile.TemporaryDirectory(prefix="sampan-bootstrap-") as directory:
        base = build(args[0], Path(directory), [each for each in include.split(",") if each], tag)
        if output:
            shutil.copyfile(base.path, output)
            return
        with base.path.open("rb") as file:
            _load(session, file, {"quiet": True, "origin": "bootstrap"})
