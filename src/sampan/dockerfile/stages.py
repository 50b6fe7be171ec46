"""A whole Dockerfile: the arguments before its first `FROM`, its stages, and which of them a target needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from sampan.dockerfile.directives import Directives
from sampan.dockerfile.instructions import Arg, Copy, From, Instruction, Run
from sampan.dockerfile.mounts import origin_of
from sampan.dockerfile.nearest import suggestion
from sampan.dockerfile.parse import Parsed, Statement, parse
from sampan.dockerfile.source import DockerfileError, Place, Source, source_of
from sampan.dockerfile.typed import typed


@dataclass(frozen=True, slots=True)
class Stage:
    """One `FROM` and what follows it. `index` counts from 0; `name` is in small letters, `""` when it has none."""

    index: int
    origin: From
    instructions: tuple[Instruction, ...]

    @property
    def name(self) -> str:
        """What `AS` says."""
        return self.origin.name


@dataclass(frozen=True, slots=True)
class Dockerfile:
    """A well-formed file. `arguments` are the `ARG`s before the first `FROM`; `gaps` are statements with empty lines in them."""

    source: Source
    directives: Directives
    arguments: tuple[Arg, ...]
    stages: tuple[Stage, ...]
    gaps: tuple[tuple[str, Place], ...]

    def stage(self, target: str = "") -> Stage:
        """The stage of a name, which is no number; the last without one. Raises `DockerfileError` when there is none such."""
        if not target:
            return self.stages[-1]
        found = None if target.isdecimal() else self._before(target, len(self.stages))
        if found is None:
            names = [stage.name for stage in self.stages if stage.name]
            raise DockerfileError(f'target stage "{target}" could not be found{suggestion(target, names)}')
        return found

    def named(self, name: str, before: Stage) -> Stage | None:
        """What `--from=name` or `FROM name` means within `before`: the latest earlier stage of that name; None for an image."""
        return self._before(name, before.index)

    def _before(self, name: str, end: int) -> Stage | None:
        wanted = name.lower()
        for stage in reversed(self.stages[:end]):
            if stage.name == wanted:
                return stage
        if wanted.isascii() and wanted.isdecimal() and int(wanted) < end:
            return self.stages[int(wanted)]
        return None

    def needed(self, target: Stage) -> list[Stage]:
        """The stages that a target is made of, itself included, in the file's order.

        A name with variables in it is not known here; it needs nothing (a base with variables is resolved by whoever lowers it).
        """
        needed: dict[int, Stage] = {}
        waiting = [target]
        while waiting:
            stage = waiting.pop()
            if stage.index in needed:
                continue
            needed[stage.index] = stage
            for name in (stage.origin.base, *_referred(stage)):
                found = self.named(name, stage)
                if found is not None and (name != stage.origin.base or not name.isdecimal()):
                    waiting.append(found)
        return [needed[index] for index in sorted(needed)]


def _referred(stage: Stage) -> list[str]:
    """What the stage's instructions copy or mount from."""
    names = []
    for instruction in stage.instructions:
        if isinstance(instruction, Copy) and instruction.from_:
            names.append(instruction.from_)
        elif isinstance(instruction, Run):
            names += [name for name in map(origin_of, instruction.mounts) if name]
    return names


def read(data: str | bytes, name: str = "Dockerfile") -> Dockerfile:
    """Read a Dockerfile. Raises `DockerfileError`, which names the line and can show it."""
    return understood(parse(source_of(data, name)))


def understood(parsed: Parsed, notice: Callable[[Statement], None] | None = None) -> Dockerfile:
    """The file that statements make; `notice` sees each before it is looked at. Raises `DockerfileError`."""
    source, escape = parsed.source, parsed.directives.escape
    arguments: list[Arg] = []
    stages: list[Stage] = []
    body: list[Instruction] = []
    for statement in parsed.statements:
        if notice is not None:
            notice(statement)
        try:
            instruction = _instruction(statement, escape)
            if not stages and not isinstance(instruction, From | Arg):
                raise DockerfileError("no build stage in current context", source, statement.place)
        except DockerfileError as error:
            raise error.in_instruction(source, statement.place) from None
        if isinstance(instruction, From):
            _finish(stages, body)
            stages.append(Stage(len(stages), instruction, ()))
            body = []
        elif stages:
            body.append(instruction)
        elif isinstance(instruction, Arg):
            arguments.append(instruction)
    if not stages:
        raise DockerfileError("dockerfile contains no stages to build")
    _finish(stages, body)
    return Dockerfile(source, parsed.directives, tuple(arguments), tuple(stages), tuple(parsed.gaps))


def _instruction(statement: Statement, escape: str) -> Instruction:
    instruction = typed(statement, escape)
    return replace(instruction, comments=statement.comments) if statement.comments else instruction


def _finish(stages: list[Stage], body: list[Instruction]) -> None:
    if stages:
        last = stages[-1]
        stages[-1] = Stage(last.index, last.origin, tuple(body))
