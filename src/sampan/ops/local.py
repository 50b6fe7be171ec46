"""`local://`: a directory of the client's, as its session gives it.

Where a session sends files, they go into a directory that stays: the next build with the same shared key begins with what is
there, and only what changed is sent. A directory is one build's at a time; a build that comes meanwhile has another.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path

from sampan.errors import InvalidParameter, NotSupported
from sampan.llb.graph import Vertex
from sampan.ops.directories import Directories
from sampan.solver.build import Build
from sampan.solver.interface import Identity, Task, Tree
from sampan.solver.sessions import LocalRequest

SCHEME = "local://"
KIND = "source.local"


class LocalOperation:
    """One local source."""

    def __init__(self, vertex: Vertex, build: Build, directories: Directories) -> None:
        source = vertex.op.source
        attributes = source.attrs
        if attributes.get("local.metadatatransfer", "") == "true":
            raise NotSupported(
                "local sources without their content are not in this version of Sampan's builder"
            )
        self._digest = vertex.digest
        self._build = build
        self._directories = directories
        self._session_id = attributes.get("local.session", "")
        self._request = LocalRequest(
            name=source.identifier.removeprefix(SCHEME),
            include=_list(attributes.get("local.includepattern", "")),
            exclude=_list(attributes.get("local.excludepatterns", "")),
            follow=_list(attributes.get("local.followpaths", "")),
            shared_key=attributes.get("local.sharedkeyhint", ""),
            differ=attributes.get("local.differ", ""),
        )

    async def identify(self) -> Identity:
        """Nothing identifies it but its content, which counts where it is used."""
        return Identity(self._digest, kept=False)

    async def execute(self, task: Task, inputs: Sequence[Tree]) -> list[Tree]:
        """Get the files."""
        session = self._build.client(self._session_id, self._request.name)
        started, came = time.time_ns(), 0

        def sent(files: int, size: int) -> None:
            nonlocal came
            came = size
            task.report.status(f"transferring {self._request.name}:", size, 0, started)

        version: dict[Path, int] = {}

        async def place() -> Path:
            # Without a key of the client's, what its directories are to others is not known: they are this session's alone.
            key = f"{self._request.name}:{self._request.shared_key}:{session.shared_key or session.id}"
            path = await self._directories.borrow(KIND, key, self._build)
            version[path] = self._directories.about_to_change(path)
            return path

        files = await session.local(self._request, place, sent)
        # What a session has in a place of its own is its business.
        for path in version.keys() & {files.path}:
            version[path] = self._directories.filled(path, version[path], unchanged=files.unchanged)
        task.report.status(f"transferring {self._request.name}:", came, 0, started, done=True)
        return [Tree(directory=str(files.path), version=version.get(files.path, 0))]


def _list(text: str) -> tuple[str, ...]:
    """Attributes hold lists as JSON. Raises `InvalidParameter`."""
    if not text:
        return ()
    try:
        found = json.loads(text)
    except ValueError:
        raise InvalidParameter(f"invalid list in an attribute of a local source: {text!r}") from None
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise InvalidParameter(f"invalid list in an attribute of a local source: {text!r}")
    return tuple(found)
