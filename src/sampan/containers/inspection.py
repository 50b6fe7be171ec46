"""`docker inspect`: everything there is to know of a container, as dockerd prints it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import msgspec

from sampan.containers import modes
from sampan.containers.container import Container
from sampan.containers.links import parse_link
from sampan.containers.log_options import log_path
from sampan.containers.record import ContainerRecord, HealthRecord, MountRecord, RunState
from sampan.engineapi.container import MountPoint, wire, wire_mount
from sampan.engineapi.network import wire_endpoint
from sampan.names.times import format_rfc3339_nano

if TYPE_CHECKING:
    from sampan.containers.listing import Listing
    from sampan.containers.services import Services
    from sampan.engineapi.network import EndpointSettings

NEVER = "0001-01-01T00:00:00Z"
"""Go's zero time."""

_DEPRECATED_NETWORK = (
    "EndpointID",
    "Gateway",
    "GlobalIPv6Address",
    "GlobalIPv6PrefixLen",
    "IPAddress",
    "IPPrefixLen",
    "IPv6Gateway",
    "MacAddress",
)
"""Copies of the default bridge's endpoint, of API versions before 1.52."""


class Inspection:
    """Formats containers."""

    def __init__(self, services: Services, listing: Listing) -> None:
        self._services = services
        self._listing = listing

    async def inspect(
        self, container: Container, version: tuple[int, int], *, size: bool = False
    ) -> dict[str, Any]:
        """The answer of GET /containers/{id}/json at that API version."""
        record, services = container.record, self._services
        files = services.directory(modes.shared_container(record.host_config.network_mode) or record.id)
        begun = container.state.begun
        document: dict[str, Any] = {
            "Id": record.id,
            "Created": format_rfc3339_nano(record.created),
            "Path": record.path,
            "Args": record.args,
            "State": state_document(container.state),
            "Image": record.image_id,
            "ResolvConfPath": str(files / "resolv.conf") if begun else "",
            "HostnamePath": str(files / "hostname") if begun else "",
            "HostsPath": str(files / "hosts") if begun else "",
            "LogPath": self._log_path(record) if begun else "",
            "Name": "/" + record.name,
            "RestartCount": container.state.restart_count,
            "Driver": record.driver,
            "Platform": record.platform,
            "MountLabel": record.mount_label,
            "ProcessLabel": record.process_label,
            "AppArmorProfile": record.app_armor_profile,
            "ExecIDs": sorted(container.execs) or None,
            "HostConfig": wire(record.host_config),
            **self._storage(record.id, record.driver, version),
            "Mounts": [
                wire_mount(each)
                for each in mount_points(each for each in record.mounts if not _is_tmpfs_flag(each))
            ],
            "Config": wire(record.config),
            "NetworkSettings": self._network(container, version),
        }
        if version >= (1, 48) and record.manifest:
            document["ImageManifestDescriptor"] = record.manifest
        if size:
            document["SizeRw"] = await self._listing.size_rw(container)
            document["SizeRootFs"] = document["SizeRw"] + await self._listing.image_size(container)
        if not document["Config"].get("OnBuild"):
            document["Config"].pop("OnBuild", None)
        document["HostConfig"]["Links"] = None
        if record.host_config.links:
            document["HostConfig"]["Links"] = [
                f"/{target}:/{record.name}/{alias}"
                for target, alias in map(parse_link, record.host_config.links)
            ]
        document["Config"].pop("MacAddress", None)
        if version < (1, 44):
            mode = record.host_config.network_mode
            primary = document["NetworkSettings"]["Networks"].get(mode, {})
            if mac := primary.get("MacAddress"):
                document["Config"]["MacAddress"] = mac
        return document

    def _log_path(self, record: ContainerRecord) -> str:
        if record.host_config.log_config.type != "json-file":
            return ""
        return str(log_path(record, self._services.directory(record.id)))

    @staticmethod
    def _storage(container_id: str, driver: str, version: tuple[int, int]) -> dict[str, Any]:
        """Since 1.52 a snapshotter's containers say `Storage`, before that `GraphDriver`."""
        if version >= (1, 52):
            return {"Storage": {"RootFS": {"Snapshot": {"Name": driver}}}}
        return {"GraphDriver": {"Data": None, "Name": driver}}

    def _network(self, container: Container, version: tuple[int, int]) -> dict[str, Any]:
        networks = self._services.networks
        endpoints = networks.endpoints(container.id)
        ports = networks.ports(container.id) if container.state.alive else {}
        alive = container.state.alive and modes.network_is_private(container.record.host_config.network_mode)
        document: dict[str, Any] = {
            "SandboxID": container.id if alive else "",
            "SandboxKey": f"/proc/{container.state.pid}/ns/net" if alive else "",
            "Ports": msgspec.to_builtins(ports),
            "Networks": {
                name: self._endpoint(container, endpoint, version) for name, endpoint in endpoints.items()
            },
        }
        if version >= (1, 52):
            return document
        default = endpoints.get("bridge")
        if default is None:
            return document
        wired = wire_endpoint(default, version)
        return {**document, **{name: wired[name] for name in _DEPRECATED_NETWORK}}

    @staticmethod
    def _endpoint(
        container: Container, endpoint: EndpointSettings, version: tuple[int, int]
    ) -> dict[str, Any]:
        document = endpoint_document(endpoint, version, joined=container.state.started_at > 0)
        if version < (1, 45) and endpoint.dns_names:  # the short id was an alias until it became a name
            document["Aliases"] = [*(endpoint.aliases or ()), container.id[:12]]
        return document


