"""The tar reader against the standard library, against GNU tar, and against damage."""

import io
import os
import random
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sampan.archive.tarread import DIRECTORY, LINK, REGULAR, SYMLINK, Entry, TarReader
from sampan.errors import InvalidParameter, NotSupported


class Bytes:
    """Chunks of a fixed size, so that headers and data straddle them."""

    def __init__(self, data: bytes, chunk: int = 1 << 20) -> None:
        self._data = io.BytesIO(data)
        self._chunk = chunk

    def read(self) -> bytes:
        return self._data.read(self._chunk)


def members(data: bytes, chunk: int = 1 << 20) -> Iterator[tuple[Entry, bytes]]:
    reader = TarReader(Bytes(data, chunk))
    for entry in reader:
        content = b""
        while piece := reader.read():
            content += piece
        yield entry, content


_name = st.text(st.characters(exclude_characters="\0/", exclude_categories=["Cs"]), min_size=1, max_size=70)
_path = st.lists(_name, min_size=1, max_size=4).map("/".join)
_member = st.builds(
    dict,
    name=_path,
    type=st.sampled_from(
        [tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE]
    ),
    mode=st.integers(0, 0o7777),
    uid=st.integers(0, 2**31),
    gid=st.integers(0, 2**31),
    mtime=st.integers(-(2**33), 2**34),
    linkname=_path,
    data=st.binary(max_size=1500),
    devmajor=st.integers(0, 255),
    devminor=st.integers(0, 255),
)


def _archive(wanted: list[dict[str, object]], format: int) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format) as tar:
        for each in wanted:
            info = tarfile.TarInfo()
            for key, value in each.items():
                if key != "data":
                    setattr(info, key, value)
            data = each["data"] if info.type == tarfile.REGTYPE else b""
            assert isinstance(data, bytes)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


@settings(max_examples=150, deadline=None)
@given(
    st.lists(_member, max_size=5),
    st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
    st.integers(1, 1200),
)
def test_reads_what_tarfile_writes(wanted: list[dict[str, object]], format: int, chunk: int) -> None:
    data = _archive(wanted, format)
    found = list(members(data, chunk))
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        expected = tar.getmembers()
        assert len(found) == len(expected)
        for (entry, content), info in zip(found, expected, strict=True):
            assert entry.name.rstrip("/") == info.name
            assert entry.kind == info.type.decode()
            assert (entry.mode, entry.uid, entry.gid) == (info.mode, info.uid, info.gid)
            assert entry.mtime_ns == int(info.mtime) * 10**9
            if entry.kind in (SYMLINK, LINK):
                assert entry.link == info.linkname
            if entry.kind == "3":
                assert (entry.major, entry.minor) == (info.devmajor, info.devminor)
            if entry.kind == REGULAR:
                body = tar.extractfile(info)
                assert body is not None
                assert content == body.read()


def _gnu_tar(directory: Path, *flags: str) -> bytes:
    command = ["tar", "-cf", "-", "--sort=name", "-C", str(directory), *flags, "."]
    return subprocess.run(command, check=True, capture_output=True).stdout


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / ("d" * 90) / ("e" * 90)).mkdir(parents=True)
    (root / ("d" * 90) / ("e" * 90) / "ünï\n").write_text("deep")
    (root / "plain").write_bytes(os.urandom(70000))
    os.utime(root / "plain", ns=(1, 1_234_567_890_123_456_789))
    (root / "link").symlink_to("t" * 150)
    os.link(root / "plain", root / "same")
    with open(root / "sparse", "wb") as file:
        file.truncate(10 << 20)
        for at in range(0, 10 << 20, 400_000):
            file.seek(at)
            file.write(b"x" * 5000)
    os.mkfifo(root / "fifo")
    return root


