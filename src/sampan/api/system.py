"""The engine itself: ping, version, info, events, disk usage."""

from __future__ import annotations

import asyncio
import time

import msgspec
from aiohttp import web

from sampan.api.call import Call
from sampan.api.responses import json
from sampan.api.router import Router
from sampan.engine.disk_usage import KINDS
from sampan.engine.disk_usage import disk_usage as measured
from sampan.errors import InvalidParameter
from sampan.events import Event
from sampan.events.filter import matcher
from sampan.names.times import parse_parameter_time

router = Router()


@router.get("/_ping")
@router.head("/_ping")
async def ping(call: Call) -> web.StreamResponse:
    """The first request of every client: version negotiation is in its headers."""
    headers = {
        "Builder-Version": "2",
        "Cache-Control": "no-cache, no-store, must-revalidate",
        "Pragma": "no-cache",
        "Swarm": "inactive",
    }
    if call.request.method == "HEAD":
        return web.Response(
            status=200,
            headers={**headers, "Content-Length": "0", "Content-Type": "text/plain; charset=utf-8"},
        )
    return web.Response(status=200, headers=headers, text="OK")


@router.get("/version")
async def version(call: Call) -> web.StreamResponse:
    return json(call.engine.information.version())


@router.get("/info")
async def info(call: Call) -> web.StreamResponse:
    return json(await call.engine.information.info())


@router.get("/system/df")
async def disk_usage(call: Call) -> web.StreamResponse:
    kinds = call.query.all("type")
    for kind in kinds:
        if kind not in KINDS:
            raise InvalidParameter(f"unknown object type: {kind}")
    verbose = call.query.boolean("verbose")
    return json(await measured(call.engine, kinds or KINDS, call.version, verbose=verbose))


@router.get("/events")
async def events(call: Call) -> web.StreamResponse:
    """Past events from `since`, then live ones up to `until`; each is one JSON object and a newline."""
    since_text, until_text = call.query.text("since"), call.query.text("until")
    now = time.time_ns()
    since = parse_parameter_time("'since'", since_text, now) if since_text else None
    until = parse_parameter_time("'until'", until_text, now) if until_text else None
    if since is not None and until is not None and until < since:
        raise InvalidParameter(f"`since` time ({since_text}) cannot be after `until` time ({until_text})")
    wanted = matcher(call.query.filters())
    bus = call.engine.events
    with bus.subscribe() as live:
        past = bus.history(since or 0, until) if since is not None or until is not None else []
        async with call.stream() as out:
            for event in past:
                if wanted(event):
                    await out.write(_line(event))
            remaining = None if until is None else (until - now) / 1e9
            if remaining is None or remaining > 0:
                try:
                    async with asyncio.timeout(remaining):
                        async for event in live:
                            if wanted(event):
                                await out.write(_line(event))
                except TimeoutError:
                    pass
    return out.response


def _line(event: Event) -> bytes:
    document = msgspec.to_builtins(event)
    if event.type in ("container", "image"):
        # Docker's first form of an event, which some clients still read.
        document["status"] = event.action
        document["id"] = event.actor.id
        if event.type == "container":
            document["from"] = event.actor.attributes.get("image", "")
    return msgspec.json.encode(document) + b"\n"
