"""Read JSON as Go's `encoding/json` reads it into a struct, because that is what Docker's clients were written against.

Names match case-insensitively (`{"image": …}` is `Image`), null leaves the field as it is, unknown fields are ignored. msgspec
does the typed part; this module brings the document into its form first.
"""

from __future__ import annotations

import re
import types
import typing
from functools import lru_cache
from typing import Any, TypeVar

import msgspec

from sampan.errors import InvalidParameter

T = TypeVar("T")

_ESCAPE = re.compile(
    r"\\\\|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(?P<lone>\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
)
"""Escapes of JSON text: a backslash, a surrogate pair, a lone surrogate."""

_INT64 = 1 << 63
"""What Go's int64, SQLite and the kernel's files hold."""

Words = typing.Annotated[list[str], msgspec.Meta(title="words")]
"""A command as Docker's `strslice` reads it: a list of strings, or one string that stands for a list of one."""


def decode(data: bytes, shape: type[T]) -> T:
    """Parse `data` into `shape` (usually a msgspec struct).

    Raises `InvalidParameter` naming the field and what was wrong with it.
    """
    if not data.strip():
        raise InvalidParameter("invalid JSON: EOF")
    try:
        document = _parse(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidParameter(_malformed(str(error))) from error
    return convert({} if document is None else document, shape)


def _parse(data: bytes) -> Any:
    """A JSON document. What is no Unicode becomes U+FFFD: bytes that are no UTF-8, and half a surrogate pair."""
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        repaired = _ESCAPE.sub(_whole, data.decode(errors="replace")).encode()
        if repaired == data:
            raise
        return msgspec.json.decode(repaired)


def _whole(escape: re.Match[str]) -> str:
    return "\\ufffd" if escape["lone"] else escape[0]


def _malformed(reason: str) -> str:
    """Go's words for what is no JSON document, where msgspec says the same."""
    if "truncated" in reason:
        return "invalid JSON: unexpected EOF"
    if "trailing characters" in reason:
        return "unexpected content after JSON"
    return f"invalid JSON: {reason}"


def convert(document: object, shape: type[T]) -> T:
    """Like `decode`, from an already parsed document."""
    try:
        return msgspec.convert(_fold(document, shape), shape, strict=True)
    except msgspec.ValidationError as error:
        raise InvalidParameter(f"invalid JSON: {error}") from error


def _fold(value: Any, shape: Any) -> Any:
    """`value` with its names spelled as `shape` spells them, and without nulls and unknown names."""
    if isinstance(value, dict):
        fields = _struct_fields(shape)
        if fields is None:
            element = _mapping_element(shape)
            return value if element is None else {name: _fold(item, element) for name, item in value.items()}
        folded = {}
        for name, item in value.items():
            if item is None:
                continue
            field = fields.get(name) or fields.get(name.lower())
            if field is not None:
                folded[field[0]] = _fold(item, field[1])
        return folded
    if isinstance(value, list):
        element = _list_element(shape)
        return (
            value
            if element is None
            else [_fold(_zero(element) if item is None else item, element) for item in value]
        )
    if isinstance(value, str) and Words in _members_raw(shape):
        return [value]
    if isinstance(value, int) and not -_INT64 <= value < _INT64:
        raise InvalidParameter(f"invalid JSON: Expected `int64`, got `{value}`")
    return value


def _zero(shape: Any) -> Any:
    """What null is as an element of a list: the type's zero value."""
    if type(None) in _members(shape):
        return None
    zeros: dict[Any, Any] = {str: "", int: 0, bool: False, float: 0.0}
    return next((zeros[member] for member in _members(shape) if member in zeros), {})


@lru_cache(maxsize=1024)
def _struct_fields(shape: Any) -> dict[str, tuple[str, Any]] | None:
    """Encoded name and lower-case name → (encoded name, type), for structs and optional structs."""
    for candidate in _members(shape):
        if isinstance(candidate, type) and issubclass(candidate, msgspec.Struct):
            fields: dict[str, tuple[str, Any]] = {}
            for field in msgspec.structs.fields(candidate):
                fields[field.encode_name] = (field.encode_name, field.type)
                fields.setdefault(field.encode_name.lower(), (field.encode_name, field.type))
            return fields
    return None


@lru_cache(maxsize=1024)
def _mapping_element(shape: Any) -> Any:
    for candidate in _members(shape):
        if typing.get_origin(candidate) is dict:
            return typing.get_args(candidate)[1]
    return None


@lru_cache(maxsize=1024)
def _list_element(shape: Any) -> Any:
    for candidate in _members(shape):
        if typing.get_origin(candidate) in (list, tuple):
            return typing.get_args(candidate)[0]
    return None


def _members_raw(shape: Any) -> tuple[Any, ...]:
    """The alternatives of a union with their annotations."""
    return typing.get_args(shape) if typing.get_origin(shape) in (typing.Union, types.UnionType) else (shape,)


def _members(shape: Any) -> tuple[Any, ...]:
    """The alternatives of a union, or the type itself."""
    origin = typing.get_origin(shape)
    if origin is typing.Union or origin is types.UnionType:
        return typing.get_args(shape)
    if origin is typing.Annotated:
        return _members(typing.get_args(shape)[0])
    return (shape,)
