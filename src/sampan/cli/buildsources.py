"""Where `sampan build` takes files from: its context, its Dockerfile, named contexts, cache that lies in a directory."""

from __future__ import annotations

import itertools
import os
import sys
from typing import TYPE_CHECKING

from sampan.client.layouts import Layout
from sampan.client.sources import Directory, Memory
from sampan.errors import InvalidParameter, NotFound, SampanError, SystemFailure

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sampan.client.solving import Plan

STDIN = "-"
_WEB = ("http://", "https://")
_ELSEWHERE = (*_WEB, "git://", "ssh://", "git@", "github.com/")
_LAYOUT = "oci-layout://"
_LARGEST = 16 << 20
"""Bytes of a Dockerfile that is fetched."""
_SECONDS = 30
_DOCKERFILE = "Dockerfile"
_TAKEN = ("context", "dockerfile")
"""Names of directories that mean something by themselves."""


def set_context(plan: Plan, path: str, file: str) -> None:
    """The context, and where the Dockerfile is. Raises `InvalidParameter`, `NotFound`."""
    if path == STDIN and file == STDIN:
        raise InvalidParameter("invalid argument: can't use stdin for both build context and dockerfile")
    if path == STDIN:
        _from_stdin(plan, file)
    elif path.startswith(_ELSEWHERE):
        plan.options["context"] = path
        _beside_remote(plan, file)
    else:
        _from_directory(plan, path, file)


def add_context(plan: Plan, text: str) -> None:
    """A named context: `NAME=` a directory, a layout, or what the engine knows to fetch. Raises `InvalidParameter`, `NotFound`."""
    from sampan.names.reference import parse_normalized

    name, equals, value = text.partition("=")
    if not equals or not value:
        raise InvalidParameter(f"invalid context value: {text}, expected key=value")
    try:
        name = parse_normalized(name).familiar().removesuffix(":latest")
    except InvalidParameter as error:
        raise InvalidParameter(f"invalid context name {name}: {error}") from None
    plan.options["frontend.caps"] = "moby.buildkit.frontend.contexts+forward"
    if value.startswith(_LAYOUT):
        plan.options[f"context:{name}"] = _layout(plan, value.removeprefix(_LAYOUT))
    elif value.startswith((*_ELSEWHERE, "docker-image://")):
        plan.options[f"context:{name}"] = value
    elif not os.path.isdir(value):
        raise InvalidParameter(f"failed to get build context {name}: {value}: not a directory")
    else:
        local = f"_{name}" if name in _TAKEN else name
        plan.options[f"context:{name}"] = f"local:{local}"
        plan.sources[local] = Directory(value)


def cache_import(plan: Plan, kind: str, attributes: dict[str, str]) -> None:
    """A `--cache-from`. A directory is read here; one that has nothing is told, and the build goes on without."""
    if kind == "local":
        try:
            attributes = _found(plan, attributes)
        except SampanError as error:
            said = f"local cache import at {attributes.get('src', '')} not found due to err: {error}"
            print(f"WARNING: {said}", file=sys.stderr)
            return
    plan.cache_imports.append((kind, attributes))


def cache_export(plan: Plan, kind: str, attributes: dict[str, str]) -> None:
    """A `--cache-to`; a directory is made. Raises `InvalidParameter`."""
    if kind == "local":
        place = attributes.get("dest", "")
        if not place:
            raise InvalidParameter("local cache exporter requires dest")
        layout = plan.stores[f"local:{place}"] = Layout(place)
        layout.prepare()
        plan.writable.add(f"local:{place}")
    plan.cache_exports.append((kind, attributes))


def name_caches(plan: Plan, response: Mapping[str, str]) -> None:
    """After the build: in each directory, the cache that was written is what its tag means."""
    import json

    if "cache.manifest" not in response:
        return
    described = json.loads(response["cache.manifest"])
    for kind, attributes in plan.cache_exports:
        if kind == "local":
            plan.stores[f"local:{attributes['dest']}"].name(described, attributes.get("tag", "") or "latest")


