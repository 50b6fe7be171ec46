"""What the Dockerfile frontend takes and gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

from sampan.errors import InvalidParameter
from sampan.names.platform import Platform

if TYPE_CHECKING:
    from sampan.llb.state import State
    from sampan.oci.image import ImageConfig

CONTEXT = "context"
"""The name that the frontend asks a client's files by."""
DOCKERFILE = "dockerfile"
"""The name of the directory that the Dockerfile is in."""


class Input(NamedTuple):
    """A file system that came as a graph, and the configuration of the image that it is, when it is one."""

    state: State | None
    config: ImageConfig | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a Dockerfile is built, beside what it says."""

    platform: Platform
    build_platform: Platform
    target: str = ""
    arguments: Mapping[str, str | None] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    no_cache: bool = False
    no_cache_stages: frozenset[str] = frozenset()
    """`--no-cache-filter`: only these stages are built anew."""
    network: str = ""
    """Of `RUN`s that do not say: `host`, `none`, or the sandbox."""
    extra_hosts: tuple[tuple[str, str], ...] = ()
    shm_size: int = 0
    ulimits: tuple[tuple[str, int, int], ...] = ()
    cgroup_parent: str = ""
    resolve: str = "default"
    """How images are found: `default`, `pull` (always ask the registry), `local`."""
    contexts: Mapping[str, str] = field(default_factory=dict)
    """Named contexts, also by `name::platform`: `docker-image://…`, `https://…`, `git://…`, `local:name`,
    `oci-layout://store@digest`, `input:name`."""
    inputs: Mapping[str, Input] = field(default_factory=dict)
    """What `input:name` means: graphs that came with the request."""
    ignored: tuple[str, ...] = ()
    """Patterns of `.dockerignore`."""
    show_platform: bool = False
    """Names of steps say the platform: there are several."""
    cache_namespace: str = ""
    context: State | None = None
    """The context when it is not the client's directory."""
    sessions: Mapping[str, str] = field(default_factory=dict)
    """Ids of the clients' sessions by the name of the directory; "" for all others."""

    def session(self, directory: str) -> str:
        """Whose a directory is; "" when nothing is known of it."""
        return self.sessions.get(directory) or self.sessions.get("", "")

    def input(self, name: str, given: str) -> Input | None:
        """The graph that a named context stands for (`input:…`); None for another kind. Raises `InvalidParameter`."""
        if not given.startswith("input:"):
            return None
        found = self.inputs.get(given.removeprefix("input:"))
        if found is None:
            raise InvalidParameter(f"invalid input {given} for context {name}")
        return found


class Base(NamedTuple):
    """An image that a stage begins with."""

    reference: str
    """With the digest that its name means now."""
    config: ImageConfig
    platform: Platform


class Resolver(Protocol):
    """Asks what names mean."""

    async def image(self, name: str, platform: Platform) -> Base:
        """An image by name. Raises `NotFound`, `SampanError` of the registry."""
        ...

    async def layout(self, name: str, store: str, digest: str, platform: Platform) -> ImageConfig:
        """An image of the client's: what the digest means in a store of its. `name` is for people. Raises as `image` does."""
        ...

    async def ignored(self, directory: str, hint: str) -> Sequence[str]:
        """The patterns of the ignore file in a directory of the client's, whose shared key has that hint."""
        ...


@dataclass(frozen=True, slots=True)
class Lowered:
    """A Dockerfile's target: its files, and the image's configuration without layers and times."""

    state: State | None
    image: ImageConfig
    platform: Platform
    unused: tuple[str, ...]
    """Build arguments that nothing declared."""
