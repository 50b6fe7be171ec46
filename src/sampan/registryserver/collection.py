"""Garbage collection while the registry serves: blobs that no manifest of any repository names.

A blob is garbage when nothing names it and nobody has asked for it for the grace period. Whoever uploads, mounts, asks for or
refers to a blob makes it fresh first (its time of change), and the sweep looks at that time once more under the lock that
they hold, so a push that is under way never loses a blob. Of several programs on one
directory only the holder of a file lock collects.
"""

from __future__ import annotations

import fcntl
import os
import time
from typing import NamedTuple

from sampan.names.digest import Digest, encoded_of
from sampan.registryserver.failures import Refused
from sampan.registryserver.files import names_in, read_link, remove_link
from sampan.registryserver.paths import checked_digest
from sampan.registryserver.repositories import Repositories, parse

GRACE = 3600.0


class Collected(NamedTuple):
    """What a collection did, or would do."""

    manifests: int
    blobs: int
    bytes: int


class Collector:
    """See the module. Its methods block: call them in a thread."""

    def __init__(self, repositories: Repositories, grace: float = GRACE) -> None:
        self._repositories = repositories
        self._grace = grace

    def collect(self, *, untagged: bool = False, dry_run: bool = False) -> Collected | None:
        """Free what nothing needs; `untagged` takes manifests too that neither a tag, an index nor a subject leads to.

        None: another program is collecting on this directory.
        """
        root = self._repositories.paths.root
        root.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return None
            return self._collect(untagged, dry_run)
        finally:
            os.close(descriptor)

    def _collect(self, untagged: bool, dry_run: bool) -> Collected:
        needed: set[str] = set()
        manifests = 0
        names = self._repositories.names()
        for name in names:
            revisions = self._revisions(name)
            if untagged:
                gone = revisions.keys() - self._reachable(name, revisions)
                gone = {digest for digest in gone if self._is_old(Digest(digest))}
                manifests += len(gone)
                for digest in gone:
                    del revisions[digest]
                    if not dry_run:
                        self._repositories.delete_manifest_now(name, Digest(digest))
            for digest, parts in revisions.items():
                needed.add(digest)
                needed.update(parts)
        blobs, size = self._sweep(needed, dry_run)
        if not dry_run and blobs:
            for name in self._repositories.all_names():
                self._drop_links(name)
        return Collected(manifests, blobs, size)

    def _revisions(self, name: str) -> dict[str, list[str]]:
        """The manifests of a repository, each with the digests that it names."""
        found: dict[str, list[str]] = {}
        directory = self._repositories.paths.revisions(name)
        for algorithm in names_in(directory):
            for encoded in names_in(directory / algorithm):
                digest = read_link(directory / algorithm / encoded / "link")
                if digest is not None:
                    found[digest] = self._parts(digest)
        return found

    def _parts(self, digest: str) -> list[str]:
        try:
            parsed = parse(self._repositories.paths.blob(checked_digest(digest)).read_bytes(), "")
        except (Refused, FileNotFoundError):
            return []
        return [part.digest for part in parsed.parts]

    def _reachable(self, name: str, revisions: dict[str, list[str]]) -> set[str]:
        tags = names_in(self._repositories.paths.tags(name))
        waiting = [digest for tag in tags if (digest := self._repositories.resolve(name, tag))]
        found: set[str] = set()
        while waiting:
            digest = waiting.pop()
            if digest in found or digest not in revisions:
                continue
            found.add(digest)
            waiting += [Digest(part) for part in revisions[digest]]
            waiting += [
                Digest(each.digest) for each in self._repositories.referrers_now(name, Digest(digest))
            ]
        return found

    def _sweep(self, needed: set[str], dry_run: bool) -> tuple[int, int]:
        count = size = 0
        blobs = self._repositories.paths.blobs
        for algorithm in names_in(blobs):
            for prefix in names_in(blobs / algorithm):
                for encoded in names_in(blobs / algorithm / prefix):
                    digest = f"{algorithm}:{encoded}"
                    if digest not in needed:
                        freed = self._remove(checked_digest(digest), dry_run)
                        count += freed >= 0
                        size += max(0, freed)
        return count, size

    def _remove(self, digest: Digest, dry_run: bool) -> int:
        """Remove a blob unless it is fresh; its size, or -1."""
        path = self._repositories.paths.blob(digest)
        with self._repositories.blob_lock:
            try:
                status = path.stat()
            except FileNotFoundError:
                return -1
            if time.time() - status.st_mtime < self._grace:
                return -1
            if not dry_run:
                path.unlink()
                try:
                    path.parent.rmdir()
                except OSError:
                    pass  # a partial file of a killed program is in it
        return status.st_size

    def _is_old(self, digest: Digest) -> bool:
        try:
            return time.time() - self._repositories.paths.blob(digest).stat().st_mtime >= self._grace
        except FileNotFoundError:
            return True

    def _drop_links(self, name: str) -> None:
        """Links of a repository to blobs that are gone: without them the next push uploads the blob again."""
        paths = self._repositories.paths
        layers = paths.repository(name) / "_layers"
        for algorithm in names_in(layers):
            for encoded in names_in(layers / algorithm):
                digest = checked_digest(f"{algorithm}:{encoded}")
                with self._repositories.blob_lock:
                    if not paths.blob(digest).exists() and encoded == encoded_of(digest):
                        remove_link(paths.layer_link(name, digest), paths.repository(name))
