"""`POST /build?version=2`: a build whose request is a query, and whose client is a body, or a session that it has opened.

It goes the way of BuildKit's clients from here: there is one `Control.solve`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from sampan.buildkit import trees
from sampan.buildkit.details import cause_of
from sampan.buildkit.protos import control_pb2 as pb
from sampan.engineapi.container import HostConfig
from sampan.errors import NotSupported
from sampan.grpc.server import Caller
from sampan.names.names import new_id
from sampan.registry.credentials import ANONYMOUS, Credentials

if TYPE_CHECKING:
    from sampan.build.interface import BuildRequest, Follow
    from sampan.buildkit.clientstore import ClientSource, ClientStore
    from sampan.buildkit.control import Control
    from sampan.buildkit.jobs import Jobs
    from sampan.buildkit.trees import Files
    from sampan.buildkit.waiting import SessionDirectory
    from sampan.ops.trees import Trees
    from sampan.solver.sessions import LocalFiles, LocalRequest, Place, Sent

CLIENT_SESSION = "client-session"
"""The context of a client that serves its files on a session."""
_UPLOAD = "http://buildkit-session/context"
_NOBODY = Caller({})
_RESULT = "containerimage.digest"


class PostedBuilds:
    """See the module. One per engine."""

    def __init__(
        self, control: Control, sessions: SessionDirectory, jobs: Jobs, trees: Callable[[], Trees]
    ) -> None:
        """`trees` packs files."""
        self._trees = trees
        self._control = control
        self._sessions = sessions
        self._jobs = jobs

    async def build(self, request: BuildRequest, body: AsyncIterator[bytes], follow: Follow) -> str:
        """Build, and tell `follow` what happens; the image's id, or "" where none was asked for.

        Raises `VertexFailed`, `DockerfileError`, `SampanError`.
        """
        posted = None if request.remote == CLIENT_SESSION else PostedSession(body, request.credentials)
        asked = _request(request, posted)
        async with self._sessions.listed(posted) if posted is not None else nullcontext():
            following = asyncio.create_task(self._jobs.follow(asked.Ref, follow))
            try:
                limits = request.host_config
                answer = await self._control.solve(asked, _NOBODY, lambda: _copy(limits))
                await following
            except Exception as error:
                await following
                raise cause_of(error) from error
            finally:
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)
        return answer.ExporterResponse.get(_RESULT, "")

    async def build_directory(self, request: BuildRequest, directory: Path, follow: Follow) -> str:
        """The same of files that are here already."""
        root = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            async with aclosing(trees.packed(self._trees(), [trees.Files("", root)])) as archive:
                return await self.build(replace(request, remote=""), archive, follow)
        finally:
            os.close(root)


class PostedSession:
    """`buildkit.waiting.Client`: has the archive of its request's body, credentials, and nothing else."""

    def __init__(self, body: AsyncIterator[bytes], credentials: Mapping[str, Credentials]) -> None:
        self._id = new_id()
        self._body = body
        self._credentials = credentials

    @property
    def id(self) -> str:
        """See `Session`."""
        return self._id

    @property
    def shared_key(self) -> str:
        """None: what was sent is there once."""
        return ""

    def close(self) -> None:
        """The request ends by itself."""

    def upload(self, url: str) -> AsyncIterator[bytes]:
        """The body."""
        return self._body

    async def credentials(self, host: str) -> Credentials:
        """Those of the request."""
        return self._credentials.get(host, ANONYMOUS)

    async def secret(self, id: str) -> bytes | None:
        """None: a query has no secrets."""
        return None

    @asynccontextmanager
    async def ssh(self, id: str, socket: Path) -> AsyncIterator[bool]:
        """None either."""
        yield False

    async def local(self, request: LocalRequest, place: Place, sent: Sent) -> LocalFiles:
        """Raises `NotSupported`, as all that follows does."""
        raise _nothing("a directory")

    def image(self, store: str, digest: str) -> ClientSource:
        raise _nothing("a content store")

    def content(self, store: str) -> ClientStore:
        raise _nothing("a content store")

    async def send_directories(
        self, files: Sequence[Files], exporter: int = 0, mtime_ns: int | None = None
    ) -> None:
        raise _nothing("a place for files")

    async def send_file(
        self, chunks: AsyncIterator[bytes], described: Mapping[str, str], exporter: int = 0
    ) -> None:
        raise _nothing("a place for files")


def _nothing(what: str) -> NotSupported:
    return NotSupported(
        f"a build that is sent as one request has not {what}: it needs a session (docker buildx)"
    )


def _request(request: BuildRequest, posted: PostedSession | None) -> pb.SolveRequest:
    attributes = dict(request.output)
    if request.tags and request.exporter in ("moby", "image"):
        attributes["name"] = ",".join(str(tag.with_default_tag()) for tag in request.tags)
    exporters = [pb.Exporter(Type=request.exporter, Attrs=attributes)] if request.exporter else []
    host = request.host_config.network_mode == "host"
    return pb.SolveRequest(
        Ref=new_id(),
        Session=posted.id if posted is not None else request.session,
        Frontend="dockerfile.v0",
        FrontendAttrs=_options(request),
        Exporters=exporters,
        Cache=pb.CacheOptions(
            Imports=[pb.CacheOptionsEntry(Type="registry", Attrs={"ref": ref}) for ref in request.cache_from]
        ),
        # The host's network for who asks for it by a parameter, as dockerd; there is none for more.
        Entitlements=["network.host"] if host else [],
    )


def _options(request: BuildRequest) -> dict[str, str]:
    """The query as the frontend's options."""
    config = request.host_config
    single = {
        "filename": request.dockerfile,
        "context": "" if request.remote == CLIENT_SESSION else request.remote or _UPLOAD,
        "target": request.target,
        "platform": str(request.platform) if request.platform else "",
        "image-resolve-mode": "pull" if request.pull else "",
        "no-cache": ",".join(sorted(request.anew)),
        "force-network-mode": config.network_mode if config.network_mode in ("host", "none") else "",
        "shm-size": str(config.shm_size) if config.shm_size else "",
    }
    options = {name: value for name, value in single.items() if value}
    if not request.use_cache:
        options["no-cache"] = ""
    given = request.arguments.items()
    options |= {f"build-arg:{name}": value for name, value in given if value is not None}
    return options | {f"label:{name}": value for name, value in request.labels.items()}


def _copy(host: HostConfig) -> HostConfig:
    return msgspec.convert(msgspec.to_builtins(host), HostConfig)
