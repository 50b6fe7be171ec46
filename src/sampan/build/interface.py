"""What a build is asked for, and where its output goes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from sampan.engineapi.container import HostConfig
    from sampan.names.platform import Platform
    from sampan.names.reference import Reference
    from sampan.registry.credentials import Credentials


class Output(Protocol):
    """Takes what a build says, piece by piece."""

    def stream(self, text: str) -> None:
        """Text as `docker build` prints it."""
        ...

    def image(self, image_id: str) -> None:
        """The id of the image that the build made."""
        ...

    def progress(self, message: object) -> None:
        """A line of a pull that the build waits for."""
        ...


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """One `docker build`."""

    host_config: HostConfig
    """Limits and network of the containers that `RUN` makes."""
    dockerfile: str = "Dockerfile"
    """Path in the context."""
    remote: str = ""
    tags: tuple[Reference, ...] = ()
    target: str = ""
    arguments: Mapping[str, str | None] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    platform: Platform | None = None
    credentials: Mapping[str, Credentials] = field(default_factory=dict)
    use_cache: bool = True
    anew: frozenset[str] = frozenset()
    """Stages that are built without the cache (by the solver only)."""
    output: Mapping[str, str] = field(default_factory=dict)
    """Attributes of the image that is written, as BuildKit's exporter has them (by the solver only)."""
    pull: bool = False
    remove_containers: bool = True
    """Remove each step's container once it succeeded."""
    remove_failed: bool = False
    """Remove it also when it did not."""
