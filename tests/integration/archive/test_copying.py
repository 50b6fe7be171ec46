"""`docker cp`'s jobs against a tree that attacks them (CVE-2018-15664, CVE-2019-14271), and what they give."""

import io
import os
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from layers import directory, file, hardlink, layer, symlink

from sampan.archive.pack import pack_job
from sampan.archive.unpack import unpack_job
from sampan.errors import InvalidParameter, NotFound, SampanError
from sampan.linux.path import openat2

pytestmark = pytest.mark.root

AT_FDCWD = -100


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A container's root, beside the host's files."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "precious").write_text("host")
    inside = tmp_path / "root"
    (inside / "data" / "sub").mkdir(parents=True)
    (inside / "data" / "file").write_text("container")
    (inside / "data" / "sub" / "deep").write_text("deep")
    (inside / "etc").mkdir()
    return inside


def _job(job: Any, first: int, root: Path, **args: Any) -> dict[str, Any]:
    fd = os.open(root, os.O_PATH | os.O_DIRECTORY)
    try:
        result: dict[str, Any] = job(args, [first, fd])
        return result
    finally:
        os.close(fd)


def pack(root: Path, path: str, **args: Any) -> dict[str, bytes | None]:
    """Names and contents of the archive."""
    out = os.memfd_create("out")
    try:
        _job(pack_job, out, root, path=path, **args)
        data = os.pread(out, os.fstat(out).st_size, 0)
    finally:
        os.close(out)
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        found = {}
        for member in tar:
            body = tar.extractfile(member) if member.isreg() else None
            found[member.name] = body.read() if body else None
        return found


def unpack(root: Path, path: str, blob: bytes, **args: Any) -> None:
    source = os.memfd_create("in")
    try:
        os.write(source, blob)
        os.lseek(source, 0, os.SEEK_SET)
        _job(unpack_job, source, root, path=path, **args)
    finally:
        os.close(source)


def test_out_gives_the_last_name_and_what_is_below(root: Path) -> None:
    assert pack(root, "/data") == {
        "data": None,
        "data/file": b"container",
        "data/sub": None,
        "data/sub/deep": b"deep",
    }
    assert pack(root, "data/file") == {"file": b"container"}
    assert pack(root, "/data/.") == pack(root, "/data")
    assert set(pack(root, "/data/sub/..", name="x")) == {"x", "x/file", "x/sub", "x/sub/deep"}
    assert "data/file" in pack(root, "/", name="")
    with pytest.raises(NotFound, match="Could not find the file /data/none"):
        pack(root, "/data/none")
    with pytest.raises(NotFound):
        pack(root, "/data/file/x")


def test_out_of_a_link_gives_the_link_and_through_a_link_stays_inside(root: Path) -> None:
    (root / "escape").symlink_to("../outside")
    (root / "absolute").symlink_to(root.parent / "outside")
    (root / "jail").symlink_to("/data")
    assert pack(root, "/escape") == {"escape": None}
    assert pack(root, "/jail/file") == {"file": b"container"}
    for path in ("/escape/precious", "/absolute/precious", "/../outside/precious", "/escape/"):
        with pytest.raises(NotFound):
            pack(root, path)


def test_in_writes_where_a_process_in_the_container_would(root: Path) -> None:
    (root / "run").symlink_to("/data/sub")
    (root / "up").symlink_to("../../../../outside")
    (root / "outside").mkdir()
    unpack(
        root,
        "/run",
        layer(file("new", b"x"), directory("d"), file("d/e"), symlink("s", "/etc"), file("s/conf", b"c")),
    )
    assert (root / "data" / "sub" / "new").read_bytes() == b"x"
    assert (root / "etc" / "conf").read_bytes() == b"c"
    unpack(root, "/up", layer(file("precious", b"evil")))
    assert (root / "outside" / "precious").read_bytes() == b"evil"
    assert (root.parent / "outside" / "precious").read_text() == "host"


def test_absolute_names_are_beneath_the_target(root: Path) -> None:
    """What `tar -P` writes, as dockerd takes it."""
    unpack(root, "/data", layer(directory("/abs"), file("//abs/file", b"x")))
    assert (root / "data" / "abs" / "file").read_bytes() == b"x"
    assert not (root / "abs").exists()


