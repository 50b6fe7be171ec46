"""Networks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sampan.client.http import quote

if TYPE_CHECKING:
    import builtins
    from collections.abc import Mapping, Sequence

    from sampan.client.api import Api


class Networks:
    """The networks of an engine, by name or id."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def list(self, *, filters: Mapping[str, Any] | None = None) -> builtins.list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self._api.call("GET", "/networks", {"filters": filters})
        return rows

    def inspect(self, name: str) -> dict[str, Any]:
        """Raises NotFound."""
        details: dict[str, Any] = self._api.call("GET", "/networks/" + quote(name))
        return details

    def create(
        self,
        name: str,
        *,
        driver: str = "bridge",
        internal: bool = False,
        subnet: str | None = None,
        labels: Mapping[str, str] | None = None,
        options: Mapping[str, str] | None = None,
    ) -> str:
        """Make a network; its id. `subnet` as in "10.9.0.0/24", else one that is free."""
        body: dict[str, Any] = {
            "Name": name,
            "Driver": driver,
            "Internal": internal,
            "Labels": dict(labels or {}),
            "Options": dict(options or {}),
        }
        if subnet:
            body["IPAM"] = {"Config": [{"Subnet": subnet}]}
        return str(self._api.call("POST", "/networks/create", None, body)["Id"])

    def connect(self, name: str, container: str, *, aliases: Sequence[str] = ()) -> None:
        body = {"Container": container, "EndpointConfig": {"Aliases": list(aliases)}}
        self._api.call("POST", f"/networks/{quote(name)}/connect", None, body)

    def disconnect(self, name: str, container: str, *, force: bool = False) -> None:
        body = {"Container": container, "Force": force}
        self._api.call("POST", f"/networks/{quote(name)}/disconnect", None, body)

    def remove(self, name: str) -> None:
        self._api.call("DELETE", "/networks/" + quote(name))

    def prune(self) -> builtins.list[str]:
        """Remove networks that no container uses; their names."""
        return list(self._api.call("POST", "/networks/prune")["NetworksDeleted"] or [])
