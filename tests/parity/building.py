"""Build a Dockerfile of the corpus and write down what came of it: how it went, and the image with every file of its layers."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from parity import corpus
from parity.buildclient import solve
from parity.imagefiles import describe
from parity.normal import Normaliser
from parity.unixhttp import ask

NAME = "built:latest"
SECONDS = 60


def build(builder: str, text: str, socket_path: str, work: Path, normalise: Normaliser) -> dict[str, Any]:
    """The step's outcome, JSON-able. `work` is empty."""
    case = corpus.case(text)
    context = work / "context"
    _prepare(context, case)
    if builder == "buildkit":
        try:
            told = asyncio.run(
                asyncio.wait_for(solve(Path(socket_path), context, NAME, case.options), SECONDS)
            )
        except TimeoutError:
            told = {"error": ["timeout"]}
    else:
        told = _classic(socket_path, context, case.options)
    outcome: dict[str, Any] = {"step": text, **told}
    if not told.get("error"):
        outcome |= _image(socket_path, history=builder == "buildkit")
    normal: dict[str, Any] = _normal(outcome, normalise)
    return normal | {"step": text}


def _image(socket_path: str, *, history: bool) -> dict[str, Any]:
    saved = ask(socket_path, "GET", f"/images/{NAME}/get")
    try:
        return describe(saved.data, history=history)
    except tarfile.TarError:  # no dockerd saves one without layers
        image = json.loads(ask(socket_path, "GET", f"/images/{NAME}/json").data)
        return {"config": image.get("Config", image)}


def _prepare(context: Path, case: corpus.Case) -> None:
    context.mkdir()
    os.umask(0o022)
    if case.preparation:
        subprocess.run(["bash", "-ec", case.preparation], cwd=context, check=True, timeout=SECONDS)
    if case.dockerfile:
        (context / "Dockerfile").write_text(case.dockerfile)
    for folder, folders, files in os.walk(context):
        for name in (*folders, *files):
            os.utime(Path(folder, name), (corpus.CONTEXT_TIME, corpus.CONTEXT_TIME), follow_symlinks=False)


def _classic(socket_path: str, context: Path, options: dict[str, str]) -> dict[str, Any]:
    """As `docker build` without BuildKit asks for it."""
    archive = subprocess.run(
        ["tar", "--numeric-owner", "--xattrs", "--xattrs-include=*", "-C", context, "-c", "."],
        check=True,
        capture_output=True,
    )
    named = {kind: _named(options, kind) for kind in ("build-arg", "label")}
    query = {
        "t": NAME,
        "nocache": "1",
        "rm": "1",
        "forcerm": "1",
        "networkmode": "none",
        "target": options.get("target", ""),
        "dockerfile": options.get("filename", ""),
        "buildargs": json.dumps(named["build-arg"]),
        "labels": json.dumps(named["label"]),
    }
    answer = ask(socket_path, "POST", f"/build?{urlencode(query)}", archive.stdout)
    messages = list(_messages(answer.data))
    error = next((each for each in messages if "errorDetail" in each or "message" in each), {})
    if not error:
        return {}
    return {"status": answer.status, "error": error.get("message") or error["errorDetail"]}


def _named(options: dict[str, str], kind: str) -> dict[str, str]:
    return {
        name.removeprefix(f"{kind}:"): value for name, value in options.items() if name.startswith(f"{kind}:")
    }


def _messages(data: bytes) -> Iterator[dict[str, Any]]:
    for line in data.splitlines():
        if line.strip():
            yield json.loads(line)


def _normal(value: Any, normalise: Normaliser) -> Any:
    if isinstance(value, str):
        return normalise(value)
    if isinstance(value, list):
        return [_normal(each, normalise) for each in value]
    if isinstance(value, dict):
        return {normalise(name): _normal(each, normalise) for name, each in value.items()}
    return value
