"""Cache of builds that leaves one engine and is believed by another, through `buildctl` and `buildx` as their makers build them."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from buildkit_peer import BUILD_SECONDS, buildctl, docker_config
from busybox_image import busybox_archive
from registry_peer import SampanRegistry
from running_engine import RunningEngine

pytestmark = [pytest.mark.root, pytest.mark.timeout(2 * BUILD_SECONDS)]

DOCKERFILE = """FROM busybox AS made
COPY word /
RUN --mount=type=secret,id=key cat /run/secrets/key > /dev/null; head -c 16 /dev/urandom | md5sum > /random
FROM busybox
COPY --from=made /random /
RUN head -c 16 /dev/urandom | md5sum > /second
"""
SECRET = "never-to-be-exported"


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEngine]:
    """A second engine, which knows nothing of the first."""
    with RunningEngine(tmp_path_factory.mktemp("other")).holding(busybox_archive()) as running:
        yield running


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SampanRegistry]:
    registry = SampanRegistry(tmp_path / "registry")
    registry.start()
    yield registry
    registry.stop()


Build = Callable[..., str]


@pytest.fixture
def build(tmp_path: Path) -> Build:
    """`buildctl build` of the context on an engine; what it said."""
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text(DOCKERFILE)
    (context / "word").write_text("hello")
    (tmp_path / "key").write_text(SECRET)

    def work(engine: RunningEngine, *arguments: str) -> str:
        command = [
            *(str(buildctl()), "--addr", f"unix://{engine.exec_root}/buildkit.sock", "build"),
            *("--progress=plain", "--frontend=dockerfile.v0", f"--local=context={context}"),
            *(f"--local=dockerfile={context}", f"--secret=id=key,src={tmp_path}/key"),
            *arguments,
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr + engine.log[-3000:]
        return done.stderr

    return work


def _forget(*engines: RunningEngine) -> None:
    for engine in engines:
        engine.docker("builder", "prune", "-af")


def _files(engine: RunningEngine, name: str) -> str:
    return engine.docker("run", "--rm", "--net", "none", name, "cat", "/random", "/second").stdout


def _cached(said: str) -> int:
    return len(re.findall(r"^#\d+ CACHED$", said, re.MULTILINE))


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("form", ["image-manifest=true", "image-manifest=false", "compression=zstd"])
def test_a_directory_of_the_clients(
    engine: RunningEngine, other: RunningEngine, build: Build, tmp_path: Path, mode: str, form: str
) -> None:
    _forget(engine, other)
    there = tmp_path / "cache"
    build(
        engine,
        "--output=type=image,name=one",
        f"--export-cache=type=local,dest={there},mode={mode},{form}",
    )
    said = build(other, "--output=type=image,name=two", f"--import-cache=type=local,src={there}")
    assert _cached(said) >= 4 and not re.search(r"^#\d+ \[.*RUN.*\n#\d+ DONE", said, re.MULTILINE), said
    assert _files(engine, "one") == _files(other, "two")
    _is_a_cache(there, mode)


def _is_a_cache(there: Path, mode: str) -> None:
    """A layout as BuildKit writes it; its records hold digests and nothing else."""
    (entry,) = json.loads((there / "index.json").read_bytes())["manifests"]
    manifest = json.loads((there / "blobs" / entry["digest"].replace(":", "/")).read_bytes())
    parts = manifest.get("layers") or manifest["manifests"]
    config = manifest.get("config") or next(each for each in parts if "cacheconfig" in each["mediaType"])
    assert config["mediaType"] == "application/vnd.buildkit.cacheconfig.v0"
    text = (there / "blobs" / config["digest"].replace(":", "/")).read_text()
    document = json.loads(text)
    results = [each for each in document["records"] if each.get("layers")]
    assert len(results) == (5 if mode == "max" else 3), text
    for blob in (there / "blobs" / "sha256").iterdir():
        assert SECRET.encode() not in blob.read_bytes()
    assert "urandom" not in text and "secret" not in text


def test_what_is_damaged_is_made_anew(
    engine: RunningEngine, other: RunningEngine, build: Build, tmp_path: Path
) -> None:
    """A layer of other bytes, one that unpacks to something else, a config that is none: no cache, and no failure."""
    _forget(engine, other)
    there = tmp_path / "cache"
    build(engine, "--output=type=image,name=one", f"--export-cache=type=local,dest={there}")
    (entry,) = json.loads((there / "index.json").read_bytes())["manifests"]
    path = there / "blobs" / entry["digest"].replace(":", "/")
    manifest = json.loads(path.read_bytes())
    last = manifest["layers"][-1]
    layer = there / "blobs" / last["digest"].replace(":", "/")
    whole = layer.read_bytes()
    arguments = ("--output=type=image,name=two", f"--import-cache=type=local,src={there}")

    layer.write_bytes(bytes(len(whole)))
    build(other, *arguments)
    assert _files(other, "two") != _files(engine, "one")

    _forget(other)
    layer.write_bytes(whole)
    last["annotations"]["containerd.io/uncompressed"] = manifest["layers"][0]["digest"]
    _replace(there, json.dumps(manifest).encode())
    build(other, *arguments)
    assert _files(other, "two") != _files(engine, "one")

    _forget(other)
    manifest["layers"] = []
    manifest["config"] |= _blob(there, b'{"records":[{"digest":"sha256:../..","layers":[{"layer":7}]}]}')
    _replace(there, json.dumps(manifest).encode())
    assert "ERROR: invalid cache config" in build(other, *arguments)


def _blob(there: Path, data: bytes) -> dict[str, object]:
    digest = hashlib.sha256(data).hexdigest()
    (there / "blobs" / "sha256" / digest).write_bytes(data)
    return {"digest": f"sha256:{digest}", "size": len(data)}


def _replace(there: Path, manifest: bytes) -> None:
    index = json.loads((there / "index.json").read_bytes())
    index["manifests"][0] |= _blob(there, manifest)
    (there / "index.json").write_text(json.dumps(index))


def test_a_registry(
    engine: RunningEngine, other: RunningEngine, build: Build, server: SampanRegistry
) -> None:
    _forget(engine, other)
    name = f"{server.host}/cache:max"
    build(engine, "--output=type=image,name=one", f"--export-cache=type=registry,ref={name},mode=max")
    said = build(other, "--output=type=image,name=two", f"--import-cache=type=registry,ref={name}")
    assert f"importing cache manifest from {name}" in said
    assert _files(engine, "one") == _files(other, "two"), said


def test_one_that_is_not_there_is_told_and_nothing_more(
    other: RunningEngine, build: Build, server: SampanRegistry
) -> None:
    said = build(other, f"--import-cache=type=registry,ref={server.host}/none:1")
    assert re.search(r"ERROR: .*404 Not Found", said), said


def test_a_trust_policy_is_asked_about_a_cache_too(
    engine: RunningEngine, build: Build, server: SampanRegistry, tmp_path: Path
) -> None:
    _forget(engine)
    name = f"{server.host}/cache:1"
    build(engine, "--output=type=image,name=one", f"--export-cache=type=registry,ref={name}")
    policy = {
        "default": [{"type": "insecureAcceptAnything"}],
        "transports": {"docker": {server.host: [{"type": "reject"}]}},
    }
    (tmp_path / "policy.json").write_text(json.dumps(policy))
    careful = RunningEngine(tmp_path / "careful", ["--signature-policy", str(tmp_path / "policy.json")])
    careful.data_root.parent.mkdir()
    with careful.holding(busybox_archive()):
        said = build(careful, "--output=type=image,name=two", f"--import-cache=type=registry,ref={name}")
        assert "is rejected by policy" in said and not _cached(said), said


def test_an_image_that_carries_its_cache(
    engine: RunningEngine,
    other: RunningEngine,
    server: SampanRegistry,
    build: Build,
    tmp_path: Path,
) -> None:
    """Through buildx, which asks for it by a build argument too."""
    _forget(engine, other)
    name = f"{server.host}/inline:1"
    configuration = docker_config(tmp_path / "docker-config")

    def buildx(running: RunningEngine, *arguments: str) -> str:
        environment = {**os.environ, "DOCKER_HOST": running.host, "DOCKER_CONFIG": str(configuration)}
        command = ["docker", "buildx", "build", "--progress=plain", "--secret", f"id=key,src={tmp_path}/key"]
        done = subprocess.run(
            [*command, *arguments, str(tmp_path / "context")],
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr + running.log[-3000:]
        return done.stderr

    buildx(engine, "-t", name, "--push", "--build-arg", "BUILDKIT_INLINE_CACHE=1")
    said = buildx(other, "-t", "two", f"--cache-from={name}", "--cache-to=type=inline")
    assert _files(engine, name) == _files(other, "two"), said
