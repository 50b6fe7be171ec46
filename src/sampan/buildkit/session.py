"""A client's session: the connection on which the builder asks for files, secrets, an ssh agent, credentials, and gives results."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_plus, urlsplit

from sampan.buildkit import clientstore, filesync, sending
from sampan.buildkit.agents import listening
from sampan.buildkit.clientstore import ClientSource, GrpcStore
from sampan.buildkit.protos import auth_pb2, filesync_pb2, fsutil_pb2, secrets_pb2, ssh_pb2, upload_pb2
from sampan.errors import InvalidParameter, NotFound, NotSupported, SampanError, Unavailable
from sampan.grpc.bulk import Bulk
from sampan.grpc.client import GrpcClient
from sampan.names.reference import DEFAULT_DOMAIN
from sampan.registry.credentials import ANONYMOUS, Credentials
from sampan.solver.sessions import LocalFiles

if TYPE_CHECKING:
    from google.protobuf.descriptor import MethodDescriptor

    from sampan.buildkit.trees import Files
    from sampan.buildkit.waiting import Announced, Client
    from sampan.solver.sessions import LocalRequest, Place, Sent

_FILES = filesync_pb2.DESCRIPTOR.services_by_name["FileSync"].methods_by_name["DiffCopy"]
_RESULTS = filesync_pb2.DESCRIPTOR.services_by_name["FileSend"].methods_by_name["DiffCopy"]
_SECRET = secrets_pb2.DESCRIPTOR.services_by_name["Secrets"].methods_by_name["GetSecret"]
_CREDENTIALS = auth_pb2.DESCRIPTOR.services_by_name["Auth"].methods_by_name["Credentials"]
_CHECK_AGENT = ssh_pb2.DESCRIPTOR.services_by_name["SSH"].methods_by_name["CheckAgent"]
_FORWARD_AGENT = ssh_pb2.DESCRIPTOR.services_by_name["SSH"].methods_by_name["ForwardAgent"]
_UPLOAD = upload_pb2.DESCRIPTOR.services_by_name["Upload"].methods_by_name["Pull"]

_HUBS_HOST = "registry-1.docker.io"
"""By which clients know their credentials for Docker Hub."""
_CHUNK = 1 << 20
_ASK_SECONDS = 30.0
"""For a secret or credentials: a client that does not answer must not hold a build for ever."""


class ClientSession:
    """One client that can be asked, for as long as its connection lives: `solver.sessions.Session`, and more."""

    def __init__(self, announced: Announced, transport: asyncio.Transport, received: bytes = b"") -> None:
        self._announced = announced
        self._client = GrpcClient(transport, received)

    @property
    def id(self) -> str:
        """By which solves and definitions name it."""
        return self._announced.id

    @property
    def shared_key(self) -> str:
        """Names what this client's directories are, over several sessions."""
        return self._announced.shared_key

    @property
    def protocol(self) -> asyncio.Protocol:
        """What the transport's events go to."""
        return self._client.protocol

    async def wait_lost(self) -> None:
        """Return when the client is gone."""
        await self._client.wait_lost()

    def close(self) -> None:
        """End it."""
        self._client.close()

    # -- what builds ask

    async def local(self, request: LocalRequest, place: Place, sent: Sent) -> LocalFiles:
        """The client's directory as it is now, brought up to date in the place's directory."""
        self._need(_FILES, "no local sources enabled")
        wishes: dict[str, Sequence[str]] = {
            "dir-name": [request.name],
            "include-patterns": request.include,
            "exclude-patterns": request.exclude,
            "followpaths": request.follow,
        }
        directory = await place()
        async with self._client.stream(_FILES, encoded(wishes)) as stream:
            await stream.send_request()
            changed = await filesync.receive(Bulk(stream), directory, sent, compare=request.differ != "none")
        return LocalFiles(directory, not changed)

    async def secret(self, id: str) -> bytes | None:
        """None when the client has none of that id."""
        if not self._supports(_SECRET):
            return None
        try:
            answer = await self._client.call(
                _SECRET, secrets_pb2.GetSecretRequest(ID=id), timeout=_ASK_SECONDS
            )
        except NotFound:
            return None
        data: bytes = answer.data
        return data

    async def credentials(self, host: str) -> Credentials:
        """For a registry; anonymous where the client has none."""
        if not self._supports(_CREDENTIALS):
            return ANONYMOUS
        request = auth_pb2.CredentialsRequest(Host=_HUBS_HOST if host == DEFAULT_DOMAIN else host)
        answer = await self._client.call(_CREDENTIALS, request, timeout=_ASK_SECONDS)
        if answer.Secret and not answer.Username:
            return Credentials(identity_token=answer.Secret)
        return Credentials(username=answer.Username, password=answer.Secret)

    @asynccontextmanager
    async def ssh(self, id: str, socket: Path) -> AsyncIterator[bool]:
        """While the block lasts, what connects to `socket` talks to the client's agent. False: the client has none of that id."""
        if not await self._has_agent(id):
            yield False
            return
        async with listening(socket, partial(self._forward, id)):
            yield True

    async def _has_agent(self, id: str) -> bool:
        if not self._supports(_FORWARD_AGENT):
            return False
        try:
            await self._client.call(_CHECK_AGENT, ssh_pb2.CheckAgentRequest(ID=id), timeout=_ASK_SECONDS)
        except Unavailable:
            raise
        except SampanError:
            return False  # its way to say that it has none
        return True

    async def _forward(self, id: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with self._client.stream(_FORWARD_AGENT, [("buildkit.ssh.id", id or "default")]) as stream:
                await stream.send_request()
                answering = asyncio.create_task(_copy_back(stream, writer))
                try:
                    while data := await reader.read(_CHUNK):
                        await stream.send_message(ssh_pb2.BytesMessage(data=data))
                    await stream.end()
                    await answering
                finally:
                    answering.cancel()
                    await asyncio.gather(answering, return_exceptions=True)
        except (SampanError, ConnectionError):
            pass  # the program in the build sees its connection end
        finally:
            writer.close()

    # -- what builds give

    async def send_directories(
        self, files: Sequence[Files], exporter: int = 0, mtime_ns: int | None = None
    ) -> None:
        """Give the client directories of different names, which it puts where its exporter number `exporter` says; with `mtime_ns`
        all files have that time."""
        self._need(_RESULTS, "the client takes no files")
        metadata = [(_EXPORTER, str(exporter)), (_WHOLE, "1")]
        types = (fsutil_pb2.Packet, fsutil_pb2.Packet)
        async with self._client.stream(_RESULTS, metadata, types=types) as stream:
            await stream.send_request()
            await sending.send(stream, files, mtime_ns)

    async def send_file(
        self, chunks: AsyncIterator[bytes], described: Mapping[str, str], exporter: int = 0
    ) -> None:
        """Give the client a file; `described` is what its name may be made of."""
        self._need(_RESULTS, "the client takes no files")
        metadata = [(f"exporter-md-{key}", value) for key, value in described.items() if value]
        async with self._client.stream(_RESULTS, [*metadata, (_EXPORTER, str(exporter))]) as stream:
            await stream.send_request()
            async for chunk in chunks:
                for start in range(0, len(chunk), _CHUNK):
                    await stream.send_message(filesync_pb2.BytesMessage(data=chunk[start : start + _CHUNK]))
            await stream.end()
            while await stream.recv_message() is not None:
                pass

    async def upload(self, url: str) -> AsyncIterator[bytes]:
        """What the client offers under a URL: a context that it has from its own standard input."""
        self._need(_UPLOAD, "the client offers no uploads")
        parts = urlsplit(url)
        metadata = [("urlpath", parts.path or "/"), ("urlhost", parts.netloc)]
        async with self._client.stream(_UPLOAD, metadata) as stream:
            await stream.send_request()
            while (message := await stream.recv_message()) is not None:
                yield message.data

    def content(self, store: str) -> GrpcStore:
        """One of the client's stores of blobs, by its name."""
        self._need(clientstore.READ, "the client offers no content store")
        return GrpcStore(self._client, store)

    def image(self, store: str, digest: str) -> ClientSource:
        """See `Session`."""
        return ClientSource(self.content(f"oci:{store}"), digest)

    def _supports(self, method: MethodDescriptor) -> bool:
        service = method.containing_service
        assert service is not None
        return f"/{service.full_name}/{method.name}".lower() in self._announced.methods

    def _need(self, method: MethodDescriptor, otherwise: str) -> None:
        if not self._supports(method):
            raise NotSupported(otherwise)


class WithArchive:
    """A client's session whose directories are the one that it has sent as an archive: `solver.sessions.Session`."""

    def __init__(self, session: Client, directory: Path) -> None:
        self.id = session.id
        self.shared_key = ""
        self.secret = session.secret
        self.ssh = session.ssh
        self.credentials = session.credentials
        self.image = session.image
        self._directory = directory

    async def local(self, request: LocalRequest, place: Place, sent: Sent) -> LocalFiles:
        """The archive's files, all of them."""
        return LocalFiles(self._directory)


_EXPORTER = "buildkit-attachable-exporter-id"
_WHOLE = "buildkit-exporter-multi-platform"
"""Said of a transfer that brings all platforms: a client that removes what did not come (`mode=delete`) takes no other."""


def encoded(wishes: Mapping[str, Sequence[str]]) -> list[tuple[str, str]]:
    """Lists of words as a call's metadata, which is printable ASCII: others are escaped, and that is said beside them."""
    metadata: list[tuple[str, str]] = []
    for key, words in wishes.items():
        if any("\0" in word for word in words):
            raise InvalidParameter(f"{key}: a path with a null byte")
        given = [word for word in words if word]
        if not all(word.isascii() and word.isprintable() for word in given):
            given = [quote_plus(word) for word in given]
            metadata.append((f"{key}-encoded", "1"))
        metadata += [(key, word) for word in given]
    return metadata


async def _copy_back(stream: Any, writer: asyncio.StreamWriter) -> None:
    while (message := await stream.recv_message()) is not None:
        writer.write(message.data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()
