"""Looking on while a file is lowered: checks and outlines do, and change nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sampan.dockerfile.expand import Lookup

if TYPE_CHECKING:
    from sampan.dockerfile.instructions import Instruction
    from sampan.dockerfile.stages import Stage
    from sampan.frontend.interface import Base
    from sampan.frontend.stage import StageState
    from sampan.names.platform import Platform


class Watcher:
    """Is told what happens; this one does nothing about it."""

    def origins(self, outer: Mapping[str, str]) -> None:
        """It begins, with these arguments outside of stages. Raises `DockerfileError` for a `FROM` that cannot be."""

    def image(self, stage: Stage, name: str, found: Base, wanted: Platform) -> None:
        """A stage will begin with an image that was asked for by this name, for this platform."""

    def inherit(self, state: StageState, base: StageState) -> None:
        """A stage has begun with another."""

    def before(self, state: StageState, instruction: Instruction) -> None:
        """An instruction is about to be done. Raises `DockerfileError` where that would."""

    def after(self, state: StageState, instruction: Instruction) -> None:
        """An instruction is done."""


@dataclass(slots=True)
class Words:
    """Which variables the expansion of some words asked for, in this order."""

    found: dict[str, None] = field(default_factory=dict)
    missing: dict[str, None] = field(default_factory=dict)

    def watching(self, lookup: Lookup) -> Lookup:
        """The same lookup, watched."""

        def look(name: str) -> str | None:
            value = lookup(name)
            (self.missing if value is None else self.found)[name] = None
            return value

        return look
