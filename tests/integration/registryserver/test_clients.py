"""Unmodified clients against `sampan registry serve`: the docker CLI over Sampan and over Debian's dockerd, skopeo, podman."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from busybox_image import busybox_archive
from certificates import Authority
from image_engine import ImageEngine
from integration.registryserver.conftest import HTPASSWD, MakeServer
from registry_peer import DockerRegistry, SampanRegistry

pytestmark = pytest.mark.root

MakeEngine = Callable[..., ImageEngine]


def run(*command: str, **environment: str) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=100, check=False, env={**os.environ, **environment}
    )
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout


def test_docker_over_sampan(server: SampanRegistry, make_image_engine: MakeEngine, image: bytes) -> None:
    sender, receiver = make_image_engine(), make_image_engine()
    sender.docker("load", stdin=image)
    for name in (f"{server.host}/team/app:1", f"{server.host}/team/other:1"):
        sender.docker("tag", "source:1", name)
    pushed = re.search(r"digest: (sha256:\w+)", sender.docker("push", f"{server.host}/team/app:1"))
    assert pushed is not None
    assert sender.docker("push", f"{server.host}/team/other:1").count("Mounted from team/app") == 3
    output = receiver.docker("pull", f"{server.host}/team/app:1")
    assert f"Digest: {pushed[1]}" in output
    found = receiver.docker("search", "--format", "{{.Name}}", f"{server.host}/team")
    assert found.split() == ["team/app", "team/other"]
    document = json.loads(receiver.docker("manifest", "inspect", "--insecure", f"{server.host}/team/app:1"))
    assert len(document["layers"]) == 3


def test_skopeo_and_podman(
    server: SampanRegistry, tmp_path: Path, make_image_engine: MakeEngine, image: bytes
) -> None:
    archive = tmp_path / "image.tar"
    archive.write_bytes(image)
    name = f"docker://{server.host}/skopeo/app"
    run(
        "skopeo",
        "copy",
        "--dest-tls-verify=false",
        f"oci-archive:{archive}",
        f"{name}:1",
    )
    run("skopeo", "copy", "--src-tls-verify=false", "--dest-tls-verify=false", f"{name}:1", f"{name}:2")
    found = json.loads(run("skopeo", "list-tags", "--tls-verify=false", name))
    assert found["Tags"] == ["1", "2"]
    run("skopeo", "copy", "--src-tls-verify=false", f"{name}:1", f"dir:{tmp_path}/copy")
    _podman_round_trip(server, tmp_path)
    run("skopeo", "inspect", "--tls-verify=false", f"docker://{server.host}/podman/app:1")
    run("skopeo", "delete", "--tls-verify=false", f"{name}:1")
    gone = subprocess.run(
        ["skopeo", "inspect", "--tls-verify=false", f"{name}:1"], capture_output=True, text=True, check=False
    )
    assert "manifest unknown" in gone.stderr


def _podman_round_trip(server: SampanRegistry, tmp_path: Path) -> None:
    """Pull and push with podman, whose state is all in directories of the test's own."""
    (tmp_path / "containers.conf").write_text('[engine]\nlock_type = "file"\n')
    with tempfile.TemporaryDirectory(prefix="sampan-podman-") as short:  # podman wants a short path
        storage = ("--root", f"{tmp_path}/podman", "--runroot", f"{short}/r", "--tmpdir", f"{short}/t")
        podman = ("podman", *storage, "--storage-driver", "vfs")
        configuration = {"CONTAINERS_CONF": f"{tmp_path}/containers.conf"}
        name = f"{server.host}/skopeo/app:1"
        run(*podman, "pull", "--tls-verify=false", name, **configuration)
        run(*podman, "push", "--tls-verify=false", name, f"{server.host}/podman/app:1", **configuration)


