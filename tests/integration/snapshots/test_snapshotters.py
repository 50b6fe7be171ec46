"""Both snapshotters on the real file system: overlay through real mounts, copies without."""

import asyncio
import os
import shutil
import signal
import stat
import subprocess
import sys
import tarfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from sampan.archive.apply import apply_job
from sampan.archive.changes import changes_job
from sampan.archive.diff import diff_job
from sampan.errors import Conflict, InvalidParameter, NotFound, SystemFailure
from sampan.linux.mount import new_filesystem
from sampan.runtime.container.host import open_mount
from sampan.snapshots.copy import CopySnapshotter
from sampan.snapshots.directories import DirectorySnapshotter
from sampan.snapshots.interface import VOLATILE
from sampan.snapshots.overlay import OverlaySnapshotter
from sampan.snapshots.probe import overlay_obstacle, start_snapshotter
from sampan.snapshots.records import MAX_DEPTH, SNAPSHOT_SCHEMA
from sampan.store import Database

pytestmark = pytest.mark.root

Scenario = Callable[[DirectorySnapshotter], Awaitable[None]]
KINDS: list[type[DirectorySnapshotter]] = [OverlaySnapshotter, CopySnapshotter]
BOTH = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


@asynccontextmanager
async def opened(kind: type[DirectorySnapshotter], scratch: Path) -> AsyncIterator[DirectorySnapshotter]:
    database = await Database.open(scratch / "db", [SNAPSHOT_SCHEMA])
    try:
        snapshots = await kind.start(database, scratch / "s")
        yield snapshots
        await snapshots.close()
    finally:
        await database.close()


def run(kind: type[DirectorySnapshotter], scratch: Path, scenario: Scenario) -> None:
    async def body() -> None:
        async with opened(kind, scratch) as snapshots:
            await scenario(snapshots)

    asyncio.run(body())


@contextmanager
def seen(mounts: list[dict[str, object]]) -> Iterator[Path]:
    """What the mounts show, as a path; mounted nowhere."""
    (entry,) = mounts
    fd = open_mount(entry)  # type: ignore[arg-type]
    try:
        yield Path(f"/proc/self/fd/{fd}/.")
    finally:
        os.close(fd)


async def commit_files(snapshots: DirectorySnapshotter, name: str, parent: str, **files: str) -> None:
    with seen(await snapshots.prepare(f"making {name}", parent)) as root:
        for path, text in files.items():
            (root / path).write_text(text)
    await snapshots.commit(name, f"making {name}")


@BOTH
def test_a_chain_shows_its_layers_and_writes_stay_on_top(
    kind: type[DirectorySnapshotter], tmp_path: Path
) -> None:
    async def scenario(snapshots: DirectorySnapshotter) -> None:
        await commit_files(snapshots, "one", "", a="1", b="1")
        await commit_files(snapshots, "two", "one", b="2", c="2")
        with seen(await snapshots.prepare("box", "two")) as root:
            assert {path.name: path.read_text() for path in root.iterdir()} == {"a": "1", "b": "2", "c": "2"}
            (root / "a").unlink()
            (root / "b").write_text("box")
        with seen(await snapshots.view("look", "two")) as root:
            assert (root / "a").read_text() == "1"
            with pytest.raises(OSError, match="Read-only file system"):
                (root / "a").write_text("no")
        with seen(await snapshots.mounts("box")) as root:
            assert sorted(path.name for path in root.iterdir()) == ["b", "c"]
        args = (await snapshots.apply_target("box")).job_args()
        assert changes_job(args, []) == [{"Path": "/a", "Kind": 2}, {"Path": "/b", "Kind": 0}]
        assert await snapshots.chain("box") == ["box", "two", "one"]

    run(kind, tmp_path, scenario)


@BOTH
def test_a_view_of_one_layer_and_of_nothing(kind: type[DirectorySnapshotter], tmp_path: Path) -> None:
    async def scenario(snapshots: DirectorySnapshotter) -> None:
        await commit_files(snapshots, "one", "", a="1")
        for parent, names in (("one", ["a"]), ("", [])):
            with seen(await snapshots.view(f"view {parent}", parent)) as root:
                assert os.listdir(root) == names
                with pytest.raises(OSError, match="Read-only file system"):
                    (root / "new").touch()

    run(kind, tmp_path, scenario)


