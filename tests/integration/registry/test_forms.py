"""What images look like at registries: formats, compressions, platforms, artifacts, and what is refused."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import zstandard

from hostile_registry import BackgroundRegistry, digest
from image_archives import tar
from image_engine import ImageEngine
from sampan.oci.image import (
    DOCKER_CONFIG,
    DOCKER_INDEX,
    DOCKER_LAYER_GZIP,
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_EMPTY,
    OCI_INDEX,
    OCI_LAYER,
    OCI_LAYER_GZIP,
    OCI_LAYER_ZSTD,
    OCI_MANIFEST,
)
from sampan.registry.settings import RegistrySettings

pytestmark = pytest.mark.root

MakeEngine = Callable[..., ImageEngine]


@pytest.fixture
def registry() -> Iterator[BackgroundRegistry]:
    with BackgroundRegistry() as server:
        yield server


@pytest.fixture
def engine(make_image_engine: MakeEngine) -> ImageEngine:
    return make_image_engine(RegistrySettings(attempts=1))


def manifest_of(
    registry: BackgroundRegistry,
    layers: list[tuple[bytes, bytes, str]],
    tag: str = "latest",
    manifest_type: str = OCI_MANIFEST,
    config_type: str = OCI_CONFIG,
    **platform: Any,
) -> dict[str, Any]:
    """An image of (plain tar, bytes as sent, media type)."""
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [digest(plain) for plain, _, _ in layers]},
        **platform,
    }
    document = {
        "schemaVersion": 2,
        "mediaType": manifest_type,
        "config": registry.blob(json.dumps(config).encode(), config_type),
        "layers": [registry.blob(data, media_type) for _, data, media_type in layers],
    }
    return registry.manifest(json.dumps(document).encode(), manifest_type, tag)


def inspected(engine: ImageEngine, name: str) -> dict[str, Any]:
    (found,) = json.loads(engine.docker("image", "inspect", name))
    assert isinstance(found, dict)
    return found


def test_every_compression_in_one_image(registry: BackgroundRegistry, engine: ImageEngine) -> None:
    plain = [tar({str(number): bytes([number]) * 1000}) for number in range(3)]
    layers = [
        (plain[0], plain[0], OCI_LAYER),
        (plain[1], gzip.compress(plain[1]), OCI_LAYER_GZIP),
        (plain[2], zstandard.compress(plain[2]), OCI_LAYER_ZSTD),
    ]
    manifest_of(registry, layers)
    engine.docker("pull", f"{registry.host}/app")
    assert inspected(engine, f"{registry.host}/app")["RootFS"]["Layers"] == [digest(each) for each in plain]


def test_dockers_own_formats(registry: BackgroundRegistry, engine: ImageEngine) -> None:
    plain = tar({"a": b"b"})
    layer = (plain, gzip.compress(plain), DOCKER_LAYER_GZIP)
    one = manifest_of(registry, [layer], "one", DOCKER_MANIFEST, DOCKER_CONFIG)
    document = {
        "schemaVersion": 2,
        "mediaType": DOCKER_INDEX,
        "manifests": [{**one, "platform": {"os": "linux", "architecture": "amd64"}}],
    }
    target = registry.manifest(json.dumps(document).encode(), DOCKER_INDEX, "list")
    engine.docker("pull", f"{registry.host}/app:list")
    engine.docker("pull", f"{registry.host}/app:one")
    assert inspected(engine, f"{registry.host}/app:list")["Id"] == target["digest"]
    assert inspected(engine, f"{registry.host}/app:one")["Id"] == one["digest"]


def test_schema_1_is_refused_with_the_reason(registry: BackgroundRegistry, engine: ImageEngine) -> None:
    document = json.dumps({"schemaVersion": 1, "name": "app", "tag": "old", "fsLayers": []}).encode()
    registry.manifest(document, "application/vnd.docker.distribution.manifest.v1+prettyjws", "old")
    refused = engine.docker("pull", f"{registry.host}/app:old", ok=False)
    assert "schema 1, which is not supported" in refused
    assert "push it again with a current tool" in refused
    assert engine.docker("images", "-aq") == ""


def test_variants_of_arm(registry: BackgroundRegistry, engine: ImageEngine) -> None:
    entries = []
    for variant in ("v5", "v6", "v7"):
        plain = tar({"variant": variant.encode()})
        fields = {"architecture": "arm", "variant": variant}
        one = manifest_of(registry, [(plain, plain, OCI_LAYER)], variant, **fields)
        entries.append({**one, "platform": {"os": "linux", **fields}})
    registry.index(entries)
    name = f"{registry.host}/app"
    for wanted, got in (
        ("linux/arm/v6", "v6"),
        ("linux/arm", "v7"),
        ("linux/arm64", "v7"),
        ("linux/arm/v8", "v7"),
    ):
        engine.docker("pull", "--platform", wanted, name)
        fetched = [
            each
            for each in registry.requests("GET", "manifests")
            if each.path.endswith(entries[int(got[1]) - 5]["digest"])
        ]
        assert fetched, wanted
        engine.docker("rmi", "-f", name)
        engine.run(engine.images.housekeeping.settled())  # what is still here is not fetched again
        registry.seen.clear()
    missing = engine.docker("pull", "--platform", "linux/riscv64", name, ok=False)
    assert "no matching manifest for linux/riscv64 in the manifest list entries" in missing


def test_a_single_image_for_another_machine_is_taken_with_a_warning(
    registry: BackgroundRegistry, engine: ImageEngine
) -> None:
    plain = tar({"a": b"b"})
    manifest_of(registry, [(plain, plain, OCI_LAYER)], architecture="s390x")
    output = engine.docker("pull", f"{registry.host}/app")
    assert "WARNING: the image's platform (linux/s390x) does not match this machine's" in output
    assert inspected(engine, f"{registry.host}/app")["Architecture"] == "s390x"
    refused = engine.docker("pull", "--platform", "linux/amd64", f"{registry.host}/app", ok=False)
    assert "no matching manifest for linux/amd64" in refused


def test_a_windows_image_with_foreign_layers_is_kept_and_not_run(
    registry: BackgroundRegistry, engine: ImageEngine
) -> None:
    plain = tar({"a": b"b"})
    foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
    config = {
        "architecture": "amd64",
        "os": "windows",
        "rootfs": {"type": "layers", "diff_ids": [digest(plain)]},
    }
    packed = gzip.compress(plain)
    layer = registry.blob(packed, foreign)
    elsewhere = registry.blobs.pop(layer["digest"])
    registry.blobs["elsewhere"] = elsewhere
    document = {
        "schemaVersion": 2,
        "mediaType": DOCKER_MANIFEST,
        "config": registry.blob(json.dumps(config).encode(), DOCKER_CONFIG),
        "layers": [{**layer, "urls": [f"{registry.url}/x/blobs/elsewhere"]}],
    }
    target = registry.manifest(json.dumps(document).encode(), DOCKER_MANIFEST, "latest")
    name = f"{registry.host}/app"
    engine.docker("pull", name)
    assert engine.run(engine.content.exists(layer["digest"]))
    pushed = engine.docker("push", name)
    assert "Skipped foreign layer" in pushed
    assert f"digest: {target['digest']}" in pushed


def test_an_artifact_is_pulled_and_pushed(registry: BackgroundRegistry, engine: ImageEngine) -> None:
    chart = registry.blob(b"a chart", "application/vnd.cncf.helm.chart.content.v1.tar+gzip")
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": "application/vnd.cncf.helm.config.v1+json",
        "config": registry.blob(b"{}", OCI_EMPTY),
        "layers": [chart],
    }
    target = registry.manifest(json.dumps(document).encode(), OCI_MANIFEST, "chart")
    output = engine.docker("pull", f"{registry.host}/app:chart")
    assert f"Digest: {target['digest']}" in output
    registry.blobs.clear()
    assert f"digest: {target['digest']}" in engine.docker("push", f"{registry.host}/app:chart")
    assert registry.blobs[chart["digest"]] == b"a chart"


def test_indexes_within_indexes(registry: BackgroundRegistry, engine: ImageEngine) -> None:
    plain = tar({"a": b"b"})
    one = manifest_of(registry, [(plain, plain, OCI_LAYER)], "one")
    nested = one | {"platform": {"os": "linux", "architecture": "amd64"}}
    for level in range(3):
        nested = registry.index([nested], f"level{level}")
    engine.docker("pull", f"{registry.host}/app:level2")
    for level in range(3, 6):
        nested = registry.index([nested], f"level{level}")
    refused = engine.docker("pull", f"{registry.host}/app:level5", ok=False)
    assert "indexes within one another" in refused


def test_cve_2021_41190_a_document_is_what_it_was_announced_as(
    registry: BackgroundRegistry, engine: ImageEngine
) -> None:
    plain = tar({"a": b"b"})
    config = {
        "architecture": "amd64",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [digest(plain)]},
    }
    both = {
        "schemaVersion": 2,
        "config": registry.blob(json.dumps(config).encode(), OCI_CONFIG),
        "layers": [registry.blob(plain)],
        "manifests": [],
    }
    for media_type in (OCI_MANIFEST, OCI_INDEX):
        registry.manifest(json.dumps(both).encode(), media_type, "both")
        assert "ambiguous" in engine.docker("pull", f"{registry.host}/app:both", ok=False)
    said = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}
    registry.manifest(json.dumps(said).encode(), OCI_MANIFEST, "other")
    assert "mediaType" in engine.docker("pull", f"{registry.host}/app:other", ok=False)
    assert engine.docker("images", "-aq") == ""


@pytest.mark.parametrize(
    "layers",
    [
        [{"mediaType": OCI_LAYER, "digest": "sha256:../../../../etc/passwd", "size": 3}],
        [{"mediaType": OCI_LAYER, "digest": "sha256:" + "0" * 64, "size": -1}],
        [{"mediaType": OCI_LAYER, "digest": "sha256:" + "0" * 64, "size": "3"}],
        "nonsense",
    ],
)
def test_malformed_manifests_are_refused(
    registry: BackgroundRegistry, engine: ImageEngine, layers: object
) -> None:
    config = registry.blob(b"{}", OCI_CONFIG)
    document = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": layers}
    target = registry.manifest(json.dumps(document).encode(), OCI_MANIFEST, "latest")
    assert target["digest"] in engine.docker("pull", f"{registry.host}/app", ok=False)
    assert engine.docker("images", "-aq") == ""


def test_a_layer_that_unpacks_to_something_else_is_refused(
    registry: BackgroundRegistry, engine: ImageEngine
) -> None:
    plain, other = tar({"a": b"b"}), tar({"a": b"c"})
    manifest_of(registry, [(plain, other, OCI_LAYER)])
    assert "but the image says" in engine.docker("pull", f"{registry.host}/app", ok=False)
    assert engine.docker("images", "-aq") == ""