def test_the_same_directory_serves_both_programs(
    server: SampanRegistry, make_image_engine: MakeEngine, image: bytes, tmp_path: Path
) -> None:
    """What one has stored the other serves: stop one, start the other on its directory, and back."""
    engine = make_image_engine()
    engine.docker("load", stdin=image)
    engine.docker("tag", "source:1", f"{server.host}/app:1")
    engine.docker("push", f"{server.host}/app:1")
    server.stop()
    theirs = DockerRegistry(tmp_path / "theirs")
    (tmp_path / "theirs").mkdir()
    theirs.storage = server.storage
    theirs.port = server.port
    theirs.start()
    try:
        receiver = make_image_engine()
        receiver.docker("pull", f"{server.host}/app:1")
        receiver.docker("tag", f"{server.host}/app:1", f"{server.host}/app:theirs")
        receiver.docker("push", f"{server.host}/app:theirs")
    finally:
        theirs.stop()
    server.start()
    last = make_image_engine()
    last.docker("pull", "-a", f"{server.host}/app")
    assert sorted(last.docker("images", "--format", "{{.Tag}}").split()) == ["1", "theirs"]


def test_passwords_and_tls(
    make_server: MakeServer, make_image_engine: MakeEngine, image: bytes, tmp_path: Path
) -> None:
    passwords = tmp_path / "htpasswd"
    passwords.write_text(HTPASSWD)
    certificate = Authority(tmp_path).issue("server", server=True)
    server = make_server(
        {
            "REGISTRY_AUTH": "htpasswd",
            "REGISTRY_AUTH_HTPASSWD_REALM": "test",
            "REGISTRY_AUTH_HTPASSWD_PATH": str(passwords),
            "REGISTRY_HTTP_TLS_CERTIFICATE": str(certificate / "cert.pem"),
            "REGISTRY_HTTP_TLS_KEY": str(certificate / "key.pem"),
        }
    )
    engine = make_image_engine()
    engine.docker("load", stdin=image)
    engine.docker("tag", "source:1", f"{server.host}/app:1")
    assert "no basic auth credentials" in engine.docker("push", f"{server.host}/app:1", ok=False)
    assert "401" in engine.docker("login", "-u", "me", "-p", "wrong", server.host, ok=False)
    engine.docker("login", "-u", "me", "--password-stdin", server.host, stdin=b"secret")
    engine.docker("push", f"{server.host}/app:1")
    engine.docker("rmi", f"{server.host}/app:1")
    engine.docker("pull", f"{server.host}/app:1")
    assert "secret" not in server.log


@pytest.fixture
def debians_docker(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """The docker CLI over Debian's dockerd, with a state of its own and no network."""
    with tempfile.TemporaryDirectory(prefix="sampan-dockerd-") as short:
        socket = f"unix://{short}/d.sock"
        log = open(tmp_path / "dockerd.log", "wb")  # noqa: SIM115 - closed below
        daemon = subprocess.Popen(
            [
                *("dockerd", "--data-root", f"{tmp_path}/dockerd", "--exec-root", f"{short}/x", "-H", socket),
                *(
                    "--pidfile",
                    f"{short}/pid",
                    "--bridge",
                    "none",
                    "--iptables=false",
                    "--storage-driver",
                    "vfs",
                ),
            ],
            stdout=log,
            stderr=log,
            start_new_session=True,
        )

        def docker(*arguments: str) -> str:
            return run("docker", "-H", socket, *arguments, DOCKER_CONFIG=str(tmp_path))

        try:
            for _ in range(300):
                if (
                    subprocess.run(
                        ["docker", "-H", socket, "version"], capture_output=True, check=False
                    ).returncode
                    == 0
                ):
                    break
                assert daemon.poll() is None, (tmp_path / "dockerd.log").read_text()
                select.select([], [], [], 0.1)  # it has no way to say that it is ready
            yield docker
        finally:
            daemon.send_signal(signal.SIGTERM)
            daemon.wait(30)
            log.close()


def test_docker_over_debians_dockerd(
    server: SampanRegistry, debians_docker: Callable[..., str], tmp_path: Path
) -> None:
    (tmp_path / "busybox.tar").write_bytes(busybox_archive())
    debians_docker("load", "-i", f"{tmp_path}/busybox.tar")
    name = f"{server.host}/debian/busybox:1"
    debians_docker("tag", "busybox", name)
    pushed = re.search(r"digest: (sha256:\w+)", debians_docker("push", name))
    assert pushed is not None
    debians_docker("rmi", name, "busybox")
    assert f"Digest: {pushed[1]}" in debians_docker("pull", name)
    assert debians_docker("search", "--format", "{{.Name}}", f"{server.host}/debian").split() == [
        "debian/busybox"
    ]
