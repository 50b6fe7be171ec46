"""Software bills of materials: an image scans a result's files and leaves statements about them.

By BuildKit's docs/attestations/sbom-protocol.md: the files are a read-only mount that `BUILDKIT_SCAN_SOURCE` names, statements go
to the directory of `BUILDKIT_SCAN_DESTINATION`. The scanner is a step of the build, confined and kept as any other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from sampan.attestations.asking import SbomWish
from sampan.attestations.captures import ImageSource
from sampan.attestations.statements import SPDX, Statement, Subject
from sampan.buildkit import results, trees
from sampan.errors import InvalidParameter, NotSupported
from sampan.llb.execop import Bind, Command, ExecMount, Tmpfs
from sampan.llb.state import Meta, definition, image, loaded
from sampan.names import platform as platforms
from sampan.names.reference import parse_normalized
from sampan.oci.image import ContainerConfig
from sampan.solver.steps import step

if TYPE_CHECKING:
    from sampan.buildkit.jobs import Job, Ref, Result
    from sampan.llb import ops_pb2

_SOURCE = "/run/src/core/sbom"
_DESTINATION = "/run/out"
_CORE = "sbom"
"""Name, up to its first dot, of the file that is about the result itself: it comes first."""
_MOST = 64
"""Statements of one scan."""


class Found(NamedTuple):
    """A statement, and the name of its file."""

    name: str
    statement: Statement


class _Scanner(NamedTuple):
    pinned: str
    config: ContainerConfig


class _Statement(msgspec.Struct):
    predicate: msgspec.Raw
    type: str = msgspec.field(name="predicateType", default="")
    subject: list[dict[str, Any]] = []


def check(wish: SbomWish | None, options: Mapping[str, str]) -> None:
    """Raises `NotSupported` for scans that nobody would do here: of contexts and of stages that are not the result."""
    for name in ("CONTEXT", "STAGE"):
        asked = options.get(f"build-arg:BUILDKIT_SBOM_SCAN_{name}", "")
        if wish is not None and asked.lower() not in ("", "0", "f", "false"):
            raise NotSupported(
                f"not in this version of Sampan's builder: a bill of materials of more than the result"
                f" (BUILDKIT_SBOM_SCAN_{name})"
            )


async def scanned(
    job: Job, result: Result, wish: SbomWish, options: Mapping[str, str]
) -> dict[str, list[Found]]:
    """What the scanner says, by platform. Raises `VertexFailed`, `InvalidParameter` for what is no statement."""
    scanner = await _scanner(job, wish.generator)
    anew = options.get("no-cache") == ""
    found = {}
    for each in results.listed(result):
        ref = result.find(each.id)
        if ref is not None:
            graph = _graph(scanner, ref, each.id, wish, ignore_cache=anew)
            found[each.id] = await _statements(job, graph)
    return found


async def _scanner(job: Job, name: str) -> _Scanner:
    here = platforms.local()
    reference = parse_normalized(await job.policies.image(name, job.solving.trees))
    async with step(job.build, f"resolve image config for docker-image://{reference}"):
        found = await job.solving.operations.finder.find(str(reference), here, job.build)
    job.images.append(ImageSource(str(reference), here, found.target.digest))
    config = found.config.config or ContainerConfig()
    if not config.entrypoint and not config.cmd:
        raise InvalidParameter(f"scanner {reference} does not have cmd")
    pinned = reference if reference.digest else reference._replace(digest=found.target.digest)
    return _Scanner(str(pinned), config)


def _graph(scanner: _Scanner, ref: Ref, id: str, wish: SbomWish, *, ignore_cache: bool) -> ops_pb2.Definition:
    config = scanner.config
    told = {"DESTINATION": f"{_DESTINATION}/", "SOURCE": _SOURCE, **wish.parameters}
    command = Command(
        args=[*(config.entrypoint or ()), *(config.cmd or ())],
        env=[*(config.env or ()), *(f"BUILDKIT_SCAN_{name}={value}" for name, value in told.items())],
        cwd=config.working_dir or "/",
    )
    mounts: list[ExecMount] = [
        Tmpfs("/tmp"),
        Bind(loaded(ref.definition), _SOURCE),
        Bind(None, _DESTINATION, readonly=False, discard=False),
    ]
    meta = Meta(name=f"[{id}] generating sbom using {wish.generator}", ignore_cache=ignore_cache)
    return definition(image(scanner.pinned).run(command, mounts, meta).mounts[_DESTINATION])


async def _statements(job: Job, graph: ops_pb2.Definition) -> list[Found]:
    ref = await job.make(graph)
    job.refs.remove(ref)  # the result is not made of it
    async with trees.opened(job.solving.trees, await ref.tree()) as root:
        found = await asyncio.to_thread(_read, root)
    return sorted(found, key=lambda each: each.name.partition(".")[0] != _CORE)


def _read(root: int) -> list[Found]:
    entries = trees.read_directory(root, "")
    if len(entries) > _MOST:
        raise InvalidParameter(f"a scanner may leave {_MOST} statements, not {len(entries)}")
    return [Found(each.path, _statement(each.path, trees.read_file(root, each.path))) for each in entries]


def _statement(name: str, data: bytes) -> Statement:
    try:
        told = msgspec.json.decode(data, type=_Statement)
        subjects = tuple(_subject(each) for each in told.subject)
    except (msgspec.DecodeError, AttributeError) as error:
        raise InvalidParameter(f"cannot decode in-toto statement {name}: {error}") from None
    if told.type != SPDX:
        raise InvalidParameter(f"bundle entry {told.type} does not match required predicate type {SPDX}")
    return Statement(told.type, bytes(told.predicate), subjects)


def _subject(given: Mapping[str, Any]) -> Subject:
    digest = next((f"{name}:{value}" for name, value in given.get("digest", {}).items()), ":")
    return Subject(str(given.get("name", "_")), digest)
