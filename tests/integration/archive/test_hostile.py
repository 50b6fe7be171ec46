"""Archives of an attacker: each is refused with an error that names the entry, and touches nothing outside."""

import gzip
import io
import os
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from layers import apply, directory, file, hardlink, layer, symlink

from sampan.errors import InvalidParameter, SampanError, SystemFailure

pytestmark = pytest.mark.root

BOTH = pytest.mark.parametrize("whiteouts", ["overlay", "delete"])


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """A directory to apply to, beside something that must not be touched."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "precious").write_text("unharmed")
    (tmp_path / "target").mkdir()
    return tmp_path / "target"


CORPUS: dict[str, tuple[list[dict[str, Any]], str]] = {
    "dot-dot": ([file("../outside/evil")], r"entry '\.\./outside/evil'.*'\.\.'"),
    "dot-dot inside": ([directory("a"), file("a/../../outside/evil")], r"entry 'a/\.\./\.\./outside/evil'"),
    "only dot-dot": ([directory("..")], r"entry '\.\./'"),
    "absolute": ([file("/tmp/evil")], "entry '/tmp/evil': absolute"),
    "absolute link target": ([hardlink("evil", "/etc/passwd")], "entry 'evil'.*not in the layer"),
    "through a link": ([symlink("x", "../outside"), file("x/evil")], "entry 'x/evil'.*leads out"),
    "through an absolute link that climbs": (
        [symlink("x", "/a/../../outside"), file("x/evil")],
        "entry 'x/evil'.*leads out",
    ),
    "through a chain": (
        [symlink("a", "b"), symlink("b", "c"), symlink("c", ".."), file("a/outside/evil")],
        "entry 'a/outside/evil'.*leads out",
    ),
    "through a deep link": (
        [directory("d"), symlink("d/up", "../.."), file("d/up/outside/evil")],
        "entry 'd/up/outside/evil'.*leads out",
    ),
    "round in circles": ([symlink("a", "b"), symlink("b", "a"), file("a/evil")], "entry 'a/evil'"),
    "hard link out": ([hardlink("evil", "../outside/precious")], r"'\.\.'"),
    "hard link through a link": (
        [symlink("x", "../outside"), hardlink("evil", "x/precious")],
        "entry 'evil'.*leads out",
    ),
    "hard link to nothing": ([hardlink("evil", "missing")], "entry 'evil'.*'missing'"),
    "hard link to a directory": ([directory("d"), hardlink("evil", "d")], "entry 'evil'"),
    "file as a directory": ([file("a"), file("a/b")], "entry 'a/b'"),
    "whiteout of the parent": ([directory("a"), file("a/.wh...")], r"entry 'a/\.wh\.\.\.': invalid whiteout"),
    "whiteout of itself": ([file(".wh..")], "invalid whiteout"),
    "whiteout of nothing": ([file(".wh.")], "invalid whiteout"),
    "whiteout outside": ([file("../.wh.outside")], r"'\.\.'"),
    "whiteout through a link": (
        [symlink("x", ".."), file("x/.wh.outside")],
        "entry 'x/.wh.outside'.*leads out",
    ),
    "opaque through a link": ([symlink("x", ".."), file("x/.wh..wh..opq")], "leads out"),
    "name too long": ([file("x" * 300)], "name too long"),
    "path too long": ([file("x/" * 3000 + "y")], "too long"),
    "empty link": ([symlink("x", "")], "entry 'x': symbolic link without a target"),
    "unknown type": ([file("x", type=b"Q")], "entry 'x': unhandled tar header type 'Q'"),
    "the same name twice: file": ([file("a", b"1"), file("a", b"2")], "'a': the layer has this name already"),
    "the same name twice: by another spelling": (
        [file("a"), file("./a")],
        "'./a': the layer has this name already",
    ),
    "the same name twice: through a link": (
        [directory("d"), symlink("l", "d"), file("d/a"), file("l/a")],
        "'l/a': the layer has this name already",
    ),
    "the same name twice: through a hard link to a link": (
        [symlink("x", "../outside/precious"), hardlink("y", "x"), file("y", b"1")],
        "'y': the layer has this name already",
    ),
    "the same name twice: link over a file": (
        [file("a"), symlink("a", "../outside/precious")],
        "has this name already",
    ),
    "the same name twice: file over a link": (
        [symlink("a", "../outside/precious"), file("a")],
        "has this name already",
    ),
    "the same name twice: directory over a link": (
        [symlink("a", "../outside"), directory("a"), file("a/x")],
        "entry 'a/?': the layer has this name already",
    ),
    "the same name twice: file over a directory": (
        [directory("a"), file("a/x"), file("a")],
        "has this name already",
    ),
    "the same name twice: a way out in between": (
        [file("a"), directory("a"), symlink("a", "/etc"), file("a/passwd")],
        "entry 'a/?': the layer has this name already",
    ),
}


ACCEPTED: dict[str, tuple[list[dict[str, Any]], dict[str, str]]] = {
    "through an absolute link": (
        [symlink("x", "/usr/lib"), file("x/a", b"1")],
        {"usr/lib/a": "1", "x": "-> /usr/lib"},
    ),
    "through proc": (
        [symlink("p", "/proc/self/root"), file("p/a", b"1")],
        {"proc/self/root/a": "1", "p": "-> /proc/self/root"},
    ),
    "through links to nowhere": (
        [symlink("a", "b"), symlink("b", "/c/e"), file("a/x", b"1")],
        {"c/e/x": "1", "a": "-> b", "b": "-> /c/e"},
    ),
    "hard link with an absolute target": (
        [directory("d"), file("d/a", b"1"), symlink("l", "/d"), hardlink("b", "/l/a")],
        {"d/a": "1", "b": "1", "l": "-> /d"},
    ),
    "a directory twice": ([directory("a"), file("a/x", b"1"), directory("a")], {"a/x": "1"}),
}
"""Links that end inside."""


@BOTH
@pytest.mark.parametrize("case", ACCEPTED)
def test_as_docker_has_it_and_nothing_outside(target: Path, case: str, whiteouts: str) -> None:
    members, tree = ACCEPTED[case]
    apply(layer(*members), target, whiteouts)
    found = {
        str(path.relative_to(target)): f"-> {os.readlink(path)}" if path.is_symlink() else path.read_text()
        for path in target.rglob("*")
        if path.is_symlink() or path.is_file()
    }
    assert found == tree
    assert (target.parent / "outside" / "precious").read_text() == "unharmed"
    assert os.listdir(target.parent / "outside") == ["precious"]
    assert sorted(os.listdir(target.parent)) == ["outside", "target"]


@BOTH
@pytest.mark.parametrize("case", CORPUS)
def test_refused_by_name(target: Path, case: str, whiteouts: str) -> None:
    members, message = CORPUS[case]
    with pytest.raises(SampanError, match=message):
        apply(layer(*members), target, whiteouts)
    assert (target.parent / "outside" / "precious").read_text() == "unharmed"
    assert os.listdir(target.parent / "outside") == ["precious"]
    assert sorted(os.listdir(target.parent)) == ["outside", "target"]


def test_error_messages_stay_on_one_line(target: Path) -> None:
    with pytest.raises(SampanError) as caught:
        apply(layer(file("../a\nb\x1b[31m" + "x" * 5000)), target)
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_newline_in_a_name_is_just_a_name(target: Path) -> None:
    apply(layer(file("a\nb", b"x")), target)
    assert os.listdir(target) == ["a\nb"]


@pytest.mark.parametrize(("key", "what"), [("diff_id", "layer"), ("digest", "blob"), ("size", "blob")])
def test_what_differs_from_its_digest_is_refused(target: Path, key: str, what: str) -> None:
    wrong = 7 if key == "size" else "sha256:" + "0" * 64
    with pytest.raises(InvalidParameter, match=f"{what} has the .* expected {wrong}"):
        apply(layer(file("a")), target, **{key: wrong})


@pytest.mark.parametrize("cut", [200, 700, 1100, 2000])
def test_a_cut_archive_is_refused(target: Path, cut: int) -> None:
    whole = layer(file("first", b"x" * 600), file("second", b"y" * 600))
    with pytest.raises(InvalidParameter, match="unexpected end"):
        apply(whole[:cut], target)


def test_a_cut_gzip_is_refused(target: Path) -> None:
    with pytest.raises(InvalidParameter, match="damaged gzip stream"):
        apply(gzip.compress(layer(file("a", os.urandom(5000))))[:-10], target)


def test_a_bomb_meets_the_limit_before_it_is_written(target: Path) -> None:
    bomb = gzip.compress(layer(file("small", b"x"), file("bomb", bytes(50 << 20))))
    assert len(bomb) < 100_000
    with pytest.raises(
        InvalidParameter, match=f"entry 'bomb': {50 << 20} bytes exceed the limit of {1 << 20} bytes"
    ):
        apply(bomb, target, max_bytes=1 << 20)
    assert not (target / "bomb").exists()


def test_many_small_files_meet_the_limit_too(target: Path) -> None:
    with pytest.raises(InvalidParameter, match="exceed the limit"):
        apply(layer(*(file(f"f{number}", bytes(1000)) for number in range(100))), target, max_bytes=50_000)


def test_more_than_the_disk_has_room_for_is_refused_at_once(target: Path) -> None:
    info = tarfile.TarInfo("huge")
    info.size = 1 << 60
    blob = info.tobuf(tarfile.GNU_FORMAT) + bytes(1 << 20)
    with pytest.raises(SystemFailure, match=r"entry 'huge': .* no space left on device"):
        apply(blob, target)
    assert os.listdir(target) == []


def test_endless_data_after_the_end_is_refused(target: Path) -> None:
    blob = gzip.compress(layer(file("a")) + bytes(100 << 20), 1)
    with pytest.raises(InvalidParameter, match="after the end of the archive"):
        apply(blob, target)


def test_overlays_own_attributes_are_not_taken_from_an_archive(target: Path) -> None:
    marks = {"trusted.overlay.redirect": "/../../etc", "trusted.overlay.opaque": "y", "user.kept": "yes"}
    apply(layer(directory("d", xattrs=marks), file("f", xattrs={"trusted.overlay.metacopy": ""})), target)
    assert os.listxattr(target / "d") == ["user.kept"]
    assert os.listxattr(target / "f") == []


def test_device_nodes_by_policy(target: Path) -> None:
    blob = layer({"name": "null", "type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 3}, file("after"))
    with pytest.raises(InvalidParameter, match="entry 'null': device nodes are refused"):
        apply(blob, target, devices="refuse")
    apply(blob, target, devices="skip")
    assert os.listdir(target) == ["after"]


def test_random_bytes_are_not_a_layer(target: Path) -> None:
    with pytest.raises(InvalidParameter, match="invalid tar header"):
        apply(b"#!/bin/sh\n" + os.urandom(5000), target)


def test_memory_stays_small(target: Path) -> None:
    """A layer of 600 MB passes through a few megabytes."""
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    info = tarfile.TarInfo("big")
    info.size = 600 << 20
    blob = io.BytesIO()
    with gzip.GzipFile(fileobj=blob, mode="wb", compresslevel=1) as zipped:
        zipped.write(info.tobuf(tarfile.GNU_FORMAT))
        for _ in range(600):
            zipped.write(bytes(1 << 20))
        zipped.write(bytes(1024))
    result = apply(blob.getvalue(), target)
    assert result["uncompressed_size"] == (600 << 20) + 1536
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 80 << 10


_part = st.sampled_from(["a", "b", "c", "..", ".", "", ".wh.a", ".wh...", ".wh..wh..opq", "outside"])
_wild_path = st.lists(_part, min_size=1, max_size=4).map("/".join)
_wild_target = st.one_of(
    _wild_path, _wild_path.map(lambda path: f"/{path}"), st.just("../outside"), st.just("/proc/self/root")
)
_wild_member = st.one_of(
    st.builds(lambda name: file(name, b"evil"), _wild_path),
    st.builds(directory, _wild_path),
    st.builds(symlink, _wild_path, _wild_target),
    st.builds(hardlink, _wild_path, _wild_target),
)


@settings(max_examples=250, deadline=None)
@given(st.lists(_wild_member, max_size=8), st.sampled_from(["overlay", "delete"]))
def test_no_combination_of_names_and_links_reaches_outside(
    members: list[dict[str, Any]], whiteouts: str
) -> None:
    with TemporaryDirectory() as scratch:
        outside, target = Path(scratch, "outside"), Path(scratch, "target")
        outside.mkdir()
        target.mkdir()
        (outside / "a").write_text("unharmed")
        before = outside.stat().st_mtime_ns
        try:
            apply(layer(*members), target, whiteouts)
        except SampanError:
            pass
        assert sorted(os.listdir(scratch)) == ["outside", "target"]
        assert os.listdir(outside) == ["a"]
        assert (outside / "a").read_text() == "unharmed"
        assert (outside / "a").stat().st_nlink == 1
        assert outside.stat().st_mtime_ns == before
