"""Routes under `/images`. `/commit` is with the containers', `/system/df` with the system's."""

from __future__ import annotations

import msgspec
from aiohttp import web

from sampan.api import responses
from sampan.api.call import Call
from sampan.api.messages import Send, streamed, streamed_at_once
from sampan.api.registries import credentials_in
from sampan.api.router import Router
from sampan.engineapi.filters import Filters
from sampan.engineapi.image import StreamMessage
from sampan.errors import Conflict, InvalidParameter
from sampan.images.attestations import attestations
from sampan.images.importing import ImportRequest, fetched
from sampan.images.listing import ListOptions, in_words_of
from sampan.images.trusting import Admission, anything
from sampan.names import platform as platforms
from sampan.names.platform import Platform
from sampan.names.reference import Reference, parse_normalized
from sampan.oci.image import Platform as OciPlatform

router = Router()


@router.get("/images/json")
async def list_images(call: Call) -> web.StreamResponse:
    filters = call.query.filters()
    if call.version < (1, 41) and (name := call.query.text("filter")):
        filters = Filters(
            {**{key: filters.get(key) for key in filters}, "reference": [*filters.get("reference"), name]}
        )
    summaries = await call.engine.images.summaries(
        ListOptions(
            filters=filters,
            all=call.query.boolean("all"),
            shared_size=call.version >= (1, 42) and call.query.boolean("shared-size"),
            manifests=call.version >= (1, 47) and call.query.boolean("manifests"),
            containers=call.version >= (1, 51),
            descriptor=call.version >= (1, 48),
        )
    )
    for summary in summaries:
        in_words_of(summary, call.version)
    return responses.json(summaries)


@router.get("/images/get")
async def save_images(call: Call) -> web.StreamResponse:
    return await _save(call, call.query.all("names"))


@router.get("/images/{name:any}/get")
async def save_image(call: Call) -> web.StreamResponse:
    return await _save(call, [call.fields["name"]])


@router.get("/images/{name:any}/json")
async def inspect_image(call: Call) -> web.StreamResponse:
    platform = _platform(call.query.text("platform")) if call.version >= (1, 49) else None
    manifests = call.version >= (1, 48) and call.query.boolean("manifests")
    return responses.json(
        await call.engine.images.inspect(call.fields["name"], call.version, platform, manifests)
    )


@router.get("/images/{name:any}/history")
async def image_history(call: Call) -> web.StreamResponse:
    platform = _platform(call.query.text("platform")) if call.version >= (1, 48) else None
    return responses.json(await call.engine.images.history(call.fields["name"], platform))


@router.get("/images/{name:any}/attestations", since=(1, 55))
async def image_attestations(call: Call) -> web.StreamResponse:
    wanted = _platforms(call)
    if len(wanted) > 1:
        raise InvalidParameter("only one platform can be given")
    found = await attestations(
        call.engine.images.parts,
        call.fields["name"],
        wanted[0] if wanted else None,
        call.query.all("type"),
        call.query.boolean("statement"),
    )
    return responses.json(found)


@router.post("/images/load")
async def load_images(call: Call) -> web.StreamResponse:
    wanted = _platforms(call) if call.version >= (1, 48) else []
    progress = not call.query.boolean("quiet")
    images, admission = call.engine.images, _admission(call)
    return await streamed_at_once(
        call,
        lambda send: images.load(call.upload(), send, wanted, admission=admission, progress=progress),
    )


def _admission(call: Call) -> Admission | None:
    """Who says whether images may be loaded, by the query's `origin`, which is ours: `bootstrap` for what was made on this
    machine, `docker://NAME` for what was copied from a registry.
    """
    origin = call.query.text("origin")
    if origin == "bootstrap":
        return anything
    if origin.startswith("docker://"):
        reference = parse_normalized(origin.removeprefix("docker://")).with_default_tag()
        return call.engine.images.trust.copied(reference, credentials_in(call))
    if origin:
        raise InvalidParameter(f"invalid origin of images: {origin}")
    return None


@router.post("/images/prune", since=(1, 25))
async def prune_images(call: Call) -> web.StreamResponse:
    return responses.json(await call.engine.images.prune(call.query.filters()))


