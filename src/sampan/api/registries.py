"""What is asked of registries and changes nothing here: login, search, and what a name means there."""

from __future__ import annotations

from aiohttp import web

from sampan.api.call import Call
from sampan.api.responses import json
from sampan.api.router import Router
from sampan.errors import InvalidParameter
from sampan.names.reference import parse_docker_reference
from sampan.registry.credentials import Credentials, credentials_of

router = Router()


def credentials_in(call: Call) -> Credentials:
    """The caller's credentials for the registry in question. Raises `InvalidParameter` when the header is malformed."""
    return credentials_of(call.request.headers.get("X-Registry-Auth", ""))


@router.post("/auth")
async def auth(call: Call) -> web.StreamResponse:
    """`docker login`: the registry is asked, and only its answer goes back; the client stores the credentials."""
    try:
        credentials = await call.body(Credentials, required=True)
    except InvalidParameter as error:
        raise InvalidParameter(f"invalid X-Registry-Auth header: {error}") from None
    token = await call.unless_lost(call.engine.images.log_in(credentials))
    return json({"Status": "Login Succeeded", "IdentityToken": token})


@router.get("/images/search")
async def search_images(call: Call) -> web.StreamResponse:
    term = call.query.text("term")
    try:
        limit = call.query.integer("limit", 0)
    except InvalidParameter as error:
        raise InvalidParameter(f"invalid limit specified: {error}") from None
    work = call.engine.images.search(term, limit, call.query.filters(), credentials_in(call))
    return json(await call.unless_lost(work))


@router.get("/distribution/{name:any}/json", since=(1, 30))
async def inspect_distribution(call: Call) -> web.StreamResponse:
    reference = parse_docker_reference(call.fields["name"])
    work = call.engine.images.inspect_distribution(reference, credentials_in(call))
    return json(await call.unless_lost(work))
