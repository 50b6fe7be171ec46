"""The floor: an engine that answers everything that `docker run`, `docker exec` and the API rows ask, at once, and does nothing.

    python -m benchmarks.stub SOCKET

A client's time against it is the client's own: no engine can be faster than this.
"""

from __future__ import annotations

import asyncio
import json
import sys

_ID = "0" * 64
_JSON = {
    "create": {"Id": _ID, "Warnings": []},
    "exec": {"Id": _ID},
    "json": {
        "Id": _ID,
        "ID": _ID,
        "ExitCode": 0,
        "Running": False,
        "State": {"Status": "running", "Running": True},
        "Config": {"Tty": False, "OpenStdin": False},
        "HostConfig": {"AutoRemove": True},
    },
}
_PING = "API-Version: 1.41\r\nOSType: linux\r\nServer: stub\r\n"


class Floor:
    """All connections of one stub; `started` is the pair of events of a container's life that clients wait on."""

    def __init__(self) -> None:
        self._started = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, keep-alive, until the client hangs up."""
        try:
            while await self._answer(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client is gone
        writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        for line in head.split("\r\n"):
            if line.startswith("content-length:"):
                await reader.readexactly(int(line.partition(":")[2]))
        method, target, _ = head.split(" ", 2)
        action = target.partition("?")[0].rpartition("/")[2]
        if "upgrade: tcp" in head:
            return await self._stream(writer, wait=action == "attach")
        if action == "wait":
            await self._wait(writer)
        elif action == "start":
            self._started.set()
            writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        elif action == "_ping":
            writer.write(f"HTTP/1.1 200 OK\r\n{_PING}Content-Length: 0\r\n\r\n".encode())
        elif method == "delete":
            writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        else:
            if action == "create":
                self._started.clear()
            body = json.dumps(_JSON.get(action, {})).encode()
            status = "201 Created" if method == "post" else "200 OK"
            writer.write(
                f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
                + body
            )
        return True

    async def _stream(self, writer: asyncio.StreamWriter, *, wait: bool) -> bool:
        """An upgraded connection: of a container it ends after start, of an exec at once."""
        writer.write(
            b"HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\n"
            b"Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
        )
        if wait:
            await self._started.wait()
        return False

    async def _wait(self, writer: asyncio.StreamWriter) -> None:
        """The head goes out before the container is started: the command line waits for it."""
        body = b'{"StatusCode":0}'
        writer.write(
            f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        )
        await self._started.wait()
        writer.write(body)


async def main(path: str) -> None:
    """Serve until killed."""
    floor = Floor()
    server = await asyncio.start_unix_server(floor.serve, path)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
