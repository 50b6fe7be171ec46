"""cp."""

from __future__ import annotations

import base64
import json
import os
from typing import TYPE_CHECKING, Any

from sampan.cli.command import flag, verb
from sampan.cli.streaming import write_all
from sampan.client.archives import pack_tree, unpack
from sampan.client.http import quote
from sampan.errors import InvalidParameter, NotFound, NotSupported

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sampan.cli.session import Session
    from sampan.client.http import Response

_IS_DIRECTORY = 1 << 31  # Go's os.ModeDir
_IS_LINK = 1 << 27


@verb(
    ["[OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-", "[OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH"],
    "Copy files/folders between a container and the local filesystem",
    arity=(2, 2),
    aliases=("container cp", "cp"),
    examples="$ sampan cp web:/etc/hosts .\n$ tar c . | sampan cp - web:/srv",
)
@flag("-a", "--archive", help="Archive mode (copy all uid/gid information)")
@flag("-L", "--follow-link", help="Always follow symbol link in SRC_PATH")
@flag("-q", "--quiet", help="Suppress progress output during copy (there is none)")
def cp(session: Session, args: tuple[str, ...], archive: bool, follow_link: bool, quiet: bool) -> None:
    """What is copied keeps its name unless the destination names another that does not exist."""
    (source_container, source), (target_container, target) = map(_split, args)
    if not source or not target:
        raise InvalidParameter("source and destination can not be empty")
    if source_container and target_container:
        raise InvalidParameter("copying between containers is not supported")
    if source_container:
        _copy_out(session, source_container, source, target, archive=archive, follow_link=follow_link)
    elif target_container:
        _copy_in(session, source, target_container, target, archive=archive, follow_link=follow_link)
    else:
        raise InvalidParameter("must specify at least one container source")


def _split(argument: str) -> tuple[str, str]:
    """(container, path); a path that starts with / or . is local whatever colons it has."""
    if os.path.isabs(argument) or argument.startswith("."):
        return "", argument
    container, separator, path = argument.partition(":")
    return (container, path) if separator else ("", argument)


def _copy_out(
    session: Session, container: str, source: str, target: str, *, archive: bool, follow_link: bool
) -> None:
    if follow_link:
        source = _link_target(session, container, source)
    response = _download(session, container, source)
    if target == "-":
        for block in response.blocks():
            write_all(1, block)
        return
    state = _path_stat(response)
    name = str(state["name"])
    contents_only = source.endswith("/.")
    if os.path.isdir(target):
        if contents_only:
            target, rename = os.path.split(os.path.abspath(target))
            unpack(response, target, (name, rename), keep_owner=archive)
        else:
            unpack(response, target, keep_owner=archive)
        return
    parent, rename = os.path.split(target.rstrip("/"))
    if not os.path.isdir(parent or "."):
        response.close()
        raise InvalidParameter(f'invalid output path: directory "{os.path.abspath(parent)}" does not exist')
    if target.endswith("/") and not state["mode"] & _IS_DIRECTORY:
        response.close()
        raise InvalidParameter(f"destination {target!r} is no directory")
    unpack(response, parent or ".", (name, rename), keep_owner=archive)


def _link_target(session: Session, container: str, source: str) -> str:
    response = _archive(session, "HEAD", container, source)
    state = _path_stat(response)
    response.read()
    if not state["mode"] & _IS_LINK:
        return source
    return os.path.join(os.path.dirname(source), str(state["linkTarget"]))


def _copy_in(
    session: Session, source: str, container: str, target: str, *, archive: bool, follow_link: bool
) -> None:
    query: dict[str, Any] = {"noOverwriteDirNonDir": True, "copyUIDGID": archive or None}
    if source == "-":
        _upload(session, container, target, _standard_input(), query)
        return
    local = os.path.realpath(source) if follow_link else source
    if not os.path.lexists(local):
        raise InvalidParameter(f"lstat {os.path.abspath(local)}: no such file or directory")
    folder, name = _destination(session, container, target, source)
    if os.path.isdir(local) and source.endswith("/."):
        name = name or os.path.basename(os.path.abspath(target))
    _upload(session, container, folder, pack_tree(local, name or None), query)


def _destination(session: Session, container: str, target: str, source: str) -> tuple[str, str]:
    """(directory in the container, name there; empty for the source's own)."""
    try:
        response = _archive(session, "HEAD", container, target)
    except NotFound as error:
        if "no such container" in str(error).lower():
            raise
        state = None
    else:
        state = _path_stat(response)
        response.read()
    if state is not None and state["mode"] & _IS_LINK:
        linked = str(state["linkTarget"])
        return _destination(session, container, os.path.join(os.path.dirname(target), linked), source)
    into_directory = state is not None and bool(state["mode"] & _IS_DIRECTORY)
    if into_directory and not (source.endswith("/.") and os.path.isdir(source)):
        return target, ""
    if state is None and target.endswith("/") and not os.path.isdir(source):
        raise InvalidParameter(f"no such directory: {target}")
    folder, name = os.path.split(target.rstrip("/"))
    return folder or "/", name


def _archive(session: Session, method: str, container: str, path: str) -> Response:
    return session.api.request(method, f"/containers/{quote(container)}/archive", {"path": path})


def _download(session: Session, container: str, path: str) -> Response:
    try:
        return _archive(session, "GET", container, path)
    except NotFound as error:
        if "no such container" in str(error).lower():
            raise
        raise NotFound(f"Could not find the file {path} in container {container}") from error.__cause__


def _upload(
    session: Session, container: str, path: str, body: Iterator[bytes], query: dict[str, Any]
) -> None:
    session.api.request(
        "PUT", f"/containers/{quote(container)}/archive", {"path": path, **query}, body
    ).read()


def _path_stat(response: Response) -> dict[str, Any]:
    encoded = response.headers.get("x-docker-container-path-stat", "")
    if not encoded:
        raise NotSupported("the engine did not say what the path is (no X-Docker-Container-Path-Stat)")
    state: dict[str, Any] = json.loads(base64.b64decode(encoded))
    return state


def _standard_input() -> Iterator[bytes]:
    while block := os.read(0, 65536):
        yield block