@pytest.mark.parametrize(
    "members",
    [
        [file("../../outside/evil")],
        [file("/outside/evil")],
        [hardlink("evil", "../../outside/precious")],
        [symlink("l", "../../outside"), hardlink("evil", "l/precious"), file("evil", b"evil")],
        [symlink("l", "../../outside"), file("l/evil")],
    ],
)
def test_hostile_archives_reach_nothing_outside(root: Path, members: list[dict[str, Any]]) -> None:
    try:
        unpack(root, "/data", layer(*members))
    except SampanError:
        pass
    assert os.listdir(root.parent / "outside") == ["precious"]
    assert (root.parent / "outside" / "precious").read_text() == "host"


def test_in_replaces_and_refuses_to(root: Path) -> None:
    with pytest.raises(InvalidParameter, match='cannot overwrite directory "/sub" with non-directory "/sub"'):
        unpack(root, "/data", layer(file("sub")), no_overwrite=True)
    with pytest.raises(
        InvalidParameter, match='cannot overwrite non-directory "/file" with directory "/file"'
    ):
        unpack(root, "/data", layer(directory("file")), no_overwrite=True)
    unpack(
        root,
        "/data",
        layer(file("sub", b"now a file"), directory("file"), file("file/x"), file("file/x", b"2")),
    )
    assert (root / "data" / "sub").read_bytes() == b"now a file"
    assert (root / "data" / "file" / "x").read_bytes() == b"2"
    with pytest.raises(InvalidParameter, match="not a directory"):
        unpack(root, "/data/sub", layer(file("x")))
    with pytest.raises(NotFound):
        unpack(root, "/nowhere", layer(file("x")))


def test_in_does_not_write_through_a_link_at_the_end(root: Path) -> None:
    (root / "data" / "link").symlink_to("../../outside/precious")
    unpack(root, "/data", layer(file("link", b"evil")))
    assert not (root / "data" / "link").is_symlink()
    assert (root.parent / "outside" / "precious").read_text() == "host"


def test_in_gives_the_owner_asked_for(root: Path) -> None:
    unpack(root, "/data", layer(file("x", uid=5, gid=6)), owner=[1000, 1001])
    unpack(root, "/data", layer(file("y", uid=5, gid=6)))
    assert ((root / "data" / "x").stat().st_uid, (root / "data" / "x").stat().st_gid) == (1000, 1001)
    assert ((root / "data" / "y").stat().st_uid, (root / "data" / "y").stat().st_gid) == (5, 6)


@contextmanager
def swapping(path: Path, target: str) -> Iterator[list[int]]:
    """A container's process that exchanges a directory and a link to the outside as fast as it can; counts."""
    exchanges = [0]
    link = path.parent / "swap"
    link.symlink_to(target)
    stop = threading.Event()

    def exchange() -> None:
        import ctypes

        libc = ctypes.CDLL(None)
        while not stop.is_set():
            exchanges[0] += libc.renameat2(AT_FDCWD, bytes(link), AT_FDCWD, bytes(path), 2) == 0

    thread = threading.Thread(target=exchange)
    thread.start()
    try:
        yield exchanges
    finally:
        stop.set()
        thread.join()


def test_cve_2018_15664_a_directory_swapped_for_a_link_meanwhile(root: Path) -> None:
    """The race that let `docker cp` read and write the host: thousands of tries, none may leave the root."""
    outside = str(root.parent / "outside")
    leaked = 0
    with swapping(root / "data" / "sub", outside) as exchanges:
        for _ in range(300):
            try:
                found = pack(root, "/data/sub")
                leaked += b"host" in found.values()
                unpack(root, "/data/sub", layer(file("planted", b"evil")))
            except (SampanError, OSError):
                continue
    assert leaked == 0
    assert exchanges[0] > 1000
    assert os.listdir(root.parent / "outside") == ["precious"]


def test_the_attack_would_work_without_the_resolution(root: Path) -> None:
    """The control: resolved by text, the same link does lead outside."""
    (root / "data" / "escape").symlink_to(root.parent / "outside")
    fd = openat2(AT_FDCWD, str(root / "data" / "escape" / "precious"), os.O_RDONLY)
    assert os.read(fd, 10) == b"host"
    os.close(fd)
