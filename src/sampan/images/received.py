"""What an archive turned out to hold: the files that `intake` kept, read as an OCI layout or as a docker-archive.

The OCI layout wins when both are there, as in what `docker save` writes. Of a docker-archive's images the
manifests are made here, in the very form that dockerd makes them in, so that the same archive gets the same id in both.
"""

from __future__ import annotations

import posixpath
from typing import NamedTuple

from sampan.content.interface import ContentStore, Lease, content_resource
from sampan.errors import InvalidParameter
from sampan.names.digest import Digest
from sampan.names.reference import Reference, parse_normalized
from sampan.oci.image import (
    ANNOTATION_IMAGE_NAME,
    ANNOTATION_REF_NAME,
    DOCKER_CONFIG,
    DOCKER_LAYER,
    DOCKER_LAYER_GZIP,
    DOCKER_LAYER_ZSTD,
    DOCKER_MANIFEST,
    ArchiveImage,
    Descriptor,
    Manifest,
    describe,
    encode,
    parse_archive_manifest,
    parse_config,
    parse_index,
    parse_layout,
)

_LINKS = 8
"""Links from one name to the next; more is a loop."""

_MAGIC = ((b"\x1f\x8b", DOCKER_LAYER_GZIP), (b"\x28\xb5\x2f\xfd", DOCKER_LAYER_ZSTD))


class StoredFile(NamedTuple):
    """A file of the archive that is in the content store."""

    digest: Digest
    size: int
    start: bytes
    """Its first bytes, which tell how it is compressed."""


class NamedTarget(NamedTuple):
    """An image of the archive: what it is, and a canonical name for it, if any."""

    target: Descriptor
    name: str


class Received:
    """The files of one archive by name. Large ones are in the content store, under `lease`; small ones in memory."""

    def __init__(self, content: ContentStore, lease: Lease) -> None:
        self.stored: dict[str, StoredFile] = {}
        self.small: dict[str, bytes] = {}
        self.links: dict[str, str] = {}
        self._content = content
        self._lease = lease

    def __contains__(self, name: str) -> bool:
        return name in self.stored or name in self.small or name in self.links

    @property
    def form(self) -> str:
        """What kind of archive it is, in the words of trust policies."""
        return "oci-archive" if "oci-layout" in self and "index.json" in self else "docker-archive"

    async def images(self) -> list[NamedTarget]:
        """The archive's images, one entry per name.

        Raises `InvalidParameter` naming the file that is missing or malformed, or saying that this is no image archive.
        """
        if self.form == "oci-archive":
            parse_layout(await self._document("oci-layout"))
            return await self._oci_images()
        if "manifest.json" in self:
            entries = parse_archive_manifest(await self._document("manifest.json"))
            return [named for entry in entries for named in await self._docker_image(entry)]
        raise InvalidParameter("unrecognized image format")

    async def _oci_images(self) -> list[NamedTarget]:
        index = parse_index(await self._document("index.json"), "index.json")
        found: list[NamedTarget] = []
        for entry in index.manifests:
            if not await self._content.exists(entry.checked_digest):
                raise InvalidParameter(f"index.json names {entry.digest}, which is not in the archive")
            name = entry.annotations.get(ANNOTATION_IMAGE_NAME) or entry.annotations.get(
                ANNOTATION_REF_NAME, ""
            )
            found.append(NamedTarget(entry, _canonical(name)))
        return found

    async def _docker_image(self, entry: ArchiveImage) -> list[NamedTarget]:
        if self._resolve(entry.config) not in self:
            raise InvalidParameter(f'image config "{entry.config}" not found')
        config_data = await self._document(entry.config)
        config = parse_config(config_data, entry.config)
        if len(config.rootfs.diff_ids) != len(entry.layers):
            raise InvalidParameter(
                f"{entry.config}: {len(config.rootfs.diff_ids)} layers in the config, {len(entry.layers)} in manifest.json"
            )
        layers = [await self._layer(path) for path in entry.layers]
        await self._content.put(config_data, lease=self._lease)
        manifest = Manifest(
            schema_version=2,
            media_type=DOCKER_MANIFEST,
            config=describe(config_data, DOCKER_CONFIG),
            layers=layers,
        )
        data = encode(manifest)
        parts = [manifest.config, *layers]
        await self._content.put(
            data, lease=self._lease, references=[content_resource(each.checked_digest) for each in parts]
        )
        names = [_normalized(tag) for tag in entry.repo_tags or []]
        return [
            NamedTarget(describe(data, DOCKER_MANIFEST, annotations=_name_annotations(name)), name)
            for name in names or [""]
        ]

    async def _layer(self, path: str) -> Descriptor:
        name = self._resolve(path)
        if name in self.small:
            data = self.small[name]
            info = await self._content.put(data, lease=self._lease)
            stored = StoredFile(info.digest, info.size, data[:4])
        elif name in self.stored:
            stored = self.stored[name]
        else:
            raise InvalidParameter(f'failed to resolve layers: layer "{path}" not found')
        return Descriptor(media_type=_layer_type(stored.start), digest=stored.digest, size=stored.size)

    async def _document(self, path: str) -> bytes:
        name = self._resolve(path)
        if name in self.small:
            return self.small[name]
        if name in self.stored:
            return await self._content.read(self.stored[name].digest)
        raise InvalidParameter(f"the archive has no file {path}")

    def _resolve(self, path: str) -> str:
        """Follow links within the archive. Nothing here is ever a path of the host's."""
        name = posixpath.normpath(path)
        for _ in range(_LINKS):
            if name not in self.links:
                return name
            name = posixpath.normpath(posixpath.join(posixpath.dirname(name), self.links[name]))
        raise InvalidParameter(f"archive entry {path}: too many links")


def _normalized(tag: str) -> str:
    """The name that a docker-archive's tag means; one with a digest has no tag. Raises `InvalidParameter`."""
    try:
        reference = parse_normalized(tag)
    except InvalidParameter as error:
        raise InvalidParameter(f'normalize image ref "{tag}": {error}') from error
    return str(
        Reference(reference.name, "", reference.digest) if reference.digest else reference.with_default_tag()
    )


def _name_annotations(name: str) -> dict[str, str]:
    """What an index would say of an image with the name; dockerd notes it on the target, and shows it."""
    if not name:
        return {}
    return {ANNOTATION_IMAGE_NAME: name, ANNOTATION_REF_NAME: parse_normalized(name).tag}


def _canonical(name: str) -> str:
    """The name in an index's annotation; one that is no reference is no name, as dockerd has it."""
    if not name:
        return ""
    try:
        return _normalized(name)
    except InvalidParameter:
        return ""


def _layer_type(start: bytes) -> str:
    return next((media_type for magic, media_type in _MAGIC if start.startswith(magic)), DOCKER_LAYER)
