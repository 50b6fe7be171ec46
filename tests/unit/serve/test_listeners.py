"""Sockets: who may connect, whose file is removed, what is refused."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from pathlib import Path

import pytest

from sampan.engine.config import EngineConfig
from sampan.errors import InvalidParameter, SampanError, SystemFailure
from sampan.serve import listeners
from sampan.serve.listeners import Listeners


class Greeting(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(b"hello")
        transport.close()


def config() -> EngineConfig:
    return EngineConfig(group="")


def greet(path: Path) -> bytes:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(5)
        client.connect(str(path))
        return client.recv(10)


def test_a_unix_socket_is_for_owner_and_group_only_and_goes_with_the_engine(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "s"

    async def run() -> None:
        opened = Listeners()
        await opened.open([f"unix://{path}"], config(), Greeting)
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        assert await asyncio.to_thread(greet, path) == b"hello"
        await opened.close()
        assert not path.exists()

    asyncio.run(run())


def test_a_dead_engines_socket_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))

    async def run() -> bytes:
        opened = Listeners()
        await opened.open([f"unix://{path}"], config(), Greeting)
        try:
            return await asyncio.to_thread(greet, path)
        finally:
            await opened.close()

    assert asyncio.run(run()) == b"hello"


def test_a_living_engines_socket_and_other_files_are_left_alone(tmp_path: Path) -> None:
    living, file = tmp_path / "living", tmp_path / "file"
    file.write_text("precious")

    async def run() -> None:
        first, second = Listeners(), Listeners()
        await first.open([f"unix://{living}"], config(), Greeting)
        for path in (living, file):
            with pytest.raises(SystemFailure, match="can't create unix socket"):
                await second.open([f"unix://{path}"], config(), Greeting)
        assert await asyncio.to_thread(greet, living) == b"hello"
        await first.close()

    asyncio.run(run())
    assert file.read_text() == "precious"


def test_another_engines_later_socket_survives_our_close(tmp_path: Path) -> None:
    path = tmp_path / "s"

    async def run() -> None:
        first, second = Listeners(), Listeners()
        await first.open([f"unix://{path}"], config(), Greeting)
        path.unlink()
        await second.open([f"unix://{path}"], config(), Greeting)
        await first.close()
        assert await asyncio.to_thread(greet, path) == b"hello"
        await second.close()

    asyncio.run(run())


def test_all_or_nothing(tmp_path: Path) -> None:
    path = tmp_path / "s"

    async def run() -> None:
        with pytest.raises(InvalidParameter, match='unsupported proto: "udp"'):
            await Listeners().open([f"unix://{path}", "udp://x"], config(), Greeting)

    asyncio.run(run())
    assert not path.exists()


@pytest.mark.parametrize("host", ["tcp://127.0.0.1:1", "fd://", "fd://nosuch"])
def test_what_cannot_be_opened_is_said(host: str) -> None:
    async def run() -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            address = host.replace(":1", f":{taken.getsockname()[1]}") if host.startswith("tcp") else host
            with pytest.raises(SampanError):
                await Listeners().open([address], config(), Greeting)

    asyncio.run(run())


def test_sockets_of_a_supervisor_are_taken_by_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """sd_listen_fds(3), with the first descriptor moved where this process has room."""
    opened = [socket.socket(socket.AF_UNIX) for _ in range(2)]
    for number, each in enumerate(opened):
        each.bind(str(tmp_path / str(number)))
        each.listen()
    first = 900
    for number, each in enumerate(opened):
        os.dup2(each.fileno(), first + number)
        each.close()
    monkeypatch.setattr(listeners, "_FIRST_PASSED_FD", first)
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    monkeypatch.setenv("LISTEN_FDS", "2")
    monkeypatch.setenv("LISTEN_FDNAMES", "api:metrics")
    (chosen,) = listeners.passed_sockets("metrics")
    assert chosen.getsockname() == str(tmp_path / "1")
    chosen.close()
    os.close(first)
