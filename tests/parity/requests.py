"""Which parameters and fields of the API's requests the scenarios use, held against the API's definition.

`tests/data/engine_api/requests.json` has them by method and path, cut out of Docker's OpenAPI definition (v1.56) without Swarm and
plugins. A field of a body is a dotted path; `*` stands for any name or place.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from parity.scenario import Scenario

DEFINED = Path(__file__).parents[1] / "data" / "engine_api" / "requests.json"
_IN_SHELL = re.compile(r"\b(?:raw (GET|POST|PUT|HEAD|DELETE)|(hijack)) +'?(/[^\s'\"]+)")
_BODY_IN_SHELL = re.compile(r"(?:--body|-d) +'(\{.*?\})'(?= |$|;)")


class Use(NamedTuple):
    """A parameter (`?name`) or field of a body (`a.b`) of a request."""

    request: str
    """`POST /containers/create`"""
    what: str


def defined() -> set[Use]:
    """All that there are."""
    document: dict[str, dict[str, list[str]]] = json.loads(DEFINED.read_text())
    return {
        Use(request, what)
        for request, parts in document.items()
        for what in [*(f"?{name}" for name in parts["query"]), *parts["body"]]
    }


def used(scenarios: Iterable[Scenario]) -> set[Use]:
    """Those in the scenarios' own requests; what the docker CLI sends is not looked into."""
    patterns = {
        request: re.compile(re.sub(r"\\\{\w+\\\}", "[^?]+", re.escape(request)) + r"(?:\?|\Z)")
        for request in {each.request for each in defined()}
    }
    found: set[Use] = set()
    for each in scenarios:
        for step in each.steps:
            for method, target, body in _requests(step.kind, step.text):
                matching = [name for name, pattern in patterns.items() if pattern.match(f"{method} {target}")]
                for request in sorted(matching, key=lambda name: name.count("{"))[:1]:
                    names = re.findall(r"[?&]([\w-]+)", target.partition("?")[1] + target.partition("?")[2])
                    found |= {Use(request, f"?{name}") for name in names}
                    found |= {Use(request, path) for path in _paths(body)}
    return found


def _requests(kind: str, text: str) -> Iterator[tuple[str, str, Any]]:
    if kind == ">":
        method, target, *body = text.split(" ", 2)
        yield method, re.sub(r"^/v[\d.]+", "", target), _parsed(body[0] if body else "")
        return
    for match in _IN_SHELL.finditer(text):
        body = _BODY_IN_SHELL.search(text, match.end())
        yield match[1] or "POST", re.sub(r"^/v[\d.]+", "", match[3]), _parsed(body[1] if body else "")


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _paths(value: Any, prefix: str = "") -> Iterator[str]:
    """Every dotted path of a document, names replaced by `*` where any may stand."""
    if isinstance(value, list):
        for item in value:
            yield from _paths(item, prefix + "*.")
    if not isinstance(value, dict):
        return
    for name, item in value.items():
        shown = "*" if prefix.endswith("EndpointsConfig.") else name
        yield prefix + shown
        yield from _paths(item, prefix + shown + ".")
