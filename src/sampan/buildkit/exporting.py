"""What becomes of a result: an image in the engine's store, a directory or archive for the client."""

from __future__ import annotations

import time
from base64 import b64encode
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from sampan.buildkit import attached, directories, results
from sampan.buildkit.attached import Attached
from sampan.buildkit.jobs import Job, Result
from sampan.buildkit.trees import packed
from sampan.errors import InvalidParameter, NotSupported
from sampan.exporters.archives import Kind
from sampan.exporters.forms import ImageForm, flag, image_form
from sampan.exporters.naming import names_of, naming
from sampan.exporters.results import Results
from sampan.exporters.stored import StoredImage
from sampan.exporters.writing import Written
from sampan.names.reference import Reference
from sampan.oci.image import Descriptor
from sampan.registry.copying import copy_image
from sampan.solver.progress import WarningEvent
from sampan.solver.steps import step

if TYPE_CHECKING:
    from sampan.buildkit.waiting import Client
    from sampan.engine.engine import Engine
    from sampan.solver.progress import Reporter

Export = Callable[["Engine", Job, Result, Mapping[str, str], int], Coroutine[Any, Any, dict[str, str]]]


_LAYOUT = "export"
"""The client's store of blobs for a result; the index of it is the client's own affair."""


def exporter(kind: str, attributes: Mapping[str, str]) -> Export:
    """By BuildKit's name of it. Raises `NotSupported` and `InvalidParameter`, before anything is built, for what it cannot do or
    what makes no sense."""
    found = _EXPORTERS.get(kind)
    if found is None:
        raise NotSupported(f"exporter {kind!r} could not be found")
    if kind in ("moby", "image", "oci", "docker"):
        image_form(attributes)
    if kind in ("moby", "image"):
        # What the frontend is to call it is known later.
        naming(attributes, {"image.name": "x"} if attributes.get("name") == "*" else {})
    if kind == "local" and attributes.get("mode", "") not in ("", "copy", "delete"):
        raise InvalidParameter(f"invalid local exporter mode {attributes['mode']!r}")
    return found


async def _image(
    engine: Engine, job: Job, result: Result, attributes: Mapping[str, str], number: int
) -> dict[str, str]:
    """`moby` and `image`: the engine's store, and registries."""
    metadata = _text(result.metadata)
    form = image_form(attributes, metadata)
    named = naming(attributes, metadata)
    given = await results.made(result, attributes)
    _tell_untimed(job, form, given)
    about = attached.of_image(job, result, given, named.names, attributes, always=True)
    async with step(job.build, "exporting to image") as report:
        started = time.time_ns()
        attach = about.to(engine.images.parts.content) if about is not None else None
        written = await job.solving.exporter.export(given, named, job.build.lease, form, attach)
        _tell_written(report, written, about, started)
        if named.kept:
            called = [str(each) for each in named.records(written.target.digest)]
            for name in called or [named.told(written.target.digest)]:
                report.status(f"naming to {name}", 0, 0, started, done=True)
        if named.pushed:
            await _push(engine, job, written.target, named.names, report)
    return _response(written, written.target, named.told(written.target.digest))


async def _push(
    engine: Engine, job: Job, target: Descriptor, names: Sequence[Reference], report: Reporter
) -> None:
    """To the registry of each name, with the client's credentials for it."""
    for name in names:
        started = time.time_ns()
        report.status(f"pushing {name}", 0, 0, started)
        credentials = await job.build.credentials(name.domain)
        await engine.images.push_target(target, name, credentials, lambda _: None)
        report.status(f"pushing {name}", 0, 0, started, done=True)


async def _archive(
    engine: Engine, job: Job, result: Result, attributes: Mapping[str, str], number: int, kind: Kind
) -> dict[str, str]:
    """`docker` and `oci`: an archive or a layout for the client, and nothing in the engine's store."""
    session = _session(job)
    metadata = _text(result.metadata)
    form = image_form(attributes, metadata, default="gzip")
    names = names_of(attributes, metadata)
    as_file = flag(attributes, "tar", True)
    given = await results.made(result, attributes)
    _tell_untimed(job, form, given)
    about = attached.of_image(job, result, given, names, attributes, always=False)
    async with step(job.build, f"exporting to {kind} image format") as report:
        started = time.time_ns()
        attach = about.to(engine.images.parts.content) if about is not None else None
        archive = await job.solving.archives.export(given, names, job.build.lease, kind, form, attach)
        _tell_written(report, archive.written, about, started)
        response = _response(archive.written, archive.target, ",".join(str(name) for name in names))
        if as_file:
            async with aclosing(archive.chunks) as chunks:
                await session.send_file(chunks, response, number)
            report.status("sending tarball", 0, 0, started, done=True)
        else:
            stored = StoredImage(engine.images.parts.content, archive.written.target)
            await copy_image(stored, session.content(_LAYOUT), lambda *_: None)
            report.status("sending blobs", 0, 0, started, done=True)
    return response


