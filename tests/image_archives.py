"""Image archives made by hand, good and hostile."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Mapping
from typing import Any

from sampan.oci.image import OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST

Member = tuple[tarfile.TarInfo, bytes]


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def tar(files: Mapping[str, bytes] | Iterable[Member]) -> bytes:
    """A tar of files by name, or of members made by the caller."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for item in files.items() if isinstance(files, Mapping) else files:
            info, data = (tarfile.TarInfo(item[0]), item[1]) if isinstance(item[0], str) else item
            if info.isreg():
                info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def member(name: str, kind: bytes, link: str = "") -> Member:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info, b""


class Layout:
    """An OCI layout being put together."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.index: list[dict[str, Any]] = []

    def blob(self, data: bytes, media_type: str) -> dict[str, Any]:
        self.blobs[digest(data)] = data
        return {"mediaType": media_type, "digest": digest(data), "size": len(data)}

    def image(
        self,
        layers: list[bytes],
        config: dict[str, Any] | None = None,
        created: str = "2024-01-01T00:00:00Z",
        **fields: Any,
    ) -> dict[str, Any]:
        """Descriptor of a manifest with these plain layers."""
        document = {
            "created": created,
            "architecture": "amd64",
            "os": "linux",
            "config": config or {},
            "rootfs": {"type": "layers", "diff_ids": [digest(layer) for layer in layers]},
            **fields,
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": self.blob(json.dumps(document).encode(), OCI_CONFIG),
            "layers": [self.blob(layer, OCI_LAYER) for layer in layers],
        }
        return self.blob(json.dumps(manifest).encode(), OCI_MANIFEST)

    def nested_index(self, manifests: list[dict[str, Any]]) -> dict[str, Any]:
        document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests}
        return self.blob(json.dumps(document).encode(), OCI_INDEX)

    def name(self, target: dict[str, Any], name: str = "") -> None:
        """Put a target into index.json."""
        annotations = {"annotations": {"io.containerd.image.name": name}} if name else {}
        self.index.append({**target, **annotations})

    def files(self) -> dict[str, bytes]:
        return {
            "oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
            "index.json": json.dumps({"schemaVersion": 2, "manifests": self.index}).encode(),
            **{f"blobs/{each.replace(':', '/')}": data for each, data in self.blobs.items()},
        }

    def archive(self) -> bytes:
        return tar(self.files())


def simple(name: str = "test:1", files: Mapping[str, bytes] | None = None, **fields: Any) -> bytes:
    """An archive of one image with one layer."""
    layout = Layout()
    layout.name(layout.image([tar(files or {"hello": b"world"})], **fields), name)
    return layout.archive()


def docker_archive(names: list[str], layers: list[bytes], paths: list[str] | None = None) -> dict[str, bytes]:
    """The files of an archive in the form of docker 20.10: no index, layers in directories of their own."""
    config = json.dumps(
        {
            "created": "2024-01-01T00:00:00Z",
            "architecture": "amd64",
            "os": "linux",
            "config": {"Cmd": ["sh"]},
            "rootfs": {"type": "layers", "diff_ids": [digest(layer) for layer in layers]},
        }
    ).encode()
    config_name = digest(config)[7:] + ".json"
    layer_names = paths or [f"{number:064x}/layer.tar" for number in range(len(layers))]
    manifest = [{"Config": config_name, "RepoTags": names, "Layers": layer_names}]
    return {
        config_name: config,
        **dict(zip(layer_names, layers, strict=True)),
        "manifest.json": json.dumps(manifest).encode(),
    }
