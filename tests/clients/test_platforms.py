"""`docker buildx` and `sampan build` for several platforms, and who reads what comes of it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from buildkit_peer import BUILD_SECONDS, buildctl
from registry_peer import SampanRegistry
from running_engine import RunningEngine
from sampan.oci.image import DOCKER_INDEX, DOCKER_MANIFEST, OCI_LAYER, OCI_LAYER_GZIP, OCI_LAYER_ZSTD

pytestmark = [pytest.mark.root, pytest.mark.timeout(2 * BUILD_SECONDS)]

Run = Callable[..., "subprocess.CompletedProcess[str]"]
BOTH = ("--platform", "linux/amd64,linux/arm64")
FILES = 300
"""More than go in one batch of a transfer."""


@pytest.fixture
def run(engine: RunningEngine, configuration: Path, tmp_path: Path) -> Run:
    """A program, in the test's directory."""
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "DOCKER_HOST": engine.host,
        "SAMPAN_HOST": engine.host,
        "DOCKER_CONFIG": str(configuration),
        "BUILDKIT_PROGRESS": "plain",
    }

    def program(*arguments: str, fails: bool = False) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            arguments, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
        )
        assert bool(done.returncode) == fails, done.stdout + done.stderr + engine.log[-2000:]
        return done

    return program


@pytest.fixture
def context(tmp_path: Path) -> Path:
    (tmp_path / "Dockerfile").write_text(
        "FROM scratch\nARG TARGETARCH\nCOPY many /many/\nCOPY for-$TARGETARCH /for\nCOPY own/$TARGETARCH /own/\n"
    )
    for name in ("many", "own/amd64", "own/arm64"):
        (tmp_path / name).mkdir(parents=True)
    for number in range(FILES):
        (tmp_path / "many" / f"{number:03}").write_text(str(number))
    for name in ("amd64", "arm64"):
        (tmp_path / f"for-{name}").write_text(name)
        (tmp_path / "own" / name / name).write_text(name)
    return tmp_path


