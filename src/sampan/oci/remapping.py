"""Whose ids a container's users have on the host, when they are not the host's own (`--userns-remap`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from sampan.oci.runtime import IDMapping, Mount


class Remapping(NamedTuple):
    """The mappings of every container's user namespace: from ids inside (`containerID`) to those of the host."""

    uids: list[IDMapping]
    gids: list[IDMapping]

    @property
    def root(self) -> tuple[int, int]:
        """The host's uid and gid of the containers' root."""
        return self.uids[0]["hostID"], self.gids[0]["hostID"]

    @property
    def last_gid(self) -> int:
        """The largest gid that is inside."""
        return sum(entry["size"] for entry in self.gids) - 1

    def mapped(self, rootfs: list[Mount]) -> list[Mount]:
        """A snapshot's mounts, whose owners on disk are those of the image, as the container is to see them."""
        return [{**entry, "uidMappings": self.uids, "gidMappings": self.gids} for entry in rootfs]
