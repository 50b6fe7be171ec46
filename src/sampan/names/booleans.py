"""Words for yes and no, as Go's `strconv.ParseBool` takes them, and so Docker."""

from __future__ import annotations

from sampan.errors import InvalidParameter

_WORDS = {
    **dict.fromkeys(("1", "t", "T", "TRUE", "true", "True"), True),
    **dict.fromkeys(("0", "f", "F", "FALSE", "false", "False"), False),
}


def word_for(text: str) -> bool | None:
    """What a word says; None for one that says neither."""
    return _WORDS.get(text)


def parse_bool(name: str, text: str) -> bool:
    """The value of `name=text`. Raises `InvalidParameter` in BuildKit's words."""
    value = _WORDS.get(text)
    if value is None:
        raise InvalidParameter(f'failed to parse {name}: strconv.ParseBool: parsing "{text}": invalid syntax')
    return value
