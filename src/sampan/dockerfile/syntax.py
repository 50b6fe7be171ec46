"""Which frontend a file asks for, whatever its language: `# syntax=IMAGE`, `// syntax=IMAGE`, or `{"syntax": "IMAGE"}`."""

from __future__ import annotations

import json
import re
from typing import NamedTuple

_BOM = b"\xef\xbb\xbf"
_DIRECTIVE = re.compile(r"([a-zA-Z][a-zA-Z0-9]*)\s*=\s*(.+?)\s*$")
_LARGEST_JSON = 1 << 20
"""Bytes of a file that is looked at as JSON."""


class Syntax(NamedTuple):
    """A frontend's image, all that stands in the directive, and on which line."""

    image: str
    command: str
    line: int


def detect_syntax(data: bytes) -> Syntax | None:
    """What a file's head says, as BuildKit reads it (frontend/dockerfile/parser/directives.go); None when it says nothing."""
    data = data.removeprefix(_BOM)
    first = 1
    if data.startswith(b"#!"):
        data, first = data.partition(b"\n")[2], 2
    for comment in ("#", "//"):
        found = _directive(data, comment, first)
        if found is not None:
            return found
    return _in_json(data, first)


def _directive(data: bytes, comment: str, first: int) -> Syntax | None:
    """Directives end at the first line that is none; one that is given twice means nothing."""
    found: dict[str, Syntax] = {}
    for number, line in enumerate(data.split(b"\n"), first):
        text = line.decode(errors="replace").strip()
        match = _DIRECTIVE.match(text.removeprefix(comment).strip()) if text.startswith(comment) else None
        if match is None:
            break
        key, value = match[1].lower(), match[2]
        if key in found:
            return None
        found[key] = Syntax(value.partition(" ")[0], value, number)
    return found.get("syntax")


def _in_json(data: bytes, line: int) -> Syntax | None:
    if not data.lstrip().startswith(b"{") or len(data) > _LARGEST_JSON:
        return None
    try:
        value = json.loads(data).get("syntax")
    except (ValueError, RecursionError):
        return None
    return Syntax(value, value, line) if isinstance(value, str) and value else None
