"""The user's terminal: size, raw mode, detach keys."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING

from sampan.errors import InvalidParameter

if TYPE_CHECKING:
    from collections.abc import Iterator

DETACH_KEYS = "ctrl-p,ctrl-q"
_CONTROL = {"@": 0, "[": 27, "\\": 28, "]": 29, "^": 30, "_": 31}


def size() -> tuple[int, int]:
    """(rows, columns) of the terminal."""
    for descriptor in (0, 1, 2):
        try:
            columns, rows = os.get_terminal_size(descriptor)
        except OSError:
            continue
        return rows, columns
    return 24, 80


def is_terminal(descriptor: int) -> bool:
    try:
        return os.isatty(descriptor)
    except OSError:
        return False


@contextlib.contextmanager
def raw_mode() -> Iterator[None]:
    """Keys go to the container as they are pressed; the terminal is as before afterwards, whatever happens.

    Does nothing when stdin is no terminal, or on systems without termios.
    """
    try:
        import termios
        import tty
    except ImportError:  # Windows
        yield
        return
    descriptor = sys.stdin.fileno()
    if not is_terminal(descriptor):
        yield
        return
    before = termios.tcgetattr(descriptor)
    try:
        tty.setraw(descriptor, termios.TCSANOW)
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def parse_keys(text: str) -> bytes:
    """Detach keys as docker spells them.

    >>> parse_keys("ctrl-p,ctrl-q")
    b'\\x10\\x11'
    """
    keys = bytearray()
    for word in text.split(","):
        name = word.removeprefix("ctrl-")
        if name == word and len(word) == 1 and word.isascii():
            keys += word.encode()
        elif name != word and len(name) == 1 and name.isascii() and name.isalpha():
            keys.append(ord(name.lower()) - ord("a") + 1)
        elif name != word and name in _CONTROL:
            keys.append(_CONTROL[name])
        elif word == "DEL":
            keys.append(127)
        else:
            raise InvalidParameter(f"Unknown character: '{word}'")
    return bytes(keys)


def chosen_keys(given: str) -> str:
    """Detach keys as docker chooses them: the flag, `detachKeys` of the client's config.json, else ctrl-p ctrl-q.

    Raises `InvalidParameter` for keys that are none, in docker's words.
    """
    from sampan.cli.configfile import read_config

    configured = "" if given else read_config().get("detachKeys")
    keys = given or (configured if isinstance(configured, str) and configured else DETACH_KEYS)
    try:
        parse_keys(keys)
    except InvalidParameter as error:
        raise InvalidParameter(f"invalid detach keys ({keys}): {error}") from None
    return keys


class DetachWatch:
    """Finds the detach keys in what is typed, however the bytes are split.

    >>> watch = DetachWatch(b"\\x10\\x11")
    >>> watch.feed(b"ls\\x10"), watch.feed(b"\\x11")
    ((b'ls', False), (b'', True))
    """

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._held = b""

    def feed(self, typed: bytes) -> tuple[bytes, bool]:
        """(bytes to pass on, whether the user detached). A beginning of the keys is held back until it is decided."""
        if not self._keys:
            return typed, False
        data = self._held + typed
        found = data.find(self._keys)
        if found >= 0:
            self._held = b""
            return data[:found], True
        for length in range(min(len(self._keys) - 1, len(data)), 0, -1):
            if data.endswith(self._keys[:length]):
                self._held = data[-length:]
                return data[:-length], False
        self._held = b""
        return data, False
