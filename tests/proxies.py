"""Proxies for tests: HTTP CONNECT and SOCKS5, which connect every address to one port of this machine."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self


class Proxy:
    """A proxy on 127.0.0.1 in front of a port, whatever address the client names. A context."""

    def __init__(self, kind: str, target: int, user: str = "", password: str = "") -> None:
        self.kind = kind
        self.asked: list[str] = []
        """The addresses that clients wanted."""
        self._target = target
        self._user, self._password = user, password
        self._server: asyncio.Server | None = None
        self.port = 0

    @property
    def url(self) -> str:
        login = f"{self._user}:{self._password}@" if self._user else ""
        return f"{self.kind}://{login}127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        greet = self._connect if self.kind == "http" else self._socks

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await self._serve(greet, reader, writer)
            except (OSError, asyncio.IncompleteReadError):
                pass
            finally:
                writer.close()

        self._server = await asyncio.start_server(serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()

    async def _serve(
        self,
        greet: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[bool]],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        if not await greet(reader, writer):
            return
        onward_reader, onward_writer = await asyncio.open_connection("127.0.0.1", self._target)
        try:
            await asyncio.gather(_copy(reader, onward_writer), _copy(onward_reader, writer))
        finally:
            onward_writer.close()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.asked.append(head.split()[1])
        expected = base64.b64encode(f"{self._user}:{self._password}".encode()).decode()
        if self._user and f"Proxy-Authorization: Basic {expected}".lower() not in head.lower():
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()
            return False
        writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
        return True

    async def _socks(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """RFC 1928, and RFC 1929 when there is a user."""
        _, count = await reader.readexactly(2)
        await reader.readexactly(count)
        writer.write(b"\x05\x02" if self._user else b"\x05\x00")
        if self._user:
            user = await reader.readexactly((await reader.readexactly(2))[1])
            password = await reader.readexactly((await reader.readexactly(1))[0])
            good = (user.decode(), password.decode()) == (self._user, self._password)
            writer.write(b"\x01\x00" if good else b"\x01\x01")
            if not good:
                return False
        _, _, _, kind = await reader.readexactly(4)
        if kind == 3:
            host = (await reader.readexactly((await reader.readexactly(1))[0])).decode()
        else:
            host = ".".join(str(each) for each in await reader.readexactly(4))
        port = int.from_bytes(await reader.readexactly(2), "big")
        self.asked.append(f"{host}:{port}")
        writer.write(b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00")
        return True


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()
