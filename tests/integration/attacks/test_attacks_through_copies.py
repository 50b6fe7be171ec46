"""Attacks on `docker cp`, `export` and `diff`: the engine reads and writes in a tree that a hostile container changes meanwhile.

Each docstring names, after "Red when", the line without which the test fails.
"""

from __future__ import annotations

import os
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import sampan
from hostile_library import library_that_creates
from image_archives import member, tar
from running_engine import RunningEngine
from sampan.errors import SampanError

pytestmark = pytest.mark.root

_RACE_SECONDS = 3.0


@pytest.mark.parametrize("running", [True, False], ids=["running", "stopped"])
def test_links_lead_nowhere_but_into_the_container(
    engine: RunningEngine,
    hostile_image: Callable[..., str],
    host_directory: Path,
    tmp_path: Path,
    running: bool,
) -> None:
    """CVE-2018-15664: `docker cp` by way of a link to one of the host's directories, both ways.

    Red when `linux.path.open_in_root` leaves RESOLVE_IN_ROOT out.
    """
    links = {"absolute": str(host_directory), "climbing": "../../../../../../.." + str(host_directory)}
    image = hostile_image([member(name, tarfile.SYMTYPE, to) for name, to in links.items()])
    engine.docker("create", "--name", "evil", image, "sleep", "1000")
    if running:
        engine.docker("start", "evil")
    (tmp_path / "planted").write_text("planted")
    for name in links:
        read = engine.docker("cp", f"evil:/{name}/secret", "-", check=False)
        assert read.returncode == 1 and "Could not find the file" in read.stderr
        assert engine.docker("cp", f"evil:/{name}/.", "-", check=False).returncode == 1
        engine.docker("cp", str(tmp_path / "planted"), f"evil:/{name}/planted", check=False)
        engine.docker("cp", str(tmp_path / "planted"), f"evil:/{name}/", check=False)
    assert os.listdir(host_directory) == ["secret"]


def test_exchanging_a_directory_for_a_link_while_it_is_copied(
    engine: RunningEngine, hostile_image: Callable[..., str], host_directory: Path, tmp_path: Path
) -> None:
    """CVE-2018-15664: the container swaps, without pause, what the engine checks and what it uses.

    In the container the link leads to a directory of the same name as the host's, with a secret of its own. Red when
    `linux.path.open_in_root` leaves RESOLVE_IN_ROOT out, and when `archive.pack._OPEN_DIRECTORY` has no O_NOFOLLOW.
    """
    image = hostile_image()
    swap = (
        f"mkdir -p /race/d {host_directory} && ln -s {host_directory} /race/l"
        f" && for place in /race/d {host_directory}; do echo mine > $place/secret; done"
        " && touch /ready && cd /race && while :; do mv d x; mv l d; mv d l; mv x d; done"
    )
    engine.docker("run", "-d", "--network", "none", "--name", "evil", image, "sh", "-c", swap)
    with engine.client() as client:
        evil = client.containers.get("evil")
        _until(lambda: evil.exec(["test", "-e", "/ready"]).exit_code == 0)
        (tmp_path / "planted").write_text("planted")
        deadline = time.monotonic() + _RACE_SECONDS
        copied = 0
        while time.monotonic() < deadline or not copied:
            for path in ("/race/d/secret", "/race/d/.", "/race"):
                data = _copied_out(client, path)
                copied += bool(data)
                assert b"the host's" not in data, path
            try:
                evil.copy_in(tmp_path / "planted", "/race/d/")
            except SampanError:
                pass  # it caught a moment in which there was nothing of that name
    assert os.listdir(host_directory) == ["secret"]


