"""Events as BuildKit's messages."""

from __future__ import annotations

from sampan.buildkit.status import status_response
from sampan.llb import ops_pb2
from sampan.solver.progress import ADVICE, WarningEvent


def test_warnings_have_their_place_and_advice_is_not_told() -> None:
    text = ops_pb2.SourceInfo(filename="Dockerfile", data=b"FROM x\n")
    warning = WarningEvent(
        vertex="sha256:1",
        short="Rule: wrong",
        detail=("why",),
        url="https://x",
        text=text,
        places=((1, 1), (2, 2)),
    )
    told = status_response([warning, WarningEvent(vertex="sha256:1", short="better", level=ADVICE)]).warnings
    assert [(each.vertex, each.level, each.short) for each in told] == [("sha256:1", 1, b"Rule: wrong")]
    assert list(told[0].detail) == [b"why"] and told[0].info == text
    assert [(each.start.line, each.end.line) for each in told[0].ranges] == [(1, 1), (2, 2)]
