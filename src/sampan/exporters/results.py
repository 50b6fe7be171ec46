"""What a build gives to its exporters, platform by platform."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sampan.names.platform import Platform
from sampan.oci.image import ImageConfig
from sampan.solver.interface import Tree


class PlatformResult(NamedTuple):
    """The files for one platform, and what an image of them says."""

    id: str
    """As the frontend calls it: `linux/arm64`."""
    platform: Platform
    tree: Tree
    config: ImageConfig
    epoch: int | None = None
    """Time (seconds) that whatever is made of it says it was made at; None is when it was."""


class Results(NamedTuple):
    """All of them, in the frontend's order; at least one."""

    platforms: Sequence[PlatformResult]
    several: bool
    """Whether the client wants them told apart, as an index or by directories: also of one it may."""


def single(tree: Tree, config: ImageConfig, platform: Platform, epoch: int | None = None) -> Results:
    """A build for one platform."""
    return Results([PlatformResult(str(platform), platform, tree, config, epoch)], False)
