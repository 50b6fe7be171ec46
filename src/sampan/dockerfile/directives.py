"""Parser directives: `# key=value` lines before anything else."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sampan.dockerfile.source import DockerfileError, Place, Source

_PAIR = re.compile(r"([a-zA-Z][a-zA-Z0-9]*)\s*=\s*(.+?)\s*$")
_KEYS = ("syntax", "escape", "check")


@dataclass(frozen=True, slots=True)
class Directives:
    """What the head of a file says; `count` is how many lines it takes."""

    syntax: str = ""
    escape: str = "\\"
    check: str = ""
    count: int = 0


def read_directives(source: Source) -> Directives:
    """The directives of a file.

    The head ends at the first line that isn't of the form `# key=value` with a known key, an empty one included. Raises
    `DockerfileError` for one that is given twice and for an escape that is neither a backslash nor a backtick.
    """
    found: dict[str, str] = {}
    count = 0
    for number, line in enumerate(source.lines, 1):
        line = line.strip()
        pair = directive(line[1:].lstrip()) if line.startswith("#") else None
        if pair is None:
            break
        key, value = pair
        count = number
        if key in found:
            raise DockerfileError(
                f"only one {key} parser directive can be used", source, Place(number, number)
            )
        if key == "escape" and value not in ("\\", "`"):
            raise DockerfileError(
                f"invalid escape token '{value}' does not match ` or \\", source, Place(number, number)
            )
        found[key] = value
    return Directives(**found, count=count)


def directive(comment: str) -> tuple[str, str] | None:
    """The key (in small letters) and value of a comment's text that has the form of a directive; None for another."""
    match = _PAIR.match(comment)
    if match is None or match[1].lower() not in _KEYS:
        return None
    return match[1].lower(), match[2]
