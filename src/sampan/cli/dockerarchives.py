"""docker-archives (`docker save` before version 25, skopeo's `docker-archive:`) to and from OCI layouts.

Such an archive has one platform's configuration and layers and no manifest: one is made, as dockerd does. Names in it are looked
up and never used as paths.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
import shutil
import tarfile
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from sampan.errors import InvalidParameter, NotFound
from sampan.names.reference import parse_normalized

if TYPE_CHECKING:
    from sampan.oci.image import ArchiveImage, Descriptor, Manifest

_CHUNK = 1 << 20
_LINKS_MAX = 32


class Members:
    """The files of a tar, each under a number in a directory."""

    def __init__(self, archive: Any, directory: Path) -> None:
        """Raises `InvalidParameter` for what is no tar."""
        self._directory = directory
        self._files: dict[str, Path] = {}
        self._links: dict[str, str] = {}
        directory.mkdir()
        try:
            with tarfile.open(fileobj=archive, mode="r|*") as tar:
                for member in tar:
                    self._take(tar, member)
        except tarfile.TarError as error:
            raise InvalidParameter(f"cannot read the archive: {error}") from None

    def _take(self, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        name = posixpath.normpath(member.name)
        if member.issym():
            self._links[name] = posixpath.normpath(posixpath.join(posixpath.dirname(name), member.linkname))
        elif member.islnk():
            self._links[name] = posixpath.normpath(member.linkname)
        elif member.isreg():
            path = self._directory / str(len(self._files))
            content = tar.extractfile(member)
            assert content is not None  # a regular file has content
            with path.open("wb") as file:
                shutil.copyfileobj(content, file, _CHUNK)
            self._files[name] = path

    def file(self, name: str) -> Path:
        """The file of a name, over links within the archive. Raises `NotFound`."""
        found = posixpath.normpath(name)
        for _ in range(_LINKS_MAX):
            if found in self._files:
                return self._files[found]
            if found not in self._links:
                break
            found = self._links[found]
        raise NotFound(f"the archive has no file {name}")


async def into_layout(archive: IO[bytes], directory: Path, name: str) -> None:
    """Make a layout of an archive's only image, or of the one with a name, in an empty directory."""
    from sampan.oci.image import (
        DOCKER_CONFIG,
        DOCKER_MANIFEST,
        DOCUMENT_LIMIT,
        Manifest,
        describe,
        encode,
        parse_archive_manifest,
    )
    from sampan.registry.blobfiles import read_document
    from sampan.registry.layouts import Layout

    members = Members(archive, directory / "members")
    try:
        listed = parse_archive_manifest(read_document(members.file("manifest.json"), DOCUMENT_LIMIT))
        image = _chosen(listed, name)
        layers = [_layer(members.file(each), directory) for each in image.layers]
        config = _blob(members.file(image.config), directory, DOCKER_CONFIG)
    finally:
        shutil.rmtree(directory / "members", ignore_errors=True)
    manifest = Manifest(schema_version=2, media_type=DOCKER_MANIFEST, config=config, layers=layers)
    data = encode(manifest)
    await Layout(directory).put_manifest(describe(data, DOCKER_MANIFEST), data, named=True)


def _chosen(listed: list[ArchiveImage], name: str) -> ArchiveImage:
    wanted = str(parse_normalized(name).with_default_tag()) if name else ""
    found = [
        each
        for each in listed
        if not wanted or wanted in [str(parse_normalized(tag)) for tag in each.repo_tags or []]
    ]
    if len(found) != 1:
        names = ", ".join(tag for each in listed for tag in each.repo_tags or []) or "none has a name"
        label = f" called {name}" if name else ""
        raise NotFound(f"{len(found) or 'no'} images{label} in the archive (names: {names})")
    return found[0]


def _layer(file: Path, directory: Path) -> Descriptor:
    from sampan.archive.magic import detect
    from sampan.oci.image import DOCKER_LAYER, DOCKER_LAYER_GZIP, DOCKER_LAYER_ZSTD

    with file.open("rb") as content:
        kind = detect(content.read(16))
    types = {"none": DOCKER_LAYER, "gzip": DOCKER_LAYER_GZIP, "zstd": DOCKER_LAYER_ZSTD}
    if kind not in types:
        raise InvalidParameter(f"a layer of the archive is compressed with {kind}, which no registry knows")
    return _blob(file, directory, types[kind])


def _blob(file: Path, directory: Path, media_type: str) -> Descriptor:
    """Copy a file to its place in the layout (an archive may name one layer twice)."""
    from sampan.oci.image import Descriptor

    with file.open("rb") as content:
        encoded = hashlib.file_digest(content, "sha256").hexdigest()
    path = directory / "blobs" / "sha256" / encoded
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        os.link(file, path)
    return Descriptor(media_type=media_type, digest=f"sha256:{encoded}", size=path.stat().st_size)


def write(directory: Path, manifest: Manifest, name: str, file: IO[bytes]) -> None:
    """Write the archive of a layout's image, its layers uncompressed. Raises `InvalidParameter` when they are no layers."""
    from sampan.oci.image import ArchiveImage, encode, parse_config

    blobs = directory / "blobs" / "sha256"
    config = (blobs / manifest.config.digest.partition(":")[2]).read_bytes()
    diff_ids = parse_config(config, manifest.config.digest).rootfs.diff_ids
    if len(diff_ids) != len(manifest.layers):
        raise InvalidParameter(
            "the image is an artifact without layers to unpack: docker-archive cannot hold it"
        )
    scratch = directory / "layer.tar"
    config_name = f"{manifest.config.digest.partition(':')[2]}.json"
    names: list[str] = []
    with tarfile.open(fileobj=file, mode="w") as tar:
        for layer, diff_id in zip(manifest.layers, diff_ids, strict=True):
            layer_name = f"{diff_id.partition(':')[2]}.tar"
            if layer_name not in names:
                _unpacked(blobs / layer.digest.partition(":")[2], diff_id, scratch)
                _add(tar, layer_name, scratch)
            names.append(layer_name)
        scratch.write_bytes(config)
        _add(tar, config_name, scratch)
        listed = [ArchiveImage(config=config_name, repo_tags=[name] if name else None, layers=names)]
        scratch.write_bytes(encode(listed))
        _add(tar, "manifest.json", scratch)


def _unpacked(blob: Path, diff_id: str, target: Path) -> None:
    from sampan.archive.compression import InputStream

    with blob.open("rb") as packed, target.open("wb") as file:
        stream = InputStream(packed.fileno())
        while data := stream.read():
            file.write(data)
    if stream.diff_id != diff_id:
        raise InvalidParameter(f"a layer unpacks to {stream.diff_id}, but the image says {diff_id}")


def _add(tar: tarfile.TarFile, name: str, path: Path) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = path.stat().st_size, 0o644
    with path.open("rb") as content:
        tar.addfile(member, content)
