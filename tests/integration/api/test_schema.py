"""Every answer of a GET route has the shape that the API's definition gives it, in old and new versions.

`tests/data/engine_api/v*.json` are the schemas of these answers, cut out of Docker's OpenAPI definitions: descriptions and
examples left out, `x-nullable` written as JSON Schema has it.
"""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jsonschema
import pytest

from running_engine import RunningEngine

pytestmark = pytest.mark.root

SCHEMAS = Path(__file__).parents[2] / "data" / "engine_api"
VERSIONS = sorted(path.stem.removeprefix("v") for path in SCHEMAS.glob("v*.json"))
STATES = ("running", "exited", "created", "paused", "restarting")
FILTERS = quote('{"name":["nosuch"]}')

NOT_SO_IN_DOCKERD = (
    "ExitCode: None is not of type 'integer'",  # of an exec that runs
    "HostConfig.MemorySwappiness: None is not of type 'integer'",
    "ImageData: 'UnpackedSize' is a required property",  # it is Size.Unpacked
)
"""Where the definition says what the recorded dockerd does not do either."""


def test_schemas_are_there() -> None:
    assert VERSIONS == ["1.40", "1.44", "1.47", "1.51", "1.52"]


@pytest.fixture(scope="module")
def inhabited(shared_engine: RunningEngine) -> Iterator[RunningEngine]:
    """An engine with a container in every state, a network, a volume, an exec: few members of an answer are empty."""
    engine = shared_engine
    engine.docker("network", "create", "--label", "k=v", "net")
    engine.docker("volume", "create", "--label", "k=v", "vol")
    engine.docker("create", "--name", "created", "-v", "/anonymous", "--tmpfs", "/mem", "-P", "busybox")
    engine.docker(
        "run", "-d", "--name", "running", "--network", "net", "--network-alias", "other", "-p", "127.0.0.1::80",
        "-v", "vol:/data", "-v", "/tmp:/host:ro", "--label", "k=v", "-e", "A=b", "--ulimit", "nofile=100:200",
        "--memory", "64m", "--cpus", "0.5", "--add-host", "h:10.0.0.1", "--dns", "10.0.0.2", "--cap-add", "NET_ADMIN",
        "--device", "/dev/null:/dev/other", "--health-cmd", "true", "--health-interval", "1s", "--init",
        "--log-opt", "max-size=1m", "--sysctl", "net.ipv4.ip_forward=1", "busybox", "sleep", "1000",
    )  # fmt: skip
    engine.docker(
        "run", "--name", "exited", "--network", "none", "busybox", "sh", "-c", "touch /x; exit 3", check=False
    )
    engine.docker("run", "-d", "--name", "paused", "-t", "busybox", "sleep", "1000")
    engine.docker("pause", "paused")
    engine.docker("run", "-d", "--name", "restarting", "--restart", "always", "busybox", "false")
    engine.docker("exec", "-d", "running", "sleep", "1000")
    yield engine
    engine.remove_everything()


@pytest.fixture(scope="module", params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    chosen: str = request.param
    return chosen


def get(engine: RunningEngine, path: str) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("docker", timeout=30)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(engine.socket))
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
        return answer.status, json.loads(body) if body.strip() else None
    finally:
        connection.close()


def schemas(version: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((SCHEMAS / f"v{version}.json").read_text())
    absent_is_null(document)
    return document


def absent_is_null(schema: Any) -> None:
    """Go writes an empty list or map as null where the definition does not say so, and dockerd's clients live with it."""
    if isinstance(schema, dict):
        if schema.get("type") in ("array", "object"):
            schema["type"] = [schema["type"], "null"]
        for item in schema.values():
            absent_is_null(item)
    elif isinstance(schema, list):
        for item in schema:
            absent_is_null(item)


def check(engine: RunningEngine, version: str, route: str, path: str) -> None:
    """GET the path, which is one of the route, and hold the answer against the route's schema."""
    document = schemas(version)
    status, answer = get(engine, f"/v{version}{path}")
    assert status == 200, answer
    schema = {**document["routes"][route], "definitions": document["definitions"]}
    errors = jsonschema.Draft4Validator(schema).iter_errors(answer)
    lines = [f"{path} {'.'.join(map(str, error.absolute_path))}: {error.message[:300]}" for error in errors]
    assert not [line for line in lines if not line.endswith(NOT_SO_IN_DOCKERD)]


@pytest.mark.parametrize("state", STATES)
def test_containers(inhabited: RunningEngine, version: str, state: str) -> None:
    check(inhabited, version, "/containers/{id}/json", f"/containers/{state}/json?size=1")
    check(inhabited, version, "/containers/{id}/changes", f"/containers/{state}/changes")
    check(inhabited, version, "/containers/{id}/stats", f"/containers/{state}/stats?stream=0&one-shot=1")


def test_container_lists(inhabited: RunningEngine, version: str) -> None:
    for query in ("?all=1", "?all=1&size=1", f"?filters={FILTERS}"):
        check(inhabited, version, "/containers/json", f"/containers/json{query}")


def test_processes(inhabited: RunningEngine, version: str) -> None:
    check(inhabited, version, "/containers/{id}/top", "/containers/running/top")
    ids = get(inhabited, "/containers/running/json")[1]["ExecIDs"]
    assert len(ids) == 1
    check(inhabited, version, "/exec/{id}/json", f"/exec/{ids[0]}/json")


def test_images(inhabited: RunningEngine, version: str) -> None:
    for query in ("", "?all=1&digests=1", "?manifests=1&shared-size=1"):
        check(inhabited, version, "/images/json", f"/images/json{query}")
    check(inhabited, version, "/images/{name}/json", "/images/busybox/json")
    check(inhabited, version, "/images/{name}/history", "/images/busybox/history")


def test_networks(inhabited: RunningEngine, version: str) -> None:
    check(inhabited, version, "/networks", "/networks")
    for name in ("bridge", "host", "none", "net"):
        check(inhabited, version, "/networks/{id}", f"/networks/{name}?verbose=1")


def test_volumes(inhabited: RunningEngine, version: str) -> None:
    check(inhabited, version, "/volumes", "/volumes")
    check(inhabited, version, "/volumes", f"/volumes?filters={FILTERS}")
    check(inhabited, version, "/volumes/{name}", "/volumes/vol")


def test_system(inhabited: RunningEngine, version: str) -> None:
    check(inhabited, version, "/info", "/info")
    check(inhabited, version, "/version", "/version")
    check(inhabited, version, "/system/df", "/system/df")
