"""`sampan registry serve` as an image that Sampan itself has built, and run in its own container."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest

from clients.conftest import Play
from registry_peer import free_port
from running_engine import RunningEngine

BUILD_SECONDS = 900
"""mmdebstrap takes a minute or two on a loaded machine."""
PROGRAM = Path(__file__).parents[2] / "bin" / "registry-image"

pytestmark = [pytest.mark.root, pytest.mark.timeout(BUILD_SECONDS)]


def answered(host: str) -> bytes:
    """What the registry in the container says, as soon as it listens."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return bytes(urllib.request.urlopen(f"http://{host}/v2/_catalog", timeout=5).read())
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.05)  # the port is published before the program in the container listens


def test_it_is_built_and_run_pushed_to_and_pulled_from(
    play: Play, engine: RunningEngine, tmp_path: Path
) -> None:
    build = subprocess.run(
        [str(PROGRAM), "registry-of-ours:1"],
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DOCKER_HOST": engine.host, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=BUILD_SECONDS,
        check=False,
    )
    assert build.returncode == 0, build.stdout[-3000:] + build.stderr[-3000:]
    assert not list(tmp_path.glob("sampan-registry-image.*"))
    host = f"127.0.0.1:{free_port()}"
    hardened = ("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")
    storage = ("-v", "registry-content:/var/lib/registry")
    run = ("docker", "run", "-d", "--name", "registry", "-p", f"{host}:5000", *storage, *hardened)
    play(*run, "registry-of-ours:1")
    answered(host)
    play("docker", "tag", "busybox", f"{host}/team/app:1")
    play("docker", "push", f"{host}/team/app:1")
    # Its state is the volume's alone: another container goes on with it.
    play("docker", "rm", "-f", "registry")
    play(*run, "registry-of-ours:1")
    assert json.loads(answered(host)) == {"repositories": ["team/app"]}
    play("docker", "rmi", f"{host}/team/app:1")
    play("docker", "pull", f"{host}/team/app:1")
    assert play("docker", "run", "--rm", f"{host}/team/app:1", "echo", "pulled").strip() == "pulled"
    play("skopeo", "copy", "--src-tls-verify=false", f"docker://{host}/team/app:1", f"dir:{tmp_path}/copy")
    config = "/etc/docker/registry/config.yml"
    said = play(
        "docker", "exec", "registry", "python3", "-m", "sampan.registryserver", "garbage-collect", config
    )
    assert said.startswith("removed 0 manifests and 0 blobs")
    play("docker", "stop", "registry")
    state = json.loads(play("docker", "inspect", "registry"))[0]["State"]
    assert state["ExitCode"] == 0  # SIGTERM ends it in order
