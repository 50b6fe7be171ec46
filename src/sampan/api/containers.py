"""The routes of containers, but for attach, logs and stats (`api.streams`), archives (`api.archive`) and exec (`api.exec`)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
from aiohttp import web

from sampan.api.call import Call
from sampan.api.responses import empty, json
from sampan.api.router import Router
from sampan.containers.container import Container, WaitCondition
from sampan.containers.creation import CreateRequest
from sampan.containers.listing import ListRequest
from sampan.engineapi.container import ContainerConfig, HostConfig, UpdateRequest
from sampan.engineapi.gotext import check_create
from sampan.engineapi.network import EndpointSettings
from sampan.errors import Cancelled, Forbidden, InvalidParameter, NotModified, SampanError
from sampan.names import platform as platforms

router = Router()

_CONDITIONS: dict[str, WaitCondition] = {
    "": "not-running",
    "not-running": "not-running",
    "next-exit": "next-exit",
    "removed": "removed",
}


class NetworkingConfig(msgspec.Struct, rename="pascal"):
    """The networks of a new container, by name."""

    endpoints_config: dict[str, EndpointSettings | None] | None = None


class CreateBody(ContainerConfig, rename="pascal", kw_only=True):
    """Body of POST /containers/create: a configuration with two members more."""

    host_config: HostConfig | None = None
    networking_config: NetworkingConfig | None = None


def container_of(call: Call) -> Container:
    """The container that the path names. Raises `NotFound`."""
    container: Container = call.engine.containers.get(call.fields["name"])
    return container


@router.get("/containers/json")
async def list_containers(call: Call) -> web.StreamResponse:
    query = call.query
    request = ListRequest(
        query.filters(), all=query.boolean("all"), limit=query.integer("limit"), size=query.boolean("size")
    )
    return json(await call.engine.containers.listing.containers(request, call.version))


@router.post("/containers/create")
async def create(call: Call) -> web.StreamResponse:
    body = await call.body(CreateBody, required=True)
    config = ContainerConfig(**{name: getattr(body, name) for name in ContainerConfig.__struct_fields__})
    if config == ContainerConfig() and body.host_config is None and body.networking_config is None:
        raise InvalidParameter("config cannot be empty in order to create a container")
    networking = body.networking_config
    endpoints = {
        name: settings or EndpointSettings()
        for name, settings in ((networking.endpoints_config if networking else None) or {}).items()
    }
    platform = call.query.text("platform")
    host = body.host_config or HostConfig()
    check_create(config, host, endpoints.values())
    _forget_what_the_version_lacks(host, call.version)
    request = CreateRequest(
        call.query.text("name"),
        config,
        host,
        endpoints,
        platforms.parse(platform) if platform and call.version >= (1, 41) else None,
    )
    created = await call.engine.containers.creation.create(request)
    return json({"Id": created.id, "Warnings": created.warnings}, 201)


def _forget_what_the_version_lacks(host: HostConfig, version: tuple[int, int]) -> None:
    """Members that were added later are ignored from older clients, and defaults are those of their time."""
    if version < (1, 40):
        if host.ipc_mode == "":
            host.ipc_mode = "shareable"
        host.pids_limit = host.pids_limit if host.pids_limit and host.pids_limit > 0 else None
    if version < (1, 41):
        host.cgroupns_mode = "host"
    for mount in host.mounts or ():
        if mount.type == "image" and version < (1, 48):
            raise InvalidParameter('Mount type "Image" needs API v1.48 or newer')
        if mount.bind_options is not None:
            if version < (1, 40):
                mount.bind_options.non_recursive = False
            if version < (1, 44):
                mount.bind_options.read_only_non_recursive = mount.bind_options.non_recursive
                mount.bind_options.read_only_force_recursive = False
                mount.bind_options.read_only_non_recursive = mount.read_only


@router.post("/containers/prune", since=(1, 25))
async def prune(call: Call) -> web.StreamResponse:
    pruned = await call.engine.containers.removal.prune(call.query.filters())
    return json({"ContainersDeleted": pruned.ids or None, "SpaceReclaimed": pruned.bytes})


@router.get("/containers/{name:any}/json")
async def inspect(call: Call) -> web.StreamResponse:
    container = container_of(call)
    size = call.query.boolean("size")
    return json(await call.engine.containers.inspection.inspect(container, call.version, size=size))


@router.post("/containers/{name:any}/start")
async def start(call: Call) -> web.StreamResponse:
    if call.query.text("checkpoint"):
        raise InvalidParameter("checkpoint is only supported in experimental mode")
    if (await call.read_body()).strip() not in (b"", b"{}", b"null"):
        raise InvalidParameter(
            "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24"
        )
    await call.engine.containers.lifecycle.start(container_of(call))
    return empty(204)


@router.post("/containers/{name:any}/stop")
async def stop(call: Call) -> web.StreamResponse:
    container, timeout = container_of(call), _timeout(call)
    with _blamed(call, "stop"):
        await call.engine.containers.lifecycle.stop(container, timeout=timeout, signal=_signal(call))
    return empty(204)


@router.post("/containers/{name:any}/restart")
async def restart(call: Call) -> web.StreamResponse:
    container, timeout = container_of(call), _timeout(call)
    with _blamed(call, "restart"):
        await call.engine.containers.lifecycle.restart(container, timeout=timeout, signal=_signal(call))
    return empty(204)


@router.post("/containers/{name:any}/kill")
async def kill(call: Call) -> web.StreamResponse:
    with _blamed(call, "kill"):
        await call.engine.containers.lifecycle.kill(container_of(call), call.query.text("signal"))
    return empty(204)


@router.post("/containers/{name:any}/pause")
async def pause(call: Call) -> web.StreamResponse:
    await call.engine.containers.lifecycle.pause(container_of(call))
    return empty(204)


@router.post("/containers/{name:any}/unpause")
async def unpause(call: Call) -> web.StreamResponse:
    await call.engine.containers.lifecycle.unpause(container_of(call))
    return empty(204)


@router.post("/containers/{name:any}/resize")
async def resize(call: Call) -> web.StreamResponse:
    rows, columns = call.query.dimension("h", "height"), call.query.dimension("w", "width")
    await call.engine.containers.lifecycle.resize(container_of(call), rows, columns)
    return empty(200)


@router.post("/containers/{name:any}/rename")
async def rename(call: Call) -> web.StreamResponse:
    await call.engine.containers.editing.rename(container_of(call), call.query.text("name"))
    return empty(204)


@router.post("/containers/{name:any}/update")
async def update(call: Call) -> web.StreamResponse:
    request = await call.body(UpdateRequest)
    if call.version < (1, 40) and request.pids_limit is not None and request.pids_limit <= 0:
        request.pids_limit = None
    warnings = await call.engine.containers.editing.update(container_of(call), request)
    return json({"Warnings": warnings or None})


@router.post("/containers/{name:any}/wait")
async def wait(call: Call) -> web.StreamResponse:
    """The headers leave at once: the CLI sends `start` only when it has seen them."""
    condition = _CONDITIONS.get(call.query.text("condition") if call.version >= (1, 30) else "")
    if condition is None:
        raise InvalidParameter(f'invalid condition: "{call.query.text("condition")}"')
    container = container_of(call)
    if condition == "not-running":
        await container.settled()
    future = container.wait(condition)
    async with call.stream() as stream:
        try:
            exit = await future
        except Cancelled as error:
            await stream.json({"StatusCode": -1, "Error": {"Message": str(error)}})
            return stream.response
        answer: dict[str, Any] = {"StatusCode": exit.code}
        if exit.error:
            answer["Error"] = {"Message": exit.error}
        if exit.reason:
            answer["SampanReason"] = exit.reason
        await stream.json(answer)
    return stream.response


@router.get("/containers/{name:any}/top")
async def top(call: Call) -> web.StreamResponse:
    return json(await call.engine.containers.monitoring.top(container_of(call), call.query.text("ps_args")))


@router.get("/containers/{name:any}/changes")
async def changes(call: Call) -> web.StreamResponse:
    return json(await call.engine.containers.copying.changes(container_of(call)) or None)


@router.delete("/containers/{name:any}")
async def remove(call: Call) -> web.StreamResponse:
    removal, query = call.engine.containers.removal, call.query
    if query.boolean("link"):
        await removal.remove_link(call.fields["name"])
        return empty(204)
    await removal.remove(container_of(call), force=query.boolean("force"), volumes=query.boolean("v"))
    return empty(204)


@router.get("/containers/{name:any}/checkpoints", since=(1, 25))
@router.post("/containers/{name:any}/checkpoints", since=(1, 25))
@router.delete("/containers/{name:any}/checkpoints/{checkpoint}", since=(1, 25))
async def checkpoints(call: Call) -> web.StreamResponse:
    """As a dockerd without experimental features; the file system's state can be kept with `docker commit`."""
    container_of(call)
    raise Forbidden("checkpoints are not supported: Sampan cannot save the memory of running processes")


@contextmanager
def _blamed(call: Call, verb: str) -> Iterator[None]:
    """Errors begin with what failed and the name that the client used."""
    try:
        yield
    except NotModified:
        raise
    except SampanError as error:
        name = call.fields["name"]
        failed = (
            f"Cannot restart container {name}" if verb == "restart" else f"cannot {verb} container: {name}"
        )
        raise type(error)(f"{failed}: {error}") from error


def _timeout(call: Call) -> int | None:
    return call.query.integer("t") if call.query.text("t") else None


def _signal(call: Call) -> str:
    return call.query.text("signal") if call.version >= (1, 42) else ""