@pytest.mark.parametrize(
    "flags",
    [
        ("--format=ustar", "--exclude=dddd*", "--exclude=link"),
        ("--format=gnu",),
        ("--format=v7", "--exclude=dddd*", "--exclude=fifo", "--exclude=link"),
        ("--format=posix",),
        ("--format=gnu", "--sparse"),
        ("--format=posix", "--sparse", "--sparse-version=0.0"),
        ("--format=posix", "--sparse", "--sparse-version=0.1"),
        ("--format=posix", "--sparse", "--sparse-version=1.0"),
    ],
    ids=" ".join,
)
def test_reads_what_gnu_tar_writes(tree: Path, flags: tuple[str, ...]) -> None:
    data = _gnu_tar(tree, *flags)
    found = {}
    for entry, content in members(data, 3000):
        if entry.sparse is not None:
            whole = bytearray(entry.real_size)
            for offset, length in entry.sparse:
                whole[offset : offset + length] = content[:length]
                content = content[length:]
            assert content == b""
            content = bytes(whole)
        found[entry.name.rstrip("/")] = (entry, content)
    for path in [*tree.rglob("*")]:
        name = "./" + str(path.relative_to(tree))
        if name not in found:
            assert any(flag.startswith("--exclude") for flag in flags), name
            continue
        entry, content = found[name]
        status = path.lstat()
        assert (entry.mode, entry.uid) == (status.st_mode & 0o7777, status.st_uid)
        if entry.kind == REGULAR:
            assert content == path.read_bytes()
        elif entry.kind == SYMLINK:
            assert entry.link == os.readlink(path)
        elif entry.kind == DIRECTORY:
            assert path.is_dir()
        if "--format=posix" in flags and entry.kind == REGULAR:
            assert entry.mtime_ns == status.st_mtime_ns
    assert ("--sparse" in flags) == (found["./sparse"][0].sparse is not None)


def test_pax_xattrs_and_overrides() -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("x")
        info.pax_headers = {
            "SCHILY.xattr.user.a": "b=c",
            "mtime": "-1.5",
            "uid": "4294967294",
            "atime": "2.000000001",
        }
        tar.addfile(info)
    ((entry, _),) = members(out.getvalue())
    assert entry.xattrs == {"user.a": b"b=c"}
    assert (entry.mtime_ns, entry.atime_ns, entry.uid) == (-1_500_000_000, 2_000_000_001, 4294967294)


def _one_file(name: str = "file", data: bytes = b"data" * 300) -> bytes:
    return _archive([{"name": name, "type": tarfile.REGTYPE, "data": data}], tarfile.PAX_FORMAT)


@pytest.mark.parametrize("cut", [100, 511, 513, 900, 1700])
def test_truncation_is_noticed(cut: int) -> None:
    with pytest.raises(InvalidParameter, match=r"unexpected end of archive"):
        list(members(_one_file()[:cut]))


def test_an_absurd_size_is_refused() -> None:
    header = bytearray(_one_file()[:512])
    for field in (b"\xff" * 12, b"\x80" + b"\xff" * 11, b"77777x777777"):
        header[124:136] = field
        header[148:156] = b"        "
        header[148:156] = b"%06o\0 " % sum(header)
        with pytest.raises(InvalidParameter, match="'file'"):
            list(members(bytes(header)))


def test_a_wrong_checksum_is_refused() -> None:
    data = bytearray(_one_file())
    data[0] ^= 1
    with pytest.raises(InvalidParameter, match="checksum"):
        list(members(bytes(data)))


def test_a_nul_in_a_long_name_is_refused() -> None:
    data = _one_file("x" * 150).replace(b"x" * 150, b"x" * 70 + b"\0" + b"x" * 79)
    with pytest.raises(InvalidParameter, match="NUL"):
        list(members(data))


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]))
def test_damage_never_does_more_than_raise(seed: int, format: int) -> None:
    """Bytes are changed at random, checksums put right again: the reader ends, with entries or an error."""
    chance = random.Random(seed)
    members_wanted: list[dict[str, object]] = [
        {"name": "n" * chance.choice([5, 120]), "type": tarfile.REGTYPE, "data": b"z" * 700, "mtime": 1},
        {"name": "l", "type": tarfile.SYMTYPE, "linkname": "t" * 130, "data": b""},
    ]
    data = bytearray(_archive(members_wanted, format))
    for _ in range(chance.randint(1, 6)):
        data[chance.randrange(len(data))] = chance.randrange(256)
    for at in range(0, len(data) - 511, 512):
        if chance.random() < 0.9 and any(data[at : at + 512]):
            block = data[at : at + 512]
            block[148:156] = b"        "
            data[at + 148 : at + 156] = b"%06o\0 " % sum(block)
    total = 0
    try:
        for entry, content in members(bytes(data), 700):
            total += len(content)
            assert "\0" not in entry.name
            assert entry.size >= 0
    except (InvalidParameter, NotSupported):
        pass
    assert total <= len(data)
