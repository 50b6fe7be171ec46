"""Which vertex failed, and where it stands in the text that the graph was made from."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from sampan.errors import InvalidParameter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sampan.llb import ops_pb2 as pb
    from sampan.llb.graph import Vertex
    from sampan.solver.interface import Tree

_AROUND = 2


class VertexFailed(InvalidParameter):
    """A vertex did not succeed; `__cause__` is why. `source` is the definition's, to show the place."""

    def __init__(self, vertex: Vertex, cause: BaseException) -> None:
        super().__init__(str(cause))
        self.vertex = vertex
        self.source: pb.Source | None = None
        self.began: Sequence[Tree] = ()
        """Of a program that failed: what each of its mounts was before."""
        self.left: Sequence[Tree] = ()
        """And what the program left there. A build that failed keeps both until its end."""

    @property
    def code(self) -> int:
        """The exit status of the program that failed; 1 for anything else."""
        return int(getattr(self.__cause__, "code", 1))

    @property
    def excerpt(self) -> str:
        """The lines that the vertex was made from, with those around them, as buildx prints them; "" when they are not known."""
        found = self.place()
        if found is None:
            return ""
        info, first, last = found
        lines = info.data.decode(errors="replace").splitlines()
        shown = [
            f"{number:4} | {'>>>' if first <= number <= last else '   '} {lines[number - 1]}"
            for number in range(max(1, first - _AROUND), min(len(lines), last + _AROUND) + 1)
        ]
        rule = "-" * 20
        return "\n".join([f"{info.filename}:{first}", rule, *shown, rule])

    def place(self) -> tuple[pb.SourceInfo, int, int] | None:
        """The text, and the first and last line of the vertex in it."""
        source = self.source
        if source is None or self.vertex.digest not in source.locations:
            return None
        for location in source.locations[self.vertex.digest].locations:
            if 0 <= location.sourceIndex < len(source.infos) and location.ranges:
                first = min(each.start.line for each in location.ranges)
                last = max(each.end.line for each in location.ranges)
                return source.infos[location.sourceIndex], first, last
        return None


class ProgramFailed(InvalidParameter):
    """A program ended with a status that is not among the valid ones."""

    def __init__(
        self, args: list[str], code: int, began: Sequence[Tree] = (), left: Sequence[Tree] = ()
    ) -> None:
        shown = json.dumps(" ".join(args), ensure_ascii=False)
        super().__init__(f"process {shown} did not complete successfully: exit code: {code}")
        self.code = code
        self.began = began
        self.left = left
