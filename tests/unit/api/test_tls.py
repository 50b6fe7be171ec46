"""TLS with half-close: what the client's close_notify must not end."""

from __future__ import annotations

import asyncio
import shutil
import socket
import ssl
import subprocess

import pytest

from sampan.api.tls import TlsDoor


class Echo(asyncio.Protocol):
    """Collects everything, answers in capitals at the end of input: only half-close can work with it."""

    def __init__(self) -> None:
        self.received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.received += data

    def eof_received(self) -> bool:
        self.transport.write(self.received.upper())
        self.transport.close()
        return True


@pytest.fixture(scope="module")
def contexts(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    where = tmp_path_factory.mktemp("tls")
    openssl = shutil.which("openssl")
    assert openssl, "this test needs the openssl command: install the openssl package"
    key, cert = where / "key.pem", where / "cert.pem"
    subprocess.run(
        [
            openssl,
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=DNS:localhost",
            "-keyout",
            str(key),
            "-out",
            str(cert),
        ],
        check=True,
        capture_output=True,
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(cert, key)
    client = ssl.create_default_context(cafile=str(cert))
    return server, client


def talk(client: ssl.SSLContext, port: int, payload: bytes) -> bytes:
    """As Go's tls.Conn.CloseWrite: send everything, close_notify, then read to the end."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = client.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:

        def step(action: object) -> bytes:
            while True:
                try:
                    result = action()  # type: ignore[operator]
                    plain.sendall(outgoing.read())
                    return result if isinstance(result, bytes) else b""
                except ssl.SSLWantReadError:
                    plain.sendall(outgoing.read())
                    data = plain.recv(65536)
                    if not data:
                        return b""
                    incoming.write(data)

        step(tls.do_handshake)
        step(lambda: tls.write(payload))
        try:
            tls.unwrap()
        except ssl.SSLWantReadError:
            plain.sendall(outgoing.read())
        answer = b""
        while True:
            try:
                chunk = step(lambda: tls.read(65536))
            except ssl.SSLZeroReturnError:
                break
            if not chunk:
                break
            answer += chunk
        return answer


@pytest.mark.parametrize("size", [5, 300_000])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_output_after_close_notify_arrives(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext], size: int, version: ssl.TLSVersion
) -> None:
    server, client = contexts
    client.maximum_version = version

    async def run() -> bytes:
        listening = await asyncio.get_running_loop().create_server(
            lambda: TlsDoor(server, Echo), "127.0.0.1", 0
        )
        port = listening.sockets[0].getsockname()[1]
        try:
            return await asyncio.to_thread(talk, client, port, b"a" * size)
        finally:
            listening.close()

    assert asyncio.run(run()) == b"A" * size


def test_plain_text_is_refused_and_the_connection_closed(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    server, _ = contexts

    async def run() -> bytes:
        listening = await asyncio.get_running_loop().create_server(
            lambda: TlsDoor(server, Echo), "127.0.0.1", 0
        )
        reader, writer = await asyncio.open_connection(*listening.sockets[0].getsockname())
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        try:
            return await asyncio.wait_for(reader.read(), 5)
        finally:
            writer.close()
            listening.close()

    assert b"HTTP" not in asyncio.run(run())
