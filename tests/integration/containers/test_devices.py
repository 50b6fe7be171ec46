"""Devices through the unmodified CLI: `--device` in its forms, and by CDI name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from running_engine import RunningEngine

pytestmark = pytest.mark.root

RUN = ("run", "--rm", "--network", "none")


def test_devices_by_name(make_engine: Callable[..., RunningEngine], tmp_path: Path) -> None:
    specs = tmp_path / "cdi"
    specs.mkdir()
    witness = tmp_path / "hook-ran"
    edits = {
        "env": ["TOY=yes"],
        "deviceNodes": [{"path": "/dev/toy", "hostPath": "/dev/zero"}],
        "mounts": [{"hostPath": str(specs), "containerPath": "/toys", "options": ["ro", "nosuid", "bind"]}],
        "hooks": [
            {"hookName": "createRuntime", "path": "/bin/sh", "args": ["sh", "-c", f"echo ran > {witness}"]}
        ],
    }
    (specs / "acme.json").write_text(
        json.dumps(
            {
                "cdiVersion": "0.6.0",
                "kind": "acme.com/toy",
                "devices": [{"name": "one", "containerEdits": edits}],
            }
        )
    )
    engine = make_engine("--cdi-spec-dir", str(specs))
    script = "echo $TOY; head -c 3 /dev/toy | od -An -tx1; ls /toys; touch /toys/x"
    done = engine.docker(*RUN, "--device", "acme.com/toy=one", "busybox", "sh", "-c", script, check=False)
    assert done.stdout.split() == ["yes", "00", "00", "00", "acme.json"]
    assert "Read-only file system" in done.stderr
    assert witness.read_text() == "ran\n"
    missing = engine.docker(*RUN, "--device", "acme.com/toy=two", "busybox", "true", check=False)
    assert missing.returncode == 125
    assert "CDI device injection failed: unresolvable CDI devices acme.com/toy=two" in missing.stderr
    info = json.loads(engine.docker("info", "--format", "{{json .}}").stdout)
    assert info["DiscoveredDevices"] == [{"Source": "cdi", "ID": "acme.com/toy=one"}]
    gpu = engine.docker(*RUN, "--gpus", "all", "busybox", "true", check=False)
    assert "no known GPU vendor found" in gpu.stderr


def test_device_nodes(engine: RunningEngine) -> None:
    def run(*arguments: str) -> str:
        return engine.docker(*RUN, *arguments, check=False).stdout

    assert run(
        "--device", "/dev/zero:/dev/nil", "busybox", "sh", "-c", "head -c 2 /dev/nil | od -An -tx1"
    ).split() == ["00", "00"]
    # 10:1 is nobody's: opening it tells "no such device" from "not permitted".
    opening = ("busybox", "sh", "-c", "mknod /tmp/z c 10 1; cat /tmp/z 2>&1; head -c 0 > /tmp/z")
    assert "Operation not permitted" in run("--cap-add", "MKNOD", *opening)
    assert "Operation not permitted" not in run("--device-cgroup-rule", "c 10:* rwm", *opening)
    refused = engine.docker("create", "--device-cgroup-rule", "c 10 rwm", "busybox", check=False)
    assert refused.returncode != 0 and "invalid device cgroup format 'c 10 rwm'" in refused.stderr
    missing = engine.docker(*RUN, "--device", "/dev/nosuch", "busybox", "true", check=False)
    assert missing.returncode in (125, 127) and "no such file or directory" in missing.stderr
