"""CDI specifications: found, read, applied to a container's spec."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from sampan.containers.cdi import inject, load
from sampan.engineapi.container import DeviceRequest
from sampan.errors import SystemFailure

if TYPE_CHECKING:
    from pathlib import Path

    from sampan.oci.runtime import Spec

SPEC: dict[str, Any] = {
    "cdiVersion": "0.6.0",
    "kind": "acme.com/toy",
    "containerEdits": {"env": ["COMMON=1"]},
    "devices": [
        {
            "name": "one",
            "containerEdits": {
                "env": ["A=new"],
                "deviceNodes": [{"path": "/dev/toy", "hostPath": "/dev/null", "permissions": "rw"}],
                "mounts": [{"hostPath": "/etc", "containerPath": "/opt/toy/etc", "options": ["ro"]}],
                "hooks": [{"hookName": "createContainer", "path": "/bin/true", "args": ["true"]}],
                "additionalGids": [44, 0],
            },
        },
        {"name": "two", "containerEdits": {"env": ["TWO=2"]}},
    ],
}


def empty_spec() -> Spec:
    return {
        "ociVersion": "1.2.0",
        "process": {"cwd": "/", "args": ["x"], "env": ["A=old"], "user": {"uid": 0, "gid": 0}},
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
        "linux": {},
    }  # type: ignore[typeddict-item]


def request(*names: str) -> list[DeviceRequest]:
    return [DeviceRequest(driver="cdi", device_ids=list(names))]


def test_a_device_brings_what_its_file_says(tmp_path: Path) -> None:
    (tmp_path / "acme.json").write_text(json.dumps(SPEC))
    spec = empty_spec()
    inject(spec, request("acme.com/toy=one", "acme.com/toy=two"), [str(tmp_path)])
    assert spec["process"]["env"] == ["A=new", "COMMON=1", "TWO=2"]
    device = spec["linux"]["devices"][0]
    assert (device["path"], device["type"], device["major"], device["minor"]) == ("/dev/toy", "c", 1, 3)
    assert spec["linux"]["resources"]["devices"] == [
        {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "rw"}
    ]
    assert [mount["destination"] for mount in spec["mounts"]] == ["/proc", "/opt/toy/etc"]
    assert spec["mounts"][1]["options"] == ["rbind", "ro"]
    assert spec["hooks"] == {"createContainer": [{"path": "/bin/true", "args": ["true"]}]}
    assert spec["process"]["user"]["additionalGids"] == [44]


def test_yaml_priorities_and_conflicts(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    for directory in (first, second):
        directory.mkdir()
    text = "cdiVersion: 0.5.0\nkind: acme.com/toy\ndevices:\n- name: {}\n  containerEdits:\n    env: [{}]\n"
    (first / "x.yaml").write_text(text.format("one", "FROM=first"))
    (second / "x.yaml").write_text(text.format("one", "FROM=second"))
    (second / "y.yaml").write_text(text.format("twice", "A=1"))
    (second / "z.yaml").write_text(text.format("twice", "A=2"))
    (second / "broken.json").write_text("{")
    found = load([str(first), str(second), str(tmp_path / "missing")])
    assert {name: device.edits["env"] for name, device in found.items()} == {
        "acme.com/toy=one": ["FROM=second"]
    }


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (request("acme.com/toy=no", "x.y/z=q"), "unresolvable CDI devices acme.com/toy=no, x.y/z=q"),
        ([DeviceRequest(driver="nosuch", capabilities=[["gpu"]])], 'could not select device driver "nosuch"'),
        ([DeviceRequest(count=-1, capabilities=[["gpu"]])], "no known GPU vendor found"),
    ],
)
def test_mistakes(tmp_path: Path, asked: list[DeviceRequest], words: str) -> None:
    with pytest.raises(SystemFailure, match=words):
        inject(empty_spec(), asked, [str(tmp_path)])


def test_gpus_are_devices_of_the_first_known_vendor(tmp_path: Path) -> None:
    (tmp_path / "gpu.json").write_text(
        json.dumps(
            {
                "kind": "amd.com/gpu",
                "devices": [
                    {"name": name, "containerEdits": {"env": [f"G{name}=1"]}} for name in ("all", "0", "1")
                ],
            }
        )
    )
    for asked, found in (
        (DeviceRequest(count=-1, capabilities=[["gpu"]]), ["Gall=1"]),
        (DeviceRequest(count=2, capabilities=[["gpu"]]), ["G0=1", "G1=1"]),
        (DeviceRequest(device_ids=["1"], capabilities=[["gpu"]]), ["G1=1"]),
    ):
        spec = empty_spec()
        inject(spec, [asked], [str(tmp_path)])
        assert spec["process"]["env"][1:] == found