@router.post("/images/create")
async def create_image(call: Call) -> web.StreamResponse:
    platform_text = call.query.text("platform") if call.version >= (1, 32) else ""
    platform = platforms.parse(platform_text) if platform_text else None
    if name := call.query.text("fromImage"):
        reference = _pull_reference(name, call.query.text("tag"))
        credentials = credentials_in(call)
        return await streamed(
            call, lambda send: call.engine.images.pull(reference, platform, credentials, send)
        )
    return await streamed(call, lambda send: _import(call, platform, send))


@router.post("/images/{name:any}/tag")
async def tag_image(call: Call) -> web.StreamResponse:
    await call.engine.images.tag(call.fields["name"], call.query.text("repo"), call.query.text("tag"))
    return responses.empty(201)


@router.post("/images/{name:any}/push")
async def push_image(call: Call) -> web.StreamResponse:
    reference = parse_normalized(call.fields["name"])
    if tag := call.query.text("tag"):
        reference = reference.with_tag(tag)
    platform = _platform(call.query.text("platform")) if call.version >= (1, 46) else None
    credentials = credentials_in(call)
    return await streamed(call, lambda send: call.engine.images.push(reference, platform, credentials, send))


@router.delete("/images/{name:any}")
async def remove_image(call: Call) -> web.StreamResponse:
    platforms_text = call.query.all("platforms") if call.version >= (1, 50) else []
    if wanted := [found for text in platforms_text if (found := _platform(text)) is not None]:
        if not call.query.boolean("force"):
            raise Conflict(
                "Content will be removed from all images referencing this variant. Use —-force to force delete."
            )
        return responses.json(await call.engine.images.remove_platforms(call.fields["name"], wanted))
    items = await call.engine.images.remove(
        call.fields["name"], force=call.query.boolean("force"), prune=not call.query.boolean("noprune")
    )
    return responses.json(items)


async def _save(call: Call, names: list[str]) -> web.StreamResponse:
    plan = await call.engine.images.plan_save(names, _platforms(call) if call.version >= (1, 48) else [])
    async with call.stream("application/x-tar") as out:
        async for chunk in call.engine.images.save(plan):
            await out.write(chunk)
    return out.response


async def _import(call: Call, platform: Platform | None, send: Send) -> None:
    source = call.query.text("fromSrc")
    if not source:
        raise InvalidParameter("nothing to import: fromSrc or fromImage must be given")
    request = ImportRequest(
        repository=call.query.text("repo"),
        tag=call.query.text("tag"),
        message=call.query.text("message") or f"Imported from {source}",
        changes=tuple(call.query.all("changes")),
        platform=platform,
    )
    if source == "-":
        send(StreamMessage(status=await call.engine.images.import_image(call.upload(), request)))
        return
    async with fetched(source) as body:
        send(StreamMessage(status=f"Downloading from {source}"))
        send(StreamMessage(status=await call.engine.images.import_image(body, request)))


def _pull_reference(name: str, tag: str) -> Reference:
    """`fromImage` and `tag`, where the tag may be a digest and a digest in the name wins."""
    reference = parse_normalized(name)
    if reference.digest or not tag:
        return reference
    if ":" in tag:
        return parse_normalized(f"{reference.name}@{tag}")
    return reference.with_tag(tag)


def _platforms(call: Call) -> list[Platform]:
    return [platform for text in call.query.all("platform") if (platform := _platform(text)) is not None]


def _platform(text: str) -> Platform | None:
    """A platform as JSON (`{"os": "linux", "architecture": "arm64"}`). Raises `InvalidParameter` in dockerd's words."""
    if not text:
        return None
    try:
        given = msgspec.json.decode(text, type=OciPlatform)
    except msgspec.DecodeError as error:
        raise InvalidParameter(f"failed to parse platform: {error}") from error
    if not given.os or not given.architecture:
        if given.variant and not (given.os or given.architecture):
            raise InvalidParameter("optional platform fields provided, but OS and Architecture are missing")
        raise InvalidParameter("both OS and Architecture must be provided")
    return platforms.normalize(Platform(given.os, given.architecture, given.variant, given.os_version))