async def _tar(
    engine: Engine, job: Job, result: Result, attributes: Mapping[str, str], number: int
) -> dict[str, str]:
    """`tar`: the files as an archive for the client."""
    session = _session(job)
    given = await results.made(result, attributes)
    given = await attached.with_files(job, result, given, attributes, split=given.several)
    trees = job.solving.trees
    async with (
        step(job.build, "exporting to client tarball") as report,
        directories.opened(trees, given.platforms, split=given.several) as files,
        aclosing(packed(trees, files, directories.one_time(given))) as chunks,
    ):
        started = time.time_ns()
        await session.send_file(chunks, {}, number)
        report.status("sending tarball", 0, 0, started, done=True)
    return {}


async def _local(
    engine: Engine, job: Job, result: Result, attributes: Mapping[str, str], number: int
) -> dict[str, str]:
    """`local`: the files for a directory of the client's."""
    session = _session(job)
    given = await results.made(result, attributes)
    split = flag(attributes, "platform-split", given.several)
    given = await attached.with_files(job, result, given, attributes, split=split)
    together = split or len(given.platforms) == 1
    if attributes.get("mode") == "delete" and not together:
        raise NotSupported(
            "not in this version of Sampan's builder: several platforms in one directory that is to hold nothing else"
            " (mode=delete, platform-split=false)"
        )
    async with (
        step(job.build, "exporting to client directory") as report,
        directories.opened(job.solving.trees, given.platforms, split=split) as files,
    ):
        if not together:
            await directories.check_apart(given.platforms, files)
        started = time.time_ns()
        for batch in [files] if together else [[each] for each in files]:
            await session.send_directories(batch, number, directories.one_time(given))
        for each in given.platforms:
            report.status(f"copying files {each.id}" if split else "copying files", 0, 0, started, done=True)
    return {}


_EXPORTERS: dict[str, Export] = {
    "moby": _image,
    "image": _image,
    "local": _local,
    "tar": _tar,
    "docker": partial(_archive, kind="docker"),
    "oci": partial(_archive, kind="oci"),
}


def _session(job: Job) -> Client:
    if job.session is None:
        raise InvalidParameter("a result for the client needs its session")
    return job.session


def _text(metadata: Mapping[str, bytes]) -> dict[str, str]:
    return {name: value.decode(errors="replace") for name, value in metadata.items()}


def _tell_untimed(job: Job, form: ImageForm, given: Results) -> None:
    if form.clamped and any(each.epoch is None for each in given.platforms):
        short = "rewrite-timestamp is specified, but no SOURCE_DATE_EPOCH: files keep their times"
        job.build.progress.publish(WarningEvent(vertex="", short=short))


def _tell_written(report: Reporter, written: Written, about: Attached | None, started: int) -> None:
    report.status("exporting layers", 0, 0, started, done=True)
    for each in written.manifests:
        report.status(f"exporting manifest {each.descriptor.digest}", 0, 0, started, done=True)
        report.status(f"exporting config {each.config.digest}", 0, 0, started, done=True)
    for attestation in about.written if about is not None else ():
        report.status(f"exporting attestation manifest {attestation.digest}", 0, 0, started, done=True)
    if written.is_index:
        report.status(f"exporting manifest list {written.target.digest}", 0, 0, started, done=True)


def _response(written: Written, target: Descriptor, name: str) -> dict[str, str]:
    """What the client's metadata file tells."""
    response = {
        "containerimage.digest": target.digest,
        "containerimage.descriptor": b64encode(msgspec.json.encode(target)).decode(),
    }
    if not written.is_index:
        response["containerimage.config.digest"] = written.manifests[0].config.digest
    if name:
        response["image.name"] = name
    return response
