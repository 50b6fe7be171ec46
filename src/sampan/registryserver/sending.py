"""Sending a stored blob: whole or a range of it, conditionally, by sendfile where no TLS is between."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from aiohttp import web

from sampan.registryserver.failures import Refused
from sampan.registryserver.storage import Storage

_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")
_CHUNK = 1 << 20


def is_known(request: web.BaseRequest, digest: str) -> bool:
    """Whether the client says that it has this content already (If-None-Match): 304 is enough."""
    given = request.headers.get("If-None-Match", "")
    tags = [each.strip().removeprefix("W/").strip('"') for each in given.split(",")]
    return digest in tags or given.strip() == "*"


async def send_blob(
    request: web.BaseRequest, storage: Storage, path: Path, size: int, digest: str, headers: Mapping[str, str]
) -> web.StreamResponse:
    """Answer GET or HEAD. Raises `Refused` RANGE_INVALID for a range outside the blob."""
    described = {
        "ETag": f'"{digest}"',
        "Docker-Content-Digest": digest,
        "Accept-Ranges": "bytes",
        "Cache-Control": "max-age=31536000",
        "Content-Type": "application/octet-stream",
        **headers,
    }
    if is_known(request, digest):
        return web.Response(status=304, headers={"ETag": described["ETag"], "Docker-Content-Digest": digest})
    if request.method == "GET" and (address := await asyncio.to_thread(storage.address, path)):
        return web.Response(
            status=307, headers={**headers, "Location": address, "Docker-Content-Digest": digest}
        )
    start, end, partial = _wanted(request, size, digest)
    if partial:
        described["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    status = 206 if partial else 200
    if request.method == "HEAD":
        return web.Response(status=status, headers={**described, "Content-Length": str(end - start)})
    response = web.StreamResponse(status=status, headers=described)
    response.content_length = end - start
    local = storage.local(path)
    if local is None:
        await response.prepare(request)
        async for chunk in storage.chunks(path, start, end - start):
            await response.write(chunk)
        await response.write_eof()
        return response
    file = await asyncio.to_thread(local.open, "rb")
    try:
        await response.prepare(request)
        await _send(request, response, file, start, end - start)
        await response.write_eof()
    finally:
        file.close()
    return response


def _wanted(request: web.BaseRequest, size: int, digest: str) -> tuple[int, int, bool]:
    """First byte, byte after the last, and whether only a part was asked for."""
    text = request.headers.get("Range", "")
    unless = request.headers.get("If-Range", "")
    given = _RANGE.fullmatch(text.replace(" ", ""))
    if given is None or given.groups() == ("", "") or (unless and unless.strip('"') != digest):
        return 0, size, False  # of several ranges, or of other units, all is an answer too
    if not given[1]:
        start, end = max(0, size - int(given[2])), size
    else:
        start, end = int(given[1]), min(size, int(given[2]) + 1 if given[2] else size)
    if start >= size or start >= end:
        raise Refused("RANGE_INVALID", headers={"Content-Range": f"bytes */{size}"})
    return start, end, True


async def _send(
    request: web.BaseRequest, response: web.StreamResponse, file: BinaryIO, start: int, count: int
) -> None:
    transport = request.transport
    if transport is None:
        raise ConnectionResetError("the client went away")
    if not count:
        return
    if transport.get_extra_info("sslcontext") is None:
        await asyncio.get_running_loop().sendfile(transport, file, start, count, fallback=True)
        return
    file.seek(start)
    while count and (data := await asyncio.to_thread(file.read, min(_CHUNK, count))):
        await response.write(data)
        count -= len(data)
