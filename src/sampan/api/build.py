"""`POST /build`: the classic builder's API."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web

from sampan.api.call import Call
from sampan.api.messages import Send, streamed
from sampan.api.query import Query
from sampan.api.responses import json
from sampan.api.router import Router
from sampan.build.interface import BuildRequest
from sampan.build.upkeep import PruneRequest
from sampan.engineapi.container import HostConfig, Ulimit
from sampan.engineapi.filters import Filters
from sampan.engineapi.image import StreamMessage
from sampan.errors import InvalidParameter, NotSupported, SampanError
from sampan.images.importing import fetched
from sampan.names import platform as platforms
from sampan.names.reference import parse_normalized
from sampan.registry.credentials import all_credentials_of
from sampan.solver.progress import Event, LogEvent, VertexEvent, described, described_failure

router = Router()

_PRUNE_FILTERS = frozenset(
    {
        "id",
        "until",
        "unused-for",
        "parent",
        "type",
        "description",
        "inuse",
        "shared",
        "private",
        "label",
        "label!",
    }
)


@router.post("/build")
async def build(call: Call) -> web.StreamResponse:
    query = call.query
    if query.text("version") not in ("", "1", "2"):
        raise InvalidParameter(f'invalid version "{query.text("version")}"')
    request = _request(call)
    if query.text("version") == "2":
        return await _build_graph(call, request)
    quiet = query.boolean("q")

    async def work(send: Send) -> None:
        output = _Messages(send, quiet=quiet)

        async def foreign(request: BuildRequest, directory: Path) -> str:
            return await call.builder.posted_directory(request, directory, output.follow)

        try:
            body = call.upload()
            async with fetched(request.remote) if request.remote else nullcontext(body) as archive:
                image = await call.engine.builds.build(request, archive, output, foreign)
        except Exception:
            output.tell_all()
            raise
        if quiet:
            send(StreamMessage(stream=image + "\n"))

    return await streamed(call, work)


async def _build_graph(call: Call, request: BuildRequest) -> web.StreamResponse:
    """`version=2`: BuildKit's messages, or (`trace=json`, for the engine's own clients) the same events as JSON."""
    as_json = call.query.text("trace") == "json"

    async def work(send: Send) -> None:
        def follow(events: Sequence[Event]) -> None:
            if as_json:
                for event in events:
                    send(StreamMessage(id="sampan.build.trace", aux=described(event)))
            else:
                data = base64.b64encode(call.builder.status(events)).decode()
                send(StreamMessage(id="moby.buildkit.trace", aux=data))

        try:
            image = await call.builder.posted(request, call.upload(), follow)
        except SampanError as error:
            if as_json and (place := described_failure(error)):
                send(StreamMessage(id="sampan.build.trace", aux=place))
            raise
        if image:
            send(StreamMessage(id="moby.image.id", aux={"ID": image}))

    return await streamed(call, work)


@router.post("/build/cancel", since=(1, 39))
async def cancel(call: Call) -> web.StreamResponse:
    """A build that has an id is BuildKit's, and ends with its client's connection: here it is enough to take the request."""
    if not call.query.text("id"):
        raise InvalidParameter("build ID not provided")
    return web.Response()


@router.post("/build/prune", since=(1, 31))
async def prune(call: Call) -> web.StreamResponse:
    """Results that no build uses, and directories; images go with `docker image prune`."""
    query = call.query
    filters = _prune_filters(query)
    request = PruneRequest(
        all=query.boolean("all"),
        filters=filters,
        reserved=query.integer("reserved-space") or query.integer("keep-storage"),
        maximum=query.integer("max-used-space"),
        free=query.integer("min-free-space"),
    )
    gone = await call.engine.builds.prune(request)
    freed = sum(each.size for each in gone if not each.shared)
    return json({"CachesDeleted": [each.id for each in gone] or None, "SpaceReclaimed": freed})


def _prune_filters(query: Query) -> Filters:
    """As BuildKit takes them from dockerd: one value each, and an id is a regular expression."""
    filters = query.filters()
    try:
        filters.validate(_PRUNE_FILTERS)
    except InvalidParameter as error:
        raise InvalidParameter(f"failed to prune build cache: {error}") from None
    for name in ("reserved-space", "max-used-space", "min-free-space"):
        try:
            query.integer(name)
        except InvalidParameter as error:
            raise InvalidParameter(
                f"{name} is in bytes and expects an integer, got {query.text(name)}: {error}"
            ) from None
    if "until" in filters and "unused-for" in filters:
        raise InvalidParameter('conflicting filters: "until" and "unused-for"')
    if any(len(filters.get(name)) > 1 for name in filters):
        raise InvalidParameter("filters expect only one value")
    return Filters(
        {name: [f"~{each}" if name == "id" else each for each in filters.get(name)] for name in filters}
    )


class _Messages:
    """A build's output as messages of the stream."""

    def __init__(self, send: Send, *, quiet: bool) -> None:
        self._to_client = send
        self._quiet = quiet
        self._kept: list[StreamMessage] = []
        self._begun: set[str] = set()

    def stream(self, text: str) -> None:
        self._send(StreamMessage(stream=text))

    def image(self, image_id: str) -> None:
        self._send(StreamMessage(aux={"ID": image_id}))

    def progress(self, message: object) -> None:
        if isinstance(message, StreamMessage):
            self._send(message)

    def follow(self, events: Sequence[Event]) -> None:
        """What the solver tells, as text: each step that begins, and what its program prints."""
        for event in events:
            if isinstance(event, VertexEvent) and event.started and event.digest not in self._begun:
                self._begun.add(event.digest)
                self.stream(event.name + "\n")
            elif isinstance(event, LogEvent):
                self.stream(event.data.decode(errors="replace"))

    def tell_all(self) -> None:
        """Of a quiet build that failed everything is told, so that the user sees where."""
        for message in self._kept:
            self._to_client(message)

    def _send(self, message: StreamMessage) -> None:
        if self._quiet:
            self._kept.append(message)
        else:
            self._to_client(message)


