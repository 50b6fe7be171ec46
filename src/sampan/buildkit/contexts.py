"""Where a Dockerfile, its ignore file and its context come from: the client's directories, an archive that it sends, a repository,
a file or an archive of the web."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sampan.archive.magic import is_archive
from sampan.build.context import received
from sampan.buildkit import trees
from sampan.buildkit.session import WithArchive
from sampan.dockerfile.ignore import patterns_of
from sampan.errors import InvalidParameter
from sampan.frontend.contexts import FETCHED_NAME, remote
from sampan.frontend.copying import INTERNAL
from sampan.frontend.interface import CONTEXT, DOCKERFILE
from sampan.frontend.remote import git_reference
from sampan.linux.path import absolute
from sampan.llb.fileop import Copy
from sampan.llb.state import Meta, State, change, definition, local

if TYPE_CHECKING:
    from sampan.buildkit.jobs import Job

_UPLOADS = ("http://buildkit-session/", "https://buildkit-session/")
"""URLs that mean an upload of the client's session."""
_WEB = ("http://", "https://")
_HEAD = 1024
"""Bytes by which an archive is known."""
_IGNORE_FILE = ".dockerignore"
_SESSIONS = "local-sessionid:"


class ContextFiles:
    """Of one request to the frontend, whose options say where. `open` comes first."""

    def __init__(self, job: Job, options: Mapping[str, str]) -> None:
        self._job = job
        self._options = options
        self.name = options.get("filename") or "Dockerfile"
        """The Dockerfile's path."""
        self.elsewhere: State | None = None
        """The context that is not the client's."""
        self.sessions = _sessions(job, options)
        """By the name of the directory, as `frontend.interface.Options` has them."""
        self.brought_by = ""
        """The vertex that the Dockerfile comes from."""
        self._archive: Path | None = None

    async def open(self) -> None:
        """Look at what the context is. Raises `SampanError` for one that cannot be had."""
        given = self._options.get("context", "")
        if given.startswith(_UPLOADS) and self._job.session is not None:
            await self._take(given)
        elif git_reference(given) is not None:
            self.elsewhere = remote(given, Meta(name="[internal] load git source " + given))
        elif given.startswith(_WEB):
            await self._look(given)
        elif given:
            raise InvalidParameter(f"invalid build context {given!r}: neither a repository nor a URL")
        if self.elsewhere is not None and (below := self._options.get("contextsubdir", "")):
            self.elsewhere = change(None, [Copy(self.elsewhere, absolute(below), "/")])

    @property
    def is_archive_of_the_client(self) -> bool:
        """Whether the client has sent its context, which the option no longer says."""
        return self._archive is not None

    async def dockerfile(self) -> tuple[bytes, str | None]:
        """The Dockerfile, and the ignore file of its own."""
        ignore = f"{self.name}.dockerignore"
        title = f"[internal] load build definition from {self.name}"
        state = self.elsewhere
        if state is None or "dockerfilekey" in self._options:
            key = self._options.get("dockerfilekey", DOCKERFILE)
            state = self._files(key, DOCKERFILE, [self.name, ignore], title)
        self.brought_by = state.node.digest
        data, patterns = await self._read(state, self.name, ignore)
        if data is None:
            raise InvalidParameter(f"failed to read dockerfile: open {self.name}: no such file or directory")
        if not data:
            raise InvalidParameter("the Dockerfile cannot be empty")
        return data, None if patterns is None else patterns.decode(errors="surrogateescape")

    async def ignored(self, own: str | None) -> list[str]:
        """What the context's files go without: as the Dockerfile's own ignore file says, or the context's.

        From an archive it is removed. Of a context elsewhere everything is there: it is what it is.
        """
        if self.elsewhere is not None:
            return []
        if own is not None:
            patterns = patterns_of(own)
        else:
            key = self._options.get("contextkey", CONTEXT)
            patterns = await self.of_directory(key, key, "[internal] load .dockerignore")
        if self._archive is not None and patterns:
            arguments = {"directory": str(self._archive), "patterns": patterns}
            await self._job.solving.trees.run("sampan.build.ignore_jobs:forget_job", arguments)
        return patterns

    async def of_directory(self, directory: str, hint: str, title: str) -> list[str]:
        """The patterns of the ignore file in one of the client's directories."""
        state = self._files(directory, f"{hint}-{_IGNORE_FILE}", [_IGNORE_FILE], title)
        (data,) = await self._read(state, _IGNORE_FILE)
        return patterns_of(data.decode(errors="surrogateescape")) if data else []

    async def _take(self, url: str) -> None:
        """An archive from the client's standard input: every local source means its files from now on."""
        job = self._job
        assert job.session is not None  # the caller has looked
        until_end = AsyncExitStack()
        job.build.at_end(until_end.aclose)
        archive = received(job.session.upload(url), job.uploads, job.solving.trees.workers)
        context = await until_end.enter_async_context(archive)
        job.build.session = WithArchive(job.session, context.directory)
        self._archive = context.directory

    async def _look(self, url: str) -> None:
        """A file of the web: an archive is the context, anything else a Dockerfile alone."""
        fetched = remote(url, Meta(name=INTERNAL + "load remote build context"))
        async with self._opened(fetched) as root:
            head = await asyncio.to_thread(trees.read_file, root, FETCHED_NAME, 0, _HEAD)
        if is_archive(head):
            unpacking = Copy(fetched, f"/{FETCHED_NAME}", "/", unpack=True)
            self.elsewhere = change(None, [unpacking], Meta(name=INTERNAL + "extracting"))
        else:
            self.elsewhere, self.name = fetched, FETCHED_NAME

    def _files(self, key: str, hint: str, paths: list[str], title: str) -> State:
        """Some files of a directory of the client's."""
        attributes = {
            "local.followpaths": json.dumps(paths),
            "local.sharedkeyhint": hint,
            "local.differ": "none",
        }
        if session := self.sessions.get(key) or self.sessions.get(""):
            attributes["local.session"] = session
        return local(key, attributes, Meta(name=title))

    async def _read(self, state: State, *paths: str) -> list[bytes | None]:
        tree = await (await self._job.make(definition(state))).tree()
        return await trees.read_files(self._job.solving.trees, tree, paths)

    @asynccontextmanager
    async def _opened(self, state: State) -> AsyncIterator[int]:
        tree = await (await self._job.make(definition(state))).tree()
        async with trees.opened(self._job.solving.trees, tree) as root:
            yield root


def _sessions(job: Job, options: Mapping[str, str]) -> dict[str, str]:
    found = {
        name.removeprefix(_SESSIONS): id for name, id in options.items() if name.startswith(_SESSIONS) and id
    }
    return {"": job.session.id, **found} if job.session is not None else found
