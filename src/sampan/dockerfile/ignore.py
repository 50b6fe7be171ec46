"""`.dockerignore`: which paths of a context stay behind.

Patterns are Go's `filepath.Match` with `**` for any number of directories; the last that matches decides, `!` takes a path
back in, and a pattern that matches a directory matches all below it.
"""

from __future__ import annotations

import posixpath
import re
from typing import NamedTuple

from sampan.dockerfile.source import DockerfileError


class _Rule(NamedTuple):
    expression: re.Pattern[str]
    takes_back: bool
    literal_parent: str


class Ignore:
    """A matcher. `Ignore.read(text)` makes one of a file, `Ignore(patterns)` of cleaned patterns."""

    def __init__(self, patterns: list[str]) -> None:
        self._rules = [_rule(pattern) for pattern in patterns]
        self._takes_back = any(rule.takes_back for rule in self._rules)

    @classmethod
    def read(cls, text: str) -> Ignore:
        """Of a file's content: comments and empty lines are left out, patterns are cleaned (`./a/` is `a`)."""
        return cls(patterns_of(text))

    def excludes(self, path: str) -> bool:
        """Whether a path (relative, slashes, no leading `./`) stays behind, by its own name or that of a directory above it."""
        parts = path.split("/")
        excluded = False
        for rule in self._rules:
            if rule.takes_back == excluded and any(
                rule.expression.match("/".join(parts[:count])) for count in range(1, len(parts) + 1)
            ):
                excluded = not rule.takes_back
        return excluded

    def skips(self, directory: str) -> bool:
        """Whether an excluded directory need not be walked: nothing below it can be taken back in."""
        if not self.excludes(directory):
            return False
        if not self._takes_back:
            return True
        return not any(rule.takes_back and _overlap(rule.literal_parent, directory) for rule in self._rules)


def _overlap(one: str, other: str) -> bool:
    """Whether one path is the other, or stands above or below it; `""` is the top."""
    return not one or one == other or one.startswith(other + "/") or other.startswith(one + "/")


def patterns_of(text: str) -> list[str]:
    """The cleaned patterns of a file's text."""
    patterns = []
    for number, line in enumerate(text.removeprefix("\ufeff").splitlines()):
        if line.startswith("#") or not line.strip():
            continue
        pattern = line.strip()
        back = pattern.startswith("!")
        if back:
            pattern = pattern[1:].strip()
            if not pattern:
                raise DockerfileError(
                    f'illegal exclusion pattern: "!" on line {number + 1} of the ignore file'
                )
        cleaned = posixpath.normpath(pattern)
        if cleaned.startswith("/") and len(cleaned) > 1:
            cleaned = cleaned.lstrip("/")
        patterns.append("!" * back + cleaned)
    return patterns


def _rule(pattern: str) -> _Rule:
    back = pattern.startswith("!")
    pattern = pattern[back:]
    literal = re.match(r"[^*?\[\\]*", pattern)
    parent = (literal[0] if literal else "").rpartition("/")[0] if not _is_literal(pattern) else pattern
    try:
        return _Rule(re.compile(expression_of(pattern), re.DOTALL), back, parent)
    except re.error:
        raise DockerfileError("syntax error in pattern") from None


def _is_literal(pattern: str) -> bool:
    return not re.search(r"[*?\[\\]", pattern)


def expression_of(pattern: str) -> str:
    """A pattern as a regular expression for a whole path. Raises `DockerfileError` for one that is malformed."""
    result = []
    at = 0
    while at < len(pattern):
        letter = pattern[at]
        at += 1
        if letter == "*":
            if pattern[at : at + 1] == "*":
                at += 1
                if pattern[at : at + 1] == "/":
                    at += 1
                    result.append("(?:.*/)?")
                else:
                    result.append(".*")
            else:
                result.append("[^/]*")
        elif letter == "?":
            result.append("[^/]")
        elif letter == "[":
            end, expression = _class(pattern, at)
            result.append(expression)
            at = end
        elif letter == "\\":
            if at >= len(pattern):
                raise DockerfileError("syntax error in pattern")
            result.append(re.escape(pattern[at]))
            at += 1
        else:
            result.append(re.escape(letter))
    return "".join(result) + r"\Z"


def _class(pattern: str, at: int) -> tuple[int, str]:
    """`[a-z]`, `[^a]` after its bracket: where it ends, and as a regular expression (never a slash)."""
    negated = pattern[at : at + 1] == "^"
    at += negated
    members = ""
    first = True
    while at < len(pattern) and (first or pattern[at] != "]"):
        first = False
        if pattern[at] == "\\":
            at += 1
            if at >= len(pattern):
                break
            members += re.escape(pattern[at])
        elif pattern[at] == "-":
            members += "-"
        else:
            members += re.escape(pattern[at])
        at += 1
    if at >= len(pattern) or not members:
        raise DockerfileError("syntax error in pattern")
    return at + 1, f"(?!/)[{'^' * negated}{members}]"
