"""Reading WWW-Authenticate (RFC 9110, section 11.6.1): the schemes that a registry offers, with their parameters."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_SCHEME = re.compile(rf"[\s,]*({_TOKEN})(?=\s|,|$)")
_PARAMETER = re.compile(rf'[\s,]*({_TOKEN})\s*=\s*("((?:[^"\\]|\\.)*)"|[^\s,]*)')
_LENGTH_MAX = 16 << 10


class Challenge(NamedTuple):
    """One offer, its scheme in lower case."""

    scheme: str
    parameters: dict[str, str]


def parse_challenges(headers: Iterable[str]) -> list[Challenge]:
    """The challenges of all WWW-Authenticate headers of an answer, in order. What is malformed ends its header."""
    found: list[Challenge] = []
    for header in headers:
        text, position = header[:_LENGTH_MAX], 0
        while (scheme := _SCHEME.match(text, position)) is not None:
            position = scheme.end()
            parameters: dict[str, str] = {}
            while (parameter := _PARAMETER.match(text, position)) is not None:
                quoted = parameter[3]
                value = parameter[2] if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
                parameters.setdefault(parameter[1].lower(), value)
                position = parameter.end()
            found.append(Challenge(scheme[1].lower(), parameters))
    return found
