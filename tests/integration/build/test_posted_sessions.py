"""`POST /build?version=2` of clients that serve their files on a session, as docker without buildx once did; and its outputs."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from buildkit_client import building, run
from graph_builder import context, in_image
from running_engine import RunningEngine
from sampan.errors import SampanError

pytestmark = pytest.mark.root


def posted(engine: RunningEngine, body: bytes = b"", **query: Any) -> list[dict[str, Any]]:
    with engine.client() as client:
        return list(client.api.request("POST", "/build", {"version": "2", **query}, body).json_stream())


def test_files_and_secrets_come_from_the_session(engine: RunningEngine, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(
        "FROM busybox\nCOPY word /\nRUN --mount=type=secret,id=s test $(cat /run/secrets/s) = sesame\n"
    )
    (tmp_path / "word").write_text("of a session")

    async def work() -> None:
        async with building(engine, tmp_path, {"s": b"sesame"}) as builder:
            query = {"remote": "client-session", "session": builder.session, "t": ["built"]}
            told = await asyncio.to_thread(posted, engine, **query)
        assert told[-1]["id"] == "moby.image.id", told[-1]
        assert {each["id"] for each in told[:-1]} == {"moby.buildkit.trace"}

    run(work())
    assert in_image(engine, "cat /word") == ["of a session"]


def test_results_that_are_no_image(engine: RunningEngine) -> None:
    body = context("FROM busybox\nRUN true\n")
    told = posted(engine, body, outputs=json.dumps([{"Type": "cacheonly"}]))
    assert {each["id"] for each in told} == {"moby.buildkit.trace"}
    told = posted(engine, body, outputs=json.dumps([{"Type": "local"}]))
    assert "needs a session" in told[-1]["error"]
    with pytest.raises(SampanError, match="multiple outputs"):
        posted(engine, body, outputs=json.dumps([{"Type": "moby"}] * 2))


def test_a_session_that_is_not_there(engine: RunningEngine) -> None:
    with pytest.raises(SampanError, match="no active session"):
        posted(engine, remote="client-session", session="gone")
