"""A client's session: what the builder asks, against a client that serves (here in Python, with grpclib's own server side)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from framed_stream import Framed
from sampan.buildkit import filesync, sending
from sampan.buildkit.protos import auth_pb2, filesync_pb2, fsutil_pb2, secrets_pb2, ssh_pb2, upload_pb2
from sampan.buildkit.session import ClientSession, encoded
from sampan.buildkit.trees import Files
from sampan.buildkit.waiting import Announced, SessionDirectory
from sampan.errors import (
    Conflict,
    Forbidden,
    InvalidParameter,
    NotFound,
    NotSupported,
    SystemFailure,
    Unavailable,
)
from sampan.grpc.server import Caller, GrpcServer, Service, metadata_of


@contextlib.contextmanager
def opened(directory: Path) -> Iterator[int]:
    fd = os.open(directory, os.O_RDONLY)
    try:
        yield fd
    finally:
        os.close(fd)


class Client:
    """Serves as buildx does."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.asked: dict[str, list[str]] = {}
        self.secrets = {"token": b"s3cret"}
        self.got = b""

    async def diff_copy(self, stream: Any) -> None:
        self.asked = {key: stream.metadata.getall(key) for key in stream.metadata}
        if stream.metadata["dir-name"] != "context":
            raise NotFound(f"no access allowed to dir {stream.metadata['dir-name']!r}")
        with opened(self.directory) as root:
            await sending.send(stream, [Files("", root)])

    async def tar_stream(self, stream: Any) -> None:
        raise NotSupported("tar")

    async def get_secret(self, request: secrets_pb2.GetSecretRequest, caller: Caller) -> Any:
        if request.ID == "guarded":
            raise Forbidden("not for you")
        if request.ID not in self.secrets:
            raise NotFound(f"secret {request.ID}: not found")
        return secrets_pb2.GetSecretResponse(data=self.secrets[request.ID])

    async def credentials(self, request: auth_pb2.CredentialsRequest, caller: Caller) -> Any:
        if request.Host == "token.example":
            return auth_pb2.CredentialsResponse(Secret="refresh")
        return auth_pb2.CredentialsResponse(Username="ann", Secret=f"of {request.Host}")

    fetch_token = get_token_authority = verify_token_authority = credentials

    async def check_agent(self, request: ssh_pb2.CheckAgentRequest, caller: Caller) -> Any:
        if request.ID != "default":
            raise SystemFailure(f"unset ssh forward key {request.ID}")
        return ssh_pb2.CheckAgentResponse()

    async def forward_agent(self, stream: Any) -> None:
        assert stream.metadata["buildkit.ssh.id"] == "default"
        while (message := await stream.recv_message()) is not None:
            await stream.send_message(ssh_pb2.BytesMessage(data=message.data.upper()))

    async def pull(self, stream: Any) -> None:
        for part in (b"from ", metadata_of(stream)["urlpath"].encode()):
            await stream.send_message(upload_pb2.BytesMessage(data=part))


class Sink:
    """Takes results: a file, or (as fsutil's packets) a directory."""

    def __init__(self, directory: Path | None = None) -> None:
        self.directory = directory
        self.data = b""
        self.metadata: Mapping[str, str] = {}

    async def diff_copy(self, stream: Any) -> None:
        self.metadata = metadata_of(stream)
        if self.directory is not None:
            stream._recv_type = stream._send_type = fsutil_pb2.Packet
            await filesync.receive(Framed(stream), self.directory, lambda *_: None)
            return
        while (message := await stream.recv_message()) is not None:
            self.data += message.data


@contextlib.asynccontextmanager
async def session(
    client: Client, sink: Sink | None = None, without: str = ""
) -> AsyncIterator[ClientSession]:
    loop = asyncio.get_running_loop()
    served = [
        (filesync_pb2, "FileSync", client),
        (secrets_pb2, "Secrets", client),
        (auth_pb2, "Auth", client),
        (ssh_pb2, "SSH", client),
        (upload_pb2, "Upload", client),
        *([(filesync_pb2, "FileSend", sink)] if sink else []),
    ]
    services = [
        Service(module.DESCRIPTOR.services_by_name[name], implementation)
        for module, name, implementation in served
        if name != without
    ]
    server = GrpcServer(services)
    ours, theirs = socket.socketpair()
    transport, _ = await loop.create_unix_connection(asyncio.Protocol, sock=theirs)
    transport.set_protocol(server.accept(transport))
    transport, _ = await loop.create_unix_connection(asyncio.Protocol, sock=ours)
    methods = frozenset(path.lower() for service in services for path in service.methods)
    asked = ClientSession(Announced("id1", "", "key", methods), transport)
    transport.set_protocol(asked.protocol)
    try:
        yield asked
    finally:
        asked.close()
        await server.close()


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 20))


def wish(name: str = "context", **more: Any) -> Any:
    return SimpleNamespace(**{"name": name, "include": (), "exclude": (), "follow": (), "differ": "", **more})


@pytest.fixture
def client(tmp_path: Path) -> Client:
    directory = tmp_path / "context"
    (directory / "sub").mkdir(parents=True)
    (directory / "sub" / "file").write_bytes(b"content" * 20_000)
    return Client(directory)


