"""Garbage collection while the registry serves: blobs that no manifest of any repository names.

A blob is garbage when nothing names it and nobody has asked for it for the grace period. Whoever uploads, mounts, asks for or
refers to a blob makes it fresh first (its time of change), and the sweep looks at that time once more under the lock that
they hold (or by the storage's own conditions), so a push that is under way never loses a blob. Of several programs on one
storage only the holder of its lease collects.
"""

from __future__ import annotations

import re
import time
from typing import NamedTuple

from sampan.names.digest import Digest, encoded_of
from sampan.registryserver.failures import Refused
from sampan.registryserver.paths import checked_digest
from sampan.registryserver.repositories import Repositories, parse

GRACE = 3600.0
_DIGEST = re.compile(rb"sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128}")


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

        None: another program is collecting on this storage.
        """
        with self._repositories.storage.lease(self._repositories.paths.root) as mine:
            return self._collect(untagged, dry_run) if mine else None

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

    def _revisions(self, name: str) -> dict[Digest, list[str]]:
        """The manifests of a repository, each with the digests that it names."""
        found: dict[Digest, list[str]] = {}
        directory = self._repositories.paths.revisions(name)
        for algorithm in self._repositories.storage.names(directory):
            for encoded in self._repositories.storage.names(directory / algorithm):
                link = self._repositories.link(directory / algorithm / encoded / "link")
                digest = None if link is None else _digest(link)
                if digest is not None:
                    found[digest] = self._parts(digest)
        return found

    def _parts(self, digest: Digest) -> list[str]:
        data = self._repositories.storage.read(self._repositories.paths.blob(digest)) or b""
        try:
            parsed = parse(data, "")
        except Refused:
            # Schema 1 that distribution took, or what will come after us: whatever it names is needed.
            return [found.decode() for found in _DIGEST.findall(data)]
        return [part.digest for part in parsed.parts]

    def _reachable(self, name: str, revisions: dict[Digest, list[str]]) -> set[str]:
        tags = self._repositories.storage.names(self._repositories.paths.tags(name))
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
        for algorithm in self._repositories.storage.names(blobs):
            for prefix in self._repositories.storage.names(blobs / algorithm):
                for encoded in self._repositories.storage.names(blobs / algorithm / prefix):
                    digest = _digest(f"{algorithm}:{encoded}")
                    if digest is not None and digest not in needed:
                        blob = self._repositories.paths.blob(digest)
                        freed = self._repositories.storage.remove_stale(blob, self._grace, dry_run=dry_run)
                        count += freed >= 0
                        size += max(0, freed)
        return count, size

    def _is_old(self, digest: Digest) -> bool:
        found = self._repositories.storage.status(self._repositories.paths.blob(digest))
        return found is None or time.time() - found.modified >= self._grace

    def _drop_links(self, name: str) -> None:
        """Links of a repository to blobs that are gone: without them the next push uploads the blob again."""
        paths, storage = self._repositories.paths, self._repositories.storage
        layers = paths.repository(name) / "_layers"
        for algorithm in self._repositories.storage.names(layers):
            for encoded in self._repositories.storage.names(layers / algorithm):
                digest = _digest(f"{algorithm}:{encoded}")
                if digest is None:
                    continue
                link = paths.layer_link(name, digest)
                if storage.status(paths.blob(digest)) is not None or encoded != encoded_of(digest):
                    continue
                storage.remove(link, paths.repository(name))
                if storage.status(paths.blob(digest)) is not None:  # it was uploaded in this very moment
                    self._repositories.write_link(link, digest)


def _digest(text: str) -> Digest | None:
    """None for a name that is none: somebody else's file (`lost+found`), or a link that was cut short, is left alone."""
    try:
        return checked_digest(text)
    except Refused:
        return None
