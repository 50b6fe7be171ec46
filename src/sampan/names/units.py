"""Sizes as Docker reads and prints them (the go-units package): decimal for disk, binary for memory."""

from __future__ import annotations

import math
import re

from sampan.errors import InvalidParameter

_DECIMAL = ("B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB")
_BINARY = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB")
_PREFIXES = "kmgtp"
_FLOAT = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)")


def human_size(size: float, digits: int = 4) -> str:
    """Bytes in powers of 1000, as `docker images` prints them: `1.24MB`, at most `digits` significant
    digits.
    """
    return _scaled(size, 1000.0, _DECIMAL, digits)


def bytes_size(size: float) -> str:
    """Bytes in powers of 1024, as `docker stats` prints them: `1.5GiB`."""
    return _scaled(size, 1024.0, _BINARY, 4)


def parse_size(text: str) -> int:
    """Bytes of a size in powers of 1000: `1.5GB`, `10 k`, `42`. Raises InvalidParameter."""
    return _parse(text, 1000)


def parse_memory(text: str) -> int:
    """Bytes of a size in powers of 1024: `512m`, `1.5GiB`, `64k`, `100b`. Raises InvalidParameter."""
    return _parse(text, 1024)


def format_g(value: float, digits: int) -> str:
    """Go's `%.*g`: like C's, with an exponent of at least two digits from 10**digits on."""
    return f"{value:.{digits}g}"


def _scaled(size: float, base: float, units: tuple[str, ...], digits: int) -> str:
    step = 0
    while size >= base and step < len(units) - 1:
        size /= base
        step += 1
    return format_g(size, digits) + units[step]


def _parse(text: str, base: int) -> int:
    split = max(text.rfind(char) for char in "0123456789. ")
    if split == -1:
        raise InvalidParameter(f"invalid size: '{text}'")
    number = text[:split] if text[split] == " " else text[: split + 1]
    suffix = text[split + 1 :].lower()
    if not _FLOAT.fullmatch(number):
        raise InvalidParameter(f'strconv.ParseFloat: parsing "{number}": invalid syntax')
    value = float(number)
    if value < 0:
        raise InvalidParameter(f"invalid size: '{text}'")
    if suffix not in ("", "b"):
        prefix, rest = suffix[0], suffix[1:]
        if prefix not in _PREFIXES or rest not in ("", "b", "ib"):
            raise InvalidParameter(f"invalid suffix: '{suffix}'")
        value *= base ** (_PREFIXES.index(prefix) + 1)
    if not math.isfinite(value) or value >= 2**63:
        raise InvalidParameter(f"invalid size: '{text}'")
    return int(value)
