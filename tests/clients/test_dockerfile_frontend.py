"""Random Dockerfiles, asked of BuildKit's own frontend and of the one here: the same warnings, the same answers."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from pathlib import Path
from random import Random
from typing import Any

import pytest

from buildkit_peer import BUILD_SECONDS
from dockerfile_asking import asked, build, told
from dockerfile_corpus import DIRECTORY, IMAGES, MORE_REQUESTS, REQUESTS, Case
from dockerfile_generator import random_case
from parity.peers import cache

pytestmark = pytest.mark.timeout(BUILD_SECONDS)

COUNT = 250
SEED = int(os.environ.get("SAMPAN_DOCKERFILE_SEED", "1"))


def recorder() -> Path:
    """The program that asks BuildKit's frontend, built once."""
    sources = b"".join((DIRECTORY / name).read_bytes() for name in ("main.go", "go.mod"))
    target = cache() / f"dockerfile-recorder-{hashlib.sha256(sources).hexdigest()[:12]}"
    if not target.exists():
        words = ["go", "build", "-C", str(DIRECTORY), "-o", str(target), "."]
        subprocess.run(words, check=True, timeout=BUILD_SECONDS)
    return target


def answers(questions: dict[str, Any]) -> dict[str, Any]:
    done = subprocess.run(
        [recorder()], input=json.dumps(questions), capture_output=True, text=True, check=True, timeout=120
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def question(case: Case, request: str) -> dict[str, Any]:
    options = {**case.options, **({"requestid": request} if request else {})}
    return {"files": case.files, "options": options, "images": IMAGES}


def test_random_dockerfiles_are_answered_as_buildkit_does() -> None:
    random = Random(SEED)
    cases = [random_case(random) for _ in range(COUNT)]
    requests = (*REQUESTS, *MORE_REQUESTS)
    theirs = answers(
        {f"{number} {each}": question(case, each) for number, case in enumerate(cases) for each in requests}
    )
    for number, case in enumerate(cases):
        shown = f"SAMPAN_DOCKERFILE_SEED={SEED}, {dict(case.options)}, {case.ignore!r}\n{case.text}"
        expected = theirs[f"{number} "]
        checks, error = build(case)
        findings = [told(each) for each in checks.findings] if checks is not None else []
        assert _in_order(findings) == _in_order(expected["warnings"]), shown
        assert bool(error) == bool(expected["error"]), f"{error!r} {expected['error']!r} {shown}"
        for request in requests[1:]:
            expected = theirs[f"{number} {request}"]
            if expected["error"] != "panic":
                found, error = asked(case, request)
                assert bool(error) == bool(expected["error"]), f"{error!r} {expected['error']!r} {shown}"
                assert _comparable(found) == _comparable(expected["metadata"]), shown


def _in_order(warnings: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """By place: Go's maps have no order."""
    return sorted(warnings, key=lambda each: (each["lines"], each["short"]))


def _comparable(metadata: dict[str, str]) -> dict[str, Any]:
    """Lists in one order, mistakes without their words, no graph that brings the file."""
    found: dict[str, Any] = {name: value for name, value in metadata.items() if name != "result.txt"}
    if "result.json" not in found:
        return found
    told: dict[str, Any] = json.loads(found["result.json"])
    for each in told["sources"]:
        if isinstance(each, dict):
            each.pop("definition", None)
    if "buildError" in told:
        told["buildError"].pop("message")
    for name in ("warnings", "args", "secrets", "ssh"):
        told[name] = sorted(told.get(name) or (), key=lambda each: json.dumps(each, sort_keys=True))
    return {**found, "result.json": told}
