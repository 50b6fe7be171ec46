"""`docker ps`: which containers, in which order, with which columns."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from sampan.containers.container import Container
from sampan.containers.inspection import endpoint_document, mount_points
from sampan.containers.links import parse_link
from sampan.containers.record import RunState
from sampan.containers.validate import parse_port
from sampan.engineapi.container import wire_mount
from sampan.engineapi.filters import Filters
from sampan.errors import InvalidParameter, NotFound, SampanError
from sampan.names.times import human_duration, parse_filter_time

if TYPE_CHECKING:
    from sampan.containers.services import Services
    from sampan.engineapi.network import EndpointSettings

_ACCEPTED = (
    "ancestor", "before", "exited", "expose", "health", "id", "isolation", "is-task", "label", "name", "network",
    "publish", "since", "status", "volume",
)  # fmt: skip
_STATUSES = frozenset({"created", "running", "paused", "restarting", "removing", "exited", "dead"})
_HEALTH = frozenset({"none", "starting", "healthy", "unhealthy"})


class ListRequest(NamedTuple):
    """What `docker ps` asks for."""

    filters: Filters
    all: bool = False
    limit: int = 0
    size: bool = False


class Listing:
    """Lists containers."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def containers(self, request: ListRequest, version: tuple[int, int]) -> list[dict[str, Any]]:
        """The answer of GET /containers/json, newest first. Raises `InvalidParameter`, `NotFound` for bad filters."""
        match = await self._matcher(request)
        chosen: list[Container] = []
        for container in sorted(self._services.registry, key=lambda c: c.record.created, reverse=True):
            if match(container):
                chosen.append(container)
                if request.limit > 0 and len(chosen) == request.limit:
                    break
        images = await self._image_ids(chosen)
        summaries = [await self._summary(each, images, version, size=request.size) for each in chosen]
        links = self._links()
        for summary in summaries:
            bare = summary["Names"][0].removeprefix("/")
            summary["Names"] = sorted(
                [*summary["Names"], *links.get(bare, ()), *links.get(summary["Id"], ())]
            )
        return summaries

    def _links(self) -> dict[str, list[str]]:
        """Name or id of what is linked to → what the linking containers call it: `/shop/db`."""
        found: dict[str, list[str]] = {}
        for container in self._services.registry:
            for target, alias in map(parse_link, container.record.host_config.links or ()):
                found.setdefault(target, []).append(f"/{container.name}/{alias}")
        return found

    async def _image_ids(self, containers: list[Container]) -> dict[str, str]:
        """What the names that containers were made from mean now."""
        found: dict[str, str] = {}
        for name in {container.record.config.image for container in containers}:
            try:
                found[name] = (await self._services.images.resolve(name)).id
            except (NotFound, InvalidParameter):
                continue
        return found

    async def _matcher(self, request: ListRequest) -> Any:
        """One predicate out of all filters, with references resolved once."""
        filters = request.filters
        filters.validate(_ACCEPTED)
        statuses = self._statuses(filters)
        exits = {self._exit_code(text) for text in filters.get("exited")}
        healths = set(filters.get("health"))
        if unknown := healths - _HEALTH:
            value = unknown.pop()
            raise InvalidParameter(
                f"invalid filter 'health={value}': invalid value for health ({value}):"
                " must be one of none, starting, healthy, unhealthy"
            )
        if filters.boolean("is-task", False):
            return lambda container: False
        before = [self._reference(text).record.created for text in filters.get("before")]
        since = [self._reference(text).record.created for text in filters.get("since")]
        ancestors = await self._ancestors(filters)
        running_only = not (request.all or request.limit > 0 or statuses)
        publish = [parse_port_filter(text, "publish") for text in filters.get("publish")]
        expose = [parse_port_filter(text, "expose") for text in filters.get("expose")]

        def match(container: Container) -> bool:
            record, state = container.record, container.state
            return (
                not (running_only and not state.running)
                and (not statuses or state.status in statuses)
                and (
                    not exits
                    or (
                        state.exit_code in exits
                        and state.status in ("exited", "dead")
                        and state.started_at > 0
                    )
                )
                and (not healths or (state.health.status if state.health else "none") in healths)
                and all(record.created < limit for limit in before)
                and all(record.created > limit for limit in since)
                and ("id" not in filters or any(_found(text, record.id) for text in filters.get("id")))
                and (
                    "name" not in filters
                    or any(_name_found(text, record.name) for text in filters.get("name"))
                )
                and filters.labels(record.config.labels)
                and (ancestors is None or record.image_id in ancestors or record.config.image in ancestors)
                and ("volume" not in filters or _has_volume(container, filters.get("volume")))
                and ("network" not in filters or self._has_network(container, filters.get("network")))
                and (not publish or self._has_port(container, publish, published=True))
                and (not expose or self._has_port(container, expose, published=False))
            )

        return match

    @staticmethod
    def _statuses(filters: Filters) -> set[str]:
        statuses = set(filters.get("status"))
        for status in statuses:
            if status not in _STATUSES:
                raise InvalidParameter(
                    f"invalid filter 'status={status}': invalid value for state ({status}): must be one of"
                    " created, running, paused, restarting, removing, exited, dead"
                )
        return statuses

    @staticmethod
    def _exit_code(text: str) -> int:
        try:
            return int(text)
        except ValueError:
            raise InvalidParameter(
                f"invalid filter 'exited={text}': strconv.Atoi: parsing \"{text}\": invalid syntax"
            ) from None

    def _reference(self, text: str) -> Container:
        return self._services.registry.get(text)

    async def _ancestors(self, filters: Filters) -> set[str] | None:
        if "ancestor" not in filters:
            return None
        found: set[str] = set()
        for text in filters.get("ancestor"):
            try:
                image = await self._services.images.resolve(text)
            except (NotFound, InvalidParameter):
                continue
            found.add(image.id)
        return found

    def _has_network(self, container: Container, wanted: list[str]) -> bool:
        endpoints = self._services.networks.endpoints(container.id)
        return any(
            name == text or (endpoint.network_id and endpoint.network_id.startswith(text))
            for text in wanted
            for name, endpoint in endpoints.items()
        )

    def _has_port(self, container: Container, wanted: list[tuple[int, int, str]], *, published: bool) -> bool:
        """`publish` means the host's ports, `expose` the container's; both are those of a running container."""
        numbers = []
        for port, bindings in self._services.networks.ports(container.id).items():
            private, _, protocol = parse_port(port)
            public = [int(binding.host_port) for binding in bindings or () if binding.host_port]
            numbers += [(number, protocol) for number in (public if published else [private])]
        return any(
            first <= number <= last and protocol == kind
            for first, last, protocol in wanted
            for number, kind in numbers
        )

    async def _summary(
        self, container: Container, images: dict[str, str], version: tuple[int, int], *, size: bool
    ) -> dict[str, Any]:
        record, state = container.record, container.state
        endpoints = self._services.networks.endpoints(container.id)
        summary: dict[str, Any] = {
            "Id": record.id,
            "Names": ["/" + record.name],
            # A name that has moved on to another image would be a lie.
            "Image": record.config.image
            if images.get(record.config.image) == record.image_id
            else record.image_id,
            "ImageID": record.image_id,
            "Command": " ".join([record.path, *(_quoted(word) for word in record.args)]),
            "Created": record.created // 1_000_000_000,
            "Ports": self._ports(container, version),
            "Labels": record.config.labels or {},
            "State": state.status,
            "Status": status_text(state, self._services.clock()),
            "HostConfig": {"NetworkMode": record.host_config.network_mode},
            "NetworkSettings": {
                "Networks": {name: _listed_endpoint(value, version) for name, value in endpoints.items()}
            },
            "Mounts": [wire_mount(each) for each in mount_points(record.mounts)],
        }
        if version >= (1, 46) and record.host_config.annotations:
            summary["HostConfig"]["Annotations"] = record.host_config.annotations
        if version >= (1, 48) and record.manifest:
            summary["ImageManifestDescriptor"] = record.manifest
        if version >= (1, 52):
            health = state.health
            summary["Health"] = {
                "Status": health.status if health else "none",
                "FailingStreak": health.failing_streak if health else 0,
            }
        if state.reason:
            summary["SampanReason"] = state.reason
        if size:
            written = await self.size_rw(container)
            if written:
                summary["SizeRw"] = written
            summary["SizeRootFs"] = written + await self.image_size(container)
        return summary

    def _ports(self, container: Container, version: tuple[int, int]) -> list[dict[str, Any]]:
        if not container.state.alive:
            return []
        ports: list[dict[str, Any]] = []
        for port, bindings in self._services.networks.ports(container.id).items():
            private, _, protocol = parse_port(port)
            if not bindings:
                unbound = {"PrivatePort": private, "Type": protocol}
                ports.append(unbound if version >= (1, 52) else {"IP": "", **unbound})
                continue
            for binding in bindings:
                shown: dict[str, Any] = {"IP": binding.host_ip, "PrivatePort": private}
                if binding.host_port:  # a routed network has none
                    shown["PublicPort"] = int(binding.host_port)
                ports.append({**shown, "Type": protocol})
        return ports

    async def size_rw(self, container: Container) -> int:
        """Bytes that the container's writable layer takes; 0 when it cannot be told."""
        try:
            return (await self._services.snapshots.usage(container.id)).size
        except SampanError:
            return 0

    async def image_size(self, container: Container) -> int:
        """Bytes that the image's layers take; 0 when it cannot be told."""
        snapshots = self._services.snapshots
        try:
            chain = await snapshots.chain(container.id)
            return sum([(await snapshots.usage(name)).size for name in chain if name != container.id])
        except SampanError:
            return 0

    def until(self, filters: Filters) -> int | None:
        """The instant of the `until` filter in nanoseconds. Raises `InvalidParameter` for several."""
        values = filters.get("until")
        if not values:
            return None
        if len(values) > 1:
            raise InvalidParameter("more than one until filter specified")
        return parse_filter_time(values[0], self._services.clock())


