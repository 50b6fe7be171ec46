"""What the image service is to the services above it: the seam between `containers` (and later the builder)
and `images`.

The life of a container's root file system, seen from here::

    image = await images.resolve("busybox")             # NotFound("No such image: busybox:latest")
    mounts = await images.prepare_rootfs(id, image)     # layers unpacked once; a writable snapshot on top
    ...
    new = await images.commit(id, request)              # the writable snapshot's difference becomes a layer
    await images.release_rootfs(id)                     # the writable snapshot is gone

An image is identified by the digest of its target: the manifest, or the index when it has several platforms.
Names are records that point at targets; an image without any name is *dangling* and has one record that no
user can type.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, NamedTuple, Protocol

import msgspec

if TYPE_CHECKING:
    from sampan.names.platform import Platform
    from sampan.oci.image import Descriptor, ImageConfig, Manifest
    from sampan.oci.runtime import Mount


class ResolvedImage(NamedTuple):
    """One platform of one image, all of whose parts are present."""

    id: str
    """Digest of the target, what Docker calls the image's Id: `sha256:…`."""
    target: Descriptor
    """The manifest, or the index that contains it."""
    descriptor: Descriptor
    """The platform's manifest (equal to `target` for an image of one platform): `ImageManifestDescriptor`."""
    manifest: Manifest
    config: ImageConfig
    """The OCI image configuration; `config.config` are the defaults for containers."""
    chain_id: str
    """Name of the committed snapshot of all layers; empty for an image without layers."""
    platform: Platform
    names: tuple[str, ...]
    """Familiar names (`busybox:latest`), sorted; () when dangling."""


class ContainerUse(NamedTuple):
    """A container, as far as images care."""

    container_id: str
    image_id: str
    """Id of the image that it was created from."""
    image_reference: str
    """What the user typed (`Config.Image`)."""
    running: bool
    manifest_digest: str = ""
    """Digest of the platform's manifest, where known."""


ContainerUses = Callable[[], Awaitable[list[ContainerUse]]]
"""Registered by the containers service: every container that exists now."""


class CommitRequest(msgspec.Struct, kw_only=True, frozen=True):
    """What `docker commit` adds to a container's writable layer."""

    image: ResolvedImage | None
    """The container's own image; None when it was deleted: the new image then has one layer only."""
    config: dict[str, object]
    """The container's configuration in OCI image form (`Env`, `Cmd`, `Labels`…); `changes` are applied to
    it.
    """
    repository: str = ""
    tag: str = ""
    author: str = ""
    comment: str = ""
    changes: tuple[str, ...] = ()
    """Dockerfile instructions (`CMD ["sh"]`)."""
    container_config_cmd: tuple[str, ...] = ()
    """Entrypoint and command of the container: the history's `CreatedBy`."""


class Images(Protocol):
    """The part of `sampan.images.service.ImageService` that other services use."""

    async def resolve(self, reference: str, platform: Platform | None = None) -> ResolvedImage:
        """Find an image by name, digest, id or unambiguous id prefix.

        Without `platform` the host's own is preferred, any other present one is taken. Raises `NotFound` in
        Docker's words (`No such image: x:latest`), `InvalidParameter` for text that is no reference.
        """
        ...

    async def prepare_rootfs(self, container_id: str, image: ResolvedImage) -> list[Mount]:
        """Make the container's writable snapshot (key: the container's id) and say how to mount it.

        The image's layers are unpacked first when they are not, once however many ask. Idempotent: an
        existing snapshot's mounts are returned. Raises `Conflict` never, `SystemFailure` when the disk does
        not take it.
        """
        ...

    async def rootfs_mounts(self, container_id: str) -> list[Mount]:
        """The mounts of an existing writable snapshot. Raises `NotFound`."""
        ...

    async def release_rootfs(self, container_id: str) -> None:
        """Remove the container's writable snapshot. Idempotent."""
        ...

    async def prepare_view(self, container_id: str, number: int, image: ResolvedImage) -> list[Mount]:
        """Make a read-only snapshot of an image that a container mounts, and say how to mount it.

        It keeps the layers and belongs to the container: `number` tells several apart. Idempotent.
        """
        ...

    async def release_view(self, container_id: str, number: int) -> None:
        """Remove a view. Idempotent."""
        ...

    async def commit(self, container_id: str, request: CommitRequest) -> str:
        """Make an image of the container's root file system as it is now; return its id."""
        ...

    def register_container_uses(self, uses: ContainerUses) -> None:
        """Say who asks for images: removal, prune, `docker images` and garbage collection call it."""
        ...
