"""Volumes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sampan.client.http import quote

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sampan.client.api import Api


class Volumes:
    """The volumes of an engine, by name."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def list(self, *, filters: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        return list(self._api.call("GET", "/volumes", {"filters": filters})["Volumes"] or [])

    def inspect(self, name: str) -> dict[str, Any]:
        """Raises NotFound."""
        details: dict[str, Any] = self._api.call("GET", "/volumes/" + quote(name))
        return details

    def create(
        self,
        name: str = "",
        *,
        driver: str = "local",
        labels: Mapping[str, str] | None = None,
        options: Mapping[str, str] | None = None,
    ) -> str:
        """Make a volume (an existing one of that name is kept); its name, which the engine invents when none is given."""
        body = {
            "Name": name,
            "Driver": driver,
            "Labels": dict(labels or {}),
            "DriverOpts": dict(options or {}),
        }
        return str(self._api.call("POST", "/volumes/create", None, body)["Name"])

    def remove(self, name: str, *, force: bool = False) -> None:
        """Raises Conflict while a container uses it."""
        self._api.call("DELETE", "/volumes/" + quote(name), {"force": force})

    def prune(self, *, all: bool = False) -> dict[str, Any]:
        """Remove unused anonymous volumes (`all`: named ones too); what was removed."""
        filters = {"all": ["true"]} if all else None
        answer: dict[str, Any] = self._api.call("POST", "/volumes/prune", {"filters": filters})
        return answer
