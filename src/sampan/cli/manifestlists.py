"""Manifest lists in the making: files beside docker's `config.json`, in docker's form, so that either program goes on with them.

`manifests/LIST/MANIFEST`, both references with `:` as `-` and `/` as `_`, is one entry: its reference, its descriptor with the
platform, and the manifest itself.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
from pathlib import Path
from typing import Any, NamedTuple

from sampan.client.endpoint import config_directory
from sampan.errors import InvalidParameter, NotFound
from sampan.names.reference import Reference

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
_PLATFORM_FIELDS = ("architecture", "os", "os.version", "os.features", "variant")


class Entry(NamedTuple):
    """One manifest of a list."""

    reference: str
    media_type: str
    digest: str
    platform: dict[str, Any]
    data: bytes

    def document(self) -> dict[str, Any]:
        """As `docker manifest inspect --verbose` shows it, and as it is kept."""
        key = "OCIManifest" if self.media_type == OCI_MANIFEST else "SchemaV2Manifest"
        descriptor = {
            "mediaType": self.media_type,
            "digest": self.digest,
            "size": len(self.data),
            "platform": self.platform,
        }
        return {
            "Ref": self.reference,
            "Descriptor": descriptor,
            "Raw": base64.b64encode(self.data).decode(),
            key: json.loads(self.data),
        }

    def with_platform(self, changes: dict[str, Any]) -> Entry:
        """With some fields of the platform set; in the order in which Go writes them."""
        merged = self.platform | {key: value for key, value in changes.items() if value}
        return self._replace(platform={key: merged[key] for key in _PLATFORM_FIELDS if merged.get(key)})


def index_of(entries: list[Entry]) -> tuple[str, bytes]:
    """The list's media type and its bytes, which are docker's: the same entries give the same digest."""
    media_type = OCI_INDEX if entries[0].media_type == OCI_MANIFEST else DOCKER_INDEX
    manifests = [
        {
            "mediaType": entry.media_type,
            "size": len(entry.data),
            "digest": entry.digest,
            "platform": entry.platform,
        }
        for entry in entries
    ]
    document = {"schemaVersion": 2, "mediaType": media_type, "manifests": manifests}
    return media_type, json.dumps(document, indent=3, ensure_ascii=False).encode()


class ManifestLists:
    """All lists of this user."""

    def __init__(self) -> None:
        self._root = Path(config_directory()) / "manifests"

    def entries(self, target: Reference) -> list[Entry]:
        """The entries of a list, by their references. Raises `NotFound` in docker's words."""
        directory = self._root / _file_name(target)
        try:
            names = sorted(os.listdir(directory))
        except FileNotFoundError:
            raise NotFound(f"No such manifest: {target}") from None
        return [_read(directory / name) for name in names]

    def exists(self, target: Reference) -> bool:
        """Whether there is such a list."""
        return (self._root / _file_name(target)).is_dir()

    def entry(self, target: Reference, manifest: Reference) -> Entry | None:
        """One entry of a list."""
        file = self._root / _file_name(target) / _file_name(manifest)
        return _read(file) if file.exists() else None

    def put(self, target: Reference, manifest: Reference, entry: Entry) -> None:
        """Add an entry, or replace it."""
        file = self._root / _file_name(target) / _file_name(manifest)
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_name(f".{file.name}.partial")
        partial.write_text(json.dumps(entry.document(), separators=(",", ":"), ensure_ascii=False))
        os.replace(partial, file)

    def remove(self, target: Reference) -> None:
        """Forget a list. Raises `NotFound`."""
        if not self.exists(target):
            raise NotFound(f"No such manifest: {target}")
        shutil.rmtree(self._root / _file_name(target))


def _file_name(reference: Reference) -> str:
    return str(reference).replace(":", "-").replace("/", "_")


def _read(file: Path) -> Entry:
    try:
        document = json.loads(file.read_bytes())
        descriptor = document["Descriptor"]
        data = base64.b64decode(document["Raw"])
        return Entry(
            document["Ref"],
            descriptor["mediaType"],
            descriptor["digest"],
            descriptor.get("platform") or {},
            data,
        )
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidParameter(f"{file}: damaged: {error}") from None
