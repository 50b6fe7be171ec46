"""Images: listing, loading, saving, tagging, removing."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from sampan.client.http import quote
from sampan.errors import SystemFailure

if TYPE_CHECKING:
    import builtins
    from collections.abc import Iterable, Iterator, Mapping

    from sampan.client.api import Api


class Images:
    """The images of an engine. An image is named by reference (`busybox:latest`) or id."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def list(
        self, *, all: bool = False, filters: Mapping[str, Any] | None = None
    ) -> builtins.list[dict[str, Any]]:
        """The Engine API's ImageSummary of each."""
        rows: list[dict[str, Any]] = self._api.call("GET", "/images/json", {"all": all, "filters": filters})
        return rows

    def inspect(self, name: str) -> dict[str, Any]:
        """Raises NotFound."""
        details: dict[str, Any] = self._api.call("GET", f"/images/{quote(name, keep='/:@')}/json")
        return details

    def exists(self, name: str) -> bool:
        from sampan.errors import NotFound

        try:
            self.inspect(name)
        except NotFound:
            return False
        return True

    def load(self, archive: str | os.PathLike[str] | bytes | Iterable[bytes]) -> builtins.list[str]:
        """Load a `docker save` or OCI archive: a path, or its bytes, whole or in pieces. The names of what was loaded.

        >>> engine.images.load("busybox.tar")                                           # doctest: +SKIP
        ['busybox:latest']
        """
        if isinstance(archive, str | os.PathLike):
            with open(archive, "rb") as file:
                return self.load(file)
        response = self._api.request("POST", "/images/load", {"quiet": True}, archive)
        names = []
        for message in checked(response.json_stream()):
            for prefix in ("Loaded image: ", "Loaded image ID: "):
                for line in str(message.get("stream", "")).splitlines():
                    if line.startswith(prefix):
                        names.append(line.removeprefix(prefix))
        return names

    def save(self, *names: str) -> Iterator[bytes]:
        """A tar of images, in pieces."""
        return self._api.request("GET", "/images/get", {"names": list(names)}).blocks()

    def pull(self, name: str, *, platform: str | None = None) -> None:
        """Fetch an image from its registry. Raises what the registry's answer amounts to."""
        repository, tag = _split(name)
        query = {"fromImage": repository, "tag": tag, "platform": platform}
        for _ in checked(self._api.request("POST", "/images/create", query).json_stream()):
            pass

    def tag(self, name: str, target: str) -> None:
        repository, tag = _split(target)
        self._api.call("POST", f"/images/{quote(name, keep='/:@')}/tag", {"repo": repository, "tag": tag})

    def remove(self, name: str, *, force: bool = False) -> None:
        """Remove a name, and the image with its last one. Raises Conflict while a container uses it."""
        self._api.call("DELETE", f"/images/{quote(name, keep='/:@')}", {"force": force})

    def history(self, name: str) -> builtins.list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self._api.call("GET", f"/images/{quote(name, keep='/:@')}/history")
        return rows

    def prune(self, *, all: bool = False) -> dict[str, Any]:
        """Remove images without a name (`all`: that no container uses)."""
        filters = {"dangling": ["false" if all else "true"]}
        answer: dict[str, Any] = self._api.call("POST", "/images/prune", {"filters": filters})
        return answer


def _split(reference: str) -> tuple[str, str]:
    """
    >>> _split("host:5000/app"), _split("app:1"), _split("app@sha256:00")
    (('host:5000/app', 'latest'), ('app', '1'), ('app', 'sha256:00'))
    """
    if "@" in reference:
        repository, _, digest = reference.partition("@")
        return repository, digest
    head, separator, tag = reference.rpartition(":")
    return (head, tag) if separator and "/" not in tag else (reference, "latest")


def checked(messages: Iterable[Any]) -> Iterator[dict[str, Any]]:
    """Progress messages; raises SystemFailure at the one that reports an error."""
    for message in messages:
        if "error" in message:
            raise SystemFailure(str(message["error"]))
        yield message
