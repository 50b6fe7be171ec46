"""Registries as a whole engine uses them: `docker run` of a missing image, and daemon.json's keys."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable

import pytest

from registry_peer import DockerRegistry
from running_engine import RunningEngine

pytestmark = pytest.mark.root


def test_run_pulls_what_is_missing(docker_registry: DockerRegistry, engine: RunningEngine) -> None:
    name = f"{docker_registry.host}/tools/busybox:1"
    engine.docker("tag", "busybox", name)
    engine.docker("push", name)
    engine.docker("rmi", name)
    done = engine.docker("run", "--rm", name, "echo", "hello")
    assert done.stdout == "hello\n"
    assert f"Unable to find image '{name}' locally" in done.stderr
    assert f"Status: Downloaded newer image for {name}" in done.stderr
    always = engine.docker("run", "--rm", "--pull", "always", name, "true")
    assert f"Status: Image is up to date for {name}" in always.stderr
    never = engine.docker("run", "--pull", "never", f"{docker_registry.host}/other", "true", check=False)
    assert never.returncode == 125
    engine.docker("rmi", name)


def test_a_pull_is_an_event(docker_registry: DockerRegistry, engine: RunningEngine) -> None:
    name = f"{docker_registry.host}/events:1"
    begin = engine.docker("info", "-f", "{{.SystemTime}}").stdout.strip()
    engine.docker("tag", "busybox", name)
    engine.docker("push", name)
    engine.docker("pull", name)
    end = engine.docker("info", "-f", "{{.SystemTime}}").stdout.strip()
    shown = engine.docker(
        "events",
        "--since",
        begin,
        "--until",
        end,
        "-f",
        "type=image",
        "--format",
        "{{.Action}} {{.Actor.ID}}",
    ).stdout
    engine.docker("rmi", name)
    assert f"pull {name}" in shown
    assert re.search(r"^push ", shown, re.M)


def test_mirrors_and_their_reload(
    docker_registry: DockerRegistry, make_engine: Callable[..., RunningEngine]
) -> None:
    engine = make_engine("--max-download-attempts", "1")
    file = engine.data_root.parent / "daemon.json"
    engine.docker("tag", "busybox", f"{docker_registry.host}/library/mirrored:1")
    engine.docker("push", f"{docker_registry.host}/library/mirrored:1")
    engine.stop()
    mirrors = ["http://127.0.0.1:1"]
    file.write_text(
        json.dumps({"registry-mirrors": mirrors, "proxies": {"https-proxy": "http://127.0.0.1:1"}})
    )
    engine.start("--config-file", str(file))
    failed = engine.docker("pull", "mirrored:1", check=False)
    assert "mirrors tried first: http://127.0.0.1:1: " in failed.stderr
    assert '"registry-mirrors": ["http://127.0.0.1:1/"]' in failed.stderr
    mirrors.append(f"http://{docker_registry.host}")
    file.write_text(
        json.dumps({"registry-mirrors": mirrors, "proxies": {"https-proxy": "http://127.0.0.1:1"}})
    )
    os.kill(engine.pid, signal.SIGHUP)
    for _ in range(100):
        shown = engine.docker("info", "-f", "{{json .RegistryConfig.Mirrors}}").stdout
        if docker_registry.host in shown:
            break
    engine.docker("pull", "mirrored:1")
    assert engine.docker("images", "-q", "mirrored:1").stdout
