"""What becomes of a result: an image in the engine's store, a directory or archive for the client."""

from __future__ import annotations

import time
from base64 import b64encode
from collections.abc import Callable, Coroutine, Mapping
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from sampan.buildkit import trees
from sampan.buildkit.caching import INLINE
from sampan.buildkit.frontends import CONFIG, EPOCH
from sampan.buildkit.jobs import Job, Result
from sampan.buildkit.steps import step
from sampan.errors import InvalidParameter, NotSupported
from sampan.exporters.archives import Kind
from sampan.exporters.forms import check, layer_form
from sampan.names import platform as platforms
from sampan.names.reference import Reference, parse_normalized
from sampan.oci.image import ImageConfig, parse_config
from sampan.solver.interface import EMPTY, Tree

if TYPE_CHECKING:
    from sampan.engine.engine import Engine
    from sampan.solver.progress import Reporter

Export = Callable[["Engine", Job, Result, Mapping[str, str], int], Coroutine[Any, Any, dict[str, str]]]


def exporter(kind: str) -> Export:
    """By BuildKit's name of it. Raises `NotSupported`."""
    found = _EXPORTERS.get(kind)
    if found is None:
        raise NotSupported(f"exporter {kind!r} could not be found")
    return found


async def _image(
    engine: Engine, job: Job, result: Result, attributes: Mapping[str, str], number: int
) -> dict[str, str]:
    """`moby` and `image`: the engine's store."""
    check(attributes)
    tree, config = await _only(result)
    names = [
        parse_normalized(name).with_default_tag() for name in attributes.get("name", "").split(",") if name
    ]
    push = attributes.get("push", "") in ("true", "1")
    if push and not names:
        raise InvalidParameter("tag is needed when pushing to registry")
    async with step(job.build, "exporting to image") as report:
        started = time.time_ns()
        epoch = _epoch(attributes, result)
        form = layer_form(attributes, epoch)
        id = await job.solving.exporter.export(tree, config, names, job.build.lease, epoch=epoch, form=form)
        report.status("exporting layers", 0, 0, started, done=True)
        report.status(f"writing image {id}", 0, 0, started, done=True)
        for name in names:
            report.status(f"naming to {name}", 0, 0, started, done=True)
        image = await engine.images.resolve(id)
        if push:
            await _push(engine, job, names, report)
    return _response(
        image.target.digest, image.manifest.config.digest, msgspec.json.encode(image.target), names
    )


async def _push(engine: Engine, job: Job, names: list[Reference], report: Reporter) -> None:
    """To the registry of each name, with the client's credentials for it."""
    for name in names:
        started = time.time_ns()
        report.status(f"pushing {name}", 0, 0, started)
        credentials = await job.build.credentials(name.domain)
        await engine.images.push(name, None, credentials, lambda _: None)
        report.status(f"pushing {name}", 0, 0, started, done=True)


async def _tar(
    engine: Engine, job: Job, result: Result, attributes: Mapping[str, str], number: int
) -> dict[str, str]:
    """`tar`: the files as an archive for the client."""
    if job.session is None:
        raise InvalidParameter("a result for the client needs its session")
    tree = await _tree(result)
    packing = job.solving.trees
    async with (
        step(job.build, "exporting to client tarball"),
        trees.opened(packing, tree) as root,
        aclosing(trees.packed(packing, root)) as chunks,
    ):
        await job.session.send_file(chunks, {}, number)
    return {}


async def _archive(
    engine: Engine, job: Job, result: Result, attributes: Mapping[str, str], number: int, kind: Kind
) -> dict[str, str]:
    """`docker` and `oci`: an archive for the client, and nothing in the engine's store."""
    if job.session is None:
        raise InvalidParameter("a result for the client needs its session")
    check(attributes)
    tree, config = await _only(result)
    names = [
        parse_normalized(name).with_default_tag() for name in attributes.get("name", "").split(",") if name
    ]
    async with step(job.build, f"exporting to {kind} image format") as report:
        started = time.time_ns()
        epoch = _epoch(attributes, result)
        form = layer_form(attributes, epoch, default="gzip")
        manifest, chunks = await job.solving.archives.export(
            tree, config, names, job.build.lease, kind, epoch=epoch, form=form
        )
        report.status("exporting layers", 0, 0, started, done=True)
        async with aclosing(chunks):
            await job.session.send_file(chunks, {}, number)
        report.status("sending tarball", 0, 0, started, done=True)
    return {
        "containerimage.digest": manifest.digest,
        "containerimage.descriptor": b64encode(msgspec.json.encode(manifest)).decode(),
    }


async def _local(
    engine: Engine, job: Job, result: Result, attributes: Mapping[str, str], number: int
) -> dict[str, str]:
    """`local`: the files for a directory of the client's."""
    if job.session is None:
        raise InvalidParameter("a result for the client needs its session")
    tree = await _tree(result)
    async with (
        step(job.build, "exporting to client directory"),
        trees.opened(job.solving.trees, tree) as root,
    ):
        await job.session.send_directory(root, number)
    return {}


_EXPORTERS: dict[str, Export] = {
    "moby": _image,
    "image": _image,
    "local": _local,
    "tar": _tar,
    "docker": partial(_archive, kind="docker"),
    "oci": partial(_archive, kind="oci"),
}


async def _only(result: Result) -> tuple[Tree, ImageConfig]:
    tree = await _tree(result)
    (id,) = result.refs
    data = result.metadata.get(f"{CONFIG}/{id}" if id else CONFIG, b"")
    here = platforms.local()
    config = (
        parse_config(data)
        if data
        else ImageConfig(architecture=here.architecture, os=here.os, variant=here.variant)
    )
    # What a frontend gives as configuration may be its base's, with that one's records.
    config.inline_cache = b64encode(result.metadata.get(INLINE, b"")).decode()
    return tree, config


async def _tree(result: Result) -> Tree:
    if len(result.refs) != 1:
        raise NotSupported("results for several platforms are not in this version of Sampan's builder")
    (ref,) = result.refs.values()
    return await ref.tree() if ref is not None else EMPTY


def _response(digest: str, config: str, descriptor: bytes, names: list[Reference]) -> dict[str, str]:
    response = {
        "containerimage.digest": digest,
        "containerimage.config.digest": config,
        "containerimage.descriptor": b64encode(descriptor).decode(),
    }
    if names:
        response["image.name"] = ",".join(str(name) for name in names)
    return response


def _epoch(attributes: Mapping[str, str], result: Result) -> int | None:
    """Of the exporter, else of the frontend that made the result."""
    text = attributes.get("source-date-epoch", "") or result.metadata.get(EPOCH, b"").decode()
    return int(text) if text.isdecimal() else None
