"""What beginners' Dockerfiles often get wrong although they are well-formed: advice, never an error.

>>> from sampan.dockerfile.stages import read
>>> [hint.topic for hint in hints(read("FROM busybox\\nRUN cd /tmp\\n"))]
['run-cd']
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from sampan.dockerfile.instructions import Add, Copy, Run
from sampan.dockerfile.source import Place
from sampan.dockerfile.stages import Dockerfile, Stage

_CD = re.compile(r"cd(\s+[^;&|]*)?")
_SERVICE = re.compile(
    r"(service\s+\S+\s+(re)?start|systemctl\s+(re)?start\s.*|/etc/init\.d/\S+\s+(re)?start)"
)
_UPDATE = re.compile(r"(apt-get|apt)(\s+-\S+)*\s+update(\s+-\S+)*")
_INSTALL = re.compile(
    r"\b(npm\s+(ci|install|i)|yarn\s+install|pnpm\s+install|pip3?\s+install\s.*(-r|--requirement)[\s=]?\S+"
    r"|bundle\s+install|composer\s+install|go\s+mod\s+download|poetry\s+install)(?![\w-])"
)


@dataclass(frozen=True, slots=True)
class Hint:
    """One piece of advice: `topic` is a stable short name, `text` a sentence for people, `place` the lines that it is about."""

    topic: str
    text: str
    place: Place


def hints(file: Dockerfile) -> list[Hint]:
    """All advice on a file, in its order."""
    found = [hint for stage in file.stages for hint in (*_of_runs(stage), *_early_copies(stage))]
    return sorted(found, key=lambda hint: hint.place)


def _parts(run: Run) -> list[str]:
    """The single commands of a shell's line, roughly: quotes are not looked at."""
    if not run.command.shell:
        return [" ".join(run.command.words)]
    text = "\n".join([*run.command.words, *(each.text for each in run.heredocs)])
    return [part for part in (each.strip() for each in re.split(r"&&|\|\||[;\n]", text)) if part]


def _of_runs(stage: Stage) -> Iterator[Hint]:
    for run in stage.instructions:
        if not isinstance(run, Run):
            continue
        parts = _parts(run)
        if parts and all(_CD.fullmatch(part) for part in parts):
            yield Hint(
                "run-cd",
                "the directory is forgotten when this RUN ends: WORKDIR sets it for the instructions that follow",
                run.place,
            )
        if any(_SERVICE.fullmatch(part) for part in parts):
            yield Hint(
                "run-service",
                "a service that RUN starts ends with that RUN: an image keeps files, no processes; start it with CMD",
                run.place,
            )
        if parts and all(_UPDATE.fullmatch(part) for part in parts):
            yield Hint(
                "apt-update-alone",
                "package lists of a RUN of their own come from the cache and grow old:"
                " write RUN apt-get update && apt-get install … in one",
                run.place,
            )


def _early_copies(stage: Stage) -> Iterator[Hint]:
    """The whole context is copied, and a later step installs dependencies: each change of a source installs them again."""
    whole: Copy | None = None
    for instruction in stage.instructions:
        if isinstance(instruction, Copy) and not instruction.from_:
            is_whole = any(source in (".", "./", "/") for source in instruction.sources)
            whole = whole or (instruction if is_whole else None)
        elif (
            isinstance(instruction, Run)
            and whole is not None
            and any(_INSTALL.search(part) for part in _parts(instruction))
        ):
            keyword = "ADD" if isinstance(whole, Add) else "COPY"
            yield Hint(
                "copy-before-install",
                f"line {instruction.place.first} installs dependencies anew whenever any file changes:"
                f" {keyword} the package list first, install, then {keyword} the rest",
                whole.place,
            )
            return
