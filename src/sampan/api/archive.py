"""The routes that carry a container's files: `docker cp` both ways and `docker export`."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
from aiohttp import web

from sampan.api.call import Call
from sampan.api.containers import container_of
from sampan.api.responses import empty
from sampan.api.router import Router
from sampan.containers.copying import CopyIn

router = Router()

_TAR = "application/x-tar"


def _stat_header(stat: dict[str, Any]) -> dict[str, str]:
    return {"X-Docker-Container-Path-Stat": base64.b64encode(msgspec.json.encode(stat)).decode()}


@router.head("/containers/{name:any}/archive")
async def stat(call: Call) -> web.StreamResponse:
    found = await call.engine.containers.copying.stat(container_of(call), call.query.text("path"))
    return web.Response(status=200, headers=_stat_header(found))


@router.get("/containers/{name:any}/archive")
async def copy_out(call: Call) -> web.StreamResponse:
    archive = await call.engine.containers.copying.copy_out(container_of(call), call.query.text("path"))
    async with call.stream(_TAR, headers=_stat_header(archive.stat)) as stream:
        async for chunk in archive.chunks:
            await stream.write(chunk)
    return stream.response


@router.put("/containers/{name:any}/archive")
async def copy_in(call: Call) -> web.StreamResponse:
    request = CopyIn(
        call.query.text("path"),
        no_overwrite=call.query.boolean("noOverwriteDirNonDir"),
        copy_ids=call.query.boolean("copyUIDGID"),
    )
    await call.engine.containers.copying.copy_in(container_of(call), request, call.upload())
    return empty(200)


@router.get("/containers/{name:any}/export")
async def export(call: Call) -> web.StreamResponse:
    archive = await call.engine.containers.copying.export(container_of(call))
    async with call.stream("application/octet-stream") as stream:
        async for chunk in archive.chunks:
            await stream.write(chunk)
    return stream.response