def index_of(layout: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a layout's index names, and that document."""
    (named,) = json.loads((layout / "index.json").read_bytes())["manifests"]
    return named, json.loads((layout / "blobs" / named["digest"].replace(":", "/")).read_bytes())


@pytest.mark.parametrize("client", ["docker buildx build", "sampan build"])
def test_directories_by_platform(run: Run, context: Path, client: str) -> None:
    run(*client.split(), *BOTH, "-o", "out", ".")
    for name in ("amd64", "arm64"):
        own = context / "out" / f"linux_{name}"
        assert (own / "for").read_text() == name and (own / "own" / name).read_text() == name
        assert len(list((own / "many").iterdir())) == FILES
    run(*client.split(), *BOTH, "-o", "type=tar,dest=out.tar", ".")
    with tarfile.open(context / "out.tar") as archive:
        names = archive.getnames()
    assert {"linux_amd64/for", "linux_arm64/for", "linux_arm64/many/299"} <= set(names)
    refused = run(*client.split(), *BOTH, "-o", "type=local,dest=one,platform-split=false", ".", fails=True)
    assert "cannot overwrite" in refused.stderr and "when split option is disabled" in refused.stderr
    (context / "Dockerfile").write_text("FROM scratch\nARG TARGETARCH\nCOPY own/$TARGETARCH /\n")
    run(*client.split(), *BOTH, "-o", "type=local,dest=one,platform-split=false", ".")
    assert sorted(each.name for each in (context / "one").iterdir()) == ["amd64", "arm64"]


@pytest.mark.parametrize("client", ["docker buildx build", "sampan build"])
def test_files_have_the_time_of_the_sources(run: Run, context: Path, client: str) -> None:
    timed = ("--build-arg", "SOURCE_DATE_EPOCH=1700000000", *BOTH)
    run(*client.split(), *timed, "-o", "out", "-o", "type=tar,dest=out.tar", ".")
    files = [each for each in (context / "out").rglob("*") if each.is_file()]
    assert files and {each.stat().st_mtime for each in files} == {1_700_000_000}
    with tarfile.open(context / "out.tar") as archive:
        assert {each.mtime for each in archive} == {1_700_000_000}


def test_a_directory_that_holds_nothing_else(run: Run, context: Path) -> None:
    (context / "out").mkdir()
    (context / "out" / "stale").write_text("")
    run("docker", "buildx", "build", *BOTH, "-o", "type=local,dest=out,mode=delete", ".")
    assert sorted(each.name for each in (context / "out").iterdir()) == ["linux_amd64", "linux_arm64"]


def test_layers_of_the_base_are_compressed_when_forced(run: Run, context: Path) -> None:
    (context / "Dockerfile").write_text("FROM busybox\nCOPY for-amd64 /\n")
    for forced, types in (("false", [OCI_LAYER, OCI_LAYER_GZIP]), ("true", [OCI_LAYER_GZIP, OCI_LAYER_GZIP])):
        output = f"type=oci,dest={forced},tar=false,compression=gzip,compression-level=9,force-compression={forced}"
        run("docker", "buildx", "build", "--provenance=false", "-o", output, ".")
        _, manifest = index_of(context / forced)
        assert [each["mediaType"] for each in manifest["layers"]] == types


@pytest.mark.parametrize("client", ["docker buildx build", "sampan build"])
def test_an_archive_with_an_index_is_read_by_others(
    run: Run, context: Path, client: str, tmp_path: Path
) -> None:
    run(
        *client.split(),
        *BOTH,
        "-t",
        "several:2",
        "-o",
        "type=oci,dest=out.tar",
        "--metadata-file",
        "meta",
        ".",
    )
    told = json.loads((tmp_path / "meta").read_bytes())
    assert told["containerimage.digest"] == told["containerimage.descriptor"]["digest"]
    for name in ("amd64", "arm64"):
        shown = run("skopeo", "inspect", "--override-arch", name, "oci-archive:out.tar:2")
        assert json.loads(shown.stdout)["Architecture"] == name
    run("skopeo", "copy", "--all", "oci-archive:out.tar:2", "oci:copied:2")
    assert index_of(tmp_path / "copied")[0]["digest"] == told["containerimage.digest"]
    loaded = run("docker", "load", "-i", "out.tar")
    assert "several:2" in loaded.stdout
    chosen = ("--platform", "linux/arm64", "several:2")
    assert json.loads(run("sampan", "image", "inspect", *chosen).stdout)[0]["Architecture"] == "arm64"
    assert "TARGETARCH=arm64" in run("sampan", "history", *chosen).stdout
    run("sampan", "rmi", "-f", *chosen)
    assert "does not provide" in run("sampan", "image", "inspect", *chosen, fails=True).stderr
    assert told["containerimage.digest"].startswith(
        run("docker", "images", "-q", "--no-trunc", "several:2").stdout.strip()
    )
    run("docker", "rmi", "several:2")


def test_a_layout_in_a_directory(run: Run, context: Path) -> None:
    for client in ("docker buildx build", "sampan build"):
        target = client.partition(" ")[0]
        output = f"type=oci,dest={target},tar=false"
        run(*client.split(), *BOTH, "--provenance=false", "-t", "several:2", "-o", output, ".")
        shown = run("skopeo", "inspect", "--override-arch", "arm64", f"oci:{target}")
        assert json.loads(shown.stdout)["Architecture"] == "arm64"
    named, _ = index_of(context / "docker")
    assert named["digest"] == index_of(context / "sampan")[0]["digest"]


@pytest.mark.parametrize("client", ["docker buildx build", "sampan build"])
def test_documents_as_asked(run: Run, context: Path, client: str) -> None:
    run(
        *client.split(), *BOTH, "--provenance=false", "--annotation", "manifest:all=1", "--annotation", "index:i=2",
        "--annotation", "manifest[linux/arm64]:one=3", "--annotation", "manifest-descriptor:d=4",
        "--annotation", "index-descriptor:o=5", "-o", "type=oci,dest=out,tar=false,compression=zstd", ".",
    )  # fmt: skip
    named, index = index_of(context / "out")
    assert index["annotations"] == {"i": "2"} and named["annotations"]["o"] == "5"
    manifests = [
        json.loads((context / "out" / "blobs" / each["digest"].replace(":", "/")).read_bytes())
        for each in index["manifests"]
    ]
    assert [each["annotations"] for each in manifests] == [{"all": "1"}, {"all": "1", "one": "3"}]
    assert [each["annotations"] for each in index["manifests"]] == [{"d": "4"}, {"d": "4"}]
    assert {layer["mediaType"] for each in manifests for layer in each["layers"]} == {OCI_LAYER_ZSTD}
    old = "type=oci,dest=old,tar=false,oci-mediatypes=false"
    run(*client.split(), *BOTH, "--provenance=false", "-o", old, ".")
    named, index = index_of(context / "old")
    assert named["mediaType"] == index["mediaType"] == DOCKER_INDEX
    assert {each["mediaType"] for each in index["manifests"]} == {DOCKER_MANIFEST}


def test_the_same_sources_at_the_same_time_are_the_same_bytes(run: Run, context: Path) -> None:
    for name in ("one", "two"):
        run("docker", "buildx", "prune", "-af")
        os.utime(context / "for-amd64", (time.time(), time.time()))
        run(
            "docker", "buildx", "build", *BOTH, "--no-cache", "--build-arg", "SOURCE_DATE_EPOCH=1700000000",
                "--provenance=false", "-o", f"type=oci,dest={name}.tar,rewrite-timestamp=true", "."
        )  # fmt: skip
    assert (context / "one.tar").read_bytes() == (context / "two.tar").read_bytes()


def test_an_index_is_pushed(run: Run, context: Path, server: SampanRegistry) -> None:
    name = f"{server.host}/me/several:1"
    run("docker", "buildx", "build", *BOTH, "-t", name, "--push", "--metadata-file", "meta", ".")
    told = json.loads((context / "meta").read_bytes())
    shown = run("docker", "buildx", "imagetools", "inspect", name).stdout
    assert told["containerimage.digest"] in shown
    assert "linux/amd64" in shown and "linux/arm64" in shown
    run("docker", "rmi", name)


def test_bases_are_those_of_each_platform(run: Run, context: Path, server: SampanRegistry) -> None:
    base = f"{server.host}/me/base:1"
    run("docker", "buildx", "build", *BOTH, "-t", base, "--push", ".")
    run("docker", "rmi", base)
    (context / "Dockerfile").write_text(f"FROM {base}\nARG TARGETARCH\nCOPY for-$TARGETARCH /again\n")
    for _ in range(2):  # from the registry, and from the store
        run("docker", "buildx", "build", *BOTH, "-o", "out", ".")
        for name in ("amd64", "arm64"):
            found = context / "out" / f"linux_{name}"
            assert (found / "for").read_text() == (found / "again").read_text() == name
    run("docker", "rmi", base)


def test_targets_on_targets_of_several_platforms(run: Run, context: Path) -> None:
    (context / "docker-bake.hcl").write_text(
        'group "default" { targets = ["app"] }\n'
        'target "common" { platforms = ["linux/amd64", "linux/arm64"] }\n'
        'target "base" { inherits = ["common"] }\n'
        'target "app" {\n inherits = ["common"]\n contexts = { base = "target:base" }\n output = ["out"]\n'
        ' dockerfile-inline = "FROM scratch\\nCOPY --from=base /for /app\\n"\n}\n'
    )
    run("docker", "buildx", "bake")
    for name in ("amd64", "arm64"):
        assert (context / "out" / f"linux_{name}" / "app").read_text() == name


def test_caches_within_an_index(run: Run, context: Path, server: SampanRegistry) -> None:
    (context / "Dockerfile").write_text("FROM scratch\nARG TARGETARCH\nCOPY for-$TARGETARCH /for\n")
    name = f"{server.host}/me/cached:1"
    inline = ("--cache-to", "type=inline")
    run("docker", "buildx", "build", *BOTH, *inline, "-t", name, "--push", ".")
    run("docker", "rmi", name)
    run("docker", "buildx", "prune", "-af")
    again = run("docker", "buildx", "build", *BOTH, "--cache-from", name, "-o", "out", ".")
    assert again.stderr.count(" CACHED") == 2
    assert (context / "out" / "linux_arm64" / "for").read_text() == "arm64"


def test_an_archive_for_older_engines_has_this_machines_platform(
    run: Run, context: Path, engine: RunningEngine
) -> None:
    options = ("--frontend", "dockerfile.v0", "--opt", "platform=linux/arm64,linux/amd64")
    places = ("--local", "context=.", "--local", "dockerfile=.")
    output = "type=docker,dest=out.tar,name=docker.io/me/several:1"
    address = f"unix://{engine.exec_root}/buildkit.sock"
    run(str(buildctl()), "--addr", address, "build", *options, *places, "--output", output)
    shown = json.loads(run("skopeo", "inspect", "docker-archive:out.tar:docker.io/me/several:1").stdout)
    assert shown["Architecture"] == "amd64"
    place = tempfile.mkdtemp(prefix="podman-", dir="/run")  # it wants a short path
    podman = ("podman", "--root", str(context / "store"), "--runroot", place, "--storage-driver=vfs")
    try:
        run(*podman, "load", "-i", "out.tar")
        loaded = json.loads(run(*podman, "image", "inspect", "docker.io/me/several:1").stdout)
        assert loaded[0]["Architecture"] == "amd64"
    finally:
        shutil.rmtree(place)
