"""`--mount type=image`: an image as a read-only mount."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator

import pytest

from busybox_image import busybox_archive
from running_engine import RunningEngine

pytestmark = pytest.mark.root

FILES = {"data/greeting": b"hello from the image\n", "data/deep/file": b"deep\n"}
MOUNT = "type=image,source=tools,target=/img"


@pytest.fixture
def tools(engine: RunningEngine) -> Iterator[RunningEngine]:
    with engine.client() as client:
        client.images.load(busybox_archive("tools:latest", FILES))
    yield engine
    engine.remove_everything()
    engine.docker("rmi", "-f", "tools")


def run(engine: RunningEngine, mount: str, *command: str) -> subprocess.CompletedProcess[str]:
    return engine.docker(
        "run",
        "--rm",
        "--pull",
        "never",
        "--network",
        "none",
        "--mount",
        mount,
        "busybox",
        *command,
        check=False,
    )


def test_its_files_are_there_and_read_only(tools: RunningEngine) -> None:
    assert run(tools, MOUNT, "cat", "/img/data/greeting").stdout == "hello from the image\n"
    refused = run(tools, MOUNT, "touch", "/img/x")
    assert refused.returncode == 1 and "Read-only file system" in refused.stderr
    assert "ro," in run(tools, MOUNT, "grep", " /img ", "/proc/self/mountinfo").stdout
    # No container, no mount: nothing of it stays on the host.
    with open("/proc/self/mountinfo", encoding="ascii") as table:
        assert str(tools.exec_root) + "/mounts" not in table.read()


def test_a_part_of_it(tools: RunningEngine) -> None:
    assert run(tools, MOUNT + ",image-subpath=data/deep", "ls", "/img").stdout == "file\n"
    file = run(
        tools, "type=image,source=tools,target=/greeting,image-subpath=data/greeting", "cat", "/greeting"
    )
    assert file.stdout == "hello from the image\n"
    missing = run(tools, MOUNT + ",image-subpath=nosuch", "true")
    assert missing.returncode == 127 and "no such file or directory" in missing.stderr
    outside = run(tools, MOUNT + ",image-subpath=../..", "true")
    assert "subpath must be a relative path within the volume" in outside.stderr


def test_an_image_that_is_not_there(tools: RunningEngine) -> None:
    missing = run(tools, "type=image,source=nosuch:1,target=/img", "true")
    assert missing.returncode == 125 and "No such image: nosuch:1" in missing.stderr
    assert tools.docker("ps", "-aq").stdout == ""


def test_a_mounted_image_stays(tools: RunningEngine) -> None:
    tools.docker("create", "--name", "user", "--mount", MOUNT, "busybox", "cat", "/img/data/greeting")
    for way in (("rmi", "tools"), ("rmi", tools.docker("images", "-q", "tools").stdout.strip())):
        refused = tools.docker(*way, check=False)
        assert refused.returncode == 1 and "conflict: unable to delete" in refused.stderr
    tools.docker("rmi", "-f", "tools")  # the name goes, the layers stay
    tools.docker("image", "prune", "-f")
    assert tools.docker("start", "-a", "user").stdout == "hello from the image\n"
    mount = json.loads(tools.docker("inspect", "--format", "{{json .Mounts}}", "user").stdout)[0]
    assert (mount["Type"], mount["Name"], mount["RW"], mount["Propagation"]) == (
        "image",
        "tools",
        False,
        "rprivate",
    )
    tools.docker("rm", "user")


def test_two_of_them_and_a_killed_engine(make_engine: Callable[..., RunningEngine]) -> None:
    engine = make_engine()
    with engine.client() as client:
        client.images.load(busybox_archive("tools:latest", FILES))
    two = ("--mount", MOUNT, "--mount", "type=image,source=busybox,target=/other,image-subpath=etc")
    engine.docker("run", "-d", "--name", "user", "--network", "none", *two, "busybox", "sleep", "1000")
    engine.docker(
        "create", "--name", "later", "--network", "none", *two, "busybox", "cat", "/img/data/greeting"
    )
    engine.kill()
    engine.start()
    assert engine.docker("exec", "user", "cat", "/img/data/greeting").stdout == "hello from the image\n"
    assert "root" in engine.docker("exec", "user", "cat", "/other/passwd").stdout
    assert engine.docker("start", "-a", "later").stdout == "hello from the image\n"
    assert engine.docker("rmi", "tools", check=False).returncode == 1
    engine.docker("restart", "-t", "0", "user")
    assert engine.docker("exec", "user", "cat", "/img/data/deep/file").stdout == "deep\n"
    engine.docker("rm", "-f", "user", "later")
    engine.docker("rmi", "tools")
    with open("/proc/self/mountinfo", encoding="ascii") as table:
        assert str(engine.exec_root) + "/mounts" not in table.read()
