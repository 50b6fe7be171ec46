"""Wrap one layer and a configuration into an archive for `docker load`, reproducibly."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from sampan.images import layout
from sampan.oci.image import ANNOTATION_IMAGE_NAME, ANNOTATION_REF_NAME, OCI_CONFIG, OCI_LAYER, OCI_MANIFEST

_CHUNK = 1 << 20

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386", "ppc64le": "ppc64le"}


class BaseImage(NamedTuple):
    """An archive ready to be loaded."""

    path: Path
    references: tuple[str, ...]
    """Names that the archive gives the image, the most specific first (`debian:bookworm`)."""
    digest: str
    """Digest of the manifest: the image's Id once loaded."""


class Recipe(NamedTuple):
    """What makes an image out of a layer."""

    references: tuple[str, ...]
    created: int
    """Seconds since the epoch."""
    created_by: str
    config: Mapping[str, Any]
    """The OCI image's `config` object."""


def host_architecture() -> str:
    """This machine's architecture in OCI's (Go's) words."""
    machine = platform.machine()
    return _ARCHITECTURES.get(machine, machine)


def write_archive(path: Path, layer: Path, recipe: Recipe) -> BaseImage:
    """Write `path` from the uncompressed layer tar `layer`."""
    created = datetime.fromtimestamp(recipe.created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    with layer.open("rb") as file:
        layer_digest = "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
    layer_size = layer.stat().st_size
    config = layout.json_bytes(
        {
            "created": created,
            "architecture": host_architecture(),
            "os": "linux",
            "config": dict(recipe.config),
            "rootfs": {"type": "layers", "diff_ids": [layer_digest]},
            "history": [{"created": created, "created_by": recipe.created_by}],
        }
    )
    config_digest = _digest(config)
    manifest = layout.json_bytes(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": {"mediaType": OCI_CONFIG, "digest": config_digest, "size": len(config)},
            "layers": [{"mediaType": OCI_LAYER, "digest": layer_digest, "size": layer_size}],
        }
    )
    manifest_digest = _digest(manifest)
    blobs: dict[str, bytes | Path] = {config_digest: config, layer_digest: layer, manifest_digest: manifest}
    descriptor = {"mediaType": OCI_MANIFEST, "digest": manifest_digest, "size": len(manifest)}
    index = layout.index_file(
        {
            **descriptor,
            "annotations": {ANNOTATION_IMAGE_NAME: name, ANNOTATION_REF_NAME: name.partition(":")[2]},
        }
        for name in recipe.references
    )
    docker = [layout.docker_manifest_entry(config_digest, list(recipe.references), [layer_digest])]
    with path.open("wb") as out:
        _write(
            out,
            blobs,
            {
                "index.json": index,
                "manifest.json": layout.json_bytes(docker),
                "oci-layout": layout.layout_file(),
            },
        )
    return BaseImage(path, recipe.references, manifest_digest)


def release_epoch(default: int) -> int:
    """SOURCE_DATE_EPOCH of the environment, the convention of reproducible builds; else `default`."""
    value = os.environ.get("SOURCE_DATE_EPOCH", "")
    return int(value) if value.isdigit() else default


def _digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def _write(out: BinaryIO, blobs: Mapping[str, bytes | Path], files: Mapping[str, bytes]) -> None:
    out.write(layout.directory_header("blobs/"))
    out.write(layout.directory_header("blobs/sha256/"))
    for digest in sorted(blobs):
        blob = blobs[digest]
        if isinstance(blob, bytes):
            _write_file(out, layout.blob_path(digest), [blob], len(blob))
        else:
            with blob.open("rb") as file:
                out.write(layout.file_header(layout.blob_path(digest), blob.stat().st_size))
                while chunk := file.read(_CHUNK):
                    out.write(chunk)
            out.write(layout.padding(blob.stat().st_size))
    for name, data in files.items():
        _write_file(out, name, [data], len(data))
    out.write(layout.END_OF_ARCHIVE)


def _write_file(out: BinaryIO, name: str, chunks: Sequence[bytes], size: int) -> None:
    out.write(layout.file_header(name, size))
    out.writelines(chunks)
    out.write(layout.padding(size))
