"""Docker's subjects that Sampan does not have yet: each request gets an answer that says so, never a missing page.

Where dockerd itself has an answer for an engine without the subject (Swarm not initialised: 503), that answer is given, because
clients handle it.
"""

from __future__ import annotations

from aiohttp import web

from sampan.api.call import Call
from sampan.api.responses import json
from sampan.api.router import Handler, Router
from sampan.errors import InvalidParameter, NotFound, NotSupported, Unavailable

router = Router()

_SWARM = (
    'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to '
    "swarm and try again."
)


async def _no_swarm(call: Call) -> web.StreamResponse:
    raise Unavailable(_SWARM)


def _refusing(subject: str) -> Handler:
    async def refuse(call: Call) -> web.StreamResponse:
        raise NotSupported(f"{subject} is not in this version of Sampan")

    return refuse


for _method, _path in [
    ("GET", "/swarm"),
    ("POST", "/swarm/update"),
    ("GET", "/swarm/unlockkey"),
    ("POST", "/swarm/unlock"),
    ("GET", "/services"),
    ("POST", "/services/create"),
    ("GET", "/services/{id}"),
    ("DELETE", "/services/{id}"),
    ("POST", "/services/{id}/update"),
    ("GET", "/services/{id}/logs"),
    ("GET", "/nodes"),
    ("GET", "/nodes/{id}"),
    ("DELETE", "/nodes/{id}"),
    ("POST", "/nodes/{id}/update"),
    ("GET", "/tasks"),
    ("GET", "/tasks/{id}"),
    ("GET", "/tasks/{id}/logs"),
    ("GET", "/secrets"),
    ("POST", "/secrets/create"),
    ("GET", "/secrets/{id}"),
    ("DELETE", "/secrets/{id}"),
    ("GET", "/configs"),
    ("POST", "/configs/create"),
    ("GET", "/configs/{id}"),
    ("DELETE", "/configs/{id}"),
]:
    router.add(_method, _path, _no_swarm)

for _method, _path, _subject in [
    ("POST", "/swarm/init", "Swarm"),
    ("POST", "/swarm/join", "Swarm"),
    ("POST", "/plugins/pull", "Plugin support"),
    ("POST", "/plugins/create", "Plugin support"),
    ("GET", "/plugins/privileges", "Plugin support"),
]:
    router.add(_method, _path, _refusing(_subject))


@router.get("/plugins")
async def list_plugins(call: Call) -> web.StreamResponse:
    """No plugin can be installed, so the list is truthfully empty."""
    call.query.filters()
    return json([])


async def _no_plugin(call: Call) -> web.StreamResponse:
    """As no plugin can be installed, no name is one; `docker inspect NAME` asks here too and goes on after a 404."""
    if call.request.path.endswith("/enable") and not call.query.text("timeout"):
        raise InvalidParameter('strconv.Atoi: parsing "": invalid syntax')
    raise NotFound(f'plugin "{call.fields["name"]}" not found')


for _method, _path in [
    ("GET", "/plugins/{name:any}/json"),
    ("POST", "/plugins/{name:any}/enable"),
    ("POST", "/plugins/{name:any}/disable"),
    ("DELETE", "/plugins/{name:any}"),
]:
    router.add(_method, _path, _no_plugin)


@router.post("/swarm/leave")
async def leave_swarm(call: Call) -> web.StreamResponse:
    raise Unavailable("This node is not part of a swarm")
