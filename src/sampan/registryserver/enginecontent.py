"""The engine's own images as a registry, read-only and without a second copy: its blobs are files by digest, its names are rows.

An image is served under its name's path (`docker.io/library/busybox` is `library/busybox`, and `busybox` for short); of two
registries' equal paths docker.io's wins. A blob is served only to who names a repository that has it.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from sampan.errors import InvalidParameter
from sampan.names.digest import Digest, algorithm_of, encoded_of
from sampan.names.reference import DEFAULT_DOMAIN, OFFICIAL_PREFIX, Reference, parse_normalized
from sampan.oci.image import Descriptor
from sampan.registryserver.failures import Refused
from sampan.registryserver.paths import checked_digest
from sampan.registryserver.repositories import Repositories, StoredManifest, media_type_of, parse

_INDEX_DEPTH = 4


class EngineContent(Repositories):
    """See the module. What writes is never called: the registry is read-only."""

    def __init__(self, data_root: Path) -> None:
        """Raises `InvalidParameter` when no engine has its state there."""
        super().__init__(data_root / "no-registry-here")
        self._database = data_root / "sampan.db"
        self._blobs = data_root / "content" / "blobs"
        self._parts: dict[str, frozenset[str]] = {}
        if not self._database.exists():
            raise InvalidParameter(f"{data_root}: no engine has its state there")

    async def manifest(self, name: str, reference: str) -> StoredManifest:
        return await asyncio.to_thread(self._stored, name, reference)

    async def blob(self, name: str, digest: Digest) -> tuple[Path, int]:
        return await asyncio.to_thread(self._file, name, digest)

    async def tags(self, name: str) -> list[str]:
        found = await asyncio.to_thread(self._images)
        if name not in found:
            raise Refused("NAME_UNKNOWN", {"name": name})
        return sorted(tag for tag in found[name] if ":" not in tag)

    async def catalog(self) -> list[str]:
        found = await asyncio.to_thread(self._images)
        return sorted(name for name in found if not (name.startswith(OFFICIAL_PREFIX) and name[8:] in found))

    async def referrers(self, name: str, subject: Digest) -> list[Descriptor]:
        return []

    def _images(self) -> dict[str, dict[str, str]]:
        """Digests by tag (or digest) by repository, as they are now."""
        try:
            with closing(
                sqlite3.connect(f"file:{self._database}?mode=ro", uri=True, timeout=5)
            ) as connection:
                rows = connection.execute("select name, digest from image").fetchall()
        except sqlite3.Error as error:
            raise Refused("UNAVAILABLE", f"the engine's state cannot be read: {error}") from None
        found: dict[str, dict[str, str]] = {}
        for reference, digest in sorted(_parsed(rows), key=lambda each: each[0].domain == DEFAULT_DOMAIN):
            names = {reference.path}
            if reference.domain == DEFAULT_DOMAIN:
                names.add(reference.familiar_name())
            for name in names:
                found.setdefault(name, {})[reference.digest or reference.tag] = digest
        return found

    def _stored(self, name: str, reference: str) -> StoredManifest:
        images = self._images().get(name)
        if images is None:
            raise Refused("NAME_UNKNOWN", {"name": name})
        if ":" in reference:
            digest: str | None = str(checked_digest(reference))
            if not any(digest in self._reachable(target) for target in images.values()):
                digest = None
        else:
            digest = images.get(reference)
        if digest is None:
            raise Refused("MANIFEST_UNKNOWN", {"reference": reference})
        try:
            data = self._path(Digest(digest)).read_bytes()
        except FileNotFoundError:
            raise Refused("MANIFEST_UNKNOWN", {"reference": reference}) from None
        return StoredManifest(Digest(digest), media_type_of(data), data)

    def _file(self, name: str, digest: Digest) -> tuple[Path, int]:
        path = self._path(digest)
        try:
            size = path.stat().st_size
        except FileNotFoundError:
            raise Refused("BLOB_UNKNOWN", {"digest": digest}) from None
        if not any(digest in self._reachable(target) for target in self._images().get(name, {}).values()):
            raise Refused("BLOB_UNKNOWN", {"digest": digest})
        return path, size

    def _reachable(self, target: str) -> frozenset[str]:
        """Everything of an image that is named from its target. What is not here yet may come: only whole answers are kept."""
        if target in self._parts:
            return self._parts[target]
        found: set[str] = set()
        whole = self._gather(target, found, 0)
        answer = frozenset(found)
        if whole:
            self._parts[target] = answer
        return answer

    def _gather(self, digest: str, found: set[str], depth: int) -> bool:
        found.add(digest)
        try:
            parsed = parse(self._path(checked_digest(digest)).read_bytes(), "")
        except (FileNotFoundError, Refused):
            return False
        if not parsed.is_index:
            found.update(part.digest for part in parsed.parts)
            return True
        if depth >= _INDEX_DEPTH:
            return False
        whole = True
        for part in parsed.parts:
            whole = self._gather(part.digest, found, depth + 1) and whole
        return whole

    def _path(self, digest: Digest) -> Path:
        return self._blobs / algorithm_of(digest) / encoded_of(digest)


def _parsed(rows: Iterable[tuple[str, str]]) -> list[tuple[Reference, str]]:
    found: list[tuple[Reference, str]] = []
    for name, digest in rows:
        try:
            found.append((parse_normalized(name), digest))
        except InvalidParameter:
            continue  # an image without a name
    return found
