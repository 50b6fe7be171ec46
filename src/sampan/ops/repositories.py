"""`git://`: the files of a repository at a commit. What a ref means is asked when the vertex is identified, and pinned."""

from __future__ import annotations

import asyncio
import base64
import re
import shutil
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from sampan.errors import InvalidParameter, NotSupported
from sampan.llb.graph import Vertex
from sampan.names.names import new_id
from sampan.ops.mounts import COPY_ALL
from sampan.ops.trees import Trees
from sampan.solver.build import Build
from sampan.solver.interface import EMPTY, Identity, Task, Tree, digest_of_text

SCHEME = "git://"
_NOT_HERE = frozenset(("git.bundle", "git.checkoutbundle", "git.mtime"))
"""Without which the files, or how far they can be trusted, would be others than those that were asked for."""
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_REF = re.compile(r"[A-Za-z0-9_./@+=-]*")


class GitOperation:
    """One repository."""

    def __init__(self, vertex: Vertex, build: Build, trees: Trees, directory: Path) -> None:
        source = vertex.op.source
        self._vertex = vertex.digest
        attributes = source.attrs
        body = source.identifier.removeprefix(SCHEME)
        location, _, fragment = body.partition("#")
        self._ref, _, self._subdirectory = fragment.partition(":")
        self._remote = attributes.get("git.fullurl", "") or f"https://{location}"
        self._keep = attributes.get("git.keepgitdir", "") == "true"
        self._submodules = attributes.get("git.skipsubmodules", "") != "true"
        self._checksum = attributes.get("git.checksum", "")
        self._secrets = (
            attributes.get("git.authheadersecret", ""),
            attributes.get("git.authtokensecret", "GIT_AUTH_TOKEN"),
        )
        for name in attributes:
            if name in _NOT_HERE or name.startswith("git.sig."):
                raise NotSupported(
                    f"attribute {name} of a repository is not in this version of Sampan's builder"
                )
        self._build = build
        self._trees = trees
        self._directory = directory
        self._commit = ""
        self._resolved = ""
        """The ref that has the commit, as the remote calls it."""
        if not _REF.fullmatch(self._ref) or self._ref.startswith("-") or self._remote.startswith("-"):
            raise InvalidParameter(f"invalid git reference {self._ref!r}")

    async def identify(self) -> Identity:
        """The commit, and what of it is wanted."""
        await self.resolved()
        url = f"{self._remote}#{self._ref}" if self._ref else self._remote
        self._build.notes[self._vertex] = {"url": url, "commit": self._commit}
        about = (
            self._subdirectory,
            str(self._keep),
            str(self._submodules),
            self._remote if self._keep else "",
        )
        return Identity(digest_of_text("git", self._commit, *about))

    async def resolved(self) -> tuple[str, str]:
        """The commit, and the ref that has it as the remote calls it ("" for a commit by its digest)."""
        if not self._commit:
            await self._resolve()
        return self._commit, self._resolved

    async def execute(self, task: Task, inputs: Sequence[Tree]) -> list[Tree]:
        """Fetch and check out."""
        place = self._directory / new_id()
        await asyncio.to_thread(place.mkdir, 0o700, True)
        try:
            async with AsyncExitStack() as stack:
                arguments = {
                    **await self._access(stack, place),
                    "commit": self._commit,
                    "ref": self._resolved,
                    "submodules": self._submodules,
                    "keep": self._keep,
                    "directory": str(place / "files"),
                }
                await self._trees.run("sampan.ops.git_jobs:checkout_job", arguments)
            async with self._trees.growing(EMPTY, task.lease) as growth:
                action = {
                    **COPY_ALL,
                    "src": f"/{self._subdirectory}",
                    "follow": True,
                    "required": [f"/{self._subdirectory}"],
                }
                work = {
                    "view": await self._trees.view_of(growth),
                    "sources": {"0": {"directory": str(place / "files")}},
                    "actions": [action],
                }
                await self._trees.run("sampan.ops.file_jobs:file_job", work)
                return [await growth.commit()]
        finally:
            await asyncio.shield(asyncio.to_thread(shutil.rmtree, place, True))

    async def _resolve(self) -> None:
        if _COMMIT.fullmatch(self._ref):
            self._commit = self._ref
        else:
            place = self._directory / new_id()
            await asyncio.to_thread(place.mkdir, 0o700, True)
            try:
                async with AsyncExitStack() as stack:
                    arguments = {**await self._access(stack, place), "ref": self._ref}
                    found = await self._trees.run("sampan.ops.git_jobs:resolve_job", arguments)
            finally:
                await asyncio.shield(asyncio.to_thread(shutil.rmtree, place, True))
            self._commit, self._resolved = str(found["commit"]), str(found["ref"])
        if self._checksum and not self._commit.startswith(self._checksum):
            raise InvalidParameter(f"expected checksum to match {self._checksum}, got {self._commit}")

    async def _access(self, stack: AsyncExitStack, place: Path) -> dict[str, Any]:
        """Where the repository is, and what lets us read it."""
        session = self._build.session
        headers: list[str] = []
        agent = ""
        if session is not None and self._remote.startswith(("http://", "https://")):
            header, token = self._secrets
            given = await session.secret(header) if header else None
            if given is not None:
                headers.append(f"Authorization: {given.decode()}")
            elif (given := await session.secret(token)) is not None:
                encoded = base64.b64encode(b"x-access-token:" + given.strip()).decode()
                headers.append(f"Authorization: basic {encoded}")
        elif session is not None and not self._remote.startswith("git://"):
            socket = place / "agent"
            if await stack.enter_async_context(session.ssh("default", socket)):
                agent = str(socket)
        return {"remote": self._remote, "headers": headers, "agent": agent, "home": str(place)}
