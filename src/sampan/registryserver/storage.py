"""Where a registry keeps things, whatever that is: a local directory, or objects behind S3's protocol.

Both have distribution's layout, so a place is a `Path` of `paths.Paths`; on object storage it is a key. Several programs may
work on one storage at a time. All methods block: call them in a thread.

**Freshness.** The collector must not take a blob that a client was just told of. Whoever tells of one calls `fresh` first; the
collector calls `remove_stale`. Each implementation makes these two exclude one another, also between programs.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple, Protocol


class Stored(NamedTuple):
    """A file."""

    size: int
    modified: float
    """Seconds since 1970."""


class Partial(Protocol):
    """The bytes of an upload so far."""

    @property
    def size(self) -> int: ...

    def append(self, data: bytes | bytearray) -> None:
        """Add bytes. They may be lost with the program until `keep`."""
        ...

    def keep(self) -> None:
        """What was appended survives this program's end from now on. Raises `Refused` when another program has written there."""
        ...

    def reload(self) -> bool:
        """See what another program has added. False: it has ended the upload."""
        ...

    def read(self) -> Iterator[bytes]:
        """All bytes from the beginning."""
        ...

    def publish(self, blob: Path) -> None:
        """Make it the file of a blob, durably; a file that is there already is made fresh instead."""
        ...

    def close(self) -> None: ...


class Storage(Protocol):
    """See the module."""

    has_stamps: bool
    """Whether `stamp` tells anything."""
    chunk_min: int
    """Bytes that a chunk of an upload should have at least (OCI-Chunk-Min-Length); smaller ones are taken all the same."""

    def prepare(self, directories: list[Path]) -> None:
        """Have what must be there before the first write."""
        ...

    def healthy(self, directory: Path) -> str:
        """What is wrong with the storage; empty when nothing is."""
        ...

    def read(self, path: Path) -> bytes | None:
        """A small file; None when it is not there."""
        ...

    def write(self, path: Path, data: bytes) -> None:
        """A small file, whole and durable; what was there is replaced in one step."""
        ...

    def status(self, path: Path) -> Stored | None: ...

    def remove(self, path: Path, upto: Path) -> bool:
        """Remove a file, and directories that it leaves empty below `upto`. False: there was none."""
        ...

    def remove_tree(self, directory: Path) -> None: ...

    def names(self, directory: Path) -> list[str]:
        """What is in a directory, sorted; nothing when it is not there."""
        ...

    def stamp(self, directory: str) -> str:
        """Another one after each change to a directory's `names`; empty when that cannot be told (yet)."""
        ...

    def linked(self, directory: Path, suffix: str, among: list[str] | None = None) -> list[str]:
        """The names (of these) in a directory below which there is the file `suffix`, sorted, without a request for each."""
        ...

    def fresh(self, blob: Path, within: float) -> Stored | None:
        """A blob's file, made fresh when it was not within so many seconds; None: there is none (any more)."""
        ...

    def put_blob(self, blob: Path, data: bytes) -> None:
        """Store a small blob, or make the one that is there fresh."""
        ...

    def remove_stale(self, blob: Path, age: float, *, dry_run: bool) -> int:
        """Remove a blob that was not fresh for so many seconds; its size, or -1."""
        ...

    def upload(self, directory: Path) -> Partial:
        """A new upload in a directory of its own."""
        ...

    def find_upload(self, directory: Path) -> Partial | None:
        """One that was begun before; None when there is none."""
        ...

    def upload_age(self, directory: Path) -> float:
        """Seconds since something was written to an upload."""
        ...

    def lease(self, directory: Path) -> AbstractContextManager[bool]:
        """Be the only one that collects below a directory; False: another program is."""
        ...

    def local(self, blob: Path) -> Path | None:
        """The blob's file on this machine, to be sent by the kernel; None when it is elsewhere."""
        ...

    def address(self, blob: Path) -> str:
        """Where a client may fetch the blob by itself, for some minutes; empty when it may not."""
        ...

    def chunks(self, blob: Path, start: int, count: int) -> AsyncIterator[bytes]:
        """Bytes of a blob that is not on this machine."""
        ...
