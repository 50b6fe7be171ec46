"""What somebody may have meant."""

from __future__ import annotations

from collections.abc import Iterable


def distance(left: str, right: str) -> int:
    """How many letters must be changed, added or left out to make one of the other (Levenshtein's distance)."""
    row = list(range(len(right) + 1))
    for index, letter in enumerate(left, 1):
        corner, row[0] = row[0], index
        for column, other in enumerate(right, 1):
            corner, row[column] = (
                row[column],
                min(row[column] + 1, row[column - 1] + 1, corner + (letter != other)),
            )
    return row[-1]


def suggestion(word: str, known: Iterable[str]) -> str:
    """` (did you mean X?)` when one of `known` is at most two letters away, else ``""``."""
    nearest, best = 3, ""
    for each in known:
        away = distance(word.lower(), each.lower())
        if 0 < away < nearest:
            nearest, best = away, each
    if not best:
        return ""
    return f" (did you mean {best.lower() if word.islower() else best}?)"


def closest(word: str, known: Iterable[str]) -> str:
    """The first of those that are fewest letters away, of at most two; "" when none is, or `word` is one of them.

    >>> closest("VERSON", ["TAG", "VERSION"])
    'VERSION'
    """
    best, found = 3, ""
    for each in known:
        away = distance(word, each)
        if not away:
            return ""
        if away < best:
            best, found = away, each
    return found
