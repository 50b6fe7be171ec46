"""`ADD` of URLs: downloaded into a directory of the build's own, checked, then copied like any file."""

from __future__ import annotations

import asyncio
import hashlib
import posixpath
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

from sampan.build.context import Context
from sampan.build.copying import CopyStep
from sampan.errors import InvalidParameter, NotSupported
from sampan.images.importing import fetched
from sampan.names.names import new_id

_MODE = 0o600
"""Of a downloaded file, as Docker has it."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A downloaded file, alone in its directory."""

    directory: Path
    name: str

    @property
    def source(self) -> dict[str, object]:
        """As a source of copies."""
        return {"directory": str(self.directory)}

    def as_step(self, step: CopyStep) -> CopyStep:
        """The same copy, of this file: never unpacked, readable to its owner only unless said otherwise."""
        mode = _MODE if step.mode is None else step.mode
        return replace(step, sources=(self.name,), files=(), mode=mode, unpack=False, excludes=())


def is_remote(source: str) -> bool:
    """Whether a source is fetched. Raises `NotSupported` for git repositories."""
    if source.startswith(("git@", "git://", "ssh://")) or urlsplit(source).path.endswith(".git"):
        raise NotSupported(f"ADD of a git repository ({source}) is not in this version of Sampan")
    return source.startswith(("http://", "https://"))


@asynccontextmanager
async def fetched_file(urls: list[str], checksum: str, context: Context) -> AsyncIterator[list[Fetched]]:
    """Download while the block lasts. Raises `InvalidParameter` for a wrong checksum or an URL without a file name."""
    if checksum and len(urls) > 1:
        raise InvalidParameter("checksum can't be specified for multiple sources")
    place = context.directory.with_name(f"{context.directory.name}-{new_id()[:12]}")
    try:
        yield [await _fetch(url, checksum, place / str(number)) for number, url in enumerate(urls)]
    finally:
        await asyncio.to_thread(shutil.rmtree, place, ignore_errors=True)


async def _fetch(url: str, checksum: str, directory: Path) -> Fetched:
    name = posixpath.basename(unquote(urlsplit(url).path))
    if not name or name in (".", "..") or "/" in name or "\0" in name:
        raise InvalidParameter(f"cannot determine filename from url: {url}")
    await asyncio.to_thread(directory.mkdir, 0o700, True)
    digest = hashlib.sha256()
    with (directory / name).open("wb") as file:
        async with fetched(url) as body:
            async for chunk in body:
                digest.update(chunk)
                await asyncio.to_thread(file.write, chunk)
    found = f"sha256:{digest.hexdigest()}"
    if checksum and checksum != found:
        raise InvalidParameter(f"digest mismatch for {url}: {found} (expected: {checksum})")
    return Fetched(directory, name)
