"""What containers and the API ask of volumes: the seam between them and this package.

A volume's life beside a container's::

    volume = await volumes.create("data", container=id)     # or "" for an anonymous one; in use from here on
    path = await volumes.mount(volume.name, id)              # host path of the data, at each start
    await volumes.unmount(volume.name, id)                   # at each stop
    await volumes.release(id)                                # at removal of the container: no longer in use
    await volumes.remove(volume.name)

A volume is *in use* while a container, running or not, refers to it: it cannot be removed. It is *mounted* by the
containers that run with it: a volume with mount options (`type`, `o`, `device`) is mounted for the first of
them and unmounted after the last. Who uses what is not stored here: the containers' own records say it, and after a
restart of the engine `recover` is told, so the two can never disagree.

Errors are Docker's: `NotFound("get x: no such volume")`, `Conflict("remove x: volume is in use - [ids]")`…
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from sampan.engineapi.volume import Volume, VolumesPruned

if TYPE_CHECKING:
    from sampan.engineapi.filters import Filters

ANONYMOUS_LABEL = "com.docker.volume.anonymous"
"""Marks volumes that were made without a name: `prune` takes them without being asked for all."""


class Volumes(Protocol):
    """Volumes of one engine. Used on the engine's loop; nothing blocks it."""

    def drivers(self) -> list[str]:
        """Names of the volume drivers, for `/info`."""
        ...

    async def recover(self, used: Mapping[str, Iterable[str]], mounted: Mapping[str, Iterable[str]]) -> None:
        """After a start of the engine: which volumes each container refers to, and which running ones have mounted.

        Mounts that nobody has any more are undone.
        """
        ...

    async def create(
        self,
        name: str,
        *,
        driver: str = "",
        options: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
        anonymous: bool = False,
        container: str = "",
    ) -> Volume:
        """Make a volume, or give the one of that name (its options and labels stay as they are).

        Without a name it is anonymous: 64 hex digits and the label of such. `container` refers to it at once; an anonymous one
        is removed by the next start unless `keep` has said that the container came to be.
        Raises InvalidParameter (name, options), Conflict (the name belongs to another driver), NotFound (no such driver).
        """
        ...

    def keep(self, cx: sqlite3.Connection, container: str) -> None:
        """Within the transaction that makes the container's row: the volumes made for it stay."""
        ...

    def doom(self, cx: sqlite3.Connection, container: str, names: Iterable[str]) -> None:
        """Within the transaction that deletes the container's row: these volumes are to go too, by `remove` or by the next start,
        unless somebody else uses them (`spare`)."""
        ...

    async def spare(self, name: str) -> None:
        """Undo `doom` for a volume that somebody else uses."""
        ...

    async def inspect(self, name: str) -> Volume: ...

    async def list(self, filters: Filters) -> list[Volume]:
        """By the filters `dangling`, `driver`, `label` and `name`."""
        ...

    async def remove(self, name: str, *, force: bool = False) -> None:
        """`force` only forgives that there is no such volume."""
        ...

    async def prune(self, filters: Filters) -> VolumesPruned:
        """Remove what no container refers to: anonymous volumes, with the filter `all` named ones too."""
        ...

    async def disk_usage(self) -> Sequence[Volume]:
        """Volumes without mount options, with their sizes and numbers of users."""
        ...

    async def reference(self, name: str, container: str) -> None:
        """`container` uses the volume from now on."""
        ...

    async def release(self, container: str) -> None:
        """The container is gone: it refers to no volume any more."""
        ...

    async def mount(self, name: str, container: str) -> str:
        """Host path of the data, which is mounted there. Raises NotFound, or SystemFailure when mounting fails."""
        ...

    async def unmount(self, name: str, container: str) -> None:
        """The container has stopped. Idempotent; a volume that does not exist is fine."""
        ...