def test_a_directory_of_the_clients(client: Client, tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    told: list[tuple[int, int]] = []

    async def where() -> Path:
        return place

    async def work() -> None:
        async with session(client) as asked:
            request = wish(include=("a b", "c"), exclude=("größe/*",), follow=("x%y",))
            found = await asked.local(request, where, lambda *sent: told.append(sent))
            assert (found.path / "sub" / "file").read_bytes() == b"content" * 20_000
            assert told[-1] == (1, 140_000)
            await asked.local(wish(), where, lambda *sent: told.append(sent))
            assert told[-1] == (0, 0)
            with pytest.raises(NotFound, match="no access allowed to dir 'other'"):
                await asked.local(wish("other"), where, lambda *_: None)

    run(work())
    assert client.asked["dir-name"] == ["other"]


def test_what_is_wished_travels_as_the_client_reads_it() -> None:
    assert encoded({"a": ["x y", "z%", ""], "b": ["ü", "y z"], "c": []}) == [
        ("a", "x y"),
        ("a", "z%"),
        ("b-encoded", "1"),
        ("b", "%C3%BC"),
        ("b", "y+z"),
    ]
    with pytest.raises(InvalidParameter):
        encoded({"a": ["x\0"]})


def test_secrets(client: Client) -> None:
    async def work() -> None:
        async with session(client) as asked:
            assert await asked.secret("token") == b"s3cret"
            assert await asked.secret("other") is None
            with pytest.raises(Forbidden, match="not for you"):
                await asked.secret("guarded")
        async with session(client, without="Secrets") as asked:
            assert await asked.secret("token") is None

    run(work())


def test_credentials(client: Client) -> None:
    async def work() -> None:
        async with session(client) as asked:
            given = await asked.credentials("reg.example:5000")
            assert (given.username, given.password) == ("ann", "of reg.example:5000")
            assert (await asked.credentials("token.example")).identity_token == "refresh"
        async with session(client, without="Auth") as asked:
            assert (await asked.credentials("reg.example")).is_anonymous

    run(work())


def test_an_agent(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "agent"

    async def talk(words: bytes) -> bytes:
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(words)
        writer.write_eof()
        answer = await reader.read()
        writer.close()
        return answer

    async def work() -> None:
        async with session(client) as asked:
            async with asked.ssh("default", path) as there:
                assert there
                assert path.stat().st_mode & 0o777 == 0o600
                assert await asyncio.gather(talk(b"one"), talk(b"two" * 40_000)) == [b"ONE", b"TWO" * 40_000]
            assert not path.exists()
            async with asked.ssh("other", path) as there:
                assert not there and not path.exists()
        async with session(client, without="SSH") as asked, asked.ssh("default", path) as there:
            assert not there

    run(work())


def test_uploads(client: Client) -> None:
    async def work() -> None:
        async with session(client) as asked:
            parts = [part async for part in asked.upload("http://buildkit-session/abc")]
            assert b"".join(parts) == b"from /abc"

    run(work())


def test_a_file_for_the_client(client: Client) -> None:
    sink = Sink()

    async def archive() -> AsyncIterator[bytes]:
        yield b"x" * 3_000_000
        yield b"end"

    async def work() -> None:
        async with session(client, sink) as asked:
            await asked.send_file(archive(), {"containerimage.digest": "sha256:0", "empty": ""}, 2)

    run(work())
    assert sink.data == b"x" * 3_000_000 + b"end"
    assert sink.metadata["exporter-md-containerimage.digest"] == "sha256:0"
    assert sink.metadata["buildkit-attachable-exporter-id"] == "2"


def test_a_directory_for_the_client(client: Client, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()

    async def work() -> None:
        async with session(client, Sink(out)) as asked:
            with opened(client.directory) as root:
                await asked.send_directories([Files("", root)])

    run(work())
    assert (out / "sub" / "file").read_bytes() == b"content" * 20_000


def test_a_client_that_takes_nothing_is_named(client: Client) -> None:
    async def work() -> None:
        async with session(client, without="FileSync") as asked:
            with pytest.raises(NotSupported, match="the client takes no files"):
                await asked.send_directories([])
            with pytest.raises(NotSupported, match="no local sources enabled"):
                await asked.local(wish(), None, lambda *_: None)  # type: ignore[arg-type]

    run(work())


def test_a_client_that_goes_away_fails_what_was_asked(client: Client) -> None:
    async def work() -> None:
        async with session(client) as asked:
            asked.close()
            await asked.wait_lost()
            with pytest.raises(Unavailable):
                await asked.secret("token")

    run(work())


HEADERS = {"x-docker-expose-session-uuid": ["abc"], "x-docker-expose-session-grpc-method": ["/A/B"]}


def test_a_solve_finds_the_session_that_comes_a_little_later(client: Client) -> None:
    async def work() -> None:
        directory = SessionDirectory()
        looking = asyncio.create_task(directory.find("prefix:id1"))
        await asyncio.sleep(0)
        async with session(client) as asked:
            directory.add_while_open(asked)
            assert await looking is asked
            with pytest.raises(NotFound, match="no active session for other"):
                await directory.find("other", 0.01)
            directory.close()
            await asked.wait_lost()
            await asyncio.sleep(0.01)  # the loop's turn, in which it is taken out
            with pytest.raises(NotFound):
                await directory.find("id1", 0.01)

    run(work())


def test_two_sessions_cannot_have_one_id(client: Client) -> None:
    async def work() -> None:
        directory = SessionDirectory()
        assert directory.announced(HEADERS) == Announced("abc", "", "", frozenset({"/a/b"}))
        async with session(client) as one, session(client) as two, directory.listed(one):
            with pytest.raises(Conflict, match="session id1 already exists"):
                async with directory.listed(two):
                    pass
            assert await directory.find("id1") is one
            with pytest.raises(Conflict):
                directory.announced({"x-docker-expose-session-uuid": ["id1"]})
        with pytest.raises(InvalidParameter):
            directory.announced({})

    run(work())
