"""crane, oras, helm, cosign, buildx, distribution v3, versitygw and umoci, as their makers have them, with Sampan's registry."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from buildkit_peer import docker_config
from clients.conftest import GO_BUILD_SECONDS, Play
from image_archives import tar
from registry_peer import DockerRegistry, SampanRegistry, free_port
from running_engine import RunningEngine

CRANE = "github.com/google/go-containerregistry/cmd/crane@latest"
ORAS = "oras.land/oras/cmd/oras@latest"
HELM = "helm.sh/helm/v3/cmd/helm@latest"
COSIGN = "github.com/sigstore/cosign/v2/cmd/cosign@latest"
DISTRIBUTION = "github.com/distribution/distribution/v3/cmd/registry@latest"
VERSITYGW = "github.com/versity/versitygw/cmd/versitygw@latest"
INSECURE = ("--src-tls-verify=false", "--dest-tls-verify=false")

pytestmark = [pytest.mark.root, pytest.mark.timeout(GO_BUILD_SECONDS)]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SampanRegistry]:
    (tmp_path / "registry").mkdir()
    registry = SampanRegistry(tmp_path / "registry")
    registry.start()
    yield registry
    registry.stop()


def test_crane(play: Play, built: Callable[[str], str], server: SampanRegistry, tmp_path: Path) -> None:
    crane, name = built(CRANE), f"{server.host}/crane/app"
    (tmp_path / "layer.tar").write_bytes(tar({"hello": b"world"}))
    play(crane, "append", "--insecure", "-f", str(tmp_path / "layer.tar"), "-t", f"{name}:1")
    play(crane, "copy", "--insecure", f"{name}:1", f"{server.host}/other/app:1")
    play(crane, "validate", "--insecure", "--remote", f"{server.host}/other/app:1")
    assert play(crane, "catalog", "--insecure", server.host).split() == ["crane/app", "other/app"]
    digest = play(crane, "digest", "--insecure", f"{name}:1").strip()
    play(crane, "delete", "--insecure", f"{name}@{digest}")
    assert play(crane, "ls", "--insecure", name).split() == []


def test_oras(play: Play, built: Callable[[str], str], server: SampanRegistry, tmp_path: Path) -> None:
    oras, name = built(ORAS), f"{server.host}/oras/art:1"
    (tmp_path / "art.txt").write_text("hello")
    play(oras, "push", "--plain-http", name, "art.txt:text/plain", cwd=tmp_path)
    play(
        oras,
        "attach",
        "--plain-http",
        "--artifact-type",
        "text/sig",
        name,
        "art.txt:text/plain",
        cwd=tmp_path,
    )
    assert "text/sig" in play(oras, "discover", "--plain-http", name)
    copy = f"{server.host}/oras/copy:1"
    play(oras, "copy", "--from-plain-http", "--to-plain-http", "-r", name, copy)
    assert "text/sig" in play(oras, "discover", "--plain-http", copy)
    play(oras, "pull", "--plain-http", "-o", str(tmp_path / "out"), copy)
    assert (tmp_path / "out" / "art.txt").read_text() == "hello"


def test_helm(play: Play, built: Callable[[str], str], server: SampanRegistry, tmp_path: Path) -> None:
    helm = built(HELM)
    chart = tmp_path / "app"
    chart.mkdir()
    (chart / "Chart.yaml").write_text("apiVersion: v2\nname: app\nversion: 0.1.0\n")
    homes = {f"HELM_{each}_HOME": str(tmp_path / each) for each in ("CACHE", "CONFIG", "DATA")}
    play(helm, "package", str(chart), **homes)
    play(helm, "push", "app-0.1.0.tgz", f"oci://{server.host}/charts", "--plain-http", **homes)
    (tmp_path / "app-0.1.0.tgz").unlink()
    play(helm, "pull", f"oci://{server.host}/charts/app", "--version", "0.1.0", "--plain-http", **homes)
    assert (tmp_path / "app-0.1.0.tgz").exists()


def test_cosign(
    play: Play, built: Callable[[str], str], server: SampanRegistry, engine: RunningEngine, tmp_path: Path
) -> None:
    """What Sampan signs cosign verifies, by tag and by referrers; what cosign signs Sampan verifies."""
    cosign, name = built(COSIGN), f"{server.host}/signed/app:1"
    sampan = (sys.executable, "-m", "sampan.cli")
    play("docker", "tag", "busybox", name)
    play("docker", "push", name)
    private, public = str(tmp_path / "key.pem"), str(tmp_path / "key.pub")
    play("openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", private)
    play("openssl", "pkey", "-in", private, "-pubout", "-out", public)
    play(*sampan, "image", "sign", "--key", private, name)
    registry = ("--allow-http-registry", "--allow-insecure-registry")
    verify = (cosign, "verify", "--insecure-ignore-tlog=true", *registry)
    assert "cosign container image signature" in play(*verify, "--key", public, name)
    play(*verify, "--experimental-oci11", "--key", public, name, COSIGN_EXPERIMENTAL="1")
    play(cosign, "generate-key-pair", "--output-key-prefix", "theirs", COSIGN_PASSWORD="secret")
    digest = play(*sampan, "image", "verify", "--key", public, name).partition("@")[2].partition(": ")[0]
    target = f"{name.rpartition(':')[0]}@{digest}"
    play(
        *(cosign, "sign", "--key", "theirs.key", "--tlog-upload=false", "--yes", *registry, target),
        COSIGN_PASSWORD="secret",
    )
    play(*sampan, "image", "verify", "--any-name", "--key", str(tmp_path / "theirs.pub"), name)
    play(*verify, "--key", public, name)  # theirs has not displaced ours


def test_umoci(play: Play, server: SampanRegistry, tmp_path: Path) -> None:
    """An image goes out as a layout, is changed by umoci, comes back, and runs; by skopeo and by `image copy`."""
    sampan = (sys.executable, "-m", "sampan.cli", "image", "copy")
    name = f"{server.host}/umoci/app"
    play("docker", "tag", "busybox", f"{name}:1")
    play("docker", "push", f"{name}:1")
    play(*sampan, "--format", "oci", f"docker://{name}:1", "oci:layout:1")
    play("umoci", "unpack", "--image", "layout:1", "bundle")
    (tmp_path / "bundle" / "rootfs" / "added").write_text("by umoci\n")
    play("umoci", "repack", "--image", "layout:2", "bundle")
    play("umoci", "config", "--image", "layout:2", "--config.cmd", "cat", "--config.cmd", "/added")
    assert "sha256:" in play("umoci", "stat", "--image", "layout:2")
    play(*sampan, "oci:layout:2", f"docker://{name}:2")
    play("skopeo", "copy", "--dest-tls-verify=false", "oci:layout:2", f"docker://{name}:3")
    for tag in ("2", "3"):
        assert play("docker", "run", "--rm", f"{name}:{tag}") == "by umoci\n"
    play("umoci", "gc", "--layout", "layout")


def test_buildx_imagetools(
    play: Play, server: SampanRegistry, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Lists of platforms made, added to, copied to another repository, and looked at."""
    own = {"DOCKER_CONFIG": str(docker_config(tmp_path_factory.mktemp("config")))}
    tools = ("docker", "buildx", "imagetools")
    for architecture in ("amd64", "arm64"):
        (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /\n")
        name = f"{server.host}/tools/app:{architecture}"
        build = (
            "docker",
            "buildx",
            "build",
            "--platform",
            f"linux/{architecture}",
            "--push",
            "-t",
            name,
            ".",
        )
        play(*build, **own)
    parts = [f"{server.host}/tools/app:{each}" for each in ("amd64", "arm64")]
    whole, copy = f"{server.host}/tools/app:all", f"{server.host}/elsewhere/app:1"
    play(*tools, "create", "-t", whole, parts[0], **own)
    play(*tools, "create", "--append", "-t", whole, parts[1], **own)
    play(*tools, "create", "--annotation", "index:made.by=imagetools", "-t", copy, whole, **own)
    index = json.loads(play(*tools, "inspect", "--raw", copy, **own))
    assert index["annotations"] == {"made.by": "imagetools"}
    platforms = [each["platform"]["architecture"] for each in index["manifests"]]
    assert sorted(set(platforms) - {"unknown"}) == ["amd64", "arm64"]
    form = "{{range .Manifest.Manifests}}{{.Platform.Architecture}} {{end}}"
    assert "arm64" in play(*tools, "inspect", "--format", form, copy, **own)
    assert "Name:" in play(*tools, "inspect", whole, **own)
    # What it has made the other clients take.
    play("docker", "pull", copy)
    assert "arm64" in play(sys.executable, "-m", "sampan.cli", "manifest", "inspect", "--insecure", copy)


@pytest.mark.parametrize("program", [DISTRIBUTION, ""])
def test_the_same_directory_serves_both_programs(
    play: Play, built: Callable[[str], str], server: SampanRegistry, tmp_path: Path, program: str
) -> None:
    """distribution v3 (and Debian's 2.8) go on with what Sampan has stored, and the other way round."""
    name = f"{server.host}/app"
    play("docker", "tag", "busybox", f"{name}:ours")
    play("docker", "push", f"{name}:ours")
    server.stop()
    (tmp_path / "theirs").mkdir()
    theirs = DockerRegistry(tmp_path / "theirs", program=built(program) if program else "docker-registry")
    theirs.storage, theirs.port = server.storage, server.port
    theirs.start()
    try:
        play("skopeo", "copy", *INSECURE, f"docker://{name}:ours", f"docker://{name}:theirs")
        play("skopeo", "copy", *INSECURE, f"docker://{name}:ours", f"docker://{server.host}/other:theirs")
    finally:
        theirs.stop()
    server.start()
    for each in ("app:ours", "app:theirs", "other:theirs"):
        play(
            "skopeo",
            "copy",
            "--src-tls-verify=false",
            f"docker://{server.host}/{each}",
            f"dir:{tmp_path}/copy",
        )


def test_versitys_object_storage(play: Play, built: Callable[[str], str], tmp_path: Path) -> None:
    """Another S3 than the unit tests' own: a registry in its bucket, a push, a pull, and distribution on the same bucket."""
    gateway, port, distribution = built(VERSITYGW), free_port(), built(DISTRIBUTION)
    (tmp_path / "buckets" / "images").mkdir(parents=True)
    with (tmp_path / "gateway.log").open("wb") as log:
        process = subprocess.Popen(
            [
                gateway,
                "--access",
                "key",
                "--secret",
                "secretsecret",
                "--port",
                f"127.0.0.1:{port}",
                "posix",
                f"{tmp_path}/buckets",
            ],
            stdout=log,
            stderr=log,
        )
    try:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                time.sleep(0.05)  # it has no way to say that it is ready
        settings = {
            "BUCKET": "images",
            "REGION": "us-east-1",
            "REGIONENDPOINT": f"http://127.0.0.1:{port}",
            "ACCESSKEY": "key",
            "SECRETKEY": "secretsecret",
        }
        environment = {f"REGISTRY_STORAGE_S3_{key}": value for key, value in settings.items()}
        (tmp_path / "bucket-registry").mkdir()
        registry = SampanRegistry(tmp_path / "bucket-registry", {"REGISTRY_STORAGE": "s3", **environment})
        registry.start()
        try:
            name = f"{registry.host}/app:1"
            play("docker", "tag", "busybox", name)
            play("docker", "push", name)
            play("docker", "rmi", name)
            play("docker", "pull", name)
            play("skopeo", "copy", "--src-tls-verify=false", f"docker://{name}", f"dir:{tmp_path}/copy")
            (tmp_path / "theirs").mkdir()
            theirs = DockerRegistry(
                tmp_path / "theirs",
                {"REGISTRY_STORAGE": "s3", "REGISTRY_STORAGE_S3_FORCEPATHSTYLE": "true", **environment},
                distribution,
            )
            theirs.start()
            try:
                play("skopeo", "copy", *INSECURE, f"docker://{name}", f"docker://{theirs.host}/theirs/app:1")
                play("skopeo", "copy", *INSECURE, f"docker://{theirs.host}/app:1", f"dir:{tmp_path}/copy")
            finally:
                theirs.stop()
            copy = f"docker://{registry.host}/theirs/app:1"
            play("skopeo", "copy", "--src-tls-verify=false", copy, f"dir:{tmp_path}/copy")
            deadline = time.monotonic() + 10
            while b'"theirs/app"' not in urllib.request.urlopen(f"http://{registry.host}/v2/_catalog").read():
                assert time.monotonic() < deadline, "not in the catalogue"
                time.sleep(0.1)  # a bucket this small is looked through once a second
        finally:
            registry.stop()
    finally:
        process.terminate()
        process.wait(10)
