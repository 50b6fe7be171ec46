"""Layers exactly: everything a tree can hold survives diff and apply; whiteouts mean what they should."""

import os
import random
import stat
import struct
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from layers import apply, describe, diff, directory, file, hardlink, layer, symlink

from sampan.archive.changes import changes_job

pytestmark = pytest.mark.root

CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)


def _plant(root: Path) -> None:
    """A tree with one of everything."""
    (root / "bin").mkdir()
    (root / "bin" / "su").write_bytes(b"#!")
    os.chmod(root / "bin" / "su", 0o4755)
    (root / "bin" / "ping").write_bytes(b"x" * 5000)
    os.setxattr(root / "bin" / "ping", "security.capability", CAPABILITY)
    os.setxattr(root / "bin" / "ping", "user.note", b"\x00\xff=\n")
    os.link(root / "bin" / "ping", root / "aping")
    (root / "tmp").mkdir()
    os.chmod(root / "tmp", 0o1777)
    (root / "sticky-setgid").mkdir()
    os.chown(root / "sticky-setgid", 7, 3_000_000_000)
    os.chmod(root / "sticky-setgid", 0o3775)
    os.setxattr(root / "sticky-setgid", "user.dir", b"yes")
    os.mkfifo(root / "fifo", 0o640)
    os.mknod(root / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(root / "disk", stat.S_IFBLK | 0o660, os.makedev(259, 70000))
    os.symlink("/no/where", root / "dangling")
    os.lchown(root / "dangling", 4_000_000_000, 5)
    os.symlink("t" * 200, root / "long-link")
    deep = root / ("d" * 200) / ("e" * 255)
    deep.mkdir(parents=True)
    (deep / "ünïcödé\n").write_text("deep")
    (deep / os.fsdecode(b"latin-\xe9")).write_text("not utf-8")
    with open(root / "sparse", "wb") as file:
        file.truncate(64 << 20)
        file.seek(30 << 20)
        file.write(b"island")
    (root / "old").touch()
    os.utime(root / "old", ns=(0, -1_500_000_000))
    for number, path in enumerate(sorted(root.rglob("*"), reverse=True)):
        if path.name != "old":
            os.utime(path, ns=(0, 1_700_000_000_123_456_789 + number), follow_symlinks=False)


@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
@pytest.mark.parametrize("whiteouts", ["overlay", "delete"])
def test_one_of_everything_survives(tmp_path: Path, compression: str, whiteouts: str) -> None:
    source, copy = tmp_path / "source", tmp_path / "copy"
    source.mkdir()
    copy.mkdir()
    _plant(source)
    made, blob = diff(source, compression)
    applied = apply(blob, copy, whiteouts, diff_id=made["diff_id"], digest=made["digest"], size=made["size"])
    assert applied["entries"] == made["entries"]
    assert describe(copy) == describe(source)
    assert (copy / "sparse").stat().st_blocks * 512 < 1 << 20
    assert len(blob) < 1 << 20
    assert diff(copy, compression)[0] == made


def test_gnu_tar_reads_what_diff_writes(tmp_path: Path) -> None:
    source, copy = tmp_path / "source", tmp_path / "copy"
    source.mkdir()
    copy.mkdir()
    _plant(source)
    (tmp_path / "layer").write_bytes(diff(source)[1])
    command = [
        "tar",
        "-x",
        "--xattrs",
        "--xattrs-include=*",
        "-p",
        "-f",
        str(tmp_path / "layer"),
        "-C",
        str(copy),
    ]
    subprocess.run(command, check=True)
    ours, theirs = describe(source), describe(copy)
    assert theirs == ours


_names = st.text(
    st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=30
).filter(
    lambda name: name not in (".", "..") and not name.startswith(".wh.") and len(os.fsencode(name)) < 250
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(_names, min_size=1, max_size=12, unique=True), st.integers(0, 2**32))
def test_any_tree_survives(names: list[str], seed: int) -> None:
    chance = random.Random(seed)
    with TemporaryDirectory() as scratch:
        source, copy = Path(scratch, "source"), Path(scratch, "copy")
        source.mkdir()
        copy.mkdir()
        places, files = [source], []
        for name in names:
            path = chance.choice(places) / name
            if os.path.lexists(path):
                continue
            match chance.randrange(6):
                case 0 | 1:
                    path.mkdir()
                    places.append(path)
                case 2:
                    os.symlink(chance.choice(["/", "..", name]), path)
                case 3 if files:
                    os.link(chance.choice(files), path)
                case 4:
                    os.mkfifo(path)
                case _:
                    path.write_bytes(chance.randbytes(chance.choice([0, 1, 511, 512, 513, 5000])))
                    files.append(path)
        for path in source.rglob("*"):
            os.lchown(path, chance.randrange(2**32 - 1), chance.randrange(2**32 - 1))
            if not path.is_symlink():
                os.chmod(path, chance.randrange(0o10000) | (0o700 if path.is_dir() else 0))
            if path.is_file() and not path.is_symlink() and chance.random() < 0.5:
                os.setxattr(path, "user.x", chance.randbytes(chance.randrange(50)))
        for path in sorted(source.rglob("*"), reverse=True):
            os.utime(path, ns=(0, chance.randrange(-(10**18), 10**19)), follow_symlinks=False)
        made, blob = diff(source)
        apply(blob, copy, chance.choice(["overlay", "delete"]), diff_id=made["diff_id"])
        assert describe(copy) == describe(source)


def _is_whiteout(path: Path) -> bool:
    status = path.lstat()
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def test_whiteouts_become_overlays_marks(tmp_path: Path) -> None:
    blob = layer(file(".wh.gone"), directory("d"), file("d/.wh..wh..opq"), file("d/new"), file("e/.wh.also"))
    apply(blob, tmp_path)
    assert _is_whiteout(tmp_path / "gone")
    assert _is_whiteout(tmp_path / "e" / "also")
    assert os.getxattr(tmp_path / "d", "trusted.overlay.opaque") == b"y"
    assert sorted(os.listdir(tmp_path / "d")) == ["new"]
    made, again = diff(tmp_path)
    (tmp_path / "second").mkdir()
    assert apply(again, tmp_path / "second")["diff_id"] == made["diff_id"]
    assert _is_whiteout(tmp_path / "second" / "gone")


def test_whiteouts_delete_from_a_copy_only_what_was_below(tmp_path: Path) -> None:
    (tmp_path / "d" / "inner").mkdir(parents=True)
    (tmp_path / "tree" / "deep").mkdir(parents=True)
    for name in ("gone", "d/old", "d/inner/old", "kept", "tree/a", "tree/deep/b"):
        (tmp_path / name).write_text("below")
    blob = layer(
        *(file("d/new"), directory("d/inner"), file("d/inner/new"), file("d/.wh..wh..opq"), file("d/after")),
        *(file(".wh.gone"), file(".wh.tree"), file(".wh.never-was"), file("kept", b"above")),
    )
    apply(blob, tmp_path, "delete")
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*"))
    assert left == ["d", "d/after", "d/inner", "d/inner/new", "d/new", "kept"]
    assert (tmp_path / "kept").read_text() == "above"


@pytest.mark.parametrize("order", [0, 1])
def test_a_directory_deleted_and_made_anew_is_opaque(tmp_path: Path, order: int) -> None:
    members = [file(".wh.d"), directory("d")]
    apply(layer(*(members if order == 0 else members[::-1])), tmp_path)
    assert (tmp_path / "d").is_dir()
    assert os.getxattr(tmp_path / "d", "trusted.overlay.opaque") == b"y"


def test_a_copy_replaces_what_was_below(tmp_path: Path) -> None:
    (tmp_path / "was-directory" / "x").mkdir(parents=True)
    (tmp_path / "was-file").write_text("below")
    (tmp_path / "was-link").symlink_to("/etc")
    blob = layer(
        file("was-directory", b"now"), directory("was-file"), file("was-file/x"), directory("was-link")
    )
    apply(blob, tmp_path, "delete")
    assert (tmp_path / "was-directory").read_bytes() == b"now"
    assert (tmp_path / "was-file" / "x").exists()
    assert (tmp_path / "was-link").is_dir()
    assert not (tmp_path / "was-link").is_symlink()


def test_entries_through_links_of_the_layer_stay_inside(tmp_path: Path) -> None:
    apply(
        layer(directory("usr/lib"), symlink("lib", "usr/lib"), file("lib/a", b"x"), hardlink("b", "lib/a")),
        tmp_path,
    )
    assert (tmp_path / "usr" / "lib" / "a").read_bytes() == b"x"
    assert (tmp_path / "b").samefile(tmp_path / "usr" / "lib" / "a")


def test_directories_that_the_layer_does_not_name_look_as_below(tmp_path: Path) -> None:
    lower, upper = tmp_path / "lower", tmp_path / "upper"
    (lower / "home" / "me").mkdir(parents=True)
    upper.mkdir()
    os.chown(lower / "home" / "me", 1000, 1000)
    os.chmod(lower / "home" / "me", 0o2700)
    apply(layer(file("home/me/file"), file("fresh/file")), upper, parents=[str(lower)])
    status = (upper / "home" / "me").stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (1000, 1000, 0o2700)
    assert stat.S_IMODE((upper / "fresh").stat().st_mode) == 0o755


def test_directory_times_are_those_of_the_archive(tmp_path: Path) -> None:
    apply(
        layer(directory("d", mtime=1000.5), file("d/a"), directory("d/e", mtime=5), file("d/e/f"), file("g")),
        tmp_path,
    )
    assert (tmp_path / "d").stat().st_mtime_ns == 1_000_500_000_000
    assert (tmp_path / "d" / "e").stat().st_mtime_ns == 5_000_000_000


def _copies(tmp_path: Path) -> tuple[Path, Path]:
    base, target = tmp_path / "base", tmp_path / "target"
    for root in (base, target):
        (root / "etc" / "deep").mkdir(parents=True)
        for name in ("etc/same", "etc/touched", "etc/gone", "etc/deep/x"):
            (root / name).write_text("same")
            os.utime(root / name, ns=(0, 10**18))
        for name in ("etc/deep", "etc", "."):
            os.utime(root / name, ns=(0, 10**18))
    (target / "etc" / "touched").write_text("more")
    (target / "etc" / "gone").unlink()
    (target / "etc" / "new").mkdir()
    (target / "etc" / "new" / "file").write_text("new")
    return base, target


def test_a_comparison_finds_what_changed(tmp_path: Path) -> None:
    base, target = _copies(tmp_path)
    args: dict[str, Any] = {"target": str(target), "parents": [], "compare": str(base)}
    assert [(change["Path"], change["Kind"]) for change in changes_job(args, [])] == [
        ("/etc", 0),
        ("/etc/gone", 2),
        ("/etc/new", 1),
        ("/etc/new/file", 1),
        ("/etc/touched", 0),
    ]
    made, blob = diff(target, compare=str(base))
    apply(blob, base, "delete")
    assert describe(base) == describe(target)
    assert made["entries"] == 5
