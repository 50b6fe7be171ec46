"""Which repositories there are, for lists and searches: without reading each directory, or asking a bucket for each.

A local directory has a time of change: one that is as the index knows it is not read again. A bucket has none, and to list it
takes a request per repository. There each repository is announced, before its first manifest is acknowledged, by an object of its
own in one place, whose list costs a request per thousand. What another program (distribution) has made without a word is found
by a whole walk: when a list is wanted, before it if the walk is short, and as often as leaves the bucket nine tenths of the time.

The collector does not use this: it walks (`Repositories.names`), because what it overlooks it would remove.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sampan.registryserver.index import Listed, ListIndex
from sampan.registryserver.paths import Paths
from sampan.registryserver.storage import Storage

_PAUSE = 10
"""How many times as long as a walk through a bucket took nobody begins another one."""
_PAUSE_MIN, _PAUSE_MAX = 1.0, 3600.0
"""Seconds."""
_SHORT = 1.0
"""Seconds that who wants a list waits for a walk; a longer one goes on beside."""
_REQUESTS = 32
"""Requests to a bucket at a time."""
_MANIFESTS = "_manifests"


class Catalogue:
    """See the module. Its methods block."""

    def __init__(self, paths: Paths, storage: Storage, index: ListIndex) -> None:
        self._paths = paths
        self._storage = storage
        self._index = index
        self._announced: set[str] = set()
        self._walk_seconds: float | None = None
        """What the last walk took, of whichever program."""
        self._walking = threading.Lock()

    def names(self) -> list[str]:
        """Every repository that has or had manifests, sorted."""
        return sorted(self._stamped() if self._storage.has_stamps else self._announcements())

    def appeared(self, name: str) -> None:
        """A manifest of this repository is being stored."""
        if self._storage.has_stamps or name in self._announced:
            return
        self._storage.write(self._announcement(name), b"")
        self._announced.add(name)

    # -- a local directory

    def _stamped(self) -> list[str]:
        known = self._index.directories()
        seen: set[str] = set()
        changed: dict[str, Listed] = {}
        found: list[str] = []
        waiting = [("", str(self._paths.repositories))]
        while waiting:
            name, path = waiting.pop()
            stamp = self._storage.stamp(path)
            listed = known.get(path)
            if listed is None or not stamp or listed.stamp != stamp:
                listed = self._read(path, stamp)
                if stamp:
                    changed[path] = listed
            seen.add(path)
            if listed.is_repository and name:
                found.append(name)
            waiting += [(f"{name}/{each}" if name else each, f"{path}/{each}") for each in listed.below]
        gone = known.keys() - seen
        if changed or gone:
            self._index.keep_directories(changed, gone)
        return found

    def _read(self, path: str, stamp: str) -> Listed:
        names = self._storage.names(Path(path))
        return Listed(stamp, _MANIFESTS in names, [name for name in names if not name.startswith("_")])

    # -- a bucket

    def _announcements(self) -> list[str]:
        complete = self._storage.status(self._paths.announced)
        if complete is None:
            self._walk_and_announce(None)
        else:
            taken = self._seconds()
            pause = min(max(_PAUSE_MIN, _PAUSE * taken), _PAUSE_MAX)
            # abs: the bucket's clock may be ahead of ours
            if abs(time.time() - complete.modified) > pause:
                if taken <= _SHORT:
                    self._walk_and_announce(complete.modified)
                elif not self._walking.locked():
                    threading.Thread(
                        target=self._walk_and_announce,
                        args=[complete.modified],
                        name="catalogue",
                        daemon=True,
                    ).start()
        return [each.replace(":", "/") for each in self._storage.names(self._paths.announcements)]

    def _seconds(self) -> float:
        """What the last walk took; more than is waited for when nobody knows."""
        if self._walk_seconds is None:
            try:
                self._walk_seconds = float(self._storage.read(self._paths.announced) or b"")
            except ValueError:
                self._walk_seconds = 2 * _SHORT
        return self._walk_seconds

    def _walk_and_announce(self, last: float | None) -> None:
        """Announce what nobody has; whoever comes meanwhile waits for the end. `last` is the time of the walk before."""
        with self._walking:
            complete = self._storage.status(self._paths.announced)
            if complete is not None and complete.modified != last:
                return  # another one has been through since
            begun = time.monotonic()
            self._announced.clear()
            known = {each.replace(":", "/") for each in self._storage.names(self._paths.announcements)}
            with ThreadPoolExecutor(_REQUESTS, "catalogue") as pool:
                missing = [name for name in self._walk(pool.map) if name not in known]
                for _ in pool.map(lambda name: self._storage.write(self._announcement(name), b""), missing):
                    pass
            self._walk_seconds = time.monotonic() - begun
            self._storage.write(self._paths.announced, f"{self._walk_seconds:.3f}".encode())

    def _walk(
        self, each_of: Callable[[Callable[[str], list[str]], list[str]], Iterator[list[str]]]
    ) -> Iterator[str]:
        """Repositories as the bucket has them, level by level."""
        level = [""]
        while level:
            lists = each_of(lambda name: self._storage.names(self._paths.repositories / name), level)
            below: list[str] = []
            for name, names in zip(level, lists, strict=True):
                if name and _MANIFESTS in names:
                    yield name
                below += [
                    f"{name}/{each}" if name else each for each in names if each and not each.startswith("_")
                ]
            level = below

    def _announcement(self, name: str) -> Path:
        return self._paths.announcements / name.replace("/", ":")
