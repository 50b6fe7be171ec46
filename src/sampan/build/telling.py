"""What a Dockerfile's author is told beside the build's steps: findings of checks, and advice.

Checks are warnings, to every client. Advice has level 0, which BuildKit does not know: only clients of Sampan's own get it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sampan.dockerfile.checks import Checks
from sampan.dockerfile.hints import hints
from sampan.dockerfile.source import Place
from sampan.dockerfile.stages import Dockerfile
from sampan.llb import ops_pb2 as pb
from sampan.llb.state import Text
from sampan.solver.progress import ADVICE, WarningEvent


def findings(checks: Checks, text: Text, vertex: str) -> Iterator[WarningEvent]:
    """What checks found, as warnings about the step that brought the file."""
    for each in checks.findings:
        yield WarningEvent(
            vertex=vertex,
            short=each.short,
            detail=(each.rule.description,),
            url=each.rule.url,
            text=_source(text),
            places=tuple(_lines(each.place)),
        )


def advice(file: Dockerfile, unused: Sequence[str], text: Text, vertex: str) -> Iterator[WarningEvent]:
    """Hints on a file, and build arguments that it has no use for."""
    for each in hints(file):
        yield WarningEvent(
            vertex=vertex,
            level=ADVICE,
            short=f"{each.text} (line {each.place.first})",
            text=_source(text),
            places=tuple(_lines(each.place)),
        )
    if unused:
        short = f"One or more build-args [{' '.join(unused)}] were not consumed"
        yield WarningEvent(vertex=vertex, level=ADVICE, short=short)


def _source(text: Text) -> pb.SourceInfo:
    return pb.SourceInfo(filename=text.filename, data=text.data, language=text.language)


def _lines(place: Place) -> Iterator[tuple[int, int]]:
    """One by one, as BuildKit has them."""
    return ((line, line) for line in range(place.first, place.last + 1))
