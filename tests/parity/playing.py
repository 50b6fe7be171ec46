"""Run a scenario against one engine and write down what it answered."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from parity.building import build
from parity.normal import Normaliser, squeeze
from parity.scenario import BUILDERS, Scenario, Step
from parity.unixhttp import ask

STEP_SECONDS = 60
PROGRAMS = Path(__file__).parent / "bin"
"""Commands for steps beside the docker CLI: `raw` requests, `hijack`ed streams, `ptydo` for what wants a terminal."""
WORK = Path("/mnt/work")
"""The working directory of commands, empty when a scenario begins."""


def play(scenario: Scenario, socket_path: str) -> list[dict[str, Any]]:
    """Each step's normalised outcome, JSON-able. In a room, on an engine that holds the base image only."""
    normalise = Normaliser()
    since = f"{time.time():.9f}"
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir()
    return [_step(step, socket_path, since, normalise) for step in scenario.steps]


def _step(step: Step, socket_path: str, since: str, normalise: Normaliser) -> dict[str, Any]:
    if step.kind in BUILDERS:
        return build(step.kind, step.text, socket_path, WORK, normalise)
    if step.kind == "$":
        return _command(step.text, socket_path, since, normalise)
    return _request(step, socket_path, normalise)


def _command(text: str, socket_path: str, since: str, normalise: Normaliser) -> dict[str, Any]:
    environment = {
        "PATH": f"{PROGRAMS}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(WORK),
        "DOCKER_HOST": f"unix://{socket_path}",
        "DOCKER_CLI_HINTS": "false",
        "TZ": "UTC",
        "SINCE": since,  # for `docker events`: what happened before belongs to other scenarios
    }
    try:
        done = subprocess.run(
            ["bash", "-c", text],
            cwd=WORK,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=STEP_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"step": text, "exit": "timeout"}
    out, err = (
        squeeze(normalise(stream.decode(errors="replace"))).splitlines()
        for stream in (done.stdout, done.stderr)
    )
    return {"step": text, "exit": done.returncode, "out": out, "err": err}


def _request(step: Step, socket_path: str, normalise: Normaliser) -> dict[str, Any]:
    method, path, *body = step.text.split(" ", 2)
    try:
        answer = ask(socket_path, method, path, body[0] if body else None)
    except TimeoutError:
        return {"step": step.text, "status": "timeout"}
    outcome: dict[str, Any] = {"step": step.text, "status": answer.status}
    try:
        document = json.loads(answer.data) if answer.data else None
    except ValueError:
        outcome["text"] = normalise(answer.data.decode(errors="replace")).splitlines()
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
