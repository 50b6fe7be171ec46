"""Query parameters as dockerd reads them."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qsl

from sampan.engineapi.filters import Filters
from sampan.errors import InvalidParameter

_MAX_DIMENSION = 0xFFFF
"""Of a terminal; the kernel keeps 16 bits."""
_FALSE = frozenset({"", "0", "no", "false", "none"})


class Query:
    """The parameters of one request. A name given several times counts by its first value, except for `all`."""

    def __init__(self, text: str) -> None:
        self._values: dict[str, list[str]] = {}
        for name, value in parse_qsl(text, keep_blank_values=True):
            self._values.setdefault(name, []).append(value)

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def text(self, name: str, default: str = "") -> str:
        """The value, or `default` when the name is absent."""
        values = self._values.get(name)
        return values[0] if values else default

    def all(self, name: str) -> list[str]:
        """Every value of a repeated name."""
        return self._values.get(name, [])

    def boolean(self, name: str, default: bool = False) -> bool:
        """dockerd's `httputils.BoolValue`: empty, 0, no, false and none are false, any other word is true."""
        values = self._values.get(name)
        return default if not values else values[0].strip().lower() not in _FALSE

    def integer(self, name: str, default: int = 0) -> int:
        """A whole number. Raises `InvalidParameter` for anything else."""
        text = self.text(name)
        if not text:
            return default
        try:
            return int(text)
        except ValueError:
            raise InvalidParameter(f'strconv.Atoi: parsing "{text}": invalid syntax') from None

    def dimension(self, name: str, what: str) -> int:
        """One side of a terminal's size, which must be given. Raises `InvalidParameter`."""
        text = self.text(name)
        if not text.removeprefix("-").isdigit() or not text.isascii():
            raise InvalidParameter(f'invalid resize {what} "{text}": invalid syntax')
        if not 0 <= int(text) < 1 << 32:
            raise InvalidParameter(f'invalid resize {what} "{text}": value out of range')
        return min(int(text), _MAX_DIMENSION)

    def filters(self) -> Filters:
        """The `filters` parameter. Raises `InvalidParameter`."""
        return Filters.parse(self.text("filters"))

    def as_mapping(self) -> Mapping[str, list[str]]:
        """All of them, for routes with dozens of parameters (`/build`)."""
        return self._values
