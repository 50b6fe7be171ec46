"""Make an engine as it was before a scenario, over its API: the base image under its one name, and nothing else."""

from __future__ import annotations

import http.client
import json
import time
from typing import Any
from urllib.parse import quote

from busybox_image import busybox_archive
from parity.unixhttp import ask

BASE = "busybox:latest"
PATIENCE_SECONDS = 20.0
NETWORKS = ("bridge", "host", "none")


class Reset:
    """Loads the base image when made; `to_start` after each scenario."""

    def __init__(self, socket: str) -> None:
        self._socket = socket
        self._archive = busybox_archive()
        self.complaint = ""
        """The last thing that the engine refused."""
        self._load()

    def to_start(self) -> bool:
        """Remove everything but the base image. False when the engine does not let go of something."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        try:
            while self._remove_all():
                if time.monotonic() > deadline:
                    return False
                time.sleep(0.05)
        except (OSError, http.client.HTTPException) as error:
            self.complaint = f"{type(error).__name__}: {error}"
            return False
        return True

    def _remove_all(self) -> bool:
        """One round; True when there was anything, for things may depend on each other or be on their way already."""
        return any(
            [
                self._remove_containers(),
                self._remove_networks(),
                self._remove_volumes(),
                self._remove_images(),
            ]
        )

    def _remove_containers(self) -> bool:
        found = self._list("/containers/json?all=1")
        for container in found:
            if container["State"] == "paused":
                self._do("POST", f"/containers/{container['Id']}/unpause")
            self._do("DELETE", f"/containers/{container['Id']}?force=1&v=1")
        return bool(found)

    def _remove_networks(self) -> bool:
        found = [each for each in self._list("/networks") if each["Name"] not in NETWORKS]
        for network in found:
            self._do("DELETE", f"/networks/{network['Id']}")
        return bool(found)

    def _remove_volumes(self) -> bool:
        found = self._list("/volumes", "Volumes")
        for volume in found:
            self._do("DELETE", f"/volumes/{quote(volume['Name'], safe='')}?force=1")
        return bool(found)

    def _remove_images(self) -> bool:
        images = self._list("/images/json?all=1")
        wrong = [image for image in images if image["Id"] != self._base or _names(image) != [BASE]]
        for image in wrong:
            names = _names(image)
            if image["Id"] == self._base and BASE in names:
                names.remove(BASE)
            else:
                names.append(image["Id"])
            for name in names:
                self._do("DELETE", f"/images/{quote(name, safe='')}?force=1")
        if not any(image["Id"] == self._base and BASE in _names(image) for image in images):
            self._load()
            return True
        return bool(wrong)

    def _load(self) -> None:
        self._do("POST", "/images/load?quiet=1", self._archive)
        (self._base,) = (each["Id"] for each in self._list("/images/json") if BASE in _names(each))

    def _do(self, method: str, path: str, body: bytes | None = None) -> None:
        answer = ask(self._socket, method, path, body)
        if answer.status >= 400:
            self.complaint = (
                f"{method} {path}: {answer.status} {answer.data.decode(errors='replace').strip()}"
            )

    def _list(self, path: str, field: str = "") -> list[Any]:
        document = json.loads(ask(self._socket, "GET", path).data)
        found: list[Any] = (document[field] if field else document) or []
        return found


def _names(image: dict[str, Any]) -> list[str]:
    """Names, and digests in repositories where it has no name."""
    names = [name for name in image["RepoTags"] or [] if name != "<none>:<none>"]
    repositories = {name.rpartition(":")[0] for name in names}
    digests = [name for name in image["RepoDigests"] or [] if name.partition("@")[0] not in repositories]
    return names + [name for name in digests if not name.startswith("<none>")]
