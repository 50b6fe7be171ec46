"""Blobs and documents as files of a directory: read within bounds, written so that a break leaves nothing half done."""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

from sampan.errors import InvalidParameter, NotFound
from sampan.names.digest import hasher_for
from sampan.registry.failures import WrongContent

if TYPE_CHECKING:
    from sampan.oci.image import Descriptor
    from sampan.registry.copying import Source

_CHUNK = 1 << 20


def read_document(path: Path, limit: int) -> bytes:
    """A small file. Raises `NotFound`, and `InvalidParameter` beyond the limit."""
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except FileNotFoundError:
        raise NotFound(f"{path}: not found") from None
    if len(data) > limit:
        raise InvalidParameter(f"{path}: more than the {limit} bytes allowed for a document")
    return data


def write_document(path: Path, data: bytes) -> None:
    """Write a small file, which appears whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(dir=path.parent, prefix=".partial-")
    with open(handle, "wb") as file:
        file.write(data)
    os.chmod(partial, 0o644)
    os.replace(partial, path)


async def stored(path: Path, offset: int, length: int, absent: str) -> AsyncIterator[bytes]:
    """Bytes of a blob's file. Raises `NotFound` with the text of `absent`."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        raise NotFound(absent) from None
    with file:
        file.seek(offset)
        while length and (data := file.read(min(_CHUNK, length))):
            length -= len(data)
            yield data


async def written(path: Path, descriptor: Descriptor, source: Source) -> bool:
    """Take a blob into its file; False when it is there. Raises `WrongContent` when it is not what its digest says."""
    if path.exists():
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    hasher, size = hasher_for(descriptor.checked_digest), 0
    handle, partial = tempfile.mkstemp(dir=path.parent, prefix=".partial-")
    try:
        with open(handle, "wb") as file:
            async for chunk in source.blob(descriptor, 0, descriptor.size):
                hasher.update(chunk)
                size += len(chunk)
                file.write(chunk)
        actual = f"{hasher.name}:{hasher.hexdigest()}"
        if actual != descriptor.digest or size != descriptor.size:
            raise WrongContent(
                f"verification failed for digest {descriptor.digest}: what came is {actual}, {size} bytes"
            )
        os.chmod(partial, 0o644)
        os.replace(partial, path)
    except BaseException:
        os.unlink(partial)
        raise
    return True
