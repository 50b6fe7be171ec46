"""The routes of volumes."""

from __future__ import annotations

from aiohttp import web

from sampan.api.call import Call
from sampan.api.responses import empty, json
from sampan.api.router import Router
from sampan.engineapi.filters import Filters
from sampan.engineapi.volume import VolumeCreateRequest, VolumeList
from sampan.errors import InvalidParameter, Unavailable

router = Router()

_NAMED_VOLUMES_KEPT_SINCE = (1, 42)
"""From this version on `prune` takes anonymous volumes only, unless the filter `all` says otherwise."""


@router.get("/volumes")
async def list_volumes(call: Call) -> web.StreamResponse:
    try:
        filters = call.query.filters()
    except InvalidParameter as error:
        raise InvalidParameter(f"error reading volume filters: {error}") from None
    return json(VolumeList(await call.engine.volumes.list(filters)))


@router.post("/volumes/create")
async def create(call: Call) -> web.StreamResponse:
    request = await call.body(VolumeCreateRequest)
    if request.cluster_volume_spec is not None and call.version >= (1, 42):
        raise Unavailable(
            'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node '
            "to swarm and try again."
        )
    volume = await call.engine.volumes.create(
        request.name, driver=request.driver, options=request.driver_opts, labels=request.labels
    )
    return json(volume, 201)


@router.post("/volumes/prune", since=(1, 25))
async def prune(call: Call) -> web.StreamResponse:
    filters = call.query.filters()
    if call.version < _NAMED_VOLUMES_KEPT_SINCE:
        filters = Filters({**{name: filters.get(name) for name in filters}, "all": ["true"]})
    return json(await call.engine.volumes.prune(filters))


@router.get("/volumes/{name:any}")
async def inspect(call: Call) -> web.StreamResponse:
    return json(await call.engine.volumes.inspect(call.fields["name"]))


@router.put("/volumes/{name:any}", since=(1, 42))
async def update(call: Call) -> web.StreamResponse:
    raise Unavailable("volume update only valid for cluster volumes, but swarm is unavailable")


@router.delete("/volumes/{name:any}")
async def remove(call: Call) -> web.StreamResponse:
    await call.engine.volumes.remove(call.fields["name"], force=call.query.boolean("force"))
    return empty(204)
