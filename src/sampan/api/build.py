"""`POST /build`: the classic builder's API."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import msgspec
from aiohttp import web

from sampan.api.call import Call
from sampan.api.messages import Send, streamed
from sampan.api.query import Query
from sampan.api.responses import json
from sampan.api.router import Router
from sampan.build.interface import BuildRequest
from sampan.engineapi.container import HostConfig, Ulimit
from sampan.engineapi.image import StreamMessage
from sampan.errors import InvalidParameter, NotSupported
from sampan.images.importing import fetched
from sampan.names import platform as platforms
from sampan.names.reference import parse_normalized
from sampan.registry.credentials import all_credentials_of
from sampan.solver.progress import Event, described

router = Router()


@router.post("/build")
async def build(call: Call) -> web.StreamResponse:
    query = call.query
    if query.text("outputs") not in ("", "null", "[]"):
        raise NotSupported("builds with other outputs than an image are not in this version of Sampan")
    request = _request(call)
    if query.text("version") == "2":
        return await _build_graph(call, request)
    quiet = query.boolean("q")

    async def work(send: Send) -> None:
        output = _Messages(send, quiet=quiet)
        if not request.remote:
            image = await call.engine.builds.build(request, call.upload(), output)
        else:
            async with fetched(request.remote) as body:
                image = await call.engine.builds.build(request, body, output)
        if quiet:
            send(StreamMessage(stream=image + "\n"))

    return await streamed(call, work)


async def _build_graph(call: Call, request: BuildRequest) -> web.StreamResponse:
    """`version=2`: BuildKit's messages, or (`trace=json`, for the engine's own clients) the same events as JSON."""
    if request.remote == "client-session":
        raise NotSupported(
            "BuildKit's sessions are not in this version of Sampan: use the classic builder (DOCKER_BUILDKIT=0)"
        )
    as_json = call.query.text("trace") == "json"

    async def work(send: Send) -> None:
        def follow(events: Sequence[Event]) -> None:
            if as_json:
                for event in events:
                    send(StreamMessage(id="sampan.build.trace", aux=described(event)))
            else:
                data = base64.b64encode(call.builder.status(events)).decode()
                send(StreamMessage(id="moby.buildkit.trace", aux=data))

        body = call.upload()
        async with fetched(request.remote) if request.remote else nullcontext(body) as archive:
            image = await call.engine.builds.build_graph(request, archive, follow)
        send(StreamMessage(id="moby.image.id", aux={"ID": image}))

    return await streamed(call, work)


@router.post("/build/prune", since=(1, 31))
async def prune(call: Call) -> web.StreamResponse:
    """What builds remember; their images go with `docker image prune`."""
    await call.engine.builds.prune()
    return json({"CachesDeleted": None, "SpaceReclaimed": 0})


class _Messages:
    """A build's output as messages of the stream."""

    def __init__(self, send: Send, *, quiet: bool) -> None:
        self._send = send
        self._quiet = quiet

    def stream(self, text: str) -> None:
        if not self._quiet:
            self._send(StreamMessage(stream=text))

    def image(self, image_id: str) -> None:
        self._send(StreamMessage(aux={"ID": image_id}))

    def progress(self, message: object) -> None:
        if not self._quiet and isinstance(message, StreamMessage):
            self._send(message)


def _request(call: Call) -> BuildRequest:
    query = call.query
    if query.boolean("squash"):
        raise NotSupported("squashing a build's layers is not in this version of Sampan")
    remote = query.text("remote")
    if remote and remote != "client-session" and not remote.startswith(("http://", "https://")):
        raise NotSupported(
            f"a context from {remote} is not in this version of Sampan: give a directory or an archive"
        )
    platform = query.text("platform")
    return BuildRequest(
        host_config=_host_config(query),
        dockerfile=query.text("dockerfile") or "Dockerfile",
        remote=remote,
        tags=tuple(parse_normalized(tag) for tag in query.all("t") if tag),
        target=query.text("target"),
        arguments=_document(query, "buildargs", dict[str, str | None]) or {},
        labels=_document(query, "labels", dict[str, str]) or {},
        platform=platforms.parse(platform) if platform and call.version >= (1, 32) else None,
        credentials=all_credentials_of(call.request.headers.get("X-Registry-Config", "")),
        use_cache=not query.boolean("nocache"),
        pull=query.boolean("pull"),
        remove_containers=query.boolean("rm", True),
        remove_failed=query.boolean("forcerm"),
    )


def _host_config(query: Query) -> HostConfig:
    """Limits and network of a build's containers."""
    host = HostConfig(
        network_mode=query.text("networkmode"),
        shm_size=query.integer("shmsize"),
        extra_hosts=query.text("extrahosts").split(",") if query.text("extrahosts") else None,
    )
    host.memory = query.integer("memory")
    host.memory_swap = query.integer("memswap")
    host.cpu_shares = query.integer("cpushares")
    host.cpu_period = query.integer("cpuperiod")
    host.cpu_quota = query.integer("cpuquota")
    host.cpuset_cpus = query.text("cpusetcpus")
    host.cpuset_mems = query.text("cpusetmems")
    host.cgroup_parent = query.text("cgroupparent")
    host.ulimits = _document(query, "ulimits", list[Ulimit])
    return host


def _document(query: Query, name: str, shape: Any) -> Any:
    """A parameter that is JSON. Raises `InvalidParameter` naming it."""
    text = query.text(name)
    if text in ("", "null"):
        return None
    try:
        return msgspec.json.decode(text, type=shape)
    except msgspec.DecodeError as error:
        raise InvalidParameter(f"error reading {name}: {error}") from None
