"""What builds keep, and letting go of it: `docker builder prune`, `docker system df`.

What is kept are results (snapshots), and directories of clients' files and cache mounts. A result whose files an image has too is
*shared*: it takes no room of its own.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
import os
import re
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from sampan.engineapi.filters import Filters
from sampan.errors import Conflict, InvalidParameter, SampanError
from sampan.images.parts import Collection
from sampan.names.times import parse_filter_time
from sampan.ops.directories import Directories
from sampan.snapshots.interface import Snapshotter
from sampan.snapshots.usage import measure
from sampan.solver.keeping import Keeping

log = logging.getLogger(__name__)

_FILTERS = (
    "id",
    "parent",
    "type",
    "description",
    "inuse",
    "shared",
    "private",
    "until",
    "unused-for",
    "mutable",
    "immutable",
    "label",
    "label!",
)
_RESERVED = 2 << 30
"""Bytes that are never taken away without being asked to."""
_TIDY_SECONDS = 60.0
_HIDDEN = ("internal", "frontend")
_ID_LENGTH = 25


class Kept(NamedTuple):
    """One thing that is kept."""

    id: str
    parents: tuple[str, ...]
    kind: str
    description: str
    in_use: bool
    shared: bool
    mutable: bool
    size: int
    created_ns: int
    used_ns: int
    uses: int


class PruneRequest(NamedTuple):
    """Which of it goes. The limits are bytes, 0 for none: at least `reserved` stays, at most `maximum`, and `free` is made room."""

    all: bool = False
    filters: Filters = Filters()
    reserved: int = 0
    maximum: int = 0
    free: int = 0
    unused_for_ns: int = 0


class Upkeep:
    """See the module."""

    def __init__(
        self,
        keeping: Keeping,
        directories: Directories,
        snapshots: Snapshotter,
        collection: Collection,
        used: Callable[[], frozenset[str]],
    ) -> None:
        """`used` are the snapshots that builds use now."""
        self._keeping = keeping
        self._directories = directories
        self._snapshots = snapshots
        self._collection = collection
        self._used = used
        self._pruning = False
        self._tidying: asyncio.Task[None] | None = None
        self._next_tidy = 0.0

    async def usage(self, filters: Filters = Filters()) -> list[Kept]:  # noqa: B008 - never changed
        """All that is kept and the filters leave, oldest first."""
        check(filters)
        wanted = PruneRequest(all=True, filters=filters)
        return [kept for kept, _ in await self._kept() if _chosen(kept, wanted)]

    async def prune(self, request: PruneRequest) -> list[Kept]:
        """Let go of what is not used, longest unused first; what went. Raises `Conflict` while another one does."""
        check(request.filters)
        if self._pruning:
            raise Conflict("a prune operation is already running")
        self._pruning = True
        try:
            return await self._prune(request)
        finally:
            self._pruning = False

    def tidy_soon(self) -> None:
        """A build has ended: see in the background, not too often, whether too much is kept."""
        now = time.monotonic()
        if now >= self._next_tidy and (self._tidying is None or self._tidying.done()):
            self._next_tidy = now + _TIDY_SECONDS
            self._tidying = asyncio.get_running_loop().create_task(self._tidy(), name="tidy build cache")

    async def close(self) -> None:
        """Stop tidying; what is half done is done another time."""
        if self._tidying is not None:
            self._tidying.cancel()
            await asyncio.gather(self._tidying, return_exceptions=True)

    async def _tidy(self) -> None:
        """As BuildKit does by default: at most so much of the disk, as long as so much of it is free."""
        try:
            status = await asyncio.to_thread(os.statvfs, self._directories.root)
            disk = status.f_blocks * status.f_frsize
            limits = PruneRequest(all=True, reserved=_RESERVED, maximum=disk * 6 // 10, free=disk // 10)
            await self.prune(limits)
        except SampanError:
            log.exception("the build cache could not be tidied; the next build tries again")

    async def _prune(self, request: PruneRequest) -> list[Kept]:
        every = await self._kept()
        total = sum(kept.size for kept, _ in every if not kept.shared)
        limit = await asyncio.to_thread(self._limit, request, total)
        gone: list[Kept] = []
        results: list[int] = []
        for kept, row in sorted(every, key=lambda each: each[0].used_ns):
            if limit is not None and total <= limit:
                break
            if kept.in_use or not _chosen(kept, request):
                continue
            if isinstance(row, int):
                results.append(row)
            elif self._directories.is_used(row):
                continue  # since we have looked
            else:
                await self._directories.remove(row)
            gone.append(kept)
            total -= 0 if kept.shared else kept.size
        if results:
            await self._keeping.records.forget(results)
            await self._collection.run()
        return gone

    def _limit(self, request: PruneRequest, total: int) -> int | None:
        """How many bytes may stay; None: nothing need stay."""
        if not (request.reserved or request.maximum or request.free):
            return None
        limit = request.maximum or (total if request.free else 0)
        if request.free:
            status = os.statvfs(self._directories.root)
            missing = request.free - status.f_bavail * status.f_frsize
            limit = min(limit, total - max(0, missing))
        return max(limit, request.reserved)

    async def _kept(self) -> list[tuple[Kept, int | str]]:
        """With the row's id of a result, or the id of a directory."""
        results = await self._keeping.records.every()
        infos = {info.name: info for info in await self._snapshots.walk()}
        ids = {result.snapshot: _id(result.key) for result in results if result.snapshot}
        # An image stands on a result by an empty snapshot with its own name; a result of an image's layers has theirs.
        below_others = {
            info.parent for name, info in infos.items() if name not in ids and info.kind == "committed"
        }
        used = self._used()
        found: list[tuple[Kept, int | str]] = []
        for result in results:
            info = infos.get(result.snapshot)
            size = (await self._snapshots.usage(result.snapshot)).size if info is not None else 0
            shared = info is not None and (
                not result.snapshot.startswith("solver-") or result.snapshot in below_others
            )
            parent = ids.get(info.parent) if info is not None else None
            kept = Kept(
                _id(result.key),
                (parent,) if parent else (),
                result.kind,
                result.description,
                result.snapshot in used,
                shared,
                False,
                size,
                result.created_ns,
                result.used_ns,
                result.uses,
            )
            found.append((kept, result.id))
        return found + await self._kept_directories()

    async def _kept_directories(self) -> list[tuple[Kept, int | str]]:
        found: list[tuple[Kept, int | str]] = []
        for id, kind, name, created, used, uses in await self._directories.every():
            size = (await asyncio.to_thread(measure, self._directories.path(id))).size
            text = f"local source for {name}" if kind == "source.local" else f"cached mount {name}"
            busy = self._directories.is_used(id)
            kept = Kept(id[:_ID_LENGTH], (), kind, text, busy, False, True, size, created, used, uses)
            found.append((kept, id))
        return found


