"""Where stages take from: no circles, no stages that do not exist, no variables."""

from __future__ import annotations

from collections.abc import Iterator

from sampan.dockerfile.expand import names_in
from sampan.dockerfile.instructions import Copy, Run
from sampan.dockerfile.mounts import origin_of
from sampan.dockerfile.source import DockerfileError, Place
from sampan.dockerfile.stages import Dockerfile, Stage


def check_origins(file: Dockerfile) -> None:
    """Look at all stages, needed or not, as BuildKit does. Raises `DockerfileError`, with a place for a circle only."""
    for stage in file.stages:
        for instruction in stage.instructions:
            if isinstance(instruction, Copy):
                _check_name(file, instruction.from_)
    done: set[int] = set()
    for stage in file.stages:
        _visit(file, stage, [], done)


def _check_name(file: Dockerfile, name: str) -> None:
    if names_in(name, escape=file.directives.escape):
        raise DockerfileError(
            "variable expansion is not supported for --from, define a new stage with FROM using ARG from global scope"
            " as a workaround"
        )
    if _is_number(name) and int(name) >= len(file.stages):
        raise DockerfileError(f"invalid stage index {name}")


def _visit(file: Dockerfile, stage: Stage, above: list[int], done: set[int]) -> None:
    if stage.index in done:
        return
    above = [*above, stage.index]
    for other, place in _taken_from(file, stage):
        if other.index in above:
            name = other.name or f"stage-{other.index}"
            raise DockerfileError(f"circular dependency detected on stage: {name}").at(file.source, place)
        _visit(file, other, above, done)
    done.add(stage.index)


def _taken_from(file: Dockerfile, stage: Stage) -> Iterator[tuple[Stage, Place]]:
    """Other stages, wherever they stand, and the instructions that name them."""
    for instruction in stage.instructions:
        names: list[str] = []
        if isinstance(instruction, Copy):
            names = [instruction.from_]
        elif isinstance(instruction, Run):
            names = [origin_of(each) for each in instruction.mounts]
        for name in names:
            found = _named(file, name) if name else None
            if found is not None:
                yield found, instruction.place


def _named(file: Dockerfile, name: str) -> Stage | None:
    if _is_number(name):
        return file.stages[int(name)] if int(name) < len(file.stages) else None
    return next((each for each in reversed(file.stages) if each.name == name.lower()), None)


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdecimal()
