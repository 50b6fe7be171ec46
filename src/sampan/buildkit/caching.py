"""`--cache-from` and `--cache-to`: cache that comes from somewhere and goes somewhere, by BuildKit's types and attributes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, get_args

import msgspec

from sampan.buildkit.clientstore import ClientSource
from sampan.buildkit.jobs import Job, Result
from sampan.buildkit.protos import control_pb2 as pb
from sampan.errors import InvalidParameter, NotSupported, SampanError
from sampan.exporters.cache import CacheDocument, Mode, inline
from sampan.exporters.forms import layer_form
from sampan.names.booleans import parse_bool
from sampan.names.reference import parse_normalized
from sampan.ops.importing import ImportedCache, open_cache
from sampan.registry.copying import Destination, RegistryDestination, RegistrySource, Source
from sampan.solver.steps import step

if TYPE_CHECKING:
    from sampan.engine.engine import Engine
    from sampan.ops.layering import LayerForm

INLINE = "containerimage.inlinecache"
"""Key of a result's metadata (`/` and a platform's id behind it, where there are several) under which exporters find the records
for the image's configuration."""
_IMPORTS_MAX = 100


@dataclass(frozen=True, slots=True)
class CacheExport:
    """One `--cache-to`, checked."""

    kind: str
    place: str
    """A reference, or the client's directory."""
    mode: Mode
    form: LayerForm
    document: CacheDocument
    ignore_error: bool


def exports(request: pb.SolveRequest) -> list[CacheExport]:
    """What a solve wants. Raises `NotSupported` for a type that is not here, `InvalidParameter`."""
    wanted = [_export(each.Type, each.Attrs) for each in request.Cache.Exports]
    old = request.Cache.ExportRefDeprecated
    if old and not wanted:
        wanted.append(_export("registry", {**request.Cache.ExportAttrsDeprecated, "ref": old}))
    if _truth(request.FrontendAttrs, "build-arg:BUILDKIT_INLINE_CACHE", False) and not any(
        each.kind == "inline" for each in wanted
    ):
        wanted.append(_export("inline", {}))
    return wanted


def _export(kind: str, attributes: Mapping[str, str]) -> CacheExport:
    named = {"registry": "ref", "local": "dest", "inline": ""}
    if kind not in named:
        raise NotSupported(f"cache exporter {kind!r} is not in this version of Sampan's builder")
    place = attributes.get(named[kind], "") if named[kind] else ""
    if named[kind] and not place:
        raise InvalidParameter(f"{kind} cache exporter requires {named[kind]}")
    mode = attributes.get("mode", "") or "min"
    if mode not in get_args(Mode):
        raise InvalidParameter(f"unsupported cache export mode {mode!r}")
    oci = _truth(attributes, "oci-mediatypes", True)
    image_manifest = _truth(attributes, "image-manifest", oci)
    if image_manifest and not oci:
        raise InvalidParameter("exporting cache as an image manifest needs oci-mediatypes")
    return CacheExport(
        kind,
        place,
        "max" if mode == "max" else "min",
        layer_form(attributes, default="gzip"),
        CacheDocument(image_manifest, oci),
        _truth(attributes, "ignore-error", False),
    )


async def with_inline(job: Job, result: Result) -> Result:
    """The result with the records that its image is to carry."""
    records: dict[str, bytes] = {}
    async with step(job.build, "preparing layers for inline cache"):
        await result.make()
        for id, ref in result.refs.items():
            if ref is not None:
                collected = await job.solving.cache.collect(job.build, [ref.graph], "min", job.build.lease)
                records[f"{INLINE}/{id}" if id else INLINE] = inline(collected)
    return replace(result, metadata={**result.metadata, **records})


async def export(engine: Engine, job: Job, result: Result, wanted: CacheExport) -> dict[str, str]:
    """Write the cache of a build that has succeeded; what is added to the solve's answer."""
    if wanted.kind == "inline":
        return {}  # it went with the image
    try:
        async with step(job.build, f"exporting cache to {_title(wanted.kind, wanted.place)}"):
            await result.make()
            graphs = [ref.graph for ref in result.given]
            cache, lease = job.solving.cache, job.build.lease
            collected = await cache.collect(job.build, graphs, wanted.mode, lease)
            destination = await _destination(engine, job, wanted)
            manifest = await cache.write(collected, destination, wanted.form, wanted.document, lease)
    except SampanError:
        if wanted.ignore_error:
            return {}
        raise
    return {"cache.manifest": msgspec.json.encode(manifest).decode()}


async def _destination(engine: Engine, job: Job, wanted: CacheExport) -> Destination:
    if wanted.kind == "local":
        if job.session is None:
            raise InvalidParameter("a local cache exporter needs the client's session")
        return job.session.content(f"local:{wanted.place}")
    reference = parse_normalized(wanted.place).with_default_tag()
    credentials = await job.build.credentials(reference.domain)
    return RegistryDestination(engine.registry.repository(reference, credentials), reference)


def add_imports(engine: Engine, job: Job, wanted: Iterable[tuple[str, Mapping[str, str]]]) -> None:
    """Look there before something is executed. What cannot be read is shown so, and the build goes on."""
    for kind, attributes in list(wanted)[:_IMPORTS_MAX]:
        name = " ".join([kind, *(f"{key}={value}" for key, value in sorted(attributes.items()))])
        job.build.imports.add(name, _opened(engine, job, kind, dict(attributes)))


async def _opened(engine: Engine, job: Job, kind: str, attributes: Mapping[str, str]) -> ImportedCache | None:
    place = attributes.get("ref", "") or attributes.get("src", "")
    try:
        async with step(job.build, f"importing cache manifest from {_title(kind, place)}"):
            source = await _source(engine, job, kind, attributes)
            return await open_cache(source, engine.images, job.solving.layers)
    except SampanError:
        return None  # the step says why


async def _source(engine: Engine, job: Job, kind: str, attributes: Mapping[str, str]) -> Source:
    if kind == "registry":
        if not attributes.get("ref"):
            raise InvalidParameter("registry cache importer requires ref")
        reference = parse_normalized(attributes["ref"]).with_default_tag()
        credentials = await job.build.credentials(reference.domain)
        repository = engine.registry.repository(reference, credentials)
        source = RegistrySource(repository, reference)
        await engine.images.trust.pulled(repository, reference, await source.target())
        return source
    if kind == "local":
        if not attributes.get("src") or not attributes.get("digest"):
            raise InvalidParameter("local cache importer requires src and digest")
        if job.session is None:
            raise InvalidParameter("a local cache importer needs the client's session")
        return ClientSource(job.session.content(f"local:{attributes['src']}"), attributes["digest"])
    raise NotSupported(f"cache importer {kind!r} is not in this version of Sampan's builder")


def _title(kind: str, place: str) -> str:
    if kind == "registry" and place:
        return str(parse_normalized(place).with_default_tag())
    return "client directory" if kind == "local" else kind


def _truth(attributes: Mapping[str, str], name: str, default: bool) -> bool:
    text = attributes.get(name, "")
    return parse_bool(name, text) if text else default
