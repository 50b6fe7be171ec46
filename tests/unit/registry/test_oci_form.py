"""`image copy --format oci`: Docker's manifests in OCI's media types, all below them too, and nothing changed without need."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from sampan.errors import InvalidParameter
from sampan.names.digest import digest_of
from sampan.names.platform import parse
from sampan.oci import image
from sampan.oci.image import ANNOTATION_REFERENCE_DIGEST, Descriptor, parse_index, parse_manifest
from sampan.registry.copying import OfPlatform, copy_image
from sampan.registry.layouts import Layout
from sampan.registry.ociform import OciForm


class Memory:
    """A `Source` of documents and blobs by digest."""

    def __init__(self) -> None:
        self.content: dict[str, bytes] = {}
        self.top: dict[str, Any] = {}

    def keep(self, data: bytes, media_type: str, **fields: Any) -> dict[str, Any]:
        self.content[digest_of(data)] = data
        return {"mediaType": media_type, "digest": digest_of(data), "size": len(data), **fields}

    def manifest(self, config: bytes, docker: bool = True, **fields: Any) -> dict[str, Any]:
        types = (image.DOCKER_CONFIG, image.DOCKER_LAYER_GZIP, image.DOCKER_MANIFEST)
        if not docker:
            types = (image.OCI_CONFIG, image.OCI_LAYER_GZIP, image.OCI_MANIFEST)
        document = {
            "schemaVersion": 2,
            "mediaType": types[2],
            "config": self.keep(config, types[0]),
            "layers": [self.keep(b"layer of " + config, types[1])],
            "annotations": {"kept": "yes"},
        }
        return self.keep(json.dumps(document).encode(), types[2], **fields)

    def index(self, media_type: str, *children: dict[str, Any]) -> dict[str, Any]:
        document = {"schemaVersion": 2, "mediaType": media_type, "manifests": children}
        return self.keep(json.dumps(document).encode(), media_type)

    async def target(self) -> Descriptor:
        return Descriptor(media_type=self.top["mediaType"], digest=self.top["digest"], size=self.top["size"])

    async def document(self, descriptor: Descriptor) -> bytes:
        return self.content[descriptor.digest]

    async def blob(self, descriptor: Descriptor, offset: int, length: int) -> AsyncIterator[bytes]:
        yield self.content[descriptor.digest][offset : offset + length]


def told(what: str, descriptor: Descriptor) -> None:
    pass


async def test_an_index_and_all_below(tmp_path: Path) -> None:
    source = Memory()
    one = source.manifest(b"{}", platform={"os": "linux", "architecture": "amd64"})
    two = source.manifest(b'{"a":1}', platform={"os": "linux", "architecture": "arm64"})
    about = source.manifest(
        b'{"b":1}', docker=False, annotations={ANNOTATION_REFERENCE_DIGEST: one["digest"]}
    )
    source.top = source.index(image.DOCKER_INDEX, one, two, about)
    made = await copy_image(OciForm(source), Layout(tmp_path, "1"), told)
    assert made.media_type == image.OCI_INDEX

    def document(digest: str) -> bytes:
        data = (tmp_path / "blobs/sha256" / digest.partition(":")[2]).read_bytes()
        assert b"docker.distribution" not in data and b"docker.container" not in data
        return data

    first, second, third = parse_index(document(made.digest)).manifests
    assert third.digest == about["digest"]  # it was OCI's, and is as it was
    assert third.annotations == {ANNOTATION_REFERENCE_DIGEST: first.digest}
    assert second.platform is not None and second.platform.architecture == "arm64"
    manifest = parse_manifest(document(first.digest), "")
    assert (manifest.media_type, manifest.annotations) == (image.OCI_MANIFEST, {"kept": "yes"})
    assert [each.media_type for each in manifest.layers] == [image.OCI_LAYER_GZIP]
    assert (tmp_path / "blobs/sha256" / manifest.layers[0].digest.partition(":")[2]).exists()


async def test_what_is_oci_already_keeps_its_digest(tmp_path: Path) -> None:
    source = Memory()
    source.top = source.index(image.OCI_INDEX, source.manifest(b"{}", docker=False))
    assert (await copy_image(OciForm(source), Layout(tmp_path, "1"), told)).digest == source.top["digest"]


async def test_one_platform_needs_no_other(tmp_path: Path) -> None:
    source = Memory()
    one = source.manifest(b"{}", platform={"os": "linux", "architecture": "amd64"})
    two = source.manifest(b'{"a":1}', platform={"os": "linux", "architecture": "arm64"})
    source.top = source.index(image.DOCKER_INDEX, one, two)
    del source.content[two["digest"]]
    made = await copy_image(OciForm(OfPlatform(source, parse("linux/amd64"))), Layout(tmp_path, "1"), told)
    assert made.media_type == image.OCI_MANIFEST


async def test_indexes_without_end() -> None:
    source = Memory()
    source.top = source.manifest(b"{}")
    for _ in range(6):
        source.top = source.index(image.OCI_INDEX, source.top)
    with pytest.raises(InvalidParameter, match="within one another"):
        await OciForm(source).target()
