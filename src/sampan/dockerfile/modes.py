"""`chmod` in words: `u=rwX,go=rX`, `+x`, `a-w,u+s`. Runs in a worker; pure."""

from __future__ import annotations

import re
import stat
from typing import NamedTuple

from sampan.errors import InvalidParameter

_CLAUSE = re.compile(r"([ugoa]*)((?:[-+=](?:[ugo]|[rwxXst]*))+)")
_ACTION = re.compile(r"([-+=])([ugo]|[rwxXst]*)")
_ALL = {"u": 0o700, "g": 0o070, "o": 0o007}
_SHIFT = {"u": 6, "g": 3, "o": 0}


class Change(NamedTuple):
    """One action of one clause: whose bits, `+`, `-` or `=`, and which."""

    who: str
    operator: str
    what: str


def parse_mode(text: str) -> list[Change]:
    """The changes, in order. Raises `InvalidParameter`."""
    changes = []
    for clause in text.split(","):
        matched = _CLAUSE.fullmatch(clause)
        if matched is None:
            raise InvalidParameter(f"invalid mode: {text!r}")
        who = matched[1].replace("a", "ugo") or "ugo"
        changes += [Change(who, operator, what) for operator, what in _ACTION.findall(matched[2])]
    return changes


def changed_mode(mode: int, changes: list[Change]) -> int:
    """What a file's mode (with its type) becomes; the permission bits only. The umask counts for nothing."""
    result = stat.S_IMODE(mode)
    for who, operator, what in changes:
        bits = _bits(who, what, result, is_directory=stat.S_ISDIR(mode))
        if operator == "+":
            result |= bits
        elif operator == "-":
            result &= ~bits
        else:
            mask = 0
            for each in who:
                mask |= _ALL[each] | {"u": stat.S_ISUID, "g": stat.S_ISGID, "o": 0}[each]
            result = (result & ~mask) | bits
    return result


def _bits(who: str, what: str, mode: int, *, is_directory: bool) -> int:
    bits = 0
    if what in ("u", "g", "o"):
        copied = (mode >> _SHIFT[what]) & 7
        return sum(copied << _SHIFT[each] for each in set(who))
    executable = is_directory or bool(mode & 0o111)
    for letter in what:
        if letter == "s":
            bits |= (stat.S_ISUID if "u" in who else 0) | (stat.S_ISGID if "g" in who else 0)
        elif letter == "t":
            bits |= stat.S_ISVTX
        elif letter != "X" or executable:
            one = {"r": 4, "w": 2, "x": 1, "X": 1}[letter]
            for each in who:
                bits |= one << _SHIFT[each]
    return bits
