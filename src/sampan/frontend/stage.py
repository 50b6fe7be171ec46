"""One stage, instruction by instruction: the files it has by then, and the configuration of its image."""

from __future__ import annotations

import posixpath
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import msgspec

from sampan.dockerfile.configure import DEFAULT_SHELL, configure, joined, ports_of
from sampan.dockerfile.expand import Lookup, expand
from sampan.dockerfile.instructions import (
    Arg,
    Cmd,
    Copy,
    Entrypoint,
    Env,
    Expose,
    Healthcheck,
    Instruction,
    Label,
    Maintainer,
    Onbuild,
    Run,
    Shell,
    Stopsignal,
    User,
    Volume,
    Workdir,
)
from sampan.dockerfile.source import DockerfileError, Place
from sampan.frontend.interface import Options
from sampan.frontend.variables import Variables
from sampan.llb import ops_pb2 as pb
from sampan.llb.fileop import MakeDirectory, Owner
from sampan.llb.state import Meta, State, change
from sampan.names.platform import Platform
from sampan.names.times import format_duration
from sampan.oci import defaults
from sampan.oci.image import ContainerConfig, History, ImageConfig

if TYPE_CHECKING:
    from sampan.dockerfile.stages import Dockerfile, Stage

COMMENT = "buildkit.dockerfile.v0"
"""How history entries of such builds are marked."""
COUNTED = (Run, Copy, Workdir)
"""Instructions that are steps."""


class StageState:
    """A stage while it is lowered."""

    def __init__(
        self,
        file: Dockerfile,
        stage: Stage,
        options: Options,
        variables: Variables,
        platform: Platform,
        *,
        named: bool,
    ) -> None:
        self.file = file
        self.stage = stage
        self.options = options
        self.variables = variables
        self.platform = platform
        self.state: State | None = None
        self.image = ImageConfig(config=ContainerConfig(), architecture=platform.architecture, os=platform.os)
        self.ignore_cache = options.no_cache or stage.name in options.no_cache_stages
        self.arguments: dict[str, str | None] = {}
        """Declared in this stage, as history shows them."""
        self._title = (stage.name or f"stage-{stage.index}") if named else ""
        self._step = 0
        self._total = sum(isinstance(each, COUNTED) for each in stage.instructions)
        self._cmd_given = False
        self._triggered = 0
        """How many of the instructions that are still to come are the base's."""

    # -- words

    @property
    def config(self) -> ContainerConfig:
        """The image's defaults for containers."""
        if self.image.config is None:
            self.image.config = ContainerConfig()
        return self.image.config

    @property
    def title(self) -> str:
        """What the stage is called in mistakes."""
        return self.stage.name or f"stage-{self.stage.index}"

    @property
    def lookup(self) -> Lookup:
        """What variables mean at this point."""
        return self.variables.lookup(self.config.env).get

    @property
    def shell(self) -> list[str]:
        """What runs lines."""
        return [*(self.config.shell or DEFAULT_SHELL)]

    def expand(self, text: str) -> str:
        """Replace variables."""
        return expand(text, self.lookup, escape=self.file.directives.escape)

    def absolute(self, path: str) -> str:
        """A path from the working directory on; a final slash, which says that it is a directory, stays."""
        whole = joined(self.config.working_dir, path)
        is_directory = path.endswith(("/", "/.")) or path in (".", "")
        return whole.rstrip("/") + "/" if is_directory else whole

    def meta(self, instruction: Instruction, text: str = "") -> Meta:
        """What goes with the operation of a step: its number and text, and its place."""
        self._step += 1
        return Meta(
            name=self.titled(text or self.told_of(instruction)),
            ignore_cache=self.ignore_cache,
            places=(_lines(instruction.place),),
            description={"com.docker.dockerfile.v1.command": instruction.original.partition(" ")[0].upper()},
        )

    def told_of(self, instruction: Instruction) -> str:
        """An instruction as the step's title has it: with the values of its variables."""
        try:
            text = self.expand(instruction.original)
        except DockerfileError:
            text = instruction.original
        return in_capitals(text)

    def titled(self, text: str) -> str:
        """`[build 2/5] RUN make`."""
        words = []
        if self.options.show_platform:
            words.append(str(self.platform))
        if self._title:
            words.append(self._title)
        width = len(str(self._total))
        trigger = "ONBUILD " if self._triggered else ""
        return f"[{' '.join([*words, f'{self._step:>{width}}/{self._total}'])}] {trigger}{text}"

    def remember(self, text: str, *, layer: bool = False) -> None:
        """A line of history. Files changed: `layer`."""
        self.image.history.append(History(created_by=text, comment=COMMENT, empty_layer=not layer))

    def llb_platform(self) -> pb.Platform:
        """The platform as operations have it."""
        return llb_platform(self.platform)

    # -- beginning

    def begin_empty(self) -> None:
        """`FROM scratch`."""
        self.config.working_dir = "/"

    def begin_with(self, state: State | None, image: ImageConfig) -> None:
        """`FROM` an image or another stage, whose configuration is this stage's own from now on."""
        self.state = state
        self.image = msgspec.convert(msgspec.to_builtins(image), ImageConfig)
        if not self.image.history and self.image.rootfs.diff_ids:
            self.image.history = [History(created=image.created) for _ in image.rootfs.diff_ids]

    def meta_of_base(self, reference: str) -> Meta:
        """Of the operation that brings the base."""
        self._step += 1
        self._total += 1
        place = self.stage.origin.place
        return Meta(name=self.titled(f"FROM {reference}"), places=(_lines(place),))

    def triggers(self) -> list[str]:
        """The base's `ONBUILD`s, which count here and are forgotten."""
        found = list(self.config.on_build or ())
        self.config.on_build = None
        return found

    def expect(self, triggers: int) -> None:
        """Each trigger counts as one more step."""
        self._total += triggers
        self._triggered = triggers

    def performed_trigger(self) -> None:
        """One of those is done."""
        self._triggered -= 1

    def complete_environment(self) -> None:
        """`PATH` is always set in what is built."""
        if not any(each.startswith("PATH=") for each in self.config.env or ()):
            self.config.env = [*(self.config.env or ()), f"PATH={defaults.PATH}"]

    # -- instructions that need nobody else

    def configure(self, instruction: Instruction) -> None:
        """Everything but `RUN`, `COPY`, `ADD`. Raises `DockerfileError`."""
        match instruction:
            case Arg():
                self._arg(instruction)
                return
            case Workdir():
                self._workdir(instruction)
                return
        lookup, escape = self.lookup, self.file.directives.escape
        configure(self.config, instruction, lookup, escape=escape)
        match instruction:
            case Cmd():
                self._cmd_given = True
                self.config.cmd = self.config.cmd or None
                self.config.args_escaped = True  # as BuildKit marks what a Dockerfile gave a CMD
            case Entrypoint() if not self._cmd_given:
                self.config.cmd = None  # the base's command was an argument of the base's entrypoint
            case Maintainer(name=name):
                self.image.author = self.expand(name)
            case Onbuild():
                return
        if isinstance(instruction, Env):
            self.variables.lose(expand(name, lookup, escape=escape) for name, _ in instruction.pairs)
        self.remember(self._told(instruction, lookup))

    def _arg(self, instruction: Arg) -> None:
        told = []
        for name, default in instruction.arguments:
            name = self.expand(name)
            value = self.variables.declare(name, None if default is None else self.expand(default))
            self.variables.win(name)
            self.arguments[name] = value
            told.append(name if value is None else f"{name}={value}")
        self.remember(f"ARG {' '.join(told)}")

    def _workdir(self, instruction: Workdir) -> None:
        directory = joined(self.config.working_dir, self.expand(instruction.path))
        self.config.working_dir = directory
        if directory != "/":
            meta = self.meta(instruction)
            owner = owner_of(self.config.user) if self.config.user else None
            action = MakeDirectory(directory, owner=owner)
            self.state = change(self.state, [action], meta, self.llb_platform())
        self.remember(f"WORKDIR {directory}", layer=directory != "/")

    def _told(self, instruction: Instruction, lookup: Lookup) -> str:
        """An instruction as BuildKit's history has it. `lookup`: what variables meant before it."""
        config, escape = self.config, self.file.directives.escape

        def value(text: str) -> str:
            return expand(text, lookup, escape=escape)

        match instruction:
            case Env(pairs=pairs):
                return "ENV " + " ".join(f"{value(name)}={value(text)}" for name, text in pairs)
            case Label(pairs=pairs):
                return "LABEL " + " ".join(f"{value(name)}={value(text)}" for name, text in pairs)
            case Cmd():
                return f"CMD {_quoted(config.cmd)}"
            case Entrypoint():
                return f"ENTRYPOINT {_quoted(config.entrypoint)}"
            case Expose():
                ports = ports_of(instruction, lookup, escape=escape)
                return f"EXPOSE [{' '.join(ports)}]"
            case Volume(paths=paths):
                return f"VOLUME [{' '.join(map(value, paths))}]"
            case Healthcheck():
                return f"HEALTHCHECK {_go_health(instruction)}"
            case User():
                return f"USER {config.user}"
            case Stopsignal():
                return f"STOPSIGNAL {config.stop_signal}"
            case Shell(words=words):
                return f"SHELL [{' '.join(words)}]"
            case Maintainer():
                return f"MAINTAINER {self.image.author}"
        return instruction.original