def _id(key: str) -> str:
    """As short as BuildKit's, and the same for the same result."""
    return hashlib.sha256(key.encode()).hexdigest()[:_ID_LENGTH]


def check(filters: Filters) -> None:
    """Raises `InvalidParameter` for filters that there are not, and for what is no regular expression or time."""
    filters.validate(_FILTERS)
    _latest(PruneRequest(filters=filters))
    for name in ("id", "type", "description"):
        for value in filters.get(name):
            try:
                re.compile(value.removeprefix("~") if value.startswith("~") else "")
            except re.error as error:
                raise InvalidParameter(f"invalid filter {name}~={value[1:]}: {error}") from None


def _chosen(kept: Kept, request: PruneRequest) -> bool:
    if not request.all and (kept.kind in _HIDDEN or kept.shared):
        return False
    if kept.used_ns > _latest(request):
        return False
    filters = request.filters
    if "label" in filters:
        return False  # nothing of a build has any
    words = {"id": kept.id, "type": kept.kind, "description": kept.description}
    if not all(_matches(filters.get(name), value) for name, value in words.items()):
        return False
    if "parent" in filters and not any(each in filters.get("parent") for each in kept.parents):
        return False
    flags = {
        "inuse": kept.in_use,
        "shared": kept.shared,
        "private": not kept.shared,
        "mutable": kept.mutable,
        "immutable": not kept.mutable,
    }
    return all(name not in filters or filters.boolean(name, True) == value for name, value in flags.items())


def _matches(wanted: Sequence[str], value: str) -> bool:
    """A value is meant whole, or `~=` a regular expression: BuildKit's filters in the engine's form."""
    return not wanted or any(
        re.search(each[1:], value) is not None if each.startswith("~") else each == value for each in wanted
    )


def _latest(request: PruneRequest) -> float:
    """When something may have been used at the latest to go."""
    now = time.time_ns()
    values = [*request.filters.get("until"), *request.filters.get("unused-for")]
    if not values:
        return now - request.unused_for_ns if request.unused_for_ns else math.inf
    if len(values) > 1:
        raise InvalidParameter("filters expect only one value")
    try:
        return parse_filter_time(values[0], now)
    except InvalidParameter as error:
        expected = "expects a duration (e.g., '24h') or a timestamp"
        raise InvalidParameter(f'"until" filter {expected}: {error}') from None
