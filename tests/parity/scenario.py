"""Scenario files: what a user types, as plain text.

::

    ## rm: a running container is refused
    $ docker run -d --name c busybox sleep 100
    $ docker rm c
    > GET /containers/c/json
      .State.Status .HostConfig.NetworkMode

A line `## title` starts a scenario. `$ …` is a shell command in which `docker` talks to the engine at hand.
`> METHOD /path [json]` is an HTTP request; indented lines beneath it name the parts of the answer that are
compared (jq-like paths; none: the whole body). `# …` is a comment. A line `@ peers: NAME…` restricts a
scenario to peers that have the subject.

The Dockerfiles of `corpus` are scenarios too, of one step: a build.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from parity.corpus import case, cases

DIRECTORY = Path(__file__).parent / "scenarios"

CORPUS = Path(__file__).parent / "dockerfiles"
BUILDERS = {"buildkit": ("dockerd",), "classic": ("dockerd", "docker.io")}
"""What builds a Dockerfile, and the peers that have it in a form that still matters."""

_TIMED = re.compile(
    r"\bsleep 0?\.?\d{1,2}\b(?!\d)|ptydo|hijack|timeout|[^&>]&(?![&\w])|stats|health|restart always"
)
"""Short sleeps, conversations, background jobs, samples and what goes on by itself."""


class Step(NamedTuple):
    """One command or request."""

    kind: str
    """`$`, `>`, or a builder: `buildkit`, `classic`."""
    text: str
    parts: tuple[str, ...]


class Scenario(NamedTuple):
    """Some steps on an engine that holds the base image and nothing else."""

    file: str
    title: str
    peers: tuple[str, ...]
    steps: tuple[Step, ...]

    @property
    def key(self) -> str:
        """Unique name: file and title."""
        return f"{self.file}: {self.title}"

    @property
    def steady(self) -> bool:
        """Nothing in it waits for a time to pass or runs beside something else: a busy machine changes nothing."""
        return not any(_TIMED.search(step.text) for step in self.steps if step.kind in "$>")


def load(directory: Path = DIRECTORY) -> list[Scenario]:
    """Every scenario of every file. Raises ValueError for a malformed or duplicate one."""
    found: list[Scenario] = []
    for path in sorted(directory.glob("*.txt")):
        found.extend(_parse(path.stem, path.read_text().splitlines()))
    for path in sorted(CORPUS.glob("*.txt")):
        found.extend(_builds(path))
    keys = [scenario.key for scenario in found]
    for key in keys:
        if keys.count(key) > 1:
            raise ValueError(f"two scenarios are called {key!r}")
    return found


def _builds(path: Path) -> Iterator[Scenario]:
    """A Dockerfile is built by both builders, unless its options are BuildKit's only."""
    for title, text in cases(path.read_text()):
        for builder, peers in BUILDERS.items():
            if builder == "buildkit" or case(text).is_plain:
                yield Scenario(f"{builder}-{path.stem}", title, peers, (Step(builder, text, ()),))


def _parse(file: str, lines: list[str]) -> Iterator[Scenario]:
    title, peers, steps = "", (), []  # type: str, tuple[str, ...], list[Step]
    for number, line in enumerate(lines, start=1):
        if line.startswith("## "):
            if steps:
                yield Scenario(file, title, peers, tuple(steps))
            title, peers, steps = line[3:].strip(), (), []
        elif line.startswith("@ peers:"):
            peers = tuple(line.partition(":")[2].split())
        elif line.startswith(("$ ", "> ")):
            if not title:
                raise ValueError(f"{file}.txt:{number}: a step before the first title")
            steps.append(Step(line[0], line[2:], ()))
        elif line.startswith("  ") and steps and steps[-1].kind == ">":
            steps[-1] = steps[-1]._replace(parts=steps[-1].parts + tuple(line.split()))
        elif line.strip() and not line.startswith("#"):
            raise ValueError(f"{file}.txt:{number}: not a step: {line!r}")
    if steps:
        yield Scenario(file, title, peers, tuple(steps))
