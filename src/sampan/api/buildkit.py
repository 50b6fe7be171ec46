"""BuildKit's older doors: a request that becomes a gRPC connection. The newer one is HTTP/2 from the first byte (`frontdoor`)."""

from __future__ import annotations

from aiohttp import web

from sampan.api.call import Call
from sampan.api.router import Router
from sampan.errors import InvalidParameter

router = Router()

_PROTOCOL = "h2c"


@router.post("/grpc", since=(1, 39))
async def grpc(call: Call) -> web.StreamResponse:
    """The client calls the builder."""
    _check_upgrade(call)
    return await call.upgrade(_PROTOCOL, call.builder)


@router.post("/session", since=(1, 31))
async def session(call: Call) -> web.StreamResponse:
    """The builder calls the client, for files, secrets, credentials."""
    _check_upgrade(call)
    headers: dict[str, list[str]] = {}
    for name, value in call.request.headers.items():
        headers.setdefault(name.lower(), []).append(value)
    return await call.upgrade(_PROTOCOL, call.builder.session(headers))


@router.post("/build/direct")
async def direct(call: Call) -> web.StreamResponse:
    """A build for `sampan build` and `sampan.build()`: one connection carries what is asked, sent and told."""
    async with call.hijack() as stream:
        await call.builder.direct(stream)
    return call.hijacked()


def _check_upgrade(call: Call) -> None:
    protocol = call.request.headers.get("Upgrade", "")
    if not protocol:
        raise InvalidParameter("no upgrade proto in request")
    if protocol != _PROTOCOL:
        raise InvalidParameter(f"protocol {protocol} not supported")