def test_exchanging_directories_while_all_is_exported(
    engine: RunningEngine, hostile_image: Callable[..., str], host_directory: Path
) -> None:
    """CVE-2018-15664's kin: `export` and `diff` walk a whole tree, one directory at a time.

    Many directories take turns in being a link, so that the walk meets some between its look at a name and its opening it.
    Red when `archive.pack._OPEN_DIRECTORY` has no O_NOFOLLOW.
    """
    image = hostile_image()
    swap = (
        f"mkdir /race && cd /race && ln -s {host_directory} l && for n in $(seq 60); do mkdir d$n; done; touch /ready;"
        " while :; do for n in $(seq 60); do mv d$n x; mv l d$n; mv d$n l; mv x d$n; done; done"
    )
    engine.docker("run", "-d", "--network", "none", "--name", "evil", image, "sh", "-c", swap)
    with engine.client() as client:
        evil = client.containers.get("evil")
        _until(lambda: evil.exec(["test", "-e", "/ready"]).exit_code == 0)
        deadline = time.monotonic() + _RACE_SECONDS
        copied = 0
        while time.monotonic() < deadline or not copied:
            data = _copied_out(client, "/race")
            copied += bool(data)
            assert b"the host's" not in data
        client.api.call("GET", "/containers/evil/changes")
        assert b"the host's" not in b"".join(evil.export())


def test_nothing_of_the_container_is_loaded(engine: RunningEngine, hostile_image: Callable[..., str]) -> None:
    """CVE-2019-14271: `docker cp` entered the container's root and asked the C library for a name there, which loaded the
    image's libnss as root. The image has a true library, named by its nsswitch.conf, that leaves a file when it is loaded.

    Red when a job of `containers.root_jobs` has a process of its own do chroot and `pwd.getpwnam`, which was the bug; it looks
    users up by `runtime.container.users` instead.
    """
    folders = ("lib/x86_64-linux-gnu", "lib64", "lib", "usr/lib/x86_64-linux-gnu", "usr/lib64", "usr/lib")
    members = [(tarfile.TarInfo("etc/nsswitch.conf"), b"passwd: evil\ngroup: evil\nhosts: evil\n")]
    for folder in folders:
        for name in (
            "evil",
            "files",
            "compat",
            "systemd",
            "dns",
        ):  # also the host's own, should its nsswitch.conf be in force
            library = tarfile.TarInfo(f"{folder}/libnss_{name}.so.2")
            library.mode = 0o755
            members.append((library, library_that_creates("/loaded")))
    members.append((tarfile.TarInfo("etc/passwd"), b"web:x:33:33::/srv:/bin/sh\n"))
    image = hostile_image(members, {"User": "web"})
    engine.docker("create", "--name", "evil", image, "sleep", "1000")
    for _ in ("stopped", "running"):
        engine.docker("cp", "-a", "evil:/etc/passwd", "-")
        engine.docker("cp", "-a", "/etc/hostname", "evil:/tmp/name")
        engine.docker("start", "evil")
    assert engine.docker("exec", "evil", "id", "-u").stdout == "33\n"
    assert engine.docker("exec", "-u", "web:web", "evil", "true", check=False).returncode == 1
    assert "/loaded" not in engine.docker("diff", "evil").stdout.split()


def test_an_archive_cannot_write_past_its_directory(
    engine: RunningEngine, hostile_image: Callable[..., str], host_directory: Path
) -> None:
    """CVE-2018-15664's kin: links inside the archive that is copied in, and in what it is copied over.

    Red when `linux.path.open_in_root` leaves RESOLVE_IN_ROOT out.
    """
    image = hostile_image([member("there", tarfile.SYMTYPE, str(host_directory))])
    engine.docker("create", "--name", "evil", image)
    with engine.client() as client:
        for entries in (
            [member("way", tarfile.SYMTYPE, str(host_directory)), (tarfile.TarInfo("way/planted"), b"x")],
            [(tarfile.TarInfo("there/planted"), b"x")],
            [(tarfile.TarInfo("../../../.." + str(host_directory) + "/planted"), b"x")],
            [(tarfile.TarInfo(str(host_directory) + "/planted"), b"x")],
            [member("hard", tarfile.LNKTYPE, str(host_directory / "secret"))],
        ):
            try:
                client.api.request("PUT", "/containers/evil/archive", {"path": "/"}, tar(entries)).read()
            except SampanError:
                pass  # refused as well
        assert os.listdir(host_directory) == ["secret"]
        assert b"the host's" not in _copied_out(client, "/hard")


def _copied_out(client: sampan.Engine, path: str) -> bytes:
    """What `docker cp evil:PATH -` gets; nothing when it is refused, or breaks off."""
    try:
        return b"".join(client.api.request("GET", "/containers/evil/archive", {"path": path}).blocks())
    except SampanError:
        return b""


def _until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)
