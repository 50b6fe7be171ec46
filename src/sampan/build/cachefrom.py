"""`--cache-from` of the classic builder: images whose history says what their steps were, wherever they were built.

As dockerd (daemon/internal/image/cache): a step is taken from an image that begins as the stage has so far and goes on with the
step's line of history. Then what was built here counts only where one of these images stands on it.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable

from sampan.errors import SampanError
from sampan.images.committing import NewImage
from sampan.images.interface import ResolvedImage
from sampan.oci.image import ContainerConfig, ImageConfig, RootFS

log = logging.getLogger(__name__)


class CacheImages:
    """Those of one build; of none, everything that was built here counts."""

    def __init__(self, images: list[ResolvedImage], *, given: bool) -> None:
        """`given`: some were named, be it that none of them is here."""
        self._images = images
        self._given = given

    @classmethod
    async def named(
        cls, names: Iterable[str], resolve: Callable[[str], Awaitable[ResolvedImage]]
    ) -> CacheImages:
        """Those of the names that are here; the log names the others."""
        found, given = [], False
        for name in names:
            given = True
            try:
                found.append(await resolve(name))
            except SampanError as error:
                log.warning("could not look up %s for cache resolution, skipping: %s", name, error)
        return cls(found, given=given)

    def admits(self, image: ResolvedImage) -> bool:
        """Whether an image that was built here may be taken."""
        return not self._given or any(_stands_on(each.config, image.config) for each in self._images)

    def find(
        self, parent: ResolvedImage, line: str, config: ContainerConfig
    ) -> ResolvedImage | NewImage | None:
        """The image that a step gives: one of these, or one that has to be made of a part of it.

        From then on nothing is taken from any other. `config` is the step's.
        """
        lines = len(parent.config.history)
        for each in self._images:
            history = each.config.history
            if not _stands_on(each.config, parent.config) or history[lines].created_by != line:
                continue
            if len(history) == lines + 1:
                return each
            self._images = [each]
            return _part(each, lines + 1, config, parent.id)
        return None


def _stands_on(image: ImageConfig, base: ImageConfig) -> bool:
    """Whether it has all that the base has, and more."""
    lines, layers = len(base.history), len(base.rootfs.diff_ids)
    return (
        len(image.history) > lines
        and image.history[:lines] == base.history
        and image.rootfs.diff_ids[:layers] == base.rootfs.diff_ids
    )


def _part(image: ResolvedImage, lines: int, config: ContainerConfig, parent: str) -> NewImage:
    """Its first lines of history, and the layers that these made."""
    history = image.config.history[:lines]
    layers = sum(not each.empty_layer for each in history)
    part = ImageConfig(
        created=history[-1].created,
        author=image.config.author,
        architecture=image.config.architecture,
        variant=image.config.variant,
        os=image.config.os,
        config=config,
        rootfs=RootFS(diff_ids=list(image.config.rootfs.diff_ids[:layers])),
        history=list(history),
    )
    return NewImage(part, list(image.manifest.layers[:layers]), "", parent)
