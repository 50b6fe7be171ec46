"""`docker load`: images out of an archive, straight from the request's body into the content store.

Order of writes: every blob is complete and durable, every layer of this machine's platform is unpacked and
agrees with its digest, before the first name is written. A lease holds all of it until then, so whatever
fails leaves garbage for collection and no image.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from sampan.content.interface import Lease
from sampan.engineapi.image import ProgressDetail, StreamMessage
from sampan.errors import NotFound
from sampan.faults import point
from sampan.images.claims import check_claims
from sampan.images.documents import ImageManifest, choose_manifest
from sampan.images.intake import receive
from sampan.images.parts import Parts
from sampan.images.received import NamedTarget, Received
from sampan.images.records import dangling_name
from sampan.images.references import refer_all
from sampan.images.trusting import Admission
from sampan.images.unpacking import Progress, Unpacker
from sampan.names import platform as platforms
from sampan.names.digest import short
from sampan.names.platform import Platform
from sampan.names.reference import parse_normalized
from sampan.oci.image import Descriptor

Report = Callable[[StreamMessage], None]


async def load(
    parts: Parts,
    unpacker: Unpacker,
    body: AsyncIterator[bytes],
    wanted: list[Platform],
    report: Report,
    *,
    admission: Admission,
    progress: bool = False,
) -> None:
    """Load every image of an archive, which may be compressed.

    `report` gets "Loaded image: x:tag" per name at the end, and before that, with `progress`, how far each
    layer is. Raises `InvalidParameter` naming the entry at fault, `NotFound` when an image lacks a platform
    of `wanted`, what `admission`
    raises about images that may not be loaded; then no image has been added.
    """
    async with parts.content.leases.hold("load") as lease:
        received = Received(parts.content, lease)
        await receive(received, parts.content, lease, body)
        point("load.received")
        images = await received.images()
        await admission(received.form, [image.target for image in images])
        for image in images:
            await check_claims(parts.content, image.target, "index.json")
        for image in images:
            await _complete(
                parts, unpacker, image, wanted, lease, _layer_progress(report) if progress else None
            )
        point("load.unpacked")
        for image in images:
            await _publish(parts, image, report)


async def _complete(
    parts: Parts,
    unpacker: Unpacker,
    image: NamedTarget,
    wanted: list[Platform],
    lease: Lease,
    progress: Progress | None,
) -> None:
    """Note what refers to what, and unpack the platforms that this machine or the caller wants."""
    await refer_all(parts.content, parts.documents, image.target)
    manifests = await parts.documents.manifests(image.target)
    label = parse_normalized(image.name).familiar() if image.name else image.target.digest
    for platform in wanted:
        if choose_manifest(manifests, platform) is None:
            raise NotFound(
                f"image {label} was loaded, but doesn't provide the requested platform ([{platform}])"
            )
    for each in _to_unpack(manifests, wanted):
        assert each.manifest is not None and each.config is not None  # it is complete
        await unpacker.ensure(each.manifest, each.config, lease, progress)


def _to_unpack(manifests: list[ImageManifest], wanted: list[Platform]) -> list[ImageManifest]:
    """The complete images for the platforms asked for, else for those that this machine runs.

    Of an archive with a single image whose parts are missing nothing could ever be run, so that one is refused.
    """
    complete = [each for each in manifests if each.kind == "image" and each.available and each.platform]
    if not complete:
        missing = next((each.descriptor.digest for each in manifests if each.kind == "image"), None)
        if missing is not None:
            raise NotFound(f"content of image manifest {missing} is missing in the archive")
    if wanted:
        return [
            each
            for each in complete
            if each.platform and any(platforms.matches(each.platform, one) for one in wanted)
        ]
    return platforms.choose(complete, lambda each: each.platform or platforms.local(), platforms.local())[:1]


async def _publish(parts: Parts, image: NamedTarget, report: Report) -> None:
    """Write the name, durably, and tell."""
    target = image.target
    if image.name or not await parts.records.of(target.digest):
        await parts.records.put(image.name or dangling_name(target.digest), target)
    point("load.name-written")
    record = (await parts.records.of(target.digest))[0]
    if image.name:
        named = await parts.records.get(image.name)
        message = f"Loaded image: {named.familiar() if named else image.name}"
    else:
        message = f"Loaded image ID: {target.digest}"
    report(StreamMessage(stream=message + "\n"))
    await parts.publish_for("load", record, target.digest)


def _layer_progress(report: Report) -> Progress:
    """Progress lines for layers being unpacked, one per layer, as a terminal draws them."""

    def tell(layer: Descriptor, done: int) -> None:
        report(
            StreamMessage(
                status="Loading layer",
                progress_detail=ProgressDetail(done, layer.size),
                id=short(layer.digest),
            )
        )

    return tell
