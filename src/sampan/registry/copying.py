"""Copying an image, whole, from one place to another: every platform, attestations included, bytes as they are.

A place is a repository or an OCI layout. What the destination has is not sent; manifests follow what they name, so an
interrupted copy leaves nothing that looks complete, and the next one goes on.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Protocol

from sampan.errors import InvalidParameter, NotFound
from sampan.names import platform as platforms
from sampan.names.digest import algorithm_of, digest_of
from sampan.names.platform import Platform
from sampan.names.reference import Reference
from sampan.oci.image import INDEX_TYPES, MANIFEST_TYPES, Descriptor, parse_index, parse_manifest
from sampan.registry.failures import WrongContent
from sampan.registry.pushing import Pusher
from sampan.registry.repository import DOCKER_SCHEMA1, Repository

_DEPTH = 4

Tell = Callable[[str, Descriptor], None]
"""Told what was done with a blob or manifest: `copied`, `exists`, `skipped`."""


class Source(Protocol):
    """Where an image is read from."""

    async def target(self) -> Descriptor:
        """What the image's name means there. Raises `NotFound`."""
        ...

    async def document(self, descriptor: Descriptor) -> bytes:
        """A manifest or index, verified. Raises `NotFound`."""
        ...

    def blob(self, descriptor: Descriptor, offset: int, length: int) -> AsyncIterator[bytes]:
        """Bytes of a blob; the destination verifies them."""
        ...


def verified(data: bytes, descriptor: Descriptor) -> bytes:
    """A document, if it is what its descriptor says. Raises `WrongContent`."""
    digest = descriptor.checked_digest
    if digest_of(data, algorithm_of(digest)) != digest:
        raise WrongContent(f"verification failed for digest {digest}")
    return data


class Destination(Protocol):
    """Where an image is written to."""

    async def put_blob(self, descriptor: Descriptor, source: Source) -> bool:
        """Take a blob, verified; False when it was there already."""
        ...

    async def put_manifest(self, descriptor: Descriptor, data: bytes, *, named: bool) -> None:
        """Take a manifest whose parts are there; `named` gives it the image's name."""
        ...


class RegistrySource:
    """An image in a repository."""

    def __init__(self, repository: Repository, reference: Reference) -> None:
        self._repository = repository
        self._reference = reference

    async def target(self) -> Descriptor:
        return await self._repository.resolve(self._reference.digest or self._reference.tag)

    async def document(self, descriptor: Descriptor) -> bytes:
        return await self._repository.manifest(descriptor)

    async def blob(self, descriptor: Descriptor, offset: int, length: int) -> AsyncIterator[bytes]:
        left = length
        async with self._repository.blob(descriptor, offset) as blob:
            skip = offset - blob.offset
            async for chunk in blob.chunks():
                part = chunk[skip : skip + left]
                skip = max(0, skip - len(chunk))
                left -= len(part)
                if part:
                    yield part
                if not left:
                    return


class RegistryDestination:
    """A name in a repository."""

    def __init__(self, repository: Repository, reference: Reference, mountable: str = "") -> None:
        """`mountable` is the path of a repository of the same registry that has the blobs."""
        self._mountable = [mountable] if mountable and mountable != repository.path else []
        self._pusher = Pusher(repository, frozenset(self._mountable))
        self._reference = reference

    async def put_blob(self, descriptor: Descriptor, source: Source) -> bool:
        pushed = await self._pusher.blob(
            descriptor,
            lambda offset, length: source.blob(descriptor, offset, length),
            self._mountable,
            lambda position: None,
        )
        return pushed.outcome == "pushed"

    async def put_manifest(self, descriptor: Descriptor, data: bytes, *, named: bool) -> None:
        await self._pusher.manifest(data, descriptor.media_type, self._reference.tag if named else "")


class OfPlatform:
    """A `Source`: the part of another one's image that is for a platform."""

    def __init__(self, source: Source, platform: Platform) -> None:
        self._source = source
        self._platform = platform

    async def target(self) -> Descriptor:
        target = await self._source.target()
        if target.media_type not in INDEX_TYPES:
            return target
        return await of_platform(self._source, target, self._platform)

    async def document(self, descriptor: Descriptor) -> bytes:
        return await self._source.document(descriptor)

    def blob(self, descriptor: Descriptor, offset: int, length: int) -> AsyncIterator[bytes]:
        return self._source.blob(descriptor, offset, length)


async def copy_image(source: Source, destination: Destination, tell: Tell) -> Descriptor:
    """Copy an image; what was copied. Raises as source and destination do."""
    target = await source.target()
    await _copy(source, destination, target, tell, 0)
    return target


async def _copy(
    source: Source, destination: Destination, descriptor: Descriptor, tell: Tell, depth: int
) -> None:
    if descriptor.media_type in DOCKER_SCHEMA1:
        raise InvalidParameter(
            f"{descriptor.digest}: Docker image manifest version 2, schema 1, is not supported"
        )
    if descriptor.media_type not in INDEX_TYPES | MANIFEST_TYPES:
        raise InvalidParameter(
            f"{descriptor.digest}: unsupported manifest media type {descriptor.media_type!r}"
        )
    data = await source.document(descriptor)
    if descriptor.media_type in INDEX_TYPES:
        if depth >= _DEPTH:
            raise InvalidParameter(
                f"index {descriptor.digest}: more than {_DEPTH} indexes within one another"
            )
        for child in parse_index(data, descriptor.digest).manifests:
            try:
                await _copy(source, destination, child, tell, depth + 1)
            except NotFound as error:
                raise NotFound(
                    f"{error}: part of the index {descriptor.digest}; --platform copies one platform alone"
                ) from error
    else:
        manifest = parse_manifest(data, descriptor.digest)
        blobs = {blob.digest: blob for blob in (manifest.config, *manifest.layers)}
        for blob in blobs.values():
            tell("copied" if await destination.put_blob(blob, source) else "exists", blob)
    await destination.put_manifest(descriptor, data, named=depth == 0)
    tell("copied", descriptor)


async def of_platform(source: Source, target: Descriptor, wanted: Platform) -> Descriptor:
    """The image of an index for a platform. Raises `NotFound`."""
    children = parse_index(await source.document(target), target.digest).manifests
    candidates = [each for each in children if each.platform is not None and each.platform.os]
    found = platforms.choose(candidates, _platform_of, wanted)
    if not found:
        raise NotFound(f"no matching manifest for {wanted} in the manifest list entries")
    return found[0]


def _platform_of(descriptor: Descriptor) -> Platform:
    given = descriptor.platform
    assert given is not None  # the caller has left out the others
    return Platform(given.os, given.architecture, given.variant, given.os_version)
