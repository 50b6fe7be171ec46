"""Images in the Engine API: what list, inspect, history, removal, prune and disk usage answer.

Optional fields are `UNSET` where Docker omits them; `None` is written as `null`.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from sampan.oci.image import Descriptor, Platform


class ManifestSize(msgspec.Struct, rename="pascal"):
    """Bytes of one manifest's data."""

    content: int
    """What is in the content store: manifest, config, layers as they were distributed."""
    total: int
    """`content` and the unpacked layers."""


class UnpackedSize(msgspec.Struct, rename="pascal"):
    """Bytes of the unpacked layers."""

    unpacked: int


class ImageData(msgspec.Struct, rename="pascal"):
    """What is said of a manifest that can be run."""

    platform: Platform
    size: UnpackedSize
    containers: list[str] | None
    """Ids of the containers that were created from it; None when there are none."""


class AttestationData(msgspec.Struct, rename="pascal"):
    """What is said of a manifest that attests another."""

    for_: str = msgspec.field(name="For")
    """Digest of the other."""


class ManifestSummary(msgspec.Struct, rename="pascal"):
    """One manifest of an image (`ImageManifestSummary`)."""

    id: str = msgspec.field(name="ID")
    descriptor: Descriptor
    available: bool
    """All of its content is here."""
    size: ManifestSize
    kind: Literal["image", "attestation", "unknown"]
    image_data: ImageData | UnsetType = UNSET
    attestation_data: AttestationData | UnsetType = UNSET


class ImageSummary(msgspec.Struct, rename="pascal", kw_only=True):
    """One line of `docker images`."""

    containers: int
    """How many containers use it; -1 when not counted."""
    created: int
    """Seconds since the epoch."""
    id: str
    labels: dict[str, str] | None
    parent_id: str = ""
    descriptor: Descriptor | UnsetType = UNSET
    manifests: list[ManifestSummary] | UnsetType = UNSET
    repo_digests: list[str]
    repo_tags: list[str]
    shared_size: int = -1
    """Bytes of unpacked layers that other images have too; -1 when not computed."""
    size: int
    """Content and unpacked layers, bytes."""
    virtual_size: int | UnsetType = UNSET
    """`size` again, before API 1.44."""


class DriverData(msgspec.Struct, rename="pascal"):
    """The snapshotter, where Docker once named a graph driver."""

    data: dict[str, str] | None
    name: str


class RootFSLayers(msgspec.Struct, rename="pascal"):
    """The layers by their uncompressed digests."""

    type: str = "layers"
    layers: list[str] | UnsetType = UNSET


class ImageMetadata(msgspec.Struct, rename="pascal"):
    """What this engine knows of an image and the image itself does not say."""

    last_tag_time: str
    """RFC 3339."""


class ImageInspect(msgspec.Struct, rename="pascal", kw_only=True):
    """`docker image inspect`."""

    id: str
    repo_tags: list[str]
    repo_digests: list[str]
    parent: str | UnsetType = UNSET
    comment: str | UnsetType = UNSET
    created: str | UnsetType = UNSET
    container: str | UnsetType = UNSET
    container_config: UnsetType | None = UNSET
    docker_version: str | UnsetType = UNSET
    author: str | UnsetType = UNSET
    config: dict[str, Any]
    architecture: str
    variant: str | UnsetType = UNSET
    os: str
    os_version: str | UnsetType = UNSET
    size: int
    virtual_size: int | UnsetType = UNSET
    graph_driver: DriverData | UnsetType = UNSET
    root_fs: RootFSLayers = msgspec.field(name="RootFS")
    metadata: ImageMetadata
    descriptor: Descriptor | UnsetType = UNSET
    manifests: list[ManifestSummary] | UnsetType = UNSET


class HistoryItem(msgspec.Struct, rename="pascal"):
    """One line of `docker history`, the newest first."""

    comment: str
    created: int
    created_by: str
    id: str
    """The image's Id in the first line, `<missing>` in the others."""
    size: int
    tags: list[str] | None


class DeleteItem(msgspec.Struct, rename="pascal", omit_defaults=True):
    """One thing that a removal did."""

    untagged: str = ""
    deleted: str = ""


class PruneReport(msgspec.Struct, rename="pascal"):
    """What a prune did."""

    images_deleted: list[DeleteItem] | None
    space_reclaimed: int


class ImagesDiskUsage(msgspec.Struct, rename="pascal"):
    """The images' part of `docker system df`; layers that several images share count once."""

    active_count: int
    """Images that a container uses."""
    total_count: int
    reclaimable: int
    total_size: int
    items: list[ImageSummary]


class AttestationStatement(msgspec.Struct, rename="pascal"):
    """One in-toto statement attached to an image."""

    descriptor: Descriptor
    predicate_type: str
    statement: msgspec.Raw | UnsetType = UNSET


class ProgressDetail(msgspec.Struct, omit_defaults=True):
    """How far a step has come, in bytes."""

    current: int = 0
    total: int = 0
    hide_counts: bool = msgspec.field(default=False, name="hidecounts")
    """The step is done: nothing to draw."""


class ErrorDetail(msgspec.Struct, omit_defaults=True):
    """An error that came after the answer had begun; `code` is the exit code that the client ends with, 0 for its own."""

    message: str
    code: int = 0


class StreamMessage(msgspec.Struct, omit_defaults=True, rename="camel"):
    """One JSON value of a progress stream (load, import, pull, push, build): `jsonstream` in moby."""

    stream: str = ""
    status: str = ""
    progress_detail: ProgressDetail | None = None
    progress: str = ""
    """The text form of `progress_detail`, which older clients print."""
    id: str = ""
    error: str = ""
    error_detail: ErrorDetail | None = None
    aux: dict[str, Any] | str | None = None
    """Facts for programs, beside the text."""
