"""`Manifests` of list and inspect: what `docker images --tree` shows beneath an image."""

from __future__ import annotations

from msgspec import UNSET

from sampan.engineapi.image import AttestationData, ImageData, ManifestSize, ManifestSummary, UnpackedSize
from sampan.images.documents import ImageManifest
from sampan.images.interface import ContainerUse
from sampan.images.sizes import Size, Sizer
from sampan.names.platform import Platform
from sampan.oci.image import Platform as OciPlatform


async def summarize(
    manifests: list[ImageManifest], image_id: str, uses: list[ContainerUse], sizer: Sizer
) -> list[ManifestSummary]:
    """One summary per manifest, in the index's order. `uses` may hold containers of other images."""
    only_image = sum(each.kind == "image" and each.available for each in manifests) == 1
    summaries: list[ManifestSummary] = []
    for each in manifests:
        size = await sizer.of_manifest(each)
        containers = [
            use.container_id for use in uses if use.image_id == image_id and _uses(use, each, only_image)
        ]
        summaries.append(_summary(each, size, containers))
    return summaries


def _uses(use: ContainerUse, manifest: ImageManifest, only_image: bool) -> bool:
    if not use.manifest_digest:  # a container of which only the image is known
        return only_image and manifest.available
    return use.manifest_digest == manifest.descriptor.digest


def _summary(manifest: ImageManifest, size: Size, containers: list[str]) -> ManifestSummary:
    image = manifest.kind == "image" and manifest.platform is not None
    return ManifestSummary(
        id=manifest.descriptor.digest,
        descriptor=manifest.descriptor,
        available=manifest.available,
        size=ManifestSize(content=size.content, total=size.total),
        kind=manifest.kind,
        image_data=ImageData(oci_platform(manifest.platform), UnpackedSize(size.unpacked), containers or None)
        if image and manifest.platform
        else UNSET,
        attestation_data=AttestationData(manifest.attests) if manifest.kind == "attestation" else UNSET,
    )


def oci_platform(platform: Platform) -> OciPlatform:
    """A platform in the form of descriptors."""
    return OciPlatform(
        os=platform.os,
        architecture=platform.architecture,
        variant=platform.variant,
        os_version=platform.os_version,
    )
