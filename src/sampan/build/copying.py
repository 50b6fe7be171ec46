"""`COPY` and `ADD`: what a step copies, as the engine asks for it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sampan.containers.root_view import view_arguments
from sampan.images.interface import ResolvedImage
from sampan.images.service import ImageService
from sampan.names.names import new_id
from sampan.zygote.workers import Workers


@dataclass(frozen=True, slots=True)
class CopyStep:
    """One `COPY` or `ADD` with its variables replaced.

    `destination` is absolute and keeps its final slash; `files` are heredocs, (name, text); `owner` as `--chown` has it;
    `mode` a number.
    """

    what: str
    sources: tuple[str, ...]
    destination: str
    files: tuple[tuple[str, str], ...] = ()
    owner: str = ""
    mode: int | None = None
    excludes: tuple[str, ...] = ()
    unpack: bool = False


class Copier:
    """Runs copies in workers."""

    def __init__(self, images: ImageService, workers: Workers, anchor: Path) -> None:
        self._images = images
        self._workers = workers
        self._anchor = anchor
        """An existing directory that a worker, in a mount namespace of its own, may mount on."""

    async def digest(self, step: CopyStep, source: Mapping[str, Any]) -> str:
        """What identifies the files that a step copies: `file:…`, `dir:…` or `multi:…` with their digest in hexadecimal."""
        result = await self._workers.run("sampan.build.copy_jobs:digest_job", _arguments(step, source))
        return f"{result['kind']}:{result['digest'].removeprefix('sha256:')}"

    async def copy(self, step: CopyStep, source: Mapping[str, Any], key: str) -> None:
        """Copy into the writable snapshot `key`."""
        view = view_arguments(
            pid=0,
            rootfs=await self._images.rootfs_mounts(key),
            mounts=(),
            anchor=str(self._anchor),
            bare=True,
        )
        arguments = {
            **_arguments(step, source),
            "view": view,
            "destination": step.destination,
            "owner": step.owner,
        }
        await self._workers.run("sampan.build.copy_jobs:copy_job", arguments)

    @asynccontextmanager
    async def of_image(self, image: ResolvedImage) -> AsyncIterator[dict[str, Any]]:
        """An image's files as a source, while the block lasts."""
        key = new_id()
        try:
            yield {"rootfs": await self._images.prepare_view(key, 0, image)}
        finally:
            await self._images.release_view(key, 0)


def _arguments(step: CopyStep, source: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "what": step.what,
        "source": dict(source),
        "patterns": list(step.sources),
        "inline": [list(each) for each in step.files],
        "mode": step.mode,
        "excludes": list(step.excludes),
        "unpack": step.unpack,
        # A context's files have the client's owners, which mean nothing here; an image's keep theirs.
        "owned_by_root": "directory" in source,
    }
