"""Pulls that break in the middle: they go on at the byte, and what is stored in the end is right."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from aiohttp import web

from hostile_registry import BackgroundRegistry, digest
from image_archives import tar
from image_engine import EngineProcess, ImageEngine
from sampan.registry.settings import RegistrySettings

pytestmark = pytest.mark.root

MakeEngine = Callable[..., ImageEngine]
QUICK = RegistrySettings(retry_delay=0.01, read_timeout=5)


@pytest.fixture
def registry() -> Iterator[BackgroundRegistry]:
    with BackgroundRegistry() as server:
        yield server


def noise(size: int) -> bytes:
    """Bytes that are the same in each run and do not repeat."""
    return b"".join(hashlib.sha256(number.to_bytes(8)).digest() for number in range(size // 32))


def big_layer() -> bytes:
    return tar({"noise": noise(8 << 20)})


def breaking(registry: BackgroundRegistry, layer: bytes, after: list[int], *, ranges: bool = True) -> None:
    """Break transfers of the layer after so many bytes each; then let the rest through."""

    async def behaviour(request: web.Request) -> web.StreamResponse | None:
        if request.method != "GET" or not request.path.endswith(digest(layer)):
            return None
        start = (
            int(request.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-")) if ranges else 0
        )
        if not after:
            return None if ranges else web.Response(body=layer)
        size = after.pop(0)
        headers = {"Content-Length": str(len(layer) - start)}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(layer) - 1}/{len(layer)}"
        response = web.StreamResponse(status=206 if start else 200, headers=headers)
        await response.prepare(request)
        await response.write(layer[start : start + size])
        assert request.transport is not None
        request.transport.close()
        return response

    registry.behave(behaviour)


def test_it_goes_on_at_the_byte_as_often_as_it_breaks(
    registry: BackgroundRegistry, make_image_engine: MakeEngine
) -> None:
    layer = big_layer()
    target = registry.image([layer])
    breaking(registry, layer, [1 << 20] * 7)
    engine = make_image_engine(QUICK)
    output = engine.docker("pull", f"{registry.host}/app")
    assert f"Digest: {target['digest']}" in output
    ranges = [each.range for each in registry.requests("GET", digest(layer))]
    starts = [int(each.removeprefix("bytes=").rstrip("-") or 0) for each in ranges]
    # A connection may lose its last bytes when it is closed; what had come is never asked for again.
    assert len(starts) == 8
    assert starts == sorted(set(starts))
    assert all(start <= number << 20 for number, start in enumerate(starts))
    assert engine.run(engine.content.verify(digest(layer))) is None


def test_a_server_without_ranges(registry: BackgroundRegistry, make_image_engine: MakeEngine) -> None:
    layer = big_layer()
    registry.image([layer])
    breaking(registry, layer, [3 << 20, 5 << 20], ranges=False)
    engine = make_image_engine(QUICK)
    engine.docker("pull", f"{registry.host}/app")
    assert engine.run(engine.content.verify(digest(layer))) is None


def test_without_progress_it_ends_and_the_message_says_why(
    registry: BackgroundRegistry, make_image_engine: MakeEngine
) -> None:
    layer = big_layer()
    registry.image([layer])
    breaking(registry, layer, [0] * 100)
    engine = make_image_engine(QUICK)
    output = engine.docker("pull", f"{registry.host}/app", ok=False)
    assert "EOF" in output
    assert len(registry.requests("GET", digest(layer))) == 5
    assert engine.docker("images", "-aq") == ""


def test_wrong_bytes_in_the_middle_are_thrown_away(
    registry: BackgroundRegistry, make_image_engine: MakeEngine
) -> None:
    """What an earlier, broken transfer left is wrong: the next one gets all of it anew instead of failing for ever."""
    layer = big_layer()
    target = registry.image([layer])
    bad = 1

    async def behaviour(request: web.Request) -> web.StreamResponse | None:
        nonlocal bad
        if request.method != "GET" or not request.path.endswith(digest(layer)) or not bad:
            return None
        bad = 0
        response = web.StreamResponse(headers={"Content-Length": str(len(layer))})
        await response.prepare(request)
        await response.write(b"\0" * (2 << 20))
        assert request.transport is not None
        request.transport.close()
        return response

    registry.behave(behaviour)
    engine = make_image_engine(RegistrySettings(attempts=1))
    engine.docker("pull", f"{registry.host}/app", ok=False)
    assert f"Digest: {target['digest']}" in engine.docker("pull", f"{registry.host}/app")
    ranges = [each.range for each in registry.requests("GET", digest(layer))]
    assert len(ranges) == 3
    assert ranges[0] == ranges[2] == ""
    assert 0 < int(ranges[1].removeprefix("bytes=").rstrip("-")) <= 2 << 20


def hold_back(registry: BackgroundRegistry, layer: bytes) -> threading.Event:
    """Let the registry send 5 MiB of a layer and no more until the event is set."""
    hold = threading.Event()

    async def holding(request: web.Request) -> web.StreamResponse | None:
        if request.method != "GET" or not request.path.endswith(digest(layer)) or hold.is_set():
            return None
        response = web.StreamResponse(headers={"Content-Length": str(len(layer))})
        await response.prepare(request)
        await response.write(layer[: 5 << 20])
        while not hold.is_set():
            await asyncio.sleep(0.05)
        return response

    registry.behave(holding)
    return hold


def test_kill_9_in_the_middle(registry: BackgroundRegistry, tmp_path: Path) -> None:
    layer = big_layer()
    target = registry.image([layer])
    hold = hold_back(registry, layer)
    with tempfile.TemporaryDirectory(prefix="sampan-pull-") as directory:
        engine = EngineProcess(tmp_path / "state", Path(directory, "e.sock"))
        engine.start()
        try:
            pull = engine.docker("pull", f"{registry.host}/app")
            kept = _wait_for_ingest(tmp_path / "state" / "content" / "ingest", 4 << 20)
            engine.end(signal.SIGKILL)
            pull.communicate(timeout=30)
            hold.set()
            engine.start()
            assert engine.output("images", "-aq") == ""
            assert f"Digest: {target['digest']}" in engine.output("pull", f"{registry.host}/app")
            again = registry.requests("GET", digest(layer))[-1]
            assert int(again.range.removeprefix("bytes=").rstrip("-")) >= kept
            assert engine.output("images", "-q", "--no-trunc").split() == [target["digest"]]
            assert os.listdir(tmp_path / "state" / "content" / "ingest") == []
        finally:
            hold.set()
            engine.end(signal.SIGTERM)


def test_who_gives_up_leaves_the_bytes_for_the_next(
    registry: BackgroundRegistry, make_image_engine: MakeEngine
) -> None:
    layer = big_layer()
    registry.image([layer])
    hold = hold_back(registry, layer)
    engine = make_image_engine(QUICK)
    pull = engine.docker_started("pull", f"{registry.host}/app")
    try:
        _wait_for_ingest(engine.root / "content" / "ingest", 4 << 20)
    finally:
        pull.send_signal(signal.SIGINT)
        pull.communicate(timeout=30)
    hold.set()
    engine.docker("pull", f"{registry.host}/app")
    again = registry.requests("GET", digest(layer))[-1]
    assert int(again.range.removeprefix("bytes=").rstrip("-")) >= 4 << 20


def _wait_for_ingest(directory: Path, size: int) -> int:
    """Until a file on its way in has so many bytes; how many."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for path in directory.iterdir():
            if (found := path.stat().st_size) >= size:
                return found
        time.sleep(0.02)  # nothing tells when a file grows
    raise AssertionError("the pull made no progress")