@BOTH
def test_what_a_container_changed_applies_elsewhere(kind: type[DirectorySnapshotter], tmp_path: Path) -> None:
    """commit's way: mount, change, diff; the layer applied to the same parent shows the same tree."""

    async def scenario(snapshots: DirectorySnapshotter) -> None:
        with seen(await snapshots.prepare("base", "")) as root:
            for name in ("d/old", "gone/x", "kept"):
                (root / name).parent.mkdir(exist_ok=True)
                (root / name).write_text(name)
        await snapshots.commit("base layer", "base")
        with seen(await snapshots.prepare("box", "base layer")) as root:
            shutil.rmtree(root / "gone")
            shutil.rmtree(root / "d")
            (root / "d").mkdir()
            (root / "d" / "new").write_text("new")
            os.link(root / "d" / "new", root / "linked")
            os.setxattr(root / "kept", "user.mark", b"1")
            os.chmod(root / "kept", 0o4711)
        blob = os.memfd_create("layer")
        made = diff_job((await snapshots.apply_target("box")).job_args(), [blob])
        os.lseek(blob, 0, os.SEEK_SET)
        await snapshots.prepare("again", "base layer")
        apply_job({**(await snapshots.apply_target("again")).job_args(), "diff_id": made["diff_id"]}, [blob])
        os.close(blob)
        with seen(await snapshots.mounts("again")) as root:
            names = sorted(str(path.relative_to(root)) for path in root.rglob("*"))
            assert names == ["d", "d/new", "kept", "linked"]
            assert (root / "linked").stat().st_nlink == 2
            assert stat.S_IMODE((root / "kept").stat().st_mode) == 0o4711
            assert os.getxattr(root / "kept", "user.mark") == b"1"
            assert (root / "kept").read_text() == "kept"

    run(kind, tmp_path, scenario)


def test_127_layers_and_a_scaffold_work_and_one_more_gets_dockers_error(tmp_path: Path) -> None:
    async def scenario(snapshots: DirectorySnapshotter) -> None:
        parent = ""
        for number in range(1, MAX_DEPTH + 1):
            await snapshots.prepare("next", parent)
            path = Path((await snapshots.apply_target("next")).path)
            (path / f"file{number}").write_text(str(number))
            await snapshots.commit(f"layer{number}", "next")
            parent = f"layer{number}"
        with seen(await snapshots.prepare("box", parent)) as root:
            assert len(os.listdir(root)) == MAX_DEPTH
            (root / "mine").write_text("x")
            assert (root / "file1").read_text() == "1"
        with seen(await snapshots.view("look", parent)) as root:
            assert len(os.listdir(root)) == MAX_DEPTH
        with pytest.raises(InvalidParameter, match=r"^max depth exceeded$"):
            await snapshots.commit("one more", "box")
        assert MAX_DEPTH == 128

    run(OverlaySnapshotter, tmp_path, scenario)


@BOTH
def test_refusals(kind: type[DirectorySnapshotter], tmp_path: Path) -> None:
    async def scenario(snapshots: DirectorySnapshotter) -> None:
        await commit_files(snapshots, "one", "", a="1")
        await snapshots.prepare("box", "one")
        await snapshots.view("look", "one")
        with pytest.raises(Conflict, match="already exists"):
            await snapshots.prepare("box", "one")
        with pytest.raises(NotFound, match="snapshot none does not exist"):
            await snapshots.prepare("other", "none")
        with pytest.raises(InvalidParameter, match="not a committed"):
            await snapshots.prepare("other", "box")
        with pytest.raises(InvalidParameter, match="not active"):
            await snapshots.commit("two", "look")
        with pytest.raises(Conflict, match="already exists"):
            await snapshots.commit("one", "box")
        with pytest.raises(Conflict, match="child"):
            await snapshots.remove("one")
        with pytest.raises(NotFound):
            await snapshots.mounts("nothing")
        for name in ("box", "look", "one"):
            await snapshots.remove(name)
        assert await snapshots.walk() == []
        await snapshots.close()
        assert os.listdir(snapshots.root) == ["trash"]
        assert os.listdir(snapshots.root / "trash") == []

    run(kind, tmp_path, scenario)


