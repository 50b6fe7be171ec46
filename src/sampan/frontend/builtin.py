"""Which frontends the builder has itself, whatever image they are asked for by."""

from __future__ import annotations

from collections.abc import Mapping

from sampan.dockerfile.syntax import Syntax, detect_syntax
from sampan.names.reference import parse_normalized

_DOCKERS = ("docker/dockerfile", "docker/dockerfile-upstream")
_ARGUMENT = "BUILDKIT_SYNTAX"


def is_built_in(image: str) -> bool:
    """Whether that image's work is done by the frontend here. Raises `InvalidParameter` for what is no image's name."""
    return bool(image) and parse_normalized(image).familiar_name() in _DOCKERS


def foreign_syntax(data: bytes, arguments: Mapping[str, str | None]) -> Syntax | None:
    """The frontend that has to be run for a file: the one of its head, or of a build argument; None when ours does it."""
    given = (arguments.get(_ARGUMENT) or "").strip()
    syntax = Syntax(given.partition(" ")[0], given, 0) if given else detect_syntax(data)
    return None if syntax is None or is_built_in(syntax.image) else syntax
