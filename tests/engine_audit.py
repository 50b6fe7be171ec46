"""What an engine holds on the disk and in the kernel, held against its own rows: nothing half done, nothing left over.

    assert_settled(engine)      # waits for what the engine does in the background

Rows, directories, links, cgroups, rules and processes must name the same containers, images, volumes and networks.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sqlite3
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from running_engine import ENGINE_MARK, RunningEngine

SETTLE_SECONDS = 20.0
_ALIVE = ("running", "paused")


def assert_settled(engine: RunningEngine, seen: Iterable[str] = (), seconds: float = SETTLE_SECONDS) -> None:
    """Fail with the problems that are still there after a bounded wait. `seen`: containers that have existed at some time."""
    deadline = time.monotonic() + seconds
    while problems := audit(engine, seen):
        assert time.monotonic() < deadline, "\n".join(problems)
        time.sleep(0.1)


def audit(engine: RunningEngine, seen: Iterable[str] = ()) -> list[str]:
    """All problems of this moment, one line each. The engine must be running."""
    return list(_Audit(engine, set(seen)).problems())


class _Audit:
    def __init__(self, engine: RunningEngine, seen: set[str]) -> None:
        self._engine = engine
        self._mark = "sampan-" + hashlib.sha256(str(engine.data_root).encode()).hexdigest()[:8]
        database = f"file:{engine.data_root}/sampan.db?mode=ro"
        with closing(sqlite3.connect(database, uri=True, timeout=10)) as self._cx:
            self._containers = {
                id: json.loads(state) for id, state in self._cx.execute("select id, state from container")
            }
            self._records = {
                id: json.loads(record) for id, record in self._cx.execute("select id, record from container")
            }
            self._rows = {
                table: self._cx.execute(f"select * from {table}").fetchall()
                for table in ("content_ingest", "lease", "network_endpoint", "network_sandbox", "snapshot")
            }
            self._blobs = self._column("select digest from content_blob")
            self._references = self._cx.execute("select digest, kind, id from content_reference").fetchall()
            self._targets = self._column("select digest from image")
            self._results = self._column("select snapshot from solver_result")
            self._result_layers = self._cx.execute("select snapshot, layers from solver_layer").fetchall()
            self._volumes = self._column("select name from volume where not removing and goes_with = ''")
            self._unfinished_volumes = self._column(
                "select name from volume where removing or goes_with != ''"
            )
            self._anonymous = self._column(
                "select name from volume where labels like '%com.docker.volume.anonymous%'"
            )
            self._networks = [json.loads(row[0]) for row in self._cx.execute("select record from network")]
        self._alive = {id for id, state in self._containers.items() if state["status"] in _ALIVE}
        self._seen = seen | set(self._containers)

    def _column(self, query: str) -> set[str]:
        return {row[0] for row in self._cx.execute(query)}

    def problems(self) -> Iterator[str]:
        yield from self._about_containers()
        yield from self._about_volumes()
        yield from self._about_images()
        yield from self._about_networks()
        yield from self._about_cgroups()
        yield from self._about_processes()
        yield from self._about_mounts()

    def _about_containers(self) -> Iterator[str]:
        data, run = self._engine.data_root, self._engine.exec_root
        yield from _differ("containers' directories", _names(data / "containers"), set(self._containers))
        shims = _names(run / "shims")
        ended = {name for name in shims - self._alive if _names(run / "shims" / name) <= {"exit.json"}}
        yield from _differ("shims' directories", shims - ended, self._alive)
        for id, state in self._containers.items():
            if state["removing"]:
                yield f"container {id[:12]} is being removed"
        for table in ("network_endpoint", "network_sandbox"):
            owners = {row[0] for row in self._rows[table]}
            wanted = set(self._containers) if table == "network_endpoint" else self._alive
            for stray in owners - wanted:
                yield f"a row of {table} for container {stray[:12]}"

    def _about_volumes(self) -> Iterator[str]:
        folder = self._engine.data_root / "volumes"
        names = _names(folder) - {".trash"}
        yield from _differ("volumes' directories", names, self._volumes)
        for name in self._unfinished_volumes:
            yield f"volume {name} is neither there nor gone"
        used = {
            mount.get("name", "") for record in self._records.values() for mount in record.get("mounts", ())
        }
        for name in self._anonymous - used:
            yield f"anonymous volume {name} of no container"
        for name in _names(folder / ".trash"):
            yield f"volumes' trash: {name}"
        for name in names:
            for extra in _names(folder / name) - {"_data"}:
                yield f"volume {name}: {extra} beside its data"

    def _about_images(self) -> Iterator[str]:
        content = self._engine.data_root / "content"
        files = {
            f"{algorithm}:{name}"
            for algorithm in _names(content / "blobs")
            for name in _names(content / "blobs" / algorithm)
        }
        yield from _differ("blobs", files, self._blobs)
        resumable = {row[0] for row in self._rows["lease"] if "download" in json.loads(row[3])}
        waiting = {str(row[0]) for row in self._rows["content_ingest"] if row[1] in resumable}
        for name in _names(content / "ingest") - waiting:
            yield f"content/ingest/{name}"
        for row in self._rows["content_ingest"]:
            if row[1] not in resumable:
                yield f"a row of content_ingest: {row}"
        for row in self._rows["lease"]:
            if row[0] not in resumable:
                yield f"a row of lease: {row}"
        needed, snapshots = self._reachable()
        for digest in self._blobs - needed:
            yield f"blob {digest[:19]} of no image"
        folder = self._engine.data_root / "snapshots" / "overlayfs"
        rows = {str(row[0]): row for row in self._rows["snapshot"]}
        yield from _differ("snapshots' directories", _names(folder) - {"trash"}, set(rows))
        for name in _names(folder / "trash"):
            yield f"snapshots' trash: {name}"
        for row in rows.values():
            name, kind = row[1], row[3]
            if kind == "committed" and name not in snapshots:
                yield f"snapshot {name[:19]} of no image"
            if kind != "committed" and name not in self._containers:
                yield f"{kind} snapshot {name[:12]} of no container"
        for id in self._containers:
            if id not in {row[1] for row in rows.values()}:
                yield f"container {id[:12]} has no root file system"

    def _reachable(self) -> tuple[set[str], set[str]]:
        """Blobs and committed snapshots that images, containers and results of builds need."""
        references: dict[str, list[tuple[str, str]]] = {}
        for digest, kind, id in self._references:
            references.setdefault(digest, []).append((kind, id))
        blobs: set[str] = set()
        snapshots: set[str] = set()
        waiting = list(self._targets)
        while waiting:
            digest = waiting.pop()
            if digest in blobs:
                continue
            blobs.add(digest)
            for kind, id in references.get(digest, ()):
                if kind == "content":
                    waiting.append(id)
                else:
                    snapshots.add(id)
        snapshots |= self._results
        by_id = {row[0]: row for row in self._rows["snapshot"]}
        for row in self._rows["snapshot"]:
            if row[3] != "committed" or row[1] in snapshots:
                parent = row[2]
                while parent is not None:
                    snapshots.add(by_id[parent][1])
                    parent = by_id[parent][2]
        for name, layers in self._result_layers:
            if name in snapshots:
                blobs.update(re.findall(r"sha256:[0-9a-f]{64}", layers))
        return blobs, snapshots

    def _about_networks(self) -> Iterator[str]:
        shown = subprocess.run(["ip", "-j", "-d", "link"], capture_output=True, text=True, check=True).stdout
        ours = {link["ifname"] for link in json.loads(shown) if link.get("ifalias") == self._mark}
        sandboxes = [json.loads(row[1]) for row in self._rows["network_sandbox"] if row[0] in self._alive]
        endpoints = [each for sandbox in sandboxes for each in sandbox["endpoints"]]
        wanted = {each["host_name"] for each in endpoints if each.get("host_name")}
        wanted |= {each["interface"] for each in self._networks if each.get("owned") and each["interface"]}
        yield from _differ("links", ours, wanted)
        rules = subprocess.run(
            ["nft", "list", "table", "inet", self._mark], capture_output=True, text=True, check=False
        ).stdout
        targets = set(re.findall(r": (\d+\.\d+\.\d+\.\d+) \. \d+", rules))
        addresses = {text.partition("/")[0] for each in endpoints for text in each.get("addresses", ())}
        for target in targets - addresses:
            yield f"a published port leads to {target}, where nobody is"
        bridges = set(re.findall(r'"([^"]+)"', rules.partition("set uplinks")[0]))
        known = {each["interface"] for each in self._networks if each["driver"] == "bridge"}
        yield from _differ("bridges in the packet filter", bridges, known)

    def _about_cgroups(self) -> Iterator[str]:
        parked = f"sampan-parked-{(self._engine.data_root / 'engine-id').read_text().strip()}"
        for root in _cgroup_roots():
            for parent in ("docker", "sampan"):
                for name in _names(root / parent):
                    if name in self._seen - self._alive:
                        yield f"cgroup {root}/{parent}/{name}"
                    elif name.startswith(parked[:22]) and f"-{self._engine.pid}-" not in name:
                        yield f"cgroup {root}/{parent}/{name} of an earlier engine"

    def _about_processes(self) -> Iterator[str]:
        """The engine, one zygote of it, parked shims below that, and a shim for each living container."""
        shims = {self._shim_of(id) for id in self._alive}
        found = processes(self._engine)
        since = found[self._engine.pid].started
        for pid, each in found.items():
            kept = {
                "sampan-zygote": each.parent == self._engine.pid,
                "sampan-shim": pid in shims or each.started >= since,
                "sampan-worker": False,  # what works at rest was forgotten by somebody
            }.get(each.name, pid == self._engine.pid or each.parent in found)
            if not kept:
                yield f"process {pid} {each.name}, child of {each.parent}"
        for pid in shims - set(found):
            yield f"a living container's shim {pid} is gone"

    def _shim_of(self, id: str) -> int:
        try:
            return int(json.loads((self._engine.exec_root / "shims" / id / "state.json").read_text())["pid"])
        except FileNotFoundError:
            return 0

    def _about_mounts(self) -> Iterator[str]:
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            place = line.split()[4]
            if place.startswith(
                (f"{self._engine.data_root}/", f"{self._engine.exec_root}/")
            ) and not self._mount_is_known(place):
                yield f"mount {place}"

    def _mount_is_known(self, place: str) -> bool:
        return any(id in place for id in self._alive)


class Process(NamedTuple):
    """One of an engine's own."""

    name: str
    parent: int
    started: int
    """In clock ticks since the boot."""


def processes(engine: RunningEngine) -> dict[int, Process]:
    """By pid, the engine's own processes: itself, zygotes, shims, stubs, workers; not what runs in containers."""
    mark = f"{ENGINE_MARK}={engine.bridge}".encode()
    found = {}
    for entry in os.listdir("/proc"):
        if not entry.isdecimal():
            continue
        try:
            if mark not in Path("/proc", entry, "environ").read_bytes().split(b"\0"):
                continue
            name, _, rest = Path("/proc", entry, "stat").read_text().partition("(")[2].rpartition(")")
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        fields = rest.split()
        if fields[0] != "Z":
            found[int(entry)] = Process(name, int(fields[1]), int(fields[19]))
    return found


def _cgroup_roots() -> list[Path]:
    root = Path("/sys/fs/cgroup")
    return [root] if (root / "cgroup.controllers").exists() else [root / name for name in os.listdir(root)]


def _names(folder: Path) -> set[str]:
    try:
        return set(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return set()


def _differ(what: str, found: set[str], wanted: set[str]) -> Iterator[str]:
    for name in sorted(found - wanted):
        yield f"{what}: {name} is too much"
    for name in sorted(wanted - found):
        yield f"{what}: {name} is missing"
