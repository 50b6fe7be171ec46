"""Run a scenario against one engine and write down what it answered."""

from __future__ import annotations

import functools
import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from busybox_image import busybox_archive
from parity.normal import Normaliser, squeeze
from parity.scenario import Scenario, Step

STEP_SECONDS = 60
PROGRAMS = Path(__file__).parent / "bin"
"""Commands for steps beside the docker CLI: `raw` requests, `hijack`ed streams, `ptydo` for what wants a terminal."""
PROGRAMS = Path(__file__).parent / "bin"
"""What scenarios may call beside the machine's own programs."""


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("docker", timeout=STEP_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(STEP_SECONDS)
        self.sock.connect(self._path)


def play(scenario: Scenario, socket_path: str) -> list[dict[str, Any]]:
    """Each step's normalised outcome, JSON-able. The engine is left empty."""
    normalise = Normaliser()
    load_base_image(socket_path)
    with tempfile.TemporaryDirectory(prefix="parity-work-") as work:
        try:
            return [_step(step, socket_path, work, normalise) for step in scenario.steps]
        finally:
            clean(socket_path)


def _step(step: Step, socket_path: str, work: str, normalise: Normaliser) -> dict[str, Any]:
    if step.kind == "$":
        return _command(step.text, socket_path, work, normalise)
    return _request(step, socket_path, normalise)


def _command(text: str, socket_path: str, work: str, normalise: Normaliser) -> dict[str, Any]:
    environment = {
        "PATH": f"{PROGRAMS}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": work,
        "DOCKER_HOST": f"unix://{socket_path}",
        "DOCKER_CLI_HINTS": "false",
        "TZ": "UTC",
    }
    try:
        done = subprocess.run(
            ["bash", "-c", text],
            cwd=work,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=STEP_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"step": text, "exit": "timeout"}
    out, err = (
        squeeze(normalise(stream.decode(errors="replace").replace(work, "<work>")))
        for stream in (done.stdout, done.stderr)
    )
    return {"step": text, "exit": done.returncode, "out": out.splitlines(), "err": err.splitlines()}


def _request(step: Step, socket_path: str, normalise: Normaliser) -> dict[str, Any]:
    method, path, *body = step.text.split(" ", 2)
    connection = UnixConnection(socket_path)
    try:
        connection.request(
            method, path, body[0] if body else None, {"Content-Type": "application/json"} if body else {}
        )
        answer = connection.getresponse()
        data = answer.read()
    finally:
        connection.close()
    outcome: dict[str, Any] = {"step": step.text, "status": answer.status}
    try:
        document = json.loads(data) if data else None
    except ValueError:
        outcome["text"] = normalise(data.decode(errors="replace")).splitlines()
        return outcome
    if step.parts:
        outcome["parts"] = {part: _normal_json(_part(document, part), normalise) for part in step.parts}
    else:
        outcome["body"] = _normal_json(document, normalise)
    return outcome


def _part(document: Any, path: str) -> Any:
    """`.State.Status`, `.Mounts[0].Type`; `.X|keys` is the sorted names of an object, `.X|shape` its types."""
    path, _, view = path.partition("|")
    value = document
    for name, index in re.findall(r"\.([\w-]+)|\[(\d+)\]", path):
        try:
            value = value[name] if name else value[int(index)]
        except (KeyError, IndexError, TypeError):
            return "<absent>"
    if view == "keys":
        return sorted(value) if isinstance(value, dict) else f"<{type(value).__name__}>"
    if view == "shape":
        return shape(value)
    return value


def shape(value: Any) -> Any:
    """A document with its scalars replaced by their types."""
    if isinstance(value, dict):
        return {name: shape(item) for name, item in sorted(value.items())}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return type(value).__name__


def _normal_json(value: Any, normalise: Normaliser) -> Any:
    if isinstance(value, dict):
        return {normalise(name): _normal_json(item, normalise) for name, item in sorted(value.items())}
    if isinstance(value, list):
        return [_normal_json(item, normalise) for item in value]
    if isinstance(value, str):
        return normalise(value)
    return value


def load_base_image(socket_path: str) -> None:
    """Load it: every scenario begins with this image and nothing else."""
    subprocess.run(
        ["docker", "-H", f"unix://{socket_path}", "load"],
        input=_base_image(),
        check=True,
        capture_output=True,
        timeout=120,
    )


@functools.cache
def _base_image() -> bytes:
    return busybox_archive()


def clean(socket_path: str) -> None:
    """Remove containers, volumes, networks and images. What depends on another of its kind goes at the second try."""
    docker = shutil.which("docker")
    assert docker, "the docker CLI is not on the PATH"
    script = """
    ids=$(docker ps -aq); [ -z "$ids" ] || docker unpause $ids; [ -z "$ids" ] || docker rm -f -v $ids
    ids=$(docker network ls -q -f type=custom); [ -z "$ids" ] || docker network rm $ids $ids
    docker volume prune -af || docker volume prune -f
    ids=$(docker images -aq --no-trunc | sort -u); [ -z "$ids" ] || docker rmi -f $ids
    docker image prune -f
    """
    subprocess.run(
        ["bash", "-c", script],
        env={"PATH": os.environ["PATH"], "DOCKER_HOST": f"unix://{socket_path}", "HOME": "/nonexistent"},
        capture_output=True,
        timeout=120,
        check=False,
    )
