"""Base images: the same packages give the same bytes; packages are read with suspicion."""

from __future__ import annotations

import hashlib
import io
import json
import struct
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.errors import DataLoss, InvalidParameter
from sampan.images import bootstrap
from sampan.images.bootstrap import busybox, debian, packages
from sampan.images.bootstrap.archive import Recipe, write_archive
from sampan.images.bootstrap.debian import Source, parse_release_date, suite_sources


def ar(members: dict[str, bytes]) -> bytes:
    data = b"!<arch>\n"
    for name, content in members.items():
        data += f"{name:<16}{0:<12}{0:<6}{0:<6}{644:<8}{len(content):<10}`\n".encode() + content
        data += b"\n" * (len(content) % 2)
    return data


@given(st.dictionaries(st.from_regex(r"[a-z.]{1,15}", fullmatch=True), st.binary(max_size=100), max_size=5))
def test_ar_round_trip(members: dict[str, bytes]) -> None:
    assert packages.ar_members(ar(members)) == members


@given(st.binary(max_size=300))
def test_ar_of_anything_is_read_or_refused(data: bytes) -> None:
    for candidate in (data, b"!<arch>\n" + data):
        try:
            packages.ar_members(candidate)
        except DataLoss:
            pass


def test_package_data() -> None:
    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w:xz") as files:
        info = tarfile.TarInfo("./bin/busybox")
        info.size = 3
        files.addfile(info, io.BytesIO(b"elf"))
    with packages.package_data(ar({"debian-binary": b"2.0\n", "data.tar.xz": inner.getvalue()})) as files:
        assert files.getnames() == ["./bin/busybox"]
    with pytest.raises(DataLoss, match=r"no data\.tar"):
        packages.package_data(ar({"control.tar": b""}))


def elf(program_headers: list[int]) -> bytes:
    header = bytearray(64)
    header[:6] = b"\x7fELF\x02\x01"
    struct.pack_into("<Q", header, 32, 64)
    struct.pack_into("<HH", header, 54, 56, len(program_headers))
    return bytes(header) + b"".join(struct.pack("<I", kind) + bytes(52) for kind in program_headers)


def test_is_static() -> None:
    assert busybox.is_static(elf([1, 1]))
    assert not busybox.is_static(elf([1, 3])), "asks for a dynamic linker"
    assert not busybox.is_static(b"#!/bin/sh\n" * 10)
    assert not busybox.is_static(elf([1])[:70]), "headers cut off"


def test_busybox_layer(tmp_path: Path) -> None:
    binary = busybox.Binary(b"\x7fELF", 1_700_000_000, ("ash", "sh"))
    for name in ("1", "2"):
        busybox.write_layer(tmp_path / name, binary, 1_600_000_000)
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()
    with tarfile.open(tmp_path / "1") as layer:
        members = {member.name: member for member in layer}
        assert {member.mtime for member in members.values()} == {1_600_000_000}
        assert {(member.uid, member.gid) for member in members.values()} == {(0, 0)}
        assert members["bin/sh"].islnk() and members["bin/sh"].linkname == "bin/busybox"
        assert members["tmp"].mode == 0o1777
        passwd = layer.extractfile("etc/passwd")
        assert passwd is not None and passwd.read().startswith(b"root:x:0:0:")


def test_archive_is_consistent_and_reproducible(tmp_path: Path) -> None:
    layer = tmp_path / "layer.tar"
    with tarfile.open(layer, "w") as files:
        files.addfile(tarfile.TarInfo("f"))
    recipe = Recipe(("base:1", "base:latest"), 0, "by test", {"Cmd": ["sh"]})
    images = [write_archive(tmp_path / name, layer, recipe) for name in ("a.tar", "b.tar")]
    assert images[0].path.read_bytes() == images[1].path.read_bytes()
    with tarfile.open(images[0].path) as archive:
        data = {member.name: archive.extractfile(member).read() for member in archive if member.isfile()}  # type: ignore[union-attr]
    for name, content in data.items():
        if name.startswith("blobs/"):
            assert name == f"blobs/sha256/{hashlib.sha256(content).hexdigest()}"
    index = json.loads(data["index.json"])
    assert [each["digest"] for each in index["manifests"]] == [images[0].digest] * 2
    (docker,) = json.loads(data["manifest.json"])
    assert docker["RepoTags"] == ["base:1", "base:latest"]
    assert json.loads(data[docker["Config"]])["config"] == {"Cmd": ["sh"]}


def test_suite_sources() -> None:
    machine = [
        Source("http://m/debian", "bookworm", "main"),
        Source("http://m/debian", "bookworm", "main"),
        Source("http://m/debian", "bookworm", "contrib"),
        Source("http://m/security", "bookworm-security", "main"),
        Source("http://third/party", "stable", "main"),
    ]
    assert [each.suite for each in suite_sources(machine, "bookworm", "trixie")] == [
        "trixie",
        "trixie-security",
    ]
    assert [each.suite for each in suite_sources(machine, "bookworm", "sid")] == ["sid"]
    assert suite_sources(machine, "", "trixie") == []


def test_release_date() -> None:
    assert parse_release_date("Suite: stable\nDate: Sat, 17 May 2025 09:15:28 UTC\n") == 1747473328
    assert parse_release_date("nothing") == 0


@pytest.mark.parametrize("base", ["alpine", "busybox:1.35", "debian:-x", "debian:../../etc"])
def test_unknown_bases_are_refused(base: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidParameter, match=r"busybox|suite"):
        bootstrap.build(base, tmp_path)


def test_own_machine_sources_are_understood() -> None:
    assert all(len(each) == 3 for each in debian._machine_sources())


@pytest.mark.parametrize(
    ("base", "packages", "name", "said"),
    [
        ("debian", ["python3"], "", "needs a name of its own"),
        ("debian", ["--hook=x"], "mine", "no name of a Debian package"),
        ("debian", ["python3"], "Mine", "must be lowercase"),
        ("debian", ["python3"], "mine@sha256:" + "0" * 64, "with a digest"),
        ("busybox", ["python3"], "mine", "without further packages"),
    ],
)
def test_wrong_packages_and_names(
    base: str, packages: list[str], name: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(debian, "_debootstrap", lambda *_: pytest.fail("it was begun all the same"))
    with pytest.raises(InvalidParameter, match=said):
        bootstrap.build(base, tmp_path, packages, name)