def _request(call: Call) -> BuildRequest:
    query = call.query
    if query.boolean("squash"):
        raise NotSupported("squashing a build's layers is not in this version of Sampan")
    if query.all("securityopt"):
        raise InvalidParameter("security options are not supported on linux")
    isolation = query.text("isolation")
    if isolation not in ("", "default"):
        raise InvalidParameter(f'unsupported isolation: "{isolation}"')
    cache_from = _document(query, "cachefrom", list[str], "error reading cache-from") or []
    remote = query.text("remote")
    if query.text("version") != "2" and remote and not remote.startswith(("http://", "https://")):
        raise NotSupported(
            f"a context from {remote} is not in this version of Sampan: give a directory or an archive"
        )
    platform = query.text("platform")
    exporter, output = _output(query)
    return BuildRequest(
        host_config=_host_config(query),
        dockerfile=query.text("dockerfile") or "Dockerfile",
        remote=remote,
        tags=tuple(parse_normalized(tag) for tag in query.all("t") if tag),
        target=query.text("target"),
        arguments=_document(query, "buildargs", dict[str, str | None], "error reading build args") or {},
        labels=_document(query, "labels", dict[str, str], "error reading labels") or {},
        platform=platforms.parse(platform) if platform and call.version >= (1, 32) else None,
        credentials=all_credentials_of(call.request.headers.get("X-Registry-Config", "")),
        use_cache=not query.boolean("nocache"),
        exporter=exporter,
        output=output,
        session=query.text("session"),
        cache_from=tuple(cache_from),
        anew=frozenset(filter(None, query.text("nocachefilter").split(","))),
        pull=query.boolean("pull"),
        remove_containers=query.boolean("rm", True),
        remove_failed=query.boolean("forcerm"),
    )


def _output(query: Query) -> tuple[str, dict[str, str]]:
    """The exporter and its attributes; "" for no output at all. Raises `NotSupported` for several, or of the classic builder."""
    outputs = _document(query, "outputs", list[dict[str, Any]], "invalid outputs specified") or []
    if not outputs:
        return "moby", {}
    if query.text("version") != "2":
        raise NotSupported(
            "the classic builder has no other output than an image: builds with outputs need BuildKit"
        )
    if len(outputs) > 1:
        raise InvalidParameter("multiple outputs not supported")
    kind = str(outputs[0].get("Type") or "moby")
    attributes = outputs[0].get("Attrs") or {}
    return "" if kind == "cacheonly" else kind, {str(name): str(value) for name, value in attributes.items()}


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
    host.ulimits = _document(query, "ulimits", list[Ulimit], "error reading ulimit settings")
    return host


def _document(query: Query, name: str, shape: Any, complaint: str) -> Any:
    """A parameter that is JSON. Raises `InvalidParameter` with the complaint."""
    text = query.text(name)
    if text in ("", "null"):
        return None
    try:
        return msgspec.json.decode(text, type=shape)
    except msgspec.DecodeError as error:
        raise InvalidParameter(f"{complaint}: {error}") from None
