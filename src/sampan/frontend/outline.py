"""What a target can be given: build arguments, secrets and agents, of it and of all the stages that it is made of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from sampan.dockerfile.expand import expand
from sampan.dockerfile.instructions import Arg, Copy, Instruction, Run
from sampan.dockerfile.mounts import SECRET, SSH, read_mount
from sampan.dockerfile.source import Place
from sampan.dockerfile.stages import Dockerfile, Stage
from sampan.frontend.interface import Options
from sampan.frontend.stage import StageState
from sampan.frontend.variables import outer_values
from sampan.frontend.watching import Watcher, Words


@dataclass(frozen=True, slots=True)
class Argument:
    """A build argument, and which others its default is made of."""

    name: str
    value: str
    description: str
    place: Place
    made_of: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Need:
    """A secret or an agent."""

    name: str
    required: bool
    place: Place


@dataclass(slots=True)
class _Part:
    """What one stage has of its own. Names lead to what was declared last, needs to what was there first."""

    used: dict[str, None] = field(default_factory=dict)
    arguments: dict[str, Argument] = field(default_factory=dict)
    secrets: dict[str, Need] = field(default_factory=dict)
    agents: dict[str, Need] = field(default_factory=dict)
    others: dict[int, None] = field(default_factory=dict)


class Outline(Watcher):
    """Watches a file being lowered, and knows afterwards."""

    def __init__(self, file: Dockerfile, options: Options) -> None:
        self._file = file
        self._options = options
        self._outer: Mapping[str, str] = {}
        self._outer_arguments: dict[str, Argument] = {}
        self._parts: dict[int, _Part] = {}
        self._bases: dict[int, int] = {}

    # -- watching

    def origins(self, outer: Mapping[str, str]) -> None:
        """See `Watcher`."""
        self._outer = outer
        escape = self._file.directives.escape
        self._outer_arguments = _outer_arguments(self._file, self._options)
        for stage in self._file.stages:
            words = Words()
            for text in (stage.origin.base, stage.origin.platform):
                expand(text, words.watching(outer.get), escape=escape)
            self._part(stage).used |= words.found

    def inherit(self, state: StageState, base: StageState) -> None:
        """See `Watcher`."""
        self._bases[state.stage.index] = base.stage.index

    def after(self, state: StageState, instruction: Instruction) -> None:
        """See `Watcher`."""
        part = self._part(state.stage)
        match instruction:
            case Arg():
                self._argument(state, instruction, part)
            case Copy():
                self._from(state.expand(instruction.from_), state.stage, part)
            case Run(mounts=mounts):
                for text in mounts:
                    mount = read_mount(state.expand(text))
                    self._from(mount.from_, state.stage, part)
                    name = mount.source or mount.id or mount.target.rpartition("/")[2]
                    if mount.kind == SECRET:
                        part.secrets.setdefault(name, Need(name, mount.required, instruction.place))
                    elif mount.kind == SSH:
                        name = mount.id or "default"
                        part.agents.setdefault(name, Need(name, mount.required, instruction.place))

    def _part(self, stage: Stage) -> _Part:
        return self._parts.setdefault(stage.index, _Part())

    def _argument(self, state: StageState, instruction: Arg, part: _Part) -> None:
        for name, default in instruction.arguments:
            part.used[name] = None
            if default is None and name not in self._options.arguments and name in self._outer:
                continue  # the one from before the first FROM
            told = default is not None or name in self._options.arguments
            value = (state.variables.value(name) or "") if told else ""
            part.arguments[name] = Argument(name, value, instruction.description(name), instruction.place)

    def _from(self, name: str, stage: Stage, part: _Part) -> None:
        found = self._file.named(name, stage) if name else None
        if found is not None:
            part.others[found.index] = None

    # -- knowing

    def arguments(self, target: Stage) -> list[Argument]:
        """Of the target and what it is made of, in the file's order; of a name, the nearest to the target."""
        found: dict[str, Argument] = {}
        for part in self._made_of(target):
            known = self._outer_arguments | part.arguments
            for name in _with_others(part.used, known):
                if name in known:
                    found.setdefault(name, known[name])
        return sorted(found.values(), key=lambda each: each.place.first)

    def secrets(self, target: Stage) -> list[Need]:
        """The same of secrets."""
        return _joined(part.secrets for part in self._made_of(target))

    def agents(self, target: Stage) -> list[Need]:
        """The same of agents."""
        return _joined(part.agents for part in self._made_of(target))

    def _made_of(self, target: Stage) -> Iterator[_Part]:
        seen: set[int] = set()
        waiting = [target.index]
        while waiting:
            index = waiting.pop(0)
            if index in seen:
                continue
            seen.add(index)
            part = self._part(self._file.stages[index])
            yield part
            base = [self._bases[index]] if index in self._bases else []
            waiting = [*base, *waiting, *part.others]


def _outer_arguments(file: Dockerfile, options: Options) -> dict[str, Argument]:
    """Those before the first `FROM`, as they are at last."""
    found: dict[str, Argument] = {}
    values = outer_values(file, options, options.arguments)
    known = values.keys() - {name for each in file.arguments for name, _ in each.arguments}
    for instruction in file.arguments:
        for name, default in instruction.arguments:
            words = Words()
            if default is not None and name not in options.arguments:
                expand(default, words.watching(values.get), escape=file.directives.escape)
            made_of = words.found.keys() & known
            if name in made_of:  # `ARG A=$A-x`: what the one before was made of
                made_of.discard(name)
                made_of |= found[name].made_of if name in found else set()
            description = instruction.description(name)
            told = default is not None or name in options.arguments
            value = values.get(name, "") if told else ""
            known |= {name} if told else set()
            found[name] = Argument(name, value, description, instruction.place, frozenset(made_of))
    return found


def _with_others(used: Iterable[str], known: Mapping[str, Argument]) -> Iterator[str]:
    """Names, and those that their defaults are made of."""
    seen: dict[str, None] = {}
    waiting = list(used)
    while waiting:
        name = waiting.pop(0)
        if name not in seen:
            seen[name] = None
            waiting += known[name].made_of if name in known else ()
    return iter(seen)


def _joined(parts: Iterable[Mapping[str, Need]]) -> list[Need]:
    found: dict[str, Need] = {}
    for part in parts:
        found = {**part, **found}
    return sorted(found.values(), key=lambda each: each.place.first)