def _found(plan: Plan, attributes: dict[str, str]) -> dict[str, str]:
    place = attributes.get("src", "")
    if not place:
        raise InvalidParameter("local cache importer requires src")
    layout = Layout(place)
    digest = attributes.get("digest", "") or layout.digest(attributes.get("tag", "") or "latest")
    plan.stores.setdefault(f"local:{place}", layout)
    return {**attributes, "digest": digest}


def _layout(plan: Plan, text: str) -> str:
    """`PATH[:TAG][@DIGEST]`: the layout is offered to the build under a name of its own."""
    path, _, digest = text.partition("@")
    if not os.path.isdir(path):
        path, _, tag = path.rpartition(":")
    else:
        tag = ""
    if not os.path.isdir(path):
        raise NotFound(f"invalid OCI layout {text!r}: {path or text}: no such directory")
    layout = Layout(path)
    digest = digest or layout.digest(tag or "latest")
    name = f"layout{len(plan.stores)}"
    plan.stores[f"oci:{name}"] = layout
    return f"{_LAYOUT}{name}@{digest}"


def _from_directory(plan: Plan, path: str, file: str) -> None:
    if not os.path.isdir(path):
        raise NotFound(f'unable to prepare context: path "{path}" not found')
    plan.sources["context"] = Directory(path)
    plan.shared_by(os.path.realpath(path))
    if file == STDIN or file.startswith(_WEB):
        _dockerfile(plan, sys.stdin.buffer.read() if file == STDIN else _fetched(file))
        return
    dockerfile = file or os.path.join(path, _DOCKERFILE)
    if not os.path.exists(dockerfile):
        raise NotFound(
            f"unable to prepare context: unable to evaluate symlinks in Dockerfile path:"
            f" lstat {os.path.abspath(dockerfile)}: no such file or directory"
        )
    plan.sources["dockerfile"] = Directory(os.path.dirname(dockerfile) or ".")
    plan.options["filename"] = os.path.basename(dockerfile)


def _beside_remote(plan: Plan, file: str) -> None:
    """The Dockerfile of a context that is elsewhere: in it, or here (standard input, an absolute path), or on the web."""
    if file == STDIN or file.startswith(_WEB):
        _dockerfile(plan, sys.stdin.buffer.read() if file == STDIN else _fetched(file))
    elif os.path.isabs(file):
        plan.sources["dockerfile"] = Directory(os.path.dirname(file))
        plan.options["filename"] = os.path.basename(file)
    elif file:
        plan.options["filename"] = file
    if "dockerfile" in plan.sources:
        plan.options["dockerfilekey"] = "dockerfile"


def _dockerfile(plan: Plan, text: bytes) -> None:
    plan.sources["dockerfile"] = Memory({_DOCKERFILE: text})


def _fetched(url: str) -> bytes:
    """A Dockerfile of the web. Raises `SystemFailure`, `InvalidParameter`."""
    from urllib.error import URLError
    from urllib.request import urlopen

    try:
        with urlopen(url, timeout=_SECONDS) as answer:
            text: bytes = answer.read(_LARGEST + 1)
    except (URLError, OSError, ValueError) as error:
        raise SystemFailure(f"failed to read dockerfile from {url}: {error}") from None
    if len(text) > _LARGEST:
        raise InvalidParameter(f"{url} is larger than {_LARGEST >> 20} MiB")
    return text


def _from_stdin(plan: Plan, file: str) -> None:
    """An archive is the context; anything else is a Dockerfile alone."""
    from sampan.archive.magic import is_archive
    from sampan.cli.streaming import BLOCK, blocks

    start = sys.stdin.buffer.read(BLOCK)
    if not is_archive(start):
        plan.sources["context"] = Memory({})
        _dockerfile(plan, start + sys.stdin.buffer.read())
        return
    plan.upload = itertools.chain([start], blocks(sys.stdin.buffer))
    plan.options["context"] = "http://buildkit-session/context"
    if file:
        plan.options["filename"] = file
