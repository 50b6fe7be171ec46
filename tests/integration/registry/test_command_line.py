"""`sampan login/logout/push/pull/search` and `sampan image copy`."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from aiohttp import web

from hostile_registry import BackgroundRegistry, digest
from image_archives import tar
from image_engine import ImageEngine
from registry_peer import DockerRegistry
from sampan.oci.image import OCI_CONFIG, OCI_LAYER_GZIP, OCI_MANIFEST

pytestmark = pytest.mark.root

HELPER = """#!/bin/sh
file=$(dirname "$0")/kept
case $1 in
    store) cat > "$file" ;;
    get) [ -e "$file" ] && exec cat "$file"; echo "credentials not found in native keychain"; exit 1 ;;
    erase) rm -f "$file" ;;
esac
"""


class Command:
    """The sampan command with a configuration directory of its own."""

    def __init__(self, engine: ImageEngine, directory: Path) -> None:
        self.config = directory / "config"
        self.helpers = directory / "helpers"
        self.config.mkdir()
        self.helpers.mkdir()
        self._engine = engine

    def __call__(self, *arguments: str, stdin: str = "", ok: bool = True) -> str:
        command = [sys.executable, "-m", "sampan.cli", "-H", f"unix://{self._engine.socket}", *arguments]
        environment = {
            **os.environ,
            "DOCKER_CONFIG": str(self.config),
            "PATH": f"{self.helpers}:{os.environ['PATH']}",
        }
        done = subprocess.run(
            command, input=stdin, capture_output=True, text=True, timeout=60, check=False, env=environment
        )
        assert (done.returncode == 0) is ok, (arguments, done.stdout, done.stderr)
        return done.stdout if ok else done.stderr

    @property
    def file(self) -> dict[str, object]:
        document: dict[str, object] = json.loads((self.config / "config.json").read_text())
        return document


@pytest.fixture
def sampan(make_image_engine: Callable[..., ImageEngine], tmp_path: Path, image: bytes) -> Command:
    engine = make_image_engine()
    engine.docker("load", stdin=image)
    return Command(engine, tmp_path)


def test_login_push_pull_logout(sampan: Command, locked_registry: DockerRegistry) -> None:
    host = locked_registry.host
    sampan("tag", "source:1", f"{host}/app:1")
    sampan("tag", "source:1", f"{host}/app:2")
    assert "no basic auth credentials" in sampan("push", f"{host}/app:1", ok=False)
    assert "401 Unauthorized" in sampan(
        "login", "-u", "me", "--password-stdin", host, stdin="wrong\n", ok=False
    )
    assert sampan("login", "-u", "me", "--password-stdin", host, stdin="secret\n") == "Login Succeeded\n"
    assert (sampan.config / "config.json").stat().st_mode & 0o77 == 0
    assert sampan("login", host) == "Login Succeeded\n"  # with what is kept
    assert "1: digest: sha256:" in sampan("push", f"{host}/app:1")
    sampan("push", "-a", f"{host}/app")
    sampan("rmi", f"{host}/app:1", f"{host}/app:2")
    output = sampan("pull", "-a", f"{host}/app")
    assert "1: Pulling from app" in output
    assert "2: Pulling from app" in output
    sampan("logout", host)
    assert sampan.file["auths"] == {}
    assert "no basic auth credentials" in sampan("pull", f"{host}/app:1", ok=False)


def test_credential_helpers(sampan: Command, locked_registry: DockerRegistry) -> None:
    host = locked_registry.host
    helper = sampan.helpers / "docker-credential-test"
    helper.write_text(HELPER)
    helper.chmod(0o755)
    (sampan.config / "config.json").write_text(
        json.dumps({"credsStore": "nosuch", "credHelpers": {host: "test"}})
    )
    sampan("login", "-u", "me", "--password-stdin", host, stdin="secret")
    assert json.loads((sampan.helpers / "kept").read_text())["Secret"] == "secret"
    assert sampan.file["auths"] == {host: {}}
    assert "secret" not in json.dumps(sampan.file)
    sampan("tag", "source:1", f"{host}/app:1")
    sampan("push", f"{host}/app:1")
    sampan("logout", host)
    assert not (sampan.helpers / "kept").exists()
    assert "docker-credential-nosuch" in sampan("pull", "busybox", ok=False)


def test_search(sampan: Command) -> None:
    found = [
        {"name": "one", "description": "first\nline " + "x" * 60, "star_count": 5, "is_official": True},
        {"name": "two", "description": "", "star_count": 2, "is_official": False, "is_automated": True},
    ]

    async def searching(request: web.Request) -> web.StreamResponse | None:
        if request.path != "/v1/search":
            return None
        return web.json_response({"results": found, "num_results": 2})

    with BackgroundRegistry() as registry:
        registry.behave(searching)
        lines = sampan("search", f"{registry.host}/thing").splitlines()
        assert lines[0].split() == ["NAME", "DESCRIPTION", "STARS", "OFFICIAL"]
        assert lines[1].split()[0] == "one"
        assert lines[1].endswith("[OK]")
        assert registry.seen[-1].query == "q=thing&n=25"
        filtered = sampan("search", "--filter", "stars=3", "--format", "{{.Name}}", f"{registry.host}/thing")
        assert filtered == "one\n"
        unofficial = sampan(
            "search", "-f", "is-official=false", "--format", "{{.Name}}", f"{registry.host}/x"
        )
        assert unofficial == "two\n"
        assert (
            sampan("search", "-f", "is-automated=true", "--format", "{{.Name}}", f"{registry.host}/x") == ""
        )
        assert "outside the range of [1, 100]" in sampan(
            "search", "--limit", "101", f"{registry.host}/x", ok=False
        )
        assert "invalid filter 'nosuch'" in sampan("search", "-f", "nosuch=1", f"{registry.host}/x", ok=False)
        assert "invalid filter 'stars=many'" in sampan(
            "search", "-f", "stars=many", f"{registry.host}/x", ok=False
        )


def test_copies_keep_every_platform_and_the_digest(
    sampan: Command, docker_registry: DockerRegistry, tmp_path: Path
) -> None:
    with BackgroundRegistry() as origin:
        parts = []
        for architecture in ("amd64", "arm64"):
            one = origin.image([tar({architecture: b"x"})], architecture, architecture=architecture)
            parts.append({**one, "platform": {"os": "linux", "architecture": architecture}})
        target = origin.index(parts)["digest"]
        sampan("image", "copy", f"docker://{origin.host}/app", f"oci:{tmp_path}/layout:one")
        sampan("image", "copy", f"{origin.host}/app", f"oci-archive:{tmp_path}/app.tar")
        alone = sampan(
            "image", "copy", "-q", "--platform", "linux/arm64", f"{origin.host}/app", f"oci:{tmp_path}/arm"
        )
        assert alone.strip() == parts[1]["digest"]
    host = docker_registry.host
    assert sampan("image", "copy", "-q", f"oci:{tmp_path}/layout:one", f"{host}/app:1").strip() == target
    again = sampan("image", "copy", f"oci-archive:{tmp_path}/app.tar", f"{host}/app:2")
    assert again.count(": exists") == 4
    mounted = sampan("image", "copy", f"{host}/app:1", f"{host}/other:1")
    assert mounted.count(": exists") == 4
    sampan("image", "copy", f"{host}/other:1", "store:copied:1")
    assert json.loads(sampan("image", "inspect", "copied:1"))[0]["Id"] == target
    assert sampan("image", "copy", "-q", "store:copied:1", f"{host}/back:1").strip() == target
    checked = subprocess.run(
        ["skopeo", "inspect", "--raw", f"oci:{tmp_path}/layout:one"], capture_output=True, check=True
    )
    assert digest(checked.stdout) == target


def test_copies_are_verified(sampan: Command, tmp_path: Path) -> None:
    with BackgroundRegistry() as origin:
        layer = tar({"a": b"b"})
        origin.image([layer])
        origin.blobs[digest(layer)] = layer[:-1] + b"\1"
        failed = sampan("image", "copy", f"{origin.host}/app", f"oci:{tmp_path}/layout", ok=False)
        assert "verification failed" in failed
        assert not (tmp_path / "layout" / "index.json").exists()
        assert "no place that images are copied" in sampan(
            "image", "copy", "containers-storage:x", f"oci:{tmp_path}/y", ok=False
        )


def test_copies_to_and_from_skopeos_and_dockers_forms(sampan: Command, tmp_path: Path) -> None:
    """`dir:` and `docker-archive:` as skopeo reads and writes them, and any engine's store."""

    def skopeo(*words: str) -> bytes:
        return subprocess.run(["skopeo", *words], capture_output=True, check=True).stdout

    with BackgroundRegistry() as origin:
        plain = tar({"x": b"y"})
        zipped = gzip.compress(plain)
        config = {"architecture": "amd64", "os": "linux", "rootfs": {"diff_ids": [digest(plain)] * 2}}
        document = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": origin.blob(json.dumps(config).encode(), OCI_CONFIG),
            "layers": [origin.blob(zipped, OCI_LAYER_GZIP), origin.blob(plain)],
        }
        part = origin.manifest(json.dumps(document).encode(), OCI_MANIFEST)
        other = origin.image([tar({"arm64": b"x"})], "arm", architecture="arm64")
        platform = {"os": "linux", "architecture": "amd64"}
        index = origin.index(
            [{**part, "platform": platform}, {**other, "platform": {**platform, "architecture": "arm64"}}]
        )
        name = f"{origin.host}/app"
        sampan("image", "copy", name, f"dir:{tmp_path}/dir")
        assert digest(skopeo("inspect", "--raw", f"dir:{tmp_path}/dir")) == index["digest"]
        skopeo("copy", "--all", f"dir:{tmp_path}/dir", f"dir:{tmp_path}/again")
        assert (
            sampan("image", "copy", "-q", f"dir:{tmp_path}/again", f"oci:{tmp_path}/oci").strip()
            == index["digest"]
        )
        sampan("image", "copy", name, f"docker-archive:{tmp_path}/one.tar:name.example/app:1")
    read = json.loads(skopeo("inspect", "--config", f"docker-archive:{tmp_path}/one.tar"))
    assert read["rootfs"]["diff_ids"] == [digest(plain)] * 2
    skopeo(
        "copy", f"docker-archive:{tmp_path}/one.tar", f"docker-archive:{tmp_path}/two.tar:name.example/app:2"
    )
    sampan("image", "copy", f"docker-archive:{tmp_path}/two.tar", "docker-daemon:copied:1")
    found = json.loads(sampan("image", "inspect", "copied:1"))[0]
    assert found["RootFS"]["Layers"] == [digest(plain)] * 2
    assert "names: name.example/app:2" in sampan(
        "image", "copy", f"docker-archive:{tmp_path}/two.tar:absent", "store:x", ok=False
    )
