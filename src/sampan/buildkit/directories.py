"""Results as directories of a client's: each platform's files in one of its own (`linux_arm64`), or all of them in one."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from sampan.buildkit import trees
from sampan.buildkit.trees import Files
from sampan.errors import InvalidParameter
from sampan.linux.path import open_without_links

if TYPE_CHECKING:
    from sampan.exporters.results import PlatformResult, Results
    from sampan.ops.trees import Trees

_SEPARATORS = str.maketrans("/\\:\0", "____")


def directory_of(id: str) -> str:
    """The directory of a platform, by what the frontend calls it: one name, that leads nowhere else."""
    name = id.translate(_SEPARATORS)
    return "_" * len(name) if name in (".", "..") else name


def one_time(given: Results) -> int | None:
    """The time (nanoseconds) that every file is to have; None: its own."""
    epoch = given.platforms[0].epoch
    return None if epoch is None else epoch * 1_000_000_000


@asynccontextmanager
async def opened(
    from_: Trees, platforms: Sequence[PlatformResult], *, split: bool
) -> AsyncIterator[list[Files]]:
    """The files of each, while the block lasts."""
    async with AsyncExitStack() as stack:
        files = []
        for each in platforms:
            root = await stack.enter_async_context(trees.opened(from_, each.tree))
            files.append(Files(directory_of(each.id) if split else "", root))
        if len({each.directory for each in files}) != len(files) and split:
            raise InvalidParameter("two platforms of the result have the same directory")
        yield files


async def check_apart(platforms: Sequence[PlatformResult], files: Sequence[Files]) -> None:
    """Raises `InvalidParameter` when two platforms have a file at the same path: one would silently replace the other."""
    found: dict[str, str] = {}
    for platform, each in zip(platforms, files, strict=True):
        for path in await asyncio.to_thread(_paths, each.root):
            before = found.setdefault(path, platform.id)
            if before != platform.id:
                raise InvalidParameter(
                    f"cannot overwrite {path} from {before} with {platform.id} when split option is disabled"
                )


def _paths(root: int) -> list[str]:
    """Everything beneath a directory that is none itself."""
    found: list[str] = []
    waiting = [""]
    while waiting:
        path = waiting.pop()
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        directory = open_without_links(root, path, flags)
        try:
            with os.scandir(directory) as entries:
                for entry in entries:
                    within = f"{path}/{entry.name}" if path else entry.name
                    (waiting if entry.is_dir(follow_symlinks=False) else found).append(within)
        finally:
            os.close(directory)
    return found