@BOTH
def test_two_at_once_for_one_key_or_name(kind: type[DirectorySnapshotter], tmp_path: Path) -> None:
    async def scenario(snapshots: DirectorySnapshotter) -> None:
        outcomes = await asyncio.gather(
            *(snapshots.prepare("same", "") for _ in range(8)), return_exceptions=True
        )
        assert sum(isinstance(outcome, list) for outcome in outcomes) == 1
        assert sum(isinstance(outcome, Conflict) for outcome in outcomes) == 7
        for key in "abcd":
            await snapshots.prepare(key, "")
        outcomes2 = await asyncio.gather(
            *(snapshots.commit("name", key) for key in "abcd"), return_exceptions=True
        )
        assert sum(isinstance(outcome, Conflict) for outcome in outcomes2) == 3
        await snapshots.close()
        directories = [name for name in os.listdir(snapshots.root) if name != "trash"]
        assert len(directories) == len(await snapshots.walk()) == 5

    run(kind, tmp_path, scenario)


@BOTH
def test_a_restart_keeps_rows_and_removes_strays_and_ids_are_new(
    kind: type[DirectorySnapshotter], tmp_path: Path
) -> None:
    async def first(snapshots: DirectorySnapshotter) -> None:
        await commit_files(snapshots, "one", "", a="1")
        await snapshots.prepare("box", "one")
        (snapshots.root / "77777" / "fs").mkdir(parents=True)  # a prepare that was killed before its row
        (snapshots.root / "trash" / "5").mkdir()  # a deletion that was killed

    used: set[str] = set()

    async def second(snapshots: DirectorySnapshotter) -> None:
        with seen(await snapshots.mounts("box")) as root:
            assert (root / "a").read_text() == "1"
        await snapshots.close()
        assert not (snapshots.root / "77777").exists()
        assert os.listdir(snapshots.root / "trash") == []
        used.update(os.listdir(snapshots.root))
        await snapshots.remove("box")
        await snapshots.prepare("box", "one")
        assert (await snapshots.stat("box")).parent == "one"
        assert set(os.listdir(snapshots.root)) - used

    run(kind, tmp_path, first)
    run(kind, tmp_path, second)


@BOTH
def test_usage_counts_shared_hard_links_once(kind: type[DirectorySnapshotter], tmp_path: Path) -> None:
    async def scenario(snapshots: DirectorySnapshotter) -> None:
        await snapshots.prepare("box", "")
        path = Path((await snapshots.apply_target("box")).path)
        (path / "a").write_bytes(bytes(range(256)) * 4096)
        os.link(path / "a", path / "b")
        os.symlink("x", path / "c")
        before = await snapshots.usage("box")
        assert before.inodes == 3
        assert 1 << 20 <= before.size < (1 << 20) + 16384
        await snapshots.commit("done", "box")
        assert await snapshots.usage("done") == before

    run(kind, tmp_path, scenario)


@BOTH
def test_labels(kind: type[DirectorySnapshotter], tmp_path: Path) -> None:
    async def scenario(snapshots: DirectorySnapshotter) -> None:
        await snapshots.prepare("box", "", labels={"a": "1", "b": "2"})
        await snapshots.update("box", {"a": None, "c": "3"})
        assert (await snapshots.stat("box")).labels == {"b": "2", "c": "3"}
        assert [info.name for info in await snapshots.walk(labels={"c": "3"})] == ["box"]
        assert await snapshots.walk(labels={"c": "4"}) == []

    run(kind, tmp_path, scenario)


def test_the_root_directory_looks_as_in_the_layer_below(tmp_path: Path) -> None:
    async def scenario(snapshots: DirectorySnapshotter) -> None:
        await snapshots.prepare("base", "")
        path = (await snapshots.apply_target("base")).path
        os.chown(path, 11, 12)
        os.chmod(path, 0o1751)
        os.setxattr(path, "user.root", b"yes")
        await snapshots.commit("base layer", "base")
        with seen(await snapshots.prepare("box", "base layer")) as root:
            status = root.stat()
            assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (11, 12, 0o1751)
            assert os.getxattr(root, "user.root") == b"yes"

    run(OverlaySnapshotter, tmp_path, scenario)


def test_a_volatile_snapshot_can_be_mounted_again(tmp_path: Path) -> None:
    async def scenario(snapshots: DirectorySnapshotter) -> None:
        await commit_files(snapshots, "one", "", a="1")
        mounts = await snapshots.prepare("box", "one", labels={VOLATILE: "true"})
        assert "volatile" in mounts[0]["options"]
        for number in range(3):
            with seen(mounts) as root:
                (root / f"file{number}").write_text("x")
            mounts = await snapshots.mounts("box")
        with seen(mounts) as root:
            assert len(os.listdir(root)) == 4

    run(OverlaySnapshotter, tmp_path, scenario)


