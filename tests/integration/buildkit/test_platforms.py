"""Results for several platforms: an index in the engine's store, in archives and at a registry."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from buildkit_client import building, run
from registry_peer import SampanRegistry
from running_engine import RunningEngine
from sampan.buildkit.protos import control_pb2
from sampan.errors import SampanError
from sampan.oci.image import OCI_INDEX, OCI_MANIFEST

pytestmark = pytest.mark.root

SEVERAL = {"platform": "linux/amd64,linux/arm64"}
DOCKERFILE = (
    "FROM --platform=$BUILDPLATFORM busybox AS tools\n"
    "FROM scratch\n"
    "ARG TARGETARCH\n"
    "COPY --from=tools / /\n"
    "COPY $TARGETARCH /arch\n"
    'CMD ["cat", "/arch"]\n'
)


@pytest.fixture
def context(tmp_path: Path) -> Path:
    (tmp_path / "Dockerfile").write_text(DOCKERFILE)
    for name in ("amd64", "arm64"):
        (tmp_path / name).write_text(name)
    return tmp_path


def build(
    engine: RunningEngine, context: Path, kind: str, options: dict[str, str] | None = None, **attributes: str
) -> dict[str, str]:
    """Build with one exporter; its answer."""
    answered: dict[str, str] = {}

    async def work() -> None:
        async with building(engine, context) as builder:
            answered.update(
                await builder.solve(
                    Frontend="dockerfile.v0",
                    FrontendAttrs=SEVERAL if options is None else options,
                    Exporters=[control_pb2.Exporter(Type=kind, Attrs=attributes)],
                )
            )

    run(work())
    return answered


def test_a_name_means_an_index_and_each_platform_runs(engine: RunningEngine, context: Path) -> None:
    answer = build(engine, context, "moby", name="several:1")
    descriptor: dict[str, Any] = json.loads(base64.b64decode(answer["containerimage.descriptor"]))
    assert descriptor["mediaType"] == OCI_INDEX and descriptor["digest"] == answer["containerimage.digest"]
    assert "containerimage.config.digest" not in answer
    shown = json.loads(engine.docker("image", "inspect", "several:1").stdout)[0]
    assert shown["Id"] == answer["containerimage.digest"] and shown["Architecture"] == "amd64"
    engine.docker("builder", "prune", "-af")
    for name in ("amd64", "arm64"):
        ran = engine.docker("run", "--rm", "--net", "none", "--platform", f"linux/{name}", "several:1")
        assert ran.stdout == name
    engine.docker("rmi", "several:1")
    assert "several" not in engine.docker("images", "-a").stdout


def test_one_platform_is_a_manifest_unless_told_otherwise(engine: RunningEngine, context: Path) -> None:
    answer = build(engine, context, "moby", {"platform": "linux/arm64"}, name="one:1")
    descriptor = json.loads(base64.b64decode(answer["containerimage.descriptor"]))
    assert descriptor["mediaType"] == OCI_MANIFEST
    assert descriptor["platform"] == {"architecture": "arm64", "os": "linux"}
    answer = build(
        engine, context, "moby", {"platform": "linux/arm64", "multi-platform": "true"}, name="one:1"
    )
    assert json.loads(base64.b64decode(answer["containerimage.descriptor"]))["mediaType"] == OCI_INDEX
    engine.docker("rmi", "one:1")


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SampanRegistry]:
    registry = SampanRegistry(tmp_path_factory.mktemp("registry"))
    registry.start()
    yield registry
    registry.stop()


def test_a_registry_gets_what_the_store_does_not_keep(
    engine: RunningEngine, context: Path, server: SampanRegistry
) -> None:
    name = f"{server.host}/me/several"
    options = {"push": "true", "push-by-digest": "true", "store": "false"}
    answer = build(engine, context, "image", name=name, **options)
    digest = answer["containerimage.digest"]
    assert answer["image.name"] == name
    assert "several" not in engine.docker("images", "-a").stdout
    pinned = f"{name}@{digest}"
    assert engine.docker("run", "--rm", "--net", "none", pinned).stdout == "amd64"
    engine.docker("pull", "--platform", "linux/arm64", pinned)
    ran = engine.docker("run", "--rm", "--net", "none", "--platform", "linux/arm64", pinned)
    assert ran.stdout == "arm64"
    engine.docker("rmi", pinned)


def test_names_with_the_digest(engine: RunningEngine, context: Path) -> None:
    answer = build(engine, context, "image", {}, **{"name": "named:1", "name-canonical": "true"})
    digest = answer["containerimage.digest"]
    assert engine.docker("run", "--rm", "--net", "none", f"named@{digest}").stdout == "amd64"
    answer = build(engine, context, "image", **{"dangling-name-prefix": "ci/tmp", "unpack": "false"})
    digest = answer["containerimage.digest"]
    assert answer["image.name"] == f"ci/tmp@{digest}"
    assert engine.docker("run", "--rm", "--net", "none", f"ci/tmp@{digest}").stdout == "amd64"
    engine.docker("rmi", f"ci/tmp@{digest}", "named:1")


def test_what_a_dangling_index_held_is_told_when_it_goes(engine: RunningEngine, context: Path) -> None:
    twice = {"platform": "linux/amd64,linux/amd64,linux/arm64", "label:one": "of its own"}
    digest = build(engine, context, "moby", twice)["containerimage.digest"]
    data = engine.docker("image", "inspect", "--format", "{{json .Descriptor}}", digest).stdout
    assert json.loads(data)["mediaType"] == OCI_INDEX
    deleted = engine.docker("image", "prune", "-f").stdout
    lines = deleted.splitlines()
    at = lines.index(f"deleted: {digest}")
    assert [each.partition(" ")[0] for each in lines[at + 1 : at + 3]] == ["deleted:", "deleted:"]


@pytest.mark.parametrize(
    ("kind", "attributes", "says"),
    [
        ("oci", {"compression": "estargz"}, "estargz"),
        ("image", {"push": "true"}, "tag is needed"),
        ("local", {"mode": "move"}, "invalid local exporter mode"),
        ("image", {"annotation-stage.a": "b"}, "unrecognized annotation type"),
        ("squashfs", {}, "could not be found"),
    ],
)
def test_what_cannot_be_exported_is_not_built(
    engine: RunningEngine, context: Path, kind: str, attributes: dict[str, str], says: str
) -> None:
    (context / "Dockerfile").write_text("FROM busybox\nRUN exit 9\n")
    with pytest.raises(SampanError, match=says):
        build(engine, context, kind, {}, **attributes)


def test_one_platform_goes_and_comes_back(engine: RunningEngine, context: Path) -> None:
    build(engine, context, "moby", name="several:1")
    arm = ("--platform", "linux/arm64")
    refused = engine.docker("rmi", *arm, "several:1", check=False)
    assert "Use —-force to force delete" in refused.stderr
    deleted = engine.docker("rmi", "-f", *arm, "several:1").stdout
    assert deleted.count("Deleted: sha256:") == 1 and "Untagged" not in deleted
    missing = engine.docker("rmi", "-f", *arm, "several:1", check=False)
    assert "does not provide the specified platform (linux/arm64)" in missing.stderr
    assert engine.docker("run", "--rm", "--net", "none", "several:1").stdout == "amd64"
    assert engine.docker("create", "--pull", "never", *arm, "several:1", check=False).returncode
    build(engine, context, "moby", name="several:1")
    assert engine.docker("run", "--rm", "--net", "none", *arm, "several:1").stdout == "arm64"
    engine.docker("run", "-d", "--name", "running", "--net", "none", *arm, "several:1", "sleep", "60")
    used = engine.docker("rmi", "-f", *arm, "several:1", check=False)
    assert "image is being used by running container" in used.stderr
    engine.docker("rm", "-f", "running")
    engine.docker("rmi", "several:1")
