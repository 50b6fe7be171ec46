"""A name without an answer is asked for once, not by every step of a pull."""

from __future__ import annotations

import asyncio
import socket

import pytest

from sampan.registry import lookups


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names that reached the resolver, which answers for none but `there`, and not at all for `silent`."""
    names: list[str] = []
    monkeypatch.setattr(lookups, "_failed", {})
    monkeypatch.setattr(lookups, "_PATIENCE_SECONDS", 0.05)

    async def getaddrinfo(self: object, host: str, *_: object, **__: object) -> list[tuple[object, ...]]:
        names.append(host)
        if host == "silent":
            await asyncio.Event().wait()
        if host != "there":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("fe80::1%eth0", 0, 0, 0))]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", getaddrinfo)
    return names


@pytest.mark.parametrize("host", ["nowhere", "silent"])
def test_failures_are_remembered(asked: list[str], host: str) -> None:
    async def look() -> None:
        for _ in range(3):
            with pytest.raises(OSError):
                await lookups.addresses(host)
        with pytest.raises(OSError):
            await lookups.RememberingResolver().resolve(host, 443)

    asyncio.run(look())
    assert asked == [host]


def test_failures_are_forgotten(asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookups, "_MEMORY_SECONDS", 0.0)

    async def look() -> list[str]:
        for _ in range(2):
            with pytest.raises(OSError):
                await lookups.addresses("nowhere")
        return await lookups.addresses("there")

    assert asyncio.run(look()) == ["fe80::1"]
    assert asked == ["nowhere", "nowhere", "there"]