def _go_health(instruction: Healthcheck) -> str:
    """As Go prints the structure."""
    durations = {
        "Interval": instruction.interval,
        "Timeout": instruction.timeout,
        "StartPeriod": instruction.start_period,
        "StartInterval": instruction.start_interval,
    }
    words = [f"Test:[{' '.join(instruction.test)}]"]
    words += [f"{name}:{format_duration(value)}" for name, value in durations.items()]
    return "{" + " ".join([*words, f"Retries:{instruction.retries}"]) + "}"


def in_capitals(text: str) -> str:
    """An instruction with its keyword in capitals."""
    keyword, space, rest = text.partition(" ")
    return keyword.upper() + space + rest


Perform = Callable[[StageState, Instruction], Awaitable[None]]


def owner_of(text: str) -> Owner:
    """`user:group`, each a name or a number."""
    user, _, group = text.partition(":")
    return Owner(_identity(user), _identity(group))


def llb_platform(platform: Platform) -> pb.Platform:
    """As operations have it."""
    return pb.Platform(OS=platform.os, Architecture=platform.architecture, Variant=platform.variant)


def parent_of(path: str) -> str:
    """The directory that a path is in."""
    return posixpath.dirname(path.rstrip("/")) or "/"


def _identity(text: str) -> int | str | None:
    if not text:
        return None
    if text.isascii() and text.isdecimal():
        number = int(text)
        if number >= 1 << 32:
            raise DockerfileError(f"invalid id {text}")
        return number
    return text


def _quoted(words: list[str] | None) -> str:
    return "[" + " ".join(msgspec.json.encode(each).decode() for each in words or ()) + "]"


def _lines(place: Place) -> tuple[int, int]:
    return place.first, place.last
