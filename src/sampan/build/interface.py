"""What a build is asked for, and where its output goes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from sampan.engineapi.container import HostConfig
    from sampan.names.platform import Platform
    from sampan.names.reference import Reference
    from sampan.registry.credentials import Credentials
    from sampan.solver.progress import Event


Follow = Callable[[Sequence["Event"]], None]
"""Told what a build tells."""


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
    exporter: str = "moby"
    """What becomes of the result, by BuildKit's name for it; "" for nothing (by the solver only)."""
    output: Mapping[str, str] = field(default_factory=dict)
    """The exporter's attributes."""
    session: str = ""
    """Id of the client's session, when its context is there (by the solver only)."""
    cache_from: tuple[str, ...] = ()
    """Names of images whose steps may be taken."""
    pull: bool = False
    remove_containers: bool = True
    """Remove each step's container once it succeeded."""
    remove_failed: bool = False
    """Remove it also when it did not."""
