"""What is measured, and what it must reach."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

from benchmarks.build import projects, wire
from benchmarks.build.builders import Builder, Builders, Sample
from benchmarks.build.projects import Project
from benchmarks.row import LEVEL

ABOVE_THE_FLOOR = 40.0
"""Milliseconds that a build without anything to do may take longer than its client alone."""
FASTER = 2.0
"""How many times, with steps that run."""

KEYS = ("cold", "cached", "touched", "files", "files-same", "files-one", "stages", "big")

Samples = dict[str, list[Sample]]
"""By builder's name."""


class Sizes(NamedTuple):
    """How much is done."""

    rounds: int
    cold_rounds: int
    files: int
    megabytes: int


FULL = Sizes(rounds=20, cold_rounds=5, files=projects.FILES, megabytes=projects.MEGABYTES)
QUICK = Sizes(rounds=3, cold_rounds=1, files=1000, megabytes=20)


class Row(NamedTuple):
    """A line of the table."""

    key: str
    title: str
    samples: Samples
    ratio: float
    """How many times faster than the peer Sampan must be."""
    above_floor: float | None = None
    """Milliseconds above the floor at most."""
    sent: dict[str, int] | None = None
    """Bytes that the clients sent, where that is what counts."""
    sent_at_most: int | None = None


class Course:
    """Runs the rows in one family of builders: `peer` and `own` ask with the same client, `beside` is shown."""

    def __init__(
        self,
        scratch: Path,
        sizes: Sizes,
        peer: Builder,
        own: Builder,
        *,
        beside: Sequence[Builder] = (),
        floor: Builder | None = None,
    ) -> None:
        self._scratch = scratch
        self._sizes = sizes
        self.peer = peer
        self.own = own
        self._builders = (peer, own, *beside)
        self._floor = floor

    def _place(self) -> Path:
        """Each project's own: clients name their context by its path."""
        return Path(tempfile.mkdtemp(dir=self._scratch)) / "project"

    def rows(self, wanted: frozenset[str]) -> Iterator[Row]:
        """Those of `KEYS` that are wanted, one after the other."""
        if "cold" in wanted:
            yield self._cold(
                "cold", f"{projects.INSTRUCTIONS} instructions, cold", projects.twenty_instructions
            )
        yield from self._again(wanted & {"cached", "touched"})
        yield from self._files(wanted & {"files", "files-same", "files-one"})
        if "stages" in wanted:
            title = f"{projects.STAGES} independent stages, cold"
            yield self._cold("stages", title, projects.independent_stages)
        if "big" in wanted:
            yield self._big()

    # -- twenty instructions

    def _again(self, wanted: frozenset[str]) -> Iterator[Row]:
        if not wanted:
            return
        title = f"{projects.INSTRUCTIONS} instructions"
        project = projects.twenty_instructions(self._place())
        builders = (*self._builders, *((self._floor,) if self._floor else ()))
        for builder in builders:
            builder.build(project.directory)
        if "cached" in wanted:
            cached = self._in_turn(self._sizes.rounds, project, builders)
            above = ABOVE_THE_FLOOR if self._floor else None
            yield Row("cached", f"{title}, all cached", cached, LEVEL, above)
        if "touched" in wanted:
            touched = self._in_turn(self._sizes.rounds, project, self._builders, projects.touch_source)
            yield Row("touched", f"{title}, one source file changed", touched, LEVEL)

    def _cold(self, key: str, title: str, make: Callable[[Path], Project], ratio: float = FASTER) -> Row:
        samples = self._nothing()
        for _ in range(self._sizes.cold_rounds):
            project = make(self._place())
            for name, sample in self._each(project).items():
                samples[name].append(sample)
            project.remove()
        return Row(key, title, samples, ratio)

    # -- transfers

    def _files(self, wanted: frozenset[str]) -> Iterator[Row]:
        if not wanted:
            return
        title = f"{self._sizes.files:,} files"
        if "files" in wanted:
            yield self._cold(
                "files", f"{title}, cold", partial(projects.many_files, files=self._sizes.files), LEVEL
            )
        project = projects.many_files(self._place(), self._sizes.files)
        self._each(project)
        if "files-same" in wanted:
            unchanged = self._in_turn(self._sizes.cold_rounds * 2, project, self._builders)
            # Descriptions only. The classic protocol sends everything each time: nothing to demand there.
            most = projects.size(project) // 4 if self._floor else None
            yield Row("files-same", f"{title}, unchanged", unchanged, LEVEL, None, self._sent(project), most)
        if "files-one" in wanted:
            changed = self._in_turn(
                self._sizes.cold_rounds, project, self._builders, projects.touch_one_of_many
            )
            yield Row("files-one", f"{title}, one changed", changed, LEVEL)
        project.remove()

    def _sent(self, project: Project) -> dict[str, int]:
        found = {}
        for builder in self._builders:
            with self._counted(builder) as relay:
                builder.build(project.directory, host=relay[0])
                found[builder.name] = relay[1].sent
        return found

    @contextmanager
    def _counted(self, builder: Builder) -> Iterator[tuple[str, wire.Relay]]:
        path = self._scratch / "relay.sock"
        with wire.counted(builder.engine.host.removeprefix("unix://"), path) as relay:
            yield f"unix://{path}", relay

    def _big(self) -> Row:
        samples = self._nothing()
        for _ in range(self._sizes.cold_rounds):
            project = projects.big_stage(self._place(), self._sizes.megabytes)
            for builder in self._builders:
                builder.build(project.directory, "--target", "made")
                samples[builder.name].append(builder.build(project.directory))
            project.remove()
        return Row("big", f"COPY --from of {self._sizes.megabytes} MB", samples, LEVEL)

    # -- in turn

    def _nothing(self) -> Samples:
        return {builder.name: [] for builder in self._builders}

    def _each(self, project: Project) -> dict[str, Sample]:
        return {builder.name: builder.build(project.directory) for builder in self._builders}

    def _in_turn(
        self,
        rounds: int,
        project: Project,
        builders: Sequence[Builder],
        change: Callable[[Project], None] | None = None,
    ) -> Samples:
        """Build A B A B …; `change` comes before each round's first build, and is news to all of them."""
        samples: Samples = {builder.name: [] for builder in builders}
        for _ in range(rounds):
            if change is not None:
                change(project)
            for builder in builders:
                samples[builder.name].append(builder.build(project.directory))
        return samples


def courses(builders: Builders, scratch: Path, sizes: Sizes) -> tuple[Course, Course]:
    """BuildKit's protocol, and the classic builder's."""
    return (
        Course(
            scratch,
            sizes,
            builders.dockerd,
            builders.sampan,
            beside=(builders.own,),
            floor=builders.floor,
        ),
        Course(scratch, sizes, builders.docker_io, builders.classic),
    )
