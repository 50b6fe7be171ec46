"""`docker import`: a tar of a root file system becomes an image of one layer.

A gzip or zstd stream is kept as it is, so that the layer's digest is that of the file; anything else is stored as a plain tar.
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

import aiohttp

from sampan.archive.compression import InputStream
from sampan.archive.magic import detect
from sampan.content.interface import Lease
from sampan.errors import InvalidParameter, SystemFailure
from sampan.images.bodypipe import pipe_to_thread
from sampan.images.changes import apply_changes
from sampan.images.committing import NewImage, create_from
from sampan.images.intake import write_all
from sampan.images.parts import Parts
from sampan.images.tagging import target_reference
from sampan.images.unpacking import Unpacker
from sampan.names import platform as platforms
from sampan.names.platform import Platform
from sampan.names.reference import Reference, parse_normalized
from sampan.names.times import format_rfc3339_nano
from sampan.oci.image import (
    OCI_LAYER,
    OCI_LAYER_GZIP,
    OCI_LAYER_ZSTD,
    ContainerConfig,
    Descriptor,
    History,
    ImageConfig,
    RootFS,
)

_KEPT = {"gzip": OCI_LAYER_GZIP, "zstd": OCI_LAYER_ZSTD}
_MAGIC_LENGTH = 6


class ImportRequest(NamedTuple):
    """What goes with an imported archive."""

    repository: str = ""
    tag: str = ""
    message: str = ""
    changes: tuple[str, ...] = ()
    platform: Platform | None = None


async def import_image(
    parts: Parts, unpacker: Unpacker, body: AsyncIterator[bytes], request: ImportRequest
) -> str:
    """Make the image and return its id. Raises `InvalidParameter` for a bad archive, name or change."""
    reference = _reference(request)
    config = apply_changes(ContainerConfig(), request.changes)
    platform = request.platform or platforms.local()
    if platform.os != "linux":
        raise InvalidParameter(f"cannot import an image for {platform}: this engine runs Linux containers")
    async with parts.content.leases.hold("import") as lease:
        layer = await _store(parts, body, lease)
        diff_id = await unpacker.base_layer(layer, lease)
        now = format_rfc3339_nano(time.time_ns())
        image = ImageConfig(
            created=now,
            architecture=platform.architecture,
            variant=platform.variant,
            os=platform.os,
            config=config,
            rootfs=RootFS(diff_ids=[diff_id]),
            history=[History(created=now, comment=request.message)],
        )
        new = NewImage(image, [layer], str(reference) if reference else "")
        record = await create_from(parts, new, lease)
    if reference is not None:
        await parts.publish_for("tag", record, reference.familiar())
    await parts.publish_for("import", record, record.id)
    return record.id


@asynccontextmanager
async def fetched(url: str) -> AsyncIterator[AsyncIterator[bytes]]:
    """The bytes at a URL, which has answered; a bare host or path means http, as dockerd has it.

    Raises `InvalidParameter` for another scheme, `SystemFailure` when it cannot be fetched.
    """
    address = url if "://" in url else f"http://{url}"
    if not address.startswith(("http://", "https://")):
        raise InvalidParameter(f"cannot import from {url}: only http and https addresses can be fetched")
    try:
        async with aiohttp.ClientSession(trust_env=True) as session, session.get(address) as response:
            if response.status >= 400:
                raise SystemFailure(f"got HTTP status code >= 400: {response.status} {response.reason}")
            yield response.content.iter_any()
    except aiohttp.ClientConnectorDNSError as error:
        raise SystemFailure(f'Get "{address}": dial tcp: lookup {error.host}: no such host') from error
    except aiohttp.ClientConnectorError as error:
        reason = os.strerror(error.errno).lower() if error.errno else str(error)
        raise SystemFailure(
            f'Get "{address}": dial tcp {error.host}:{error.port}: connect: {reason}'
        ) from error
    except aiohttp.ClientError as error:
        raise SystemFailure(f'Get "{address}": {error}') from error


def _reference(request: ImportRequest) -> Reference | None:
    if request.repository and parse_normalized(request.repository).digest:
        raise InvalidParameter("cannot import digest reference")
    return target_reference(request.repository, request.tag)


async def _store(parts: Parts, body: AsyncIterator[bytes], lease: Lease) -> Descriptor:
    """Put the layer into the content store."""
    ingest = await parts.content.ingest(f"import-{lease.id}", lease=lease)
    assert ingest is not None  # no digest was given that could be there already
    try:
        async with ingest:
            start, whole = await _peek(body)
            compression = detect(start)
            if compression == "none" or compression in _KEPT:
                async for chunk in whole:
                    await ingest.write(chunk)
            else:
                await pipe_to_thread(whole, lambda reader: _decompress(reader, ingest.fileno()))
            info = await ingest.commit()
    except BaseException:
        await ingest.abort()
        raise
    return Descriptor(media_type=_KEPT.get(compression, OCI_LAYER), digest=info.digest, size=info.size)


async def _peek(body: AsyncIterator[bytes]) -> tuple[bytes, AsyncIterator[bytes]]:
    """The first bytes, enough to tell a compression, and the whole body with them in front."""
    start = b""
    while len(start) < _MAGIC_LENGTH:
        try:
            start += await anext(body)
        except StopAsyncIteration:
            break

    async def whole() -> AsyncIterator[bytes]:
        yield start
        async for chunk in body:
            yield chunk

    return start, whole()


def _decompress(reader: int, output: int) -> None:
    stream = InputStream(reader, digests=False)
    while data := stream.read():
        write_all(output, data)
