"""`docker image inspect`, in the shape that each version of the API has."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET

from sampan.engineapi.image import DriverData, ImageInspect, ImageMetadata, RootFSLayers
from sampan.errors import InvalidParameter
from sampan.images.lineage import Lineage
from sampan.images.listing import repository_names
from sampan.images.manifests import summarize
from sampan.images.parts import Parts
from sampan.images.sizes import Sizer
from sampan.names.platform import Platform
from sampan.names.times import format_rfc3339_nano
from sampan.oci.image import ContainerConfig, ImageConfig

_LEGACY: dict[str, Any] = {
    "Hostname": "",
    "Domainname": "",
    "AttachStdin": False,
    "AttachStdout": False,
    "AttachStderr": False,
    "Tty": False,
    "OpenStdin": False,
    "StdinOnce": False,
    "Image": "",
}
"""Fields of containers that images never had; shown empty before API 1.50."""

_ALWAYS: dict[str, Any] = {
    "User": "",
    "Env": None,
    "Cmd": None,
    "Volumes": None,
    "WorkingDir": "",
    "Entrypoint": None,
    "OnBuild": None,
    "Labels": None,
}
"""Fields that are shown when they are empty, too, before API 1.52."""

IMAGE_FIELDS = (
    "User",
    "ExposedPorts",
    "Env",
    "Cmd",
    "Healthcheck",
    "ArgsEscaped",
    "Volumes",
    "WorkingDir",
    "Entrypoint",
    "OnBuild",
    "Labels",
    "StopSignal",
    "Shell",
)
"""What of a container's configuration belongs to images."""


async def inspect(
    parts: Parts,
    text: str,
    version: tuple[int, int],
    platform: Platform | None = None,
    with_manifests: bool = False,
) -> ImageInspect:
    """Everything about one platform of one image.

    Raises `NotFound` in Docker's words; `InvalidParameter` when a platform and the list of manifests are asked for at once.
    """
    if platform is not None and with_manifests:
        raise InvalidParameter("conflicting options: manifests and platform options cannot both be set")
    record = await parts.resolver.record(text)
    chosen = await parts.resolver.manifest(record, text, platform)
    assert chosen.config is not None  # `manifest` gives complete ones only
    config = chosen.config
    lineage = await Lineage.read(parts.records)
    records = lineage.records(record.id) or [record]
    tags, digests = repository_names(records)
    sizer = Sizer(parts)
    size = (await sizer.of_manifest(chosen)).total
    if record.target.digest != chosen.descriptor.digest:
        size += record.target.size
    manifests = (
        await summarize(await parts.documents.manifests(record.target), record.id, await parts.uses(), sizer)
        if with_manifests
        else UNSET
    )
    old = version < (1, 52)
    comment = config.history[-1].comment if config.history else config.comment
    return ImageInspect(
        id=record.id,
        repo_tags=tags,
        repo_digests=digests,
        parent=_text(lineage.parent(record.id), old),
        comment=_text(comment, old),
        container="" if version < (1, 45) else UNSET,
        container_config=None if version < (1, 45) else UNSET,
        created=_created(config, version),
        docker_version=_text("", old),
        author=_text(config.author, old),
        config=config_document(config.config or ContainerConfig(), version),
        architecture=config.architecture,
        variant=config.variant or UNSET,
        os=config.os or "linux",
        os_version=config.os_version or UNSET,
        size=size,
        virtual_size=size if version < (1, 44) else UNSET,
        graph_driver=DriverData(None, parts.snapshots.name) if old else UNSET,
        root_fs=RootFSLayers(layers=config.rootfs.diff_ids or UNSET),
        metadata=ImageMetadata(format_rfc3339_nano(max(each.updated_ns for each in records))),
        descriptor=record.target if version >= (1, 48) else UNSET,
        manifests=manifests if version >= (1, 48) else UNSET,
    )


def config_document(config: ContainerConfig, version: tuple[int, int]) -> dict[str, Any]:
    """`Config`: what the image sets, and the empty fields that the version's clients expect."""
    given = msgspec.to_builtins(config)
    document = {name: given[name] for name in IMAGE_FIELDS if name in given}
    if version < (1, 52):
        document = {**_ALWAYS, **document}
    if version < (1, 50):
        document = {**_LEGACY, **document}
    return document


def _created(config: ImageConfig, version: tuple[int, int]) -> Any:
    if config.created:
        return config.created
    return "0001-01-01T00:00:00Z" if version < (1, 44) else UNSET


def _text(value: str, shown_empty: bool) -> Any:
    return value if value or shown_empty else UNSET
