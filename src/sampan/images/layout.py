"""The archive that `docker save` writes and `docker load` reads: an OCI image layout in a tar, with a
`manifest.json` beside it.

One archive serves two kinds of readers. OCI tools start at `index.json`; older Docker engines start at
`manifest.json`, whose paths point into the same `blobs/`. Everything in it is a function of the content, so
the same images give the same bytes.

Pure functions, used by `saving` on the engine's side and by `bootstrap` on the client's. Sources: OCI
image-layout.md of image-spec 1.1; what current dockerd's `save` emits.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterable, Mapping
from typing import Any

from sampan.oci.image import OCI_INDEX

BLOCK = 512

END_OF_ARCHIVE = b"\0" * (2 * BLOCK)


def json_bytes(document: object) -> bytes:
    """Compact JSON in the order of the document's keys: the form whose digest is taken."""
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


def blob_path(digest: str) -> str:
    """`sha256:abc` → `blobs/sha256/abc`."""
    algorithm, _, encoded = digest.partition(":")
    return f"blobs/{algorithm}/{encoded}"


def file_header(name: str, size: int) -> bytes:
    """Tar header of a read-only file; its content and `padding` follow."""
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.type = size, 0o444, tarfile.REGTYPE
    return info.tobuf(tarfile.GNU_FORMAT)


def directory_header(name: str) -> bytes:
    """Tar header of a directory."""
    info = tarfile.TarInfo(name)
    info.mode, info.type = 0o755, tarfile.DIRTYPE
    return info.tobuf(tarfile.GNU_FORMAT)


def padding(size: int) -> bytes:
    """The zeros after a content of `size` bytes."""
    return b"\0" * (-size % BLOCK)


def layout_file() -> bytes:
    """`oci-layout`."""
    return json_bytes({"imageLayoutVersion": "1.0.0"})


def index_file(manifests: Iterable[Mapping[str, Any]]) -> bytes:
    """`index.json` of the given descriptors (JSON objects)."""
    return json_bytes({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": list(manifests)})


def docker_manifest_entry(config: str, tags: list[str], layers: Iterable[str]) -> dict[str, Any]:
    """One image in `manifest.json`, by the digests of its config and layers; `tags` are familiar names."""
    return {
        "Config": blob_path(config),
        "RepoTags": tags or None,
        "Layers": [blob_path(layer) for layer in layers],
    }
