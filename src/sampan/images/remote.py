"""What is at a registry: the manifest that a platform gets, documents read through the content store."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from sampan.content.interface import ContentStore, Lease, content_resource
from sampan.errors import Forbidden, InvalidParameter, NotFound, SampanError, SystemFailure, Unauthorized
from sampan.images.documents import config_platform, platform_of
from sampan.names import platform as platforms
from sampan.names.platform import Platform
from sampan.names.reference import Reference
from sampan.oci.image import (
    ANNOTATION_REFERENCE_TYPE,
    CONFIG_TYPES,
    INDEX_TYPES,
    MANIFEST_TYPES,
    Descriptor,
    ImageConfig,
    Manifest,
    parse_config,
    parse_index,
    parse_manifest,
)
from sampan.registry.authorization import NO_CREDENTIALS
from sampan.registry.failures import ConnectionFailed
from sampan.registry.repository import DOCKER_SCHEMA1, Repository

_INDEX_DEPTH = 4


class RemoteImage(NamedTuple):
    """One platform of an image at a registry."""

    descriptor: Descriptor
    """Of the manifest."""
    manifest: Manifest
    config: ImageConfig | None
    """None: no image but an artifact."""
    platform: Platform | None


class RemoteDocuments:
    """Reads manifests and configs of one repository; what is in the content store is not fetched again."""

    def __init__(self, repository: Repository, content: ContentStore, lease: Lease) -> None:
        self._repository = repository
        self._content = content
        self._lease = lease

    async def image(self, target: Descriptor, name: str, wanted: Platform | None) -> RemoteImage:
        """The image for a platform (None: for this machine; a single image is taken whatever it is for).

        Raises `NotFound` when there is none for it, `InvalidParameter` for a format that is not supported.
        """
        if target.media_type in DOCKER_SCHEMA1:
            raise InvalidParameter(
                f"{name} has the format Docker image manifest version 2, schema 1, which is not supported: it was withdrawn"
                " because its digests do not cover the image's layers. Ask its author to push it again with a current tool"
            )
        if target.media_type in INDEX_TYPES:
            candidates = await self._candidates(target, 0)
            descriptor = choose_descriptor(candidates, wanted or platforms.local())
            if descriptor is None:
                raise no_match(wanted, target)
            image = await self._image(descriptor)
            platform = platform_of(descriptor) or image.platform
            return image._replace(platform=platform)
        if target.media_type not in MANIFEST_TYPES:
            raise InvalidParameter(f"{name}: unsupported manifest media type {target.media_type!r}")
        image = await self._image(target)
        fits = image.platform is None or wanted is None or _fits(image.platform, wanted)
        if not fits:
            raise no_match(wanted, target)
        return image

    async def bytes(self, descriptor: Descriptor, *, blob: bool = False) -> bytes:
        """A document, kept in the content store under the lease. A config is a blob, the others are manifests."""
        digest = descriptor.checked_digest
        await self._content.leases.add(self._lease, content_resource(digest))
        if await self._content.exists(digest):
            return await self._content.read(digest)
        data = await (
            self._repository.document(descriptor) if blob else self._repository.manifest(descriptor)
        )
        ingest = await self._content.ingest(
            f"document-{digest}-{self._lease.id}", lease=self._lease, expected=digest, size=len(data)
        )
        if ingest is not None:
            async with ingest:
                await ingest.truncate(0)
                await ingest.write(data)
                await ingest.commit()
        return data

    async def _candidates(self, target: Descriptor, depth: int) -> list[Descriptor]:
        if depth >= _INDEX_DEPTH:
            raise InvalidParameter(
                f"index {target.digest}: more than {_INDEX_DEPTH} indexes within one another"
            )
        data = await self.bytes(target)
        _check_type(data, target)
        found: list[Descriptor] = []
        for child in parse_index(data, target.digest).manifests:
            if child.media_type in INDEX_TYPES:
                found += await self._candidates(child, depth + 1)
            elif child.media_type in MANIFEST_TYPES and ANNOTATION_REFERENCE_TYPE not in child.annotations:
                found.append(child)
        return found

    async def _image(self, descriptor: Descriptor) -> RemoteImage:
        data = await self.bytes(descriptor)
        _check_type(data, descriptor)
        manifest = parse_manifest(data, descriptor.digest)
        if manifest.config.media_type not in CONFIG_TYPES:
            return RemoteImage(descriptor, manifest, None, None)
        config = parse_config(await self.bytes(manifest.config, blob=True), manifest.config.digest)
        return RemoteImage(descriptor, manifest, config, config_platform(config))


def choose_descriptor(candidates: list[Descriptor], wanted: Platform) -> Descriptor | None:
    """The manifest of an index that serves a platform best; one that does not say what it is for serves any, after the others."""
    said = [each for each in candidates if platform_of(each) is not None]
    best = platforms.choose(said, lambda each: platform_of(each) or wanted, wanted)
    unsaid = [each for each in candidates if each.platform is None or not each.platform.os]
    return next(iter([*best, *unsaid]), None)


def no_match(wanted: Platform | None, target: Descriptor) -> NotFound:
    """Docker's error for an image that has nothing for a platform."""
    return NotFound(
        f"no matching manifest for {wanted or platforms.local()} in the manifest list entries: no match for platform in manifest "
        f"{target.digest}: not found"
    )


def unresolved(error: SampanError, reference: Reference, report: str) -> SampanError:
    """The error of a pull that could not find out what its reference means; `report` tells of mirrors."""
    name = str(reference)
    head = f'failed to resolve reference "{name}": '
    if isinstance(error, NotFound):
        return NotFound(f"{head}{name}: not found{report}")
    if isinstance(error, Unauthorized) and str(error) == NO_CREDENTIALS:
        # Not a 401: the docker CLI would take that for the engine's own and ask for a login to docker.io.
        return SystemFailure(f"{head}{access_denied('pull', error)}{report}")
    if isinstance(error, Unauthorized | Forbidden):
        return NotFound(
            f"pull access denied for {reference.familiar_name()}, repository does not exist or may require"
            f" 'docker login': {error}{report}"
        )
    if isinstance(error, ConnectionFailed):
        return ConnectionFailed(f"{head}failed to do request: {error}{report}")
    error.args = (f"{head}{error}{report}",)
    return error


def access_denied(verb: str, error: SampanError) -> str:
    """What is said when a registry wants a login and there was none."""
    return f"{verb} access denied, repository does not exist or may require authorization: authorization failed: {error}"


def _fits(platform: Platform, wanted: Platform) -> bool:
    return bool(platforms.choose([platform], lambda each: each, wanted))


class _Typed(msgspec.Struct, rename="camel"):
    media_type: str | None = None


def _check_type(data: bytes, descriptor: Descriptor) -> None:
    """A document must be what its descriptor calls it, or two readers could read two images (CVE-2021-41190)."""
    try:
        own = msgspec.json.decode(data, type=_Typed).media_type
    except msgspec.DecodeError as error:
        raise InvalidParameter(f"{descriptor.digest}: invalid JSON: {error}") from None
    if own and own != descriptor.media_type:
        raise InvalidParameter(
            f"{descriptor.digest}: mediaType in the document is {own!r}, announced was {descriptor.media_type!r}"
        )
