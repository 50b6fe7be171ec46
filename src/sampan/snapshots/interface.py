"""The snapshotter: file-system states that build on one another.

Terms
=====

- A **snapshot** is a state of a directory tree. Its *kind* is one of three:
  **active**: writable, named by a *key* that its user chose (a container's id, a layer being unpacked);
  **committed**: read-only for ever, named by a *name* (an image's chain id), and able to be a parent;
  **view**: read-only, named by a key, for looking at a committed snapshot.
- A snapshot's **parent** is the committed snapshot that it started as; the empty parent is an empty
  directory.
- **Mounts** are what it takes to see a snapshot: OCI mount dicts (type, source, options), to be mounted in
  order on a directory of the caller's. The snapshotter itself never mounts, so nothing of a container appears
  in the host's mount table; the container's shim mounts in a namespace of its own.

Life
====

1. `prepare(key, parent)` makes an active snapshot. It exists durably once the call returns.
2. Its user changes it: a container through the mounts, an unpacked layer by `archive.apply` straight into
   `apply_target(key)`, which costs no mount.
3. Either `commit(name, key)` freezes it: one `syncfs`, then the row. The key is free again. Committing a name
   that exists raises Conflict and leaves the active snapshot, for its user to remove: somebody else unpacked
   the same. Or `remove(key)` throws it away.
4. `remove(name)` deletes a committed snapshot without children; with children it is refused.

Deletion removes the row first, durably, then renames the directory into the trash, and deletes that in the
background. A directory without a row is garbage, so recovery after kill -9 needs no journal.

Example: unpack an image of two layers and give a container its root::

    parent = ""
    for layer, chain_id in ((first, chain_1), (second, chain_2)):
        key = f"unpack-{chain_id}"
        await snapshots.prepare(key, parent)
        target = await snapshots.apply_target(key)
        result = await workers.run("sampan.archive.apply:apply_job", target.job_args() | {...}, fds=[layer])
        await snapshots.commit(chain_id, key)
        parent = chain_id
    mounts = await snapshots.prepare(container_id, parent)      # → ContainerLaunch["rootfs"]
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Mapping

    from sampan.oci.runtime import Mount

Kind = Literal["active", "committed", "view"]

VOLATILE = "sampan/volatile"
"""Label of an active snapshot whose writes need not survive a power failure, whatever its programs sync (`--rm`).

Leaving an overlay mount writes the whole file system below it to the disk: 1 ms at best, 130 ms beside other writers. A
volatile one does not (0.1 ms). The value is `true`.
"""


class SnapshotInfo(NamedTuple):
    """What is known of a snapshot."""

    name: str
    """Key of an active snapshot or a view, name of a committed one."""
    parent: str
    """Name of the committed parent; empty for none."""
    kind: Kind
    created_ns: int
    labels: Mapping[str, str]


class Usage(NamedTuple):
    """Room that a snapshot takes itself, its parents not counted. Hard-linked files count once."""

    size: int
    """Bytes of disk, as allocated (`st_blocks`)."""
    inodes: int


class ApplyTarget(NamedTuple):
    """Where `archive.apply` writes a layer and `archive.diff` reads one."""

    path: str
    """Directory that receives the layer's entries (overlay: the upper directory; copy: the whole tree)."""
    whiteouts: Literal["overlay", "delete"]
    """How a deletion is expressed in it: overlay's own marks, or by deleting."""
    parents: tuple[str, ...]
    """Directories of the parents, nearest first; empty for the copy snapshotter, whose tree holds them."""
    compare: str
    """Directory of the parent to compare with, when a diff is to be made by comparison (copy); else empty."""

    def job_args(self) -> dict[str, Any]:
        """These fields in the form in which `apply_job` and `diff_job` take them."""
        return {
            "target": self.path,
            "whiteouts": self.whiteouts,
            "parents": list(self.parents),
            "compare": self.compare,
        }


class Snapshotter(Protocol):
    """A tree of snapshots. Names and keys share one name space."""

    name: str
    """`overlayfs` or `native`, as Docker's `info` shows it."""

    async def prepare(self, key: str, parent: str, *, labels: Mapping[str, str] | None = None) -> list[Mount]:
        """A new active snapshot on a committed parent ("" for none), and its mounts.

        Raises Conflict when the key is taken, NotFound when the parent is not there, InvalidParameter when it
        is not committed.
        """
        ...

    async def view(self, key: str, parent: str, *, labels: Mapping[str, str] | None = None) -> list[Mount]:
        """Like `prepare`, but read-only."""
        ...

    async def mounts(self, key: str) -> list[Mount]:
        """The mounts of an active snapshot or view again (after a restart). Raises NotFound."""
        ...

    async def read_mounts(self, name: str) -> list[Mount]:
        """A committed snapshot, read-only, without a view of one's own: for as long as a lease keeps it. Raises NotFound."""
        ...

    async def apply_target(self, key: str) -> ApplyTarget:
        """The directories behind an active or committed snapshot, for workers. Raises NotFound."""
        ...

    async def commit(
        self, name: str, key: str, *, labels: Mapping[str, str] | None = None, durable: bool = True
    ) -> SnapshotInfo:
        """Freeze the active snapshot under a name, durably; else only for as long as the machine does not crash.

        Raises Conflict when the name is taken, NotFound, InvalidParameter for a view, and "max depth
        exceeded" when it would be the 129th in its chain.
        """
        ...

    async def remove(self, key: str) -> None:
        """Delete a snapshot of any kind. Raises NotFound, Conflict while it has children."""
        ...

    async def stat(self, key: str) -> SnapshotInfo:
        """Raises NotFound."""
        ...

    async def walk(self, *, labels: Mapping[str, str] | None = None) -> list[SnapshotInfo]:
        """All snapshots, parents before children; only those that carry the labels given."""
        ...

    async def update(self, key: str, labels: Mapping[str, str | None]) -> SnapshotInfo:
        """Set labels; None removes one. Raises NotFound."""
        ...

    async def usage(self, key: str) -> Usage:
        """Of an active snapshot measured now, of a committed one as measured at its commit. Raises
        NotFound.
        """
        ...

    async def chain(self, name: str) -> list[str]:
        """Names from the snapshot up to its oldest ancestor. Raises NotFound."""
        ...

    async def collect_candidates(self) -> dict[str, list[tuple[str, str]]]:
        """For `content.gc`: every snapshot, with its parent as the resource `("snapshot", parent)`."""
        ...

    async def collect(
        self, ids: Iterable[str], needed: Callable[[sqlite3.Connection, Any], bool]
    ) -> dict[str, int]:
        """For `content.gc`: remove those that nothing needs and that have no children; bytes freed of each."""
        ...

    async def sync(self) -> None:
        """Make everything committed so far durable."""
        ...

    async def close(self) -> None:
        """Wait for background deletions."""
        ...
