"""The seam between the solver and what operations do.

For each vertex the solver asks `Operations` for an `Operation`. It asks that first what identifies it, and only when no result is
known by that does it execute::

    operation = operations.of(vertex, build)
    identity = await operation.identify()          # the operation's digest, and how each input counts
    ...                                            # keys, look-ups, inputs: the solver's
    trees = await operation.execute(task, inputs)  # one for each output
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from sampan.content.interface import Lease
    from sampan.llb.graph import Vertex
    from sampan.solver.build import Build
    from sampan.solver.layers import Layer
    from sampan.solver.progress import Reporter


class Tree(NamedTuple):
    """A read-only file tree: a committed snapshot, or a directory that a client's files are in. Neither: nothing is in it."""

    snapshot: str = ""
    directory: str = ""
    version: int = 0
    """Of a directory that other builds bring up to date: as long as it is the same, so is everything in it. 0: not known."""

    def description(self) -> dict[str, str]:
        """For a worker's arguments and for logs."""
        return {"snapshot": self.snapshot, "directory": self.directory}


EMPTY = Tree()


class Selector(NamedTuple):
    """Files that an operation looks at. Paths as in `FileActionCopy`."""

    path: str
    wildcard: bool = False
    follow: bool = True
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()


class InputKey(NamedTuple):
    """How an input counts for what identifies the operation's result."""

    selectors: tuple[Selector, ...] = ()
    """The part of it that the operation looks at; () is all of it."""
    by_content: bool = False
    """Whether the bytes count, however they came about."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What makes an operation this operation and no other."""

    digest: str
    inputs: tuple[InputKey, ...] = ()
    kept: bool = True
    """Whether the result can serve other builds."""


class Task(NamedTuple):
    """What an operation works with while it executes."""

    report: Reporter
    lease: Lease
    """Keeps what the operation makes from being collected until the solver has written it down."""
    build: Build


class Operation(Protocol):
    """What one vertex does."""

    async def identify(self) -> Identity:
        """May ask the network what a name means now; does nothing else."""
        ...

    async def execute(self, task: Task, inputs: Sequence[Tree]) -> list[Tree]:
        """Do it. When it raises or is cancelled, nothing is left."""
        ...


class Operations(Protocol):
    """What vertices do, by kind."""

    def of(self, vertex: Vertex, build: Build) -> Operation:
        """Raises `InvalidParameter` for one that no operation can be made of, `NotSupported` for what is not there."""
        ...


class CacheSource(Protocol):
    """Results that another engine has left somewhere: a second place where a build looks for its keys."""

    def canonical(self, key: str) -> str | None:
        """The canonical key that a key leads to there."""
        ...

    def has(self, key: str) -> bool:
        """Whether there is a result under this canonical key."""
        ...

    async def tree(self, key: str, lease: Lease) -> Tree:
        """Fetch that result; the lease keeps it. Raises `SampanError`."""
        ...

    async def layers(self, key: str, lease: Lease) -> list[Layer]:
        """Fetch its blobs only; the lease keeps them. Raises `SampanError`."""
        ...


class Digester(Protocol):
    """Looks at files."""

    async def digest(self, tree: Tree, selectors: Sequence[Selector]) -> str:
        """What identifies the content: names, modes, owners, links, devices, attributes, bytes; no times.

        Raises `NotFound` for a path that is not there.
        """
        ...


def digest_of_text(*parts: str) -> str:
    """One digest of several texts, none of which can be taken for two others."""
    hasher = hashlib.sha256()
    for part in parts:
        data = part.encode(errors="surrogateescape")
        hasher.update(len(data).to_bytes(8))
        hasher.update(data)
    return f"sha256:{hasher.hexdigest()}"
