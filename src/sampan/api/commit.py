"""POST /commit."""

from __future__ import annotations

from aiohttp import web

from sampan.api.call import Call
from sampan.api.responses import json
from sampan.api.router import Router
from sampan.containers.commit import CommitOptions
from sampan.engineapi.container import ContainerConfig
from sampan.engineapi.decode import decode
from sampan.errors import InvalidParameter

router = Router()


@router.post("/commit")
async def commit(call: Call) -> web.StreamResponse:
    query, containers = call.query, call.engine.containers
    container = containers.get(query.text("container"))
    given = call.request.headers.get("Content-Type", "")
    body = await call.read_body()
    if body and given and call.request.content_type != "application/json":
        raise InvalidParameter(f"unsupported Content-Type header ({given}): must be 'application/json'")
    options = CommitOptions(
        repository=query.text("repo"),
        tag=query.text("tag"),
        author=query.text("author"),
        comment=query.text("comment"),
        pause=query.boolean("pause", True),
        changes=tuple(query.all("changes")),
        config=decode(body, ContainerConfig) if body.strip() and body.strip() != b"null" else None,
    )
    return json({"Id": await containers.commit.commit(container, options)}, 201)
