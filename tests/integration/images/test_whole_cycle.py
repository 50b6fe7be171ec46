"""Images through a whole engine: with either snapshot driver, through podman and back, in little memory, with deep trees."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from image_archives import tar
from running_engine import RunningEngine

pytestmark = pytest.mark.root

MakeEngine = Callable[..., RunningEngine]

DEEP = """
    step=$(printf 'd/%.0s' $(seq 500)); mkdir /deep; cd /deep
    for i in $(seq $1); do mkdir -p $step; cd -P $step; done; echo deep > file
"""
DEPTH = "step=$(printf 'd/%.0s' $(seq 500)); cd /deep; i=0; while cd -P $step; do i=$((i+1)); done 2>/dev/null; echo $i; cat file"


@pytest.fixture(params=["overlayfs", "native"])
def engine(request: pytest.FixtureRequest, make_engine: MakeEngine) -> RunningEngine:
    return make_engine("--storage-driver", request.param)


def diff_ids(engine: RunningEngine, image: str) -> list[str]:
    found: list[str] = json.loads(engine.docker("image", "inspect", image).stdout)[0]["RootFS"]["Layers"]
    return found


def test_a_day_in_the_life_of_an_image(engine: RunningEngine, tmp_path: Path) -> None:
    script = """
        mkdir -p /etc/x /opt/empty; echo one > /etc/x/one; ln /etc/x/one /etc/x/other; ln -s one /etc/x/link
        mknod /etc/x/pipe p; chmod 4755 /etc/x/one; chown 1234567:7654321 /etc/x/other; touch -d '2001-02-03 04:05:06' /opt/empty
    """
    engine.docker("run", "--name=first", "--net=none", "busybox", "sh", "-c", script)
    changes = set(engine.docker("diff", "first").stdout.splitlines())
    assert {"C /etc", "A /etc/x", "A /etc/x/link", "A /etc/x/one", "A /opt/empty"} <= changes
    engine.docker("commit", "first", "one")
    engine.docker(
        "run", "--name=second", "--net=none", "one", "sh", "-c", "rm -r /etc/x/one /opt; echo two > /etc/two"
    )
    assert {"D /etc/x/one", "D /opt", "A /etc/two"} <= set(
        engine.docker("diff", "second").stdout.splitlines()
    )
    engine.docker("commit", "-c", "CMD cat /etc/two", "second", "two")
    before = diff_ids(engine, "two")
    assert len(before) == 3
    shown = engine.docker(
        "run", "--rm", "--net=none", "two", "sh", "-c", "ls -ln /etc/x; ls /opt 2>&1", check=False
    ).stdout
    assert re.search(r"-rwxr-xr-x +\d 1234567 +7654321 +4 .* other\n", shown) and "link -> one\n" in shown
    assert "prw-r--r--" in shown and "ls: /opt: No such file or directory" in shown

    saved = tmp_path / "saved.tar"
    engine.docker("save", "-o", str(saved), "one", "two")
    engine.docker("rm", "-f", "first", "second")
    engine.docker("rmi", "one", "two")
    engine.docker("load", "-i", str(saved))
    assert diff_ids(engine, "two") == before
    assert engine.docker("run", "--rm", "--net=none", "two").stdout == "two\n"

    engine.docker("create", "--name=flat", "two")
    engine.docker("export", "-o", str(tmp_path / "flat.tar"), "flat")
    engine.docker("import", "-c", "CMD cat /etc/two", str(tmp_path / "flat.tar"), "flat:1")
    assert engine.docker("run", "--rm", "--net=none", "flat:1").stdout == "two\n"
    engine.docker("rm", "-f", "flat")
    engine.docker("rmi", "flat:1", "one", "two", "busybox")
    assert engine.docker("images", "-aq").stdout == ""


def test_a_tree_as_deep_as_a_path_can_name(engine: RunningEngine, tmp_path: Path) -> None:
    engine.docker("run", "--name=deep", "--net=none", "busybox", "sh", "-c", DEEP, "sh", "4")
    assert len(engine.docker("diff", "deep").stdout.splitlines()) == 2002
    engine.docker("commit", "deep", "deep")
    engine.docker("save", "-o", str(tmp_path / "deep.tar"), "deep")
    engine.docker("rm", "deep")
    engine.docker("rmi", "deep")
    engine.docker("load", "-i", str(tmp_path / "deep.tar"))
    assert engine.docker("run", "--rm", "--net=none", "deep", "sh", "-c", DEPTH).stdout == "4\ndeep\n"
    engine.docker("rmi", "deep")
    assert_nothing_is_left(engine)


def test_a_tree_that_no_path_can_name_is_refused_and_removed(engine: RunningEngine) -> None:
    engine.docker("volume", "create", "deep")
    engine.docker(
        *("run", "--name=deep", "--net=none", "-v=deep:/v", "busybox"),
        *("sh", "-c", DEEP + "cd /v; mv /deep /v/deep; " + DEEP, "sh", "7"),
    )
    for verb in (("diff", "deep"), ("commit", "deep", "deep")):
        done = engine.docker(*verb, check=False)
        assert (
            done.returncode == 1
            and "entry 'deep/d/d/d/" in done.stderr
            and "file name too long" in done.stderr
        )
    assert engine.docker("export", "-o", "/dev/null", "deep", check=False).returncode == 1
    engine.docker("ps", "-as")
    engine.docker("system", "df", "-v")
    engine.docker("rm", "deep")
    engine.docker("volume", "rm", "deep")
    assert_nothing_is_left(engine)


def assert_nothing_is_left(engine: RunningEngine) -> None:
    """After a stop, which waits for what is being deleted: no directory named `d` beneath the data root."""
    engine.docker("rmi", "busybox")
    engine.stop()
    left = subprocess.run(
        ["find", engine.data_root, "-name", "d", "-type", "d"], capture_output=True, text=True, check=True
    )
    assert left.stdout == ""


def test_attributes_whose_names_have_an_equals_sign(engine: RunningEngine) -> None:
    """A PAX record is `length key=value`, so no archive can hold such a name: it is left out, and the others stay."""

    def root_of(container: str) -> str:
        return f"/proc/{engine.docker('inspect', '--format={{.State.Pid}}', container).stdout.strip()}/root/etc/passwd"

    engine.docker("run", "-d", "--name=first", "--net=none", "busybox", "sleep", "100")
    os.setxattr(root_of("first"), "user.plain", b"value=with=signs")
    os.setxattr(root_of("first"), "user.a=b", b"c")
    engine.docker("commit", "first", "attributes")
    engine.docker("run", "-d", "--name=second", "--net=none", "attributes", "sleep", "100")
    assert os.getxattr(root_of("second"), "user.plain") == b"value=with=signs"
    assert [name for name in os.listxattr(root_of("second")) if name.startswith("user.")] == ["user.plain"]


def test_through_podman_and_back_every_diff_id_stays(
    make_engine: MakeEngine, busybox: bytes, tmp_path: Path
) -> None:
    """With an image in OCI's types: podman cannot save Docker's plain layers ("unsupported MIME type for compression")."""
    engine = make_engine(image=False)
    (tmp_path / "busybox.tar").write_bytes(busybox)
    forms = [f"docker-archive:{tmp_path}/busybox.tar", f"oci-archive:{tmp_path}/oci.tar:busybox:latest"]
    subprocess.run(
        ["skopeo", "copy", "--insecure-policy", *forms], check=True, capture_output=True, timeout=60
    )
    engine.docker("load", "-i", str(tmp_path / "oci.tar"))
    script = "rm /bin/vi; mkdir /new; echo x > /new/file"
    engine.docker("run", "--name=changed", "--net=none", "busybox", "sh", "-c", script)
    engine.docker("commit", "changed", "changed:1")
    before = diff_ids(engine, "changed:1")
    run = tempfile.mkdtemp(prefix="podman-", dir="/run")  # it wants a short path
    store = ["podman", "--root", str(tmp_path / "store"), "--runroot", run, "--storage-driver=vfs"]

    def podman(*words: str) -> str:
        done = subprocess.run([*store, *words], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, (words, done.stderr)
        return done.stdout

    sent = tmp_path / "sent.tar"
    engine.docker("save", "-o", str(sent), "changed:1")
    engine.docker("rm", "changed")
    engine.docker("rmi", "changed:1")
    podman("load", "-i", str(sent))
    shown = json.loads(podman("image", "inspect", "docker.io/library/changed:1"))[0]
    assert shown["RootFS"]["Layers"] == before
    for form in ("docker-archive", "oci-archive"):
        back = tmp_path / f"{form}.tar"
        podman("save", f"--format={form}", "-o", str(back), "docker.io/library/changed:1")
        engine.docker("load", "-i", str(back))
        assert diff_ids(engine, "changed:1") == before
        script = "cat /new/file; ls /bin/vi 2>&1"
        shown = engine.docker("run", "--rm", "--net=none", "changed:1", "sh", "-c", script, check=False)
        assert shown.stdout == "x\nls: /bin/vi: No such file or directory\n"
        engine.docker("rmi", "changed:1")
    podman("rmi", "-af")
    shutil.rmtree(run)


def test_a_gigabyte_is_loaded_in_little_memory(make_engine: Callable[..., RunningEngine]) -> None:
    """Engine, zygote and workers together: the archive is never held. It is piped in, and exists nowhere as a whole."""
    engine = make_engine(image=False)
    layer = tarfile.TarInfo("zeros")
    layer.size = 1 << 30
    length = 512 + layer.size + 1024
    diff_id, end = hashlib.sha256(layer.tobuf()), bytes(1 << 20)
    for _ in range(1 << 10):
        diff_id.update(end)
    diff_id.update(bytes(1024))
    diff = f"sha256:{diff_id.hexdigest()}"
    config = json.dumps(
        {"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": [diff]}}
    )
    names = [{"Config": "config.json", "RepoTags": ["big:1"], "Layers": ["layer.tar"]}]
    small = tar({"manifest.json": json.dumps(names).encode(), "config.json": config.encode()})[: 4 * 512]
    member = tarfile.TarInfo("layer.tar")
    member.size = length
    pieces = [small, member.tobuf(), layer.tobuf(), *[end] * 1024, bytes(1024), bytes(-length % 512 + 1024)]
    with _PeakMemory(engine.pid) as peak:
        loading = subprocess.Popen(
            ["docker", "-H", engine.host, "load"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert loading.stdin is not None
        for piece in pieces:
            loading.stdin.write(piece)
        answer, _ = loading.communicate(timeout=50)
    assert answer == b"Loaded image: big:1\n"
    assert peak.grown < 100 << 20, peak.grown


class _PeakMemory:
    """By how much the proportional memory of an engine and all that it forked grew at most, looked at ten times a second."""

    def __init__(self, engine: int) -> None:
        self._engine = engine
        self._first = self._now()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.grown = 0

    def __enter__(self) -> _PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.1):
            self.grown = max(self.grown, self._now() - self._first)

    def _now(self) -> int:
        pending, total = [self._engine], 0
        while pending:
            process = Path("/proc", str(pending.pop()))
            try:
                rollup = (process / "smaps_rollup").read_text()
                total += int(rollup.partition("Pss:")[2].split()[0]) << 10
                for task in (process / "task").iterdir():
                    pending += [int(child) for child in (task / "children").read_text().split()]
            except (FileNotFoundError, ProcessLookupError):
                continue  # a worker that is done
        return total
