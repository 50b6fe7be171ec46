"""The start of an engine that has much: 1,000 images and 500 stopped containers."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from running_engine import RunningEngine

pytestmark = pytest.mark.root

IMAGES = 1000
CONTAINERS = 500
LIMIT_SECONDS = 1.0
OBJECTS_SECONDS = 0.2
"""Of processor time, for all of these."""


@pytest.mark.timeout(180)
def test_a_start_takes_less_than_a_second(make_engine: Callable[..., RunningEngine]) -> None:
    engine = make_engine()
    engine.docker("create", "--name", "pattern", "-v", "/scratch", "busybox", "true")
    engine.stop()
    _, alone = _starts(engine)
    _multiply(engine.data_root)
    wall, processor = _starts(engine)
    print(
        f"start with {IMAGES} images and {CONTAINERS} containers: {wall:.2f} s, {processor:.2f} s of processor time,"
        f" of which {processor - alone:.2f} s for them"
    )
    engine.start()
    with engine.client() as client:
        assert len(client.containers.list(all=True)) == CONTAINERS + 1
        assert len(client.images.list()) == IMAGES + 1
        assert client.images.inspect("many999:1")["RootFS"]["Layers"]
        assert client.containers.get("copy499").inspect()["State"]["Status"] == "created"
        for name in ("copy0", "copy499"):  # they are whole
            client.containers.get(name).start()
            assert client.containers.get(name).wait() == 0
    engine.stop()
    # On a busy machine the clock measures others' work.
    quiet = os.getloadavg()[0] < (os.cpu_count() or 1) / 2
    assert processor < LIMIT_SECONDS
    assert wall < LIMIT_SECONDS or not quiet
    assert processor - alone < OBJECTS_SECONDS, "a start grows with what there is"
    _forget(engine)


def _starts(engine: RunningEngine) -> tuple[float, float]:
    """The best of some: seconds until the socket answers, and seconds of processor time that the engine used by then."""
    walls, processors = [], []
    for _ in range(5):
        begun = time.monotonic()
        engine.start()
        walls.append(time.monotonic() - begun)
        threads = Path(f"/proc/{engine.pid}/task").glob("*/schedstat")
        processors.append(sum(int(thread.read_text().split()[0]) for thread in threads) / 1e9)
        engine.stop()
    return min(walls), min(processors)


def _multiply(root: Path) -> None:
    """Rows and files of many more images and containers, in the form that this engine has just written one."""
    with closing(sqlite3.connect(root / "sampan.db", isolation_level=None)) as cx:
        cx.execute("begin")
        for number in range(IMAGES):
            _image(cx, root, number)
        for number in range(CONTAINERS):
            _container(cx, root, number)
        cx.execute("commit")


def _image(cx: sqlite3.Connection, root: Path, number: int) -> None:
    """busybox's layer beneath a layer of its own."""
    ((target, created),) = cx.execute(
        "select digest, created_ns from image where name like '%/busybox:latest'"
    ).fetchall()
    manifest = json.loads(_blob(root, target))
    config = json.loads(_blob(root, manifest["config"]["digest"]))
    layer = f"layer {number}".encode()
    diff_id = _digest(layer)
    base = config["rootfs"]["diff_ids"][0]
    config["rootfs"]["diff_ids"] = [base, diff_id]
    config["history"] = [*config["history"], {"created_by": f"layer {number}"}]
    config_bytes = json.dumps(config).encode()
    descriptor = {"mediaType": manifest["layers"][0]["mediaType"], "digest": diff_id, "size": len(layer)}
    manifest["config"] |= {"digest": _digest(config_bytes), "size": len(config_bytes)}
    manifest["layers"] = [*manifest["layers"], descriptor]
    manifest_bytes = json.dumps(manifest).encode()
    for data in (layer, config_bytes, manifest_bytes):
        (root / "content/blobs/sha256" / _digest(data)[7:]).write_bytes(data)
        cx.execute("insert into content_blob values (?, ?, ?, '{}')", (_digest(data), len(data), created))
    chain = _digest(f"{base} {diff_id}".encode())
    (base_id,) = cx.execute("select id from snapshot where name = ?", (base,)).fetchone()
    _snapshot(cx, root, chain, base_id, "committed", depth=2)
    references = [
        *(
            (_digest(manifest_bytes), "content", each)
            for each in (_digest(config_bytes), diff_id, manifest["layers"][0]["digest"])
        ),
        *((_digest(config_bytes), "snapshot", each) for each in (base, chain)),
    ]
    cx.executemany("insert or ignore into content_reference values (?, ?, ?)", references)
    target_json = json.dumps(
        {"mediaType": manifest["mediaType"], "digest": _digest(manifest_bytes), "size": len(manifest_bytes)}
    )
    name = f"docker.io/library/many{number}:1"
    cx.execute(
        "insert into image values (?, ?, ?, ?, ?, '{}')",
        (name, _digest(manifest_bytes), target_json, created, created),
    )


def _container(cx: sqlite3.Connection, root: Path, number: int) -> None:
    pattern, record, state = cx.execute(
        "select id, record, state from container where name = 'pattern'"
    ).fetchone()
    id, name = hashlib.sha256(f"container {number}".encode()).hexdigest(), f"copy{number}"
    volume = hashlib.sha256(f"volume {number}".encode()).hexdigest()
    document = json.loads(record)
    old = document["mounts"][0]["name"]
    text = record.decode().replace(pattern, id).replace('"pattern"', f'"{name}"').replace(old, volume)
    cx.execute("insert into container values (?, ?, ?, ?)", (id, name, text.encode(), state))
    cx.execute(
        "insert into network_endpoint select ?, position, network, settings from network_endpoint where container = ?",
        (id, pattern),
    )
    cx.execute(
        "insert into volume (name, driver, created_ns, options, labels) select ?, driver, created_ns, options, labels"
        " from volume where name = ?",
        (volume, old),
    )
    (root / "volumes" / volume / "_data").mkdir(parents=True)
    parent, labels = cx.execute("select parent, labels from snapshot where name = ?", (pattern,)).fetchone()
    _snapshot(cx, root, id, parent, "active", depth=1, labels=labels)
    folder = root / "containers" / id
    folder.mkdir()
    for file in ("hosts", "resolv.conf", "hostname"):
        (folder / file).touch()


def _snapshot(
    cx: sqlite3.Connection, root: Path, name: str, parent: int, kind: str, *, depth: int, labels: str = "{}"
) -> None:
    (id,) = cx.execute("update snapshot_counter set next = next + 1 returning next - 1").fetchone()
    cx.execute(
        "insert into snapshot (id, name, parent, kind, depth, created_ns, labels, size, inodes) values (?, ?, ?, ?, ?, 1, ?, ?, ?)",
        (id, name, parent, kind, depth, labels, *((0, 1) if kind == "committed" else (None, None))),
    )
    for part in ("fs", "work") if kind == "active" else ("fs",):
        (root / "snapshots/overlayfs" / str(id) / part).mkdir(parents=True)


def _blob(root: Path, digest: str) -> bytes:
    return (root / "content/blobs/sha256" / digest[7:]).read_bytes()


def _digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def _forget(engine: RunningEngine) -> None:
    """Nobody removes 500 containers one by one."""
    with closing(sqlite3.connect(engine.data_root / "sampan.db")) as cx:
        for table in ("container", "network_endpoint", "volume", "snapshot", "image", "content_blob"):
            cx.execute(f"delete from {table}")
        cx.commit()