def _listed_endpoint(endpoint: EndpointSettings, version: tuple[int, int]) -> dict[str, Any]:
    """Lists do not tell by which names a container is found, as dockerd's do not."""
    document = endpoint_document(endpoint, version)
    return document | {name: None for name in ("Aliases", "DNSNames") if name in document}


def status_text(state: RunState, now: int) -> str:
    """`Up 3 seconds (healthy)`, `Exited (0) 2 hours ago`, in dockerd's words."""
    since_start = human_duration(max(0, now - state.started_at))
    since_end = human_duration(max(0, now - state.finished_at))
    match state.status:
        case "running":
            health = state.health
            if health is None:
                return f"Up {since_start}"
            return (
                f"Up {since_start} ({'health: starting' if health.status == 'starting' else health.status})"
            )
        case "paused":
            return f"Up {since_start} (Paused)"
        case "restarting":
            return f"Restarting ({state.exit_code}) {since_end} ago"
        case "removing":
            return "Removal In Progress"
        case "dead":
            return "Dead"
        case "created":
            return "Created"
        case _:
            return f"Exited ({state.exit_code}) {since_end} ago" if state.finished_at else "Created"


def parse_port_filter(text: str, name: str) -> tuple[int, int, str]:
    """`80`, `80/udp`, `8000-8080/tcp`. Raises `InvalidParameter`."""
    numbers, _, protocol = text.partition("/")
    first, dash, last = numbers.partition("-")
    where = f"error while looking up for {name} {text}: "
    for word, which in ((first, "start"), (last if dash else first, "end")):
        if not (word.isascii() and word.isdigit()):
            raise InvalidParameter(f"{where}invalid {which} port '{word}': invalid syntax")
        if int(word) > 65535:
            raise InvalidParameter(f"{where}invalid {which} port '{word}': value out of range")
    if dash and int(last) < int(first):
        raise InvalidParameter(f"{where}invalid port range: {numbers}")
    return int(first), int(last or first), protocol or "tcp"


def _found(pattern: str, value: str) -> bool:
    try:
        return re.search(pattern, value) is not None
    except re.error:
        return pattern in value


def _name_found(pattern: str, name: str) -> bool:
    """A pattern may be written with the slash that inspect shows."""
    return _found(pattern, "/" + name) or _found(pattern.removeprefix("/"), name)


def _has_volume(container: Container, wanted: list[str]) -> bool:
    return any(
        text in (mount.name, mount.source, mount.destination)
        for text in wanted
        for mount in container.record.mounts
    )


def _quoted(word: str) -> str:
    """An argument as dockerd shows it in a command line: quoted when a shell would split it."""
    return f"'{word}'" if " " in word else word