def test_overlay_is_tried_and_a_choice_is_kept(tmp_path: Path) -> None:
    async def body() -> None:
        database = await Database.open(tmp_path / "db", [SNAPSHOT_SCHEMA])
        chosen = await start_snapshotter(database, tmp_path / "auto")
        assert chosen.name == ("native" if overlay_obstacle(tmp_path) else "overlayfs")
        assert (await start_snapshotter(database, tmp_path / "copy", "vfs")).name == "native"
        assert (await start_snapshotter(database, tmp_path / "copy")).name == "native"
        with pytest.raises(InvalidParameter, match="driver not supported: zfs"):
            await start_snapshotter(database, tmp_path / "auto", "zfs")
        await database.close()

    asyncio.run(body())


def test_a_path_that_would_break_mount_options_is_refused(tmp_path: Path) -> None:
    async def body() -> None:
        database = await Database.open(tmp_path / "db", [SNAPSHOT_SCHEMA])
        with pytest.raises(InvalidParameter, match="no colon, comma or backslash"):
            await OverlaySnapshotter.start(database, tmp_path / "a:b")
        await database.close()

    asyncio.run(body())


_WRITER = """
import asyncio, itertools, os, sys
from pathlib import Path
from sampan.snapshots.overlay import OverlaySnapshotter
from sampan.snapshots.records import SNAPSHOT_SCHEMA
from sampan.store import Database

async def main(scratch):
    database = await Database.open(scratch / "db", [SNAPSHOT_SCHEMA])
    snapshots = await OverlaySnapshotter.start(database, scratch / "s")
    run, parent = os.getpid(), ""
    for number in itertools.count():
        await snapshots.prepare("key", parent)
        target = await snapshots.apply_target("key")
        (Path(target.path) / "file").write_text(f"{run}-{number}")
        await snapshots.commit(f"{run}-{number}", "key")
        print(f"{run}-{number}", flush=True)
        parent = f"{run}-{number}" if number % 4 else ""
        await snapshots.prepare("box", parent)
        await snapshots.remove("box")

asyncio.run(main(Path(sys.argv[1])))
"""


def test_kill_9_loses_nothing_acknowledged(tmp_path: Path) -> None:
    acknowledged: set[str] = set()

    async def check(snapshots: DirectorySnapshotter) -> None:
        names = {info.name for info in await snapshots.walk()}
        assert acknowledged <= names
        for name in names - {"key", "box"}:
            target = await snapshots.apply_target(name)
            assert (Path(target.path) / "file").read_text() == name
        await snapshots.close()
        assert len(os.listdir(snapshots.root)) == len(names) + 1  # and the trash
        for leftover in names & {"key", "box"}:
            await snapshots.remove(leftover)

    for lines in (1, 5, 11, 30):
        writer = subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        acknowledged.update(writer.stdout.readline().strip() for _ in range(lines))
        writer.send_signal(signal.SIGKILL)
        acknowledged.update(writer.stdout.read().split())
        writer.wait()
        run(OverlaySnapshotter, tmp_path, check)


def test_a_full_disk_is_an_error_and_loses_nothing(tmp_path: Path) -> None:
    async def scenario(snapshots: DirectorySnapshotter) -> None:
        await commit_files(snapshots, "one", "", a="1")
        small = open_small_disk(1 << 20)
        try:
            disk = f"/proc/self/fd/{small}/."
            blob = os.memfd_create("layer")
            with tarfile.open(fileobj=os.fdopen(os.dup(blob), "wb"), mode="w") as tar:
                for number in range(2000):
                    tar.addfile(tarfile.TarInfo(f"directory{number}/file"))
            os.lseek(blob, 0, os.SEEK_SET)
            with pytest.raises(SystemFailure, match=r"no space left on device"):
                apply_job({"target": disk, "whiteouts": "overlay", "max_bytes": 1 << 30}, [blob])
            os.close(blob)
        finally:
            os.close(small)
        with seen(await snapshots.view("look", "one")) as root:
            assert (root / "a").read_text() == "1"

    run(OverlaySnapshotter, tmp_path, scenario)


def open_small_disk(size: int) -> int:
    return new_filesystem("tmpfs", {"size": str(size), "nr_inodes": "500"})
