"""Signals as Docker names them."""

from __future__ import annotations

import signal

from sampan.errors import InvalidParameter

_NAMES = {name.removeprefix("SIG"): int(number) for name, number in signal.Signals.__members__.items()}
_RT_MIN = int(signal.SIGRTMIN)
_RT_MAX = int(signal.SIGRTMAX)


def _realtime(name: str) -> int | None:
    for base, start, sign in (("RTMIN", _RT_MIN, 1), ("RTMAX", _RT_MAX, -1)):
        if name.startswith(base):
            rest = name.removeprefix(base)
            if not rest:
                return start
            if rest[0] in "+-" and rest[1:].isdigit() and (1 if rest[0] == "+" else -1) == sign:
                number = start + sign * int(rest[1:])
                return number if _RT_MIN <= number <= _RT_MAX else None
    return None


def parse_signal(text: str) -> int:
    """The number of `KILL`, `SIGKILL`, `9` or `RTMIN+3`. Raises `InvalidParameter("invalid signal: x")`."""
    if text.isascii() and text.removeprefix("-").isdigit():
        number = int(text)
        if number == 0:
            raise InvalidParameter(f"invalid signal: {text}")
        if not 0 < number <= _RT_MAX:
            raise InvalidParameter(f"the linux daemon does not support signal {text}")
        return number
    name = text.upper().removeprefix("SIG")
    found = _NAMES.get(name) or _realtime(name)
    if found is None:
        raise InvalidParameter(f"invalid signal: {text}")
    return found