def endpoint_document(
    endpoint: EndpointSettings, version: tuple[int, int], *, joined: bool = True
) -> dict[str, Any]:
    """One of `NetworkSettings.Networks`. A container that never ran (`joined` false) has them by name only."""
    wired = {"GwPriority": 0, **wire_endpoint(endpoint, version)}
    return wired if joined else {**wired, "NetworkID": ""}


def state_document(state: RunState) -> dict[str, Any]:
    """`State` of an inspected container."""
    document: dict[str, Any] = {
        "Status": state.status,
        "Running": state.running,
        "Paused": state.status == "paused",
        "Restarting": state.status == "restarting",
        "OOMKilled": state.oom_killed,
        "Dead": state.status == "dead",
        "Pid": state.pid if state.alive else 0,
        "ExitCode": state.exit_code,
        "Error": state.error,
        "StartedAt": time_of(state.started_at),
        "FinishedAt": time_of(state.finished_at),
    }
    if state.health is not None:
        document["Health"] = health_document(state.health)
    return document


def health_document(health: HealthRecord) -> dict[str, Any]:
    """`State.Health`."""
    return {
        "Status": health.status,
        "FailingStreak": health.failing_streak,
        "Log": [
            {
                "Start": time_of(result.start),
                "End": time_of(result.end),
                "ExitCode": result.exit_code,
                "Output": result.output,
            }
            for result in health.log
        ],
    }


def time_of(ns: int) -> str:
    """RFC 3339 with nanoseconds; Go's zero time for 0."""
    return format_rfc3339_nano(ns) if ns else NEVER


def mount_points(records: Iterable[MountRecord]) -> list[MountPoint]:
    """Mounts as inspect and list show them, by destination."""
    return [mount_point(record) for record in sorted(records, key=lambda each: each.destination)]


def mount_point(record: MountRecord) -> MountPoint:
    """A mount as inspect and list show it."""
    return MountPoint(
        type=record.type,
        name=record.name,
        source=record.source,
        destination=record.destination,
        driver=record.driver if record.type == "volume" else "",
        mode=record.mode,
        rw=not record.read_only,
        propagation=record.propagation,
    )


def _is_tmpfs_flag(record: MountRecord) -> bool:
    """`--tmpfs` is shown in HostConfig.Tmpfs only; `--mount type=tmpfs` here too."""
    return record.type == "tmpfs" and not record.from_spec
