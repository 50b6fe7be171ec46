"""The instructions, typed. Their strings still hold variables; `expand` replaces them where the language does.

Shapes follow Docker's Dockerfile reference; messages are BuildKit's where it has one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from sampan.dockerfile.parse import Heredoc
from sampan.dockerfile.source import Place

Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Instruction:
    """What all have: where it stands, its text as written on one line (for a build's steps and an image's history), and the
    comments above it."""

    place: Place
    original: str
    comments: tuple[str, ...] = field(default=(), kw_only=True)

    @property
    def keyword(self) -> str:
        """As it is written, in whatever letters."""
        return self.original.split(None, 1)[0]

    def description(self, name: str) -> str:
        """What a comment above says of a name that is defined here: `# name what it is`."""
        return next(
            (each.removeprefix(f"{name} ") for each in self.comments if name and each.startswith(f"{name} ")),
            "",
        )


@dataclass(frozen=True, slots=True)
class Command:
    """A command as an array (`shell` False), or as one line for the stage's shell (`words` has that line only)."""

    words: tuple[str, ...]
    shell: bool


@dataclass(frozen=True, slots=True)
class From(Instruction):
    """`FROM [--platform=P] base [AS name]`."""

    base: str
    name: str
    platform: str


@dataclass(frozen=True, slots=True)
class Arg(Instruction):
    """`ARG name[=default]…`; a default of None is none."""

    arguments: tuple[tuple[str, str | None], ...]


@dataclass(frozen=True, slots=True)
class Env(Instruction):
    """`ENV name=value…`."""

    pairs: Pairs


@dataclass(frozen=True, slots=True)
class Label(Instruction):
    """`LABEL name=value…`."""

    pairs: Pairs


@dataclass(frozen=True, slots=True)
class Run(Instruction):
    """`RUN`: a command, mounts as written (their variables are replaced before `mounts.read_mount`), network, security, devices."""

    command: Command
    heredocs: tuple[Heredoc, ...]
    mounts: tuple[str, ...]
    network: str
    security: str
    devices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Copy(Instruction):
    """`COPY`, and what `ADD` shares with it. `files` are heredocs among the sources, by their position."""

    sources: tuple[str, ...]
    destination: str
    files: tuple[Heredoc, ...]
    chown: str
    chmod: str
    link: bool
    parents: bool
    excludes: tuple[str, ...]
    from_: str


@dataclass(frozen=True, slots=True)
class Add(Copy):
    """`ADD`: sources may be URLs and git repositories; local archives are unpacked unless `unpack` is False (None: the default)."""

    checksum: str
    keep_git_dir: bool
    unpack: bool | None


@dataclass(frozen=True, slots=True)
class Cmd(Instruction):
    """`CMD`; no words resets it."""

    command: Command


@dataclass(frozen=True, slots=True)
class Entrypoint(Instruction):
    """`ENTRYPOINT`; no words resets it."""

    command: Command


@dataclass(frozen=True, slots=True)
class Shell(Instruction):
    """`SHELL ["program", "argument"]`."""

    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Expose(Instruction):
    """`EXPOSE port[/protocol]…`."""

    ports: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Volume(Instruction):
    """`VOLUME path…`."""

    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class User(Instruction):
    """`USER name[:group]`."""

    user: str


@dataclass(frozen=True, slots=True)
class Workdir(Instruction):
    """`WORKDIR path`."""

    path: str


@dataclass(frozen=True, slots=True)
class Stopsignal(Instruction):
    """`STOPSIGNAL signal`."""

    signal: str


@dataclass(frozen=True, slots=True)
class Healthcheck(Instruction):
    """`HEALTHCHECK`: `test` as in an image's configuration; durations in nanoseconds, 0 for the default."""

    test: tuple[str, ...]
    interval: int
    timeout: int
    start_period: int
    start_interval: int
    retries: int


@dataclass(frozen=True, slots=True)
class Onbuild(Instruction):
    """`ONBUILD`: the instruction, as text, that runs in builds on this image; heredocs are part of the text."""

    trigger: str


@dataclass(frozen=True, slots=True)
class Maintainer(Instruction):
    """`MAINTAINER name` (deprecated: a label does it)."""

    name: str


Expand = Callable[[str], str]
"""Replaces the variables of a word, with the stage's values."""
