"""The routes of networks."""

from __future__ import annotations

from aiohttp import web

from sampan.api.call import Call
from sampan.api.responses import empty, json
from sampan.api.router import Router
from sampan.containers import networking
from sampan.engineapi.gotext import check_endpoint, check_ipam
from sampan.engineapi.network import (
    ConnectRequest,
    DisconnectRequest,
    EndpointSettings,
    NetworkCreateRequest,
    wire_network,
)
from sampan.errors import InvalidParameter, NotFound

router = Router()

PARSED_AS_BOOLEAN = frozenset(
    ["1", "t", "T", "TRUE", "true", "True", "0", "f", "F", "FALSE", "false", "False"]
)
"""What Go's ParseBool takes; elsewhere in the API any other word is a yes."""

_SUMMARIES_SINCE = (1, 28)
"""From this version on a listing has no containers."""


@router.get("/networks")
async def list_networks(call: Call) -> web.StreamResponse:
    networks = call.engine.networks
    found = networks.search(call.query.filters())
    if call.version < _SUMMARIES_SINCE:
        found = [networks.inspect(network.id) for network in found]
    return json([wire_network(network, call.version, inspect=False) for network in found])


@router.post("/networks/create")
async def create(call: Call) -> web.StreamResponse:
    request = await call.body(NetworkCreateRequest)
    check_ipam(request.ipam)
    return json({"Id": await call.engine.networks.create(request), "Warning": ""}, 201)


@router.post("/networks/prune", since=(1, 25))
async def prune(call: Call) -> web.StreamResponse:
    return json({"NetworksDeleted": await call.engine.networks.prune(call.query.filters()) or None})


@router.get("/networks/{name:any}")
async def inspect(call: Call) -> web.StreamResponse:
    verbose = call.query.text("verbose")
    if verbose and verbose not in PARSED_AS_BOOLEAN:
        reason = f'strconv.ParseBool: parsing "{verbose}": invalid syntax'
        raise InvalidParameter(f"invalid value for verbose: {verbose}: {reason}")
    network = call.engine.networks.inspect(call.fields["name"], scope=call.query.text("scope"))
    return json(wire_network(network, call.version, inspect=True))


@router.delete("/networks/{name:any}")
async def remove(call: Call) -> web.StreamResponse:
    await call.engine.networks.remove(call.fields["name"])
    return empty(204)


@router.post("/networks/{name:any}/connect")
async def connect(call: Call) -> web.StreamResponse:
    request = await call.body(ConnectRequest)
    settings = request.endpoint_config or EndpointSettings()
    check_endpoint(settings)
    containers = call.engine.containers
    container = containers.get(_named(request.container))
    await networking.connect(containers.services, container, call.fields["name"], settings)
    return empty(200)


@router.post("/networks/{name:any}/disconnect")
async def disconnect(call: Call) -> web.StreamResponse:
    request = await call.body(DisconnectRequest)
    containers = call.engine.containers
    try:
        container = containers.get(_named(request.container))
    except NotFound:
        if request.force:  # dockerd looks for what such a container may have left plugged in
            call.engine.networks.inspect(call.fields["name"])
            raise NotFound(f"endpoint {request.container} not found") from None
        raise
    await networking.disconnect(containers.services, container, call.fields["name"], force=request.force)
    return empty(200)


def _named(container: str) -> str:
    if not container.strip():
        raise InvalidParameter('invalid name or ID supplied: ""')
    return container
