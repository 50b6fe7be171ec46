"""`http://` and `https://`: one file, downloaded when it is asked what identifies it, for only its bytes do."""

from __future__ import annotations

import asyncio
import hashlib
import os
import posixpath
import shutil
import time
from collections.abc import Sequence
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

import aiohttp

from sampan.errors import InvalidParameter, NotFound, NotSupported, SystemFailure
from sampan.llb.graph import Vertex
from sampan.names.digest import parse_digest
from sampan.names.names import new_id
from sampan.ops.trees import Trees
from sampan.solver.build import Build
from sampan.solver.interface import EMPTY, Identity, Task, Tree, digest_of_text

SCHEMES = ("http://", "https://")
LARGEST = 64 << 30
"""Bytes of a file that is fetched."""
_TIMEOUT = aiohttp.ClientTimeout(total=6 * 3600, sock_connect=30, sock_read=120)
_MODE = 0o600


class Fetched(NamedTuple):
    """A file in a directory of its own."""

    directory: Path
    name: str
    digest: str
    modified_ns: int
    size: int


class FetchOperation:
    """One file of the web."""

    def __init__(self, vertex: Vertex, build: Build, trees: Trees, directory: Path) -> None:
        source = vertex.op.source
        self._vertex = vertex.digest
        attributes = source.attrs
        self._url = source.identifier
        self._name = _file_name(attributes.get("http.filename", ""), self._url)
        self._checksum = parse_digest(attributes["http.checksum"]) if "http.checksum" in attributes else ""
        self._mode = _number(attributes.get("http.perm", ""), 8, _MODE)
        self._owner = (
            _number(attributes.get("http.uid", ""), 10, 0),
            _number(attributes.get("http.gid", ""), 10, 0),
        )
        self._headers = {
            key.removeprefix("http.header."): value
            for key, value in attributes.items()
            if key.startswith("http.header.")
        }
        self._secret = attributes.get("http.authheadersecret", "")
        for name in attributes:
            if name.startswith("http.sig."):
                raise NotSupported("signatures of files are not in this version of Sampan's builder")
        self._build = build
        self._trees = trees
        self._directory = directory
        self._fetched: Fetched | None = None

    async def identify(self) -> Identity:
        """The bytes, and what becomes of them. With a checksum nothing need be fetched to know them."""
        about = [self._name, f"{self._mode:o}", f"{self._owner}"]
        if self._checksum:
            self._build.notes[self._vertex] = {"digest": self._checksum}
            return Identity(digest_of_text("http", self._checksum, *about))
        fetched = await self.fetched()
        self._build.notes[self._vertex] = {"digest": fetched.digest}
        return Identity(digest_of_text("http", fetched.digest, str(fetched.modified_ns), *about))

    async def execute(self, task: Task, inputs: Sequence[Tree]) -> list[Tree]:
        """The file in a tree of its own."""
        started = time.time_ns()
        fetched = await self.fetched()
        task.report.status(self._url, fetched.size, fetched.size, started, done=True)
        async with self._trees.growing(EMPTY, task.lease) as growth:
            action = {
                **_COPY,
                "src": f"/{self._name}",
                "dest": f"/{self._name}",
                "owner": {"user": self._owner[0], "group": self._owner[1]},
                "mode": self._mode,
                "time_ns": fetched.modified_ns,
            }
            arguments = {
                "view": await self._trees.view_of(growth),
                "sources": {"0": {"directory": str(fetched.directory)}},
                "actions": [action],
            }
            await self._trees.run("sampan.ops.file_jobs:file_job", arguments)
            return [await growth.commit()]

    async def fetched(self) -> Fetched:
        """The file, downloaded at the first call; it is there until the build ends."""
        if self._fetched is None:
            place = self._directory / new_id()
            await asyncio.to_thread(place.mkdir, 0o700, True)
            self._build.at_end(lambda: asyncio.to_thread(shutil.rmtree, place, True))
            self._fetched = await self._download(place)
        return self._fetched

    async def _download(self, place: Path) -> Fetched:
        algorithm = self._checksum.partition(":")[0] or "sha256"
        hasher = hashlib.new(algorithm)
        headers = {**self._headers, **await self._authorization()}
        size = 0
        try:
            async with (
                aiohttp.ClientSession(trust_env=True, timeout=_TIMEOUT, auto_decompress=False) as session,
                session.get(self._url, headers=headers) as response,
            ):
                if response.status >= 400:
                    raise InvalidParameter(f"invalid response status {response.status}")
                with (place / self._name).open("wb") as file:
                    async for chunk in response.content.iter_chunked(1 << 18):
                        size += len(chunk)
                        if size > LARGEST:
                            raise InvalidParameter(f"{self._url} is larger than {LARGEST >> 30} GiB")
                        hasher.update(chunk)
                        await asyncio.to_thread(file.write, chunk)
                modified = _modified(response.headers.get("Last-Modified", ""))
        except (aiohttp.ClientError, TimeoutError) as error:
            raise SystemFailure(f'failed to load cache key: Get "{self._url}": {_reason(error)}') from error
        digest = f"{algorithm}:{hasher.hexdigest()}"
        if self._checksum and digest != self._checksum:
            raise InvalidParameter(f"digest mismatch for {self._url}: {digest} (expected: {self._checksum})")
        return Fetched(place, self._name, digest, modified, size)

    async def _authorization(self) -> dict[str, str]:
        """With the client's secret for this source, or for its host. Raises `NotFound` for one that is named and is not there.

        aiohttp drops the header where a redirect leads to another host.
        """
        session = self._build.session
        if self._secret:
            given = await session.secret(self._secret) if session is not None else None
            if given is None:
                raise NotFound(f"failed to retrieve HTTP auth secret {self._secret}: not found")
            return {"Authorization": given.decode(errors="surrogateescape").strip()}
        host = urlsplit(self._url).hostname
        if session is None or not host:
            return {}
        if (given := await session.secret(f"HTTP_AUTH_HEADER_{host}")) is not None:
            return {"Authorization": given.decode(errors="surrogateescape").strip()}
        if (given := await session.secret(f"HTTP_AUTH_TOKEN_{host}")) is not None:
            return {"Authorization": f"Bearer {given.decode(errors='surrogateescape').strip()}"}
        return {}


_COPY = {
    "kind": "copy",
    "source": 0,
    "mode_text": "",
    "follow": False,
    "contents_only": False,
    "unpack": False,
    "make_parents": True,
    "wildcard": False,
    "empty_wildcard": False,
    "include": [],
    "exclude": [],
    "required": [],
    "replace": False,
}


def _file_name(given: str, url: str) -> str:
    name = given or posixpath.basename(unquote(urlsplit(url).path)) or "download"
    if "/" in name or "\0" in name or name in (".", ".."):
        raise InvalidParameter(f"invalid file name {name!r}")
    return name


def _number(text: str, base: int, default: int) -> int:
    try:
        return int(text, base) if text else default
    except ValueError:
        raise InvalidParameter(f"invalid number {text!r} in an attribute of a file that is fetched") from None


def _modified(text: str) -> int:
    try:
        return int(parsedate_to_datetime(text).timestamp()) * 1_000_000_000
    except ValueError:
        return 0


def _reason(error: Exception) -> str:
    """Why nothing came, in the words of Go's client."""
    if isinstance(error, aiohttp.ClientConnectorError) and error.os_error.errno:
        return f"dial tcp {error.host}:{error.port}: connect: {os.strerror(error.os_error.errno).lower()}"
    return str(error) or "timeout"
