"""The functions that a format can call: Go's own, and Docker's."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sampan.cli.gotemplate.parse import TemplateError
from sampan.cli.gotemplate.values import go_print, go_text, truth


def go_json(value: Any) -> str:
    """JSON as Go's encoder writes it: compact, with <, > and & escaped.

    >>> go_json({"a": "<none>"})
    '{"a":"\\\\u003cnone\\\\u003e"}'
    """
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        if isinstance(value, Mapping):
            value = value.get(key)
        elif isinstance(value, (str, list, tuple)):
            if not isinstance(key, int):
                raise TemplateError(f"cannot index slice/array with type {_type_name(key)}")
            if not 0 <= key < len(value):
                raise TemplateError(f"error calling index: index out of range: {key}")
            value = value[key]
        else:
            raise TemplateError(f"error calling index: can't index item of type {_type_name(value)}")
    return value


def _slice(value: Any, *bounds: int) -> Any:
    if not isinstance(value, (str, list, tuple)):
        raise TemplateError(f"error calling slice: can't slice item of type {_type_name(value)}")
    low, high = (*bounds, *(0, len(value))[len(bounds) :])[:2]
    if not 0 <= low <= high <= len(value):
        raise TemplateError(f"error calling slice: index out of range: {high}")
    return value[low:high]


def _len(value: Any) -> int:
    if not hasattr(value, "__len__"):
        raise TemplateError(f"error calling len: len of type {_type_name(value)}")
    return len(value)


def _type_name(value: Any) -> str:
    if value is None:
        return "untyped nil"
    names = {bool: "bool", int: "int", float: "float64", str: "string", list: "[]interface {}"}
    return names.get(type(value), "map[string]interface {}")


def _eq(first: Any, *others: Any) -> bool:
    if not others:
        raise TemplateError("error calling eq: missing argument for comparison")
    for other in others:
        if isinstance(first, (str, bool, int, float)) and isinstance(other, (str, bool, int, float)):
            number = (int, float)
            alike = type(first) is type(other) or (
                isinstance(first, number)
                and isinstance(other, number)
                and not isinstance(first, bool)
                and not isinstance(other, bool)
            )
            if not alike:
                raise TemplateError("error calling eq: incompatible types for comparison")
        if first == other:
            return True
    return False


def _less(name: str, test: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def compare(first: Any, second: Any) -> bool:
        try:
            return test(first, second)
        except TypeError:
            raise TemplateError(f"error calling {name}: incompatible types for comparison") from None

    return compare


def _truncate(text: str, length: int) -> str:
    return text[: max(0, length)] if length < len(text) else text


def _pad(text: str, before: int, after: int) -> str:
    return " " * before + text + " " * after if text else text


def _title(text: str) -> str:
    return re.sub(r"(^|[^\w'])(\w)", lambda found: found[1] + found[2].upper(), text)


def _join(values: Sequence[Any], separator: str) -> str:
    return separator.join(go_text(value) for value in values or [])


_VERB = re.compile(r"%(?P<flags>[-+# 0]*)(?P<width>\d*)(?:\.(?P<precision>\d+))?(?P<verb>.)", re.DOTALL)


def printf(template: str, *arguments: Any) -> str:
    """Go's fmt.Sprintf for the verbs %s %v %q %d %x %X %o %b %c %U %t %f %e %g %T %%.

    >>> printf("%-5s|%05d|%q|%5.1f", "ab", 42, "x", 2.25)
    'ab   |00042|"x"|  2.2'
    """
    queue = list(arguments)

    def replace(found: re.Match[str]) -> str:
        verb = found["verb"]
        if verb == "%":
            return "%"
        if not queue:
            return f"%!{verb}(MISSING)"
        text = _verb(verb, queue.pop(0), found["flags"], found["precision"])
        return _fit(text, found["flags"], int(found["width"] or 0), verb)

    text = _VERB.sub(replace, template)
    if queue:
        extra = ", ".join(f"{_type_name(value)}={go_text(value)}" for value in queue)
        text += f"%!(EXTRA {extra})"
    return text


def _fit(text: str, flags: str, width: int, verb: str) -> str:
    if "-" in flags:
        return text.ljust(width)
    if "0" in flags and verb in "dxXobfeg":
        return text.zfill(width)
    return text.rjust(width)


def _verb(verb: str, value: Any, flags: str, precision: str | None) -> str:
    places = int(precision) if precision is not None else None
    if verb in "sv":
        text = go_text(value)
        return text[:places] if places is not None and verb == "s" else text
    if verb == "q":
        return json.dumps(go_text(value), ensure_ascii=False)
    if verb == "T":
        return _type_name(value)
    if verb == "t" and isinstance(value, bool):
        return go_text(value)
    if verb in "dxXobcU" and isinstance(value, int) and not isinstance(value, bool):
        return _integer(verb, value, flags)
    if verb in "xX" and isinstance(value, str):
        return value.encode().hex() if verb == "x" else value.encode().hex().upper()
    if verb in "feg" and isinstance(value, (int, float)):
        if verb == "g" and places is None:
            return go_text(float(value))
        return f"{value:.{6 if places is None else places}{verb}}"
    return f"%!{verb}({_type_name(value)}={go_text(value)})"


def _integer(verb: str, value: int, flags: str) -> str:
    if verb == "c":
        return chr(value)
    if verb == "U":
        return f"U+{value:04X}"
    prefix = {"x": "0x", "X": "0X", "o": "0"}.get(verb, "") if "#" in flags else ""
    sign = "+" if "+" in flags and value >= 0 else ""
    return sign + prefix + format(value, verb)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "eq": _eq,
    "ne": lambda first, second: not _eq(first, second),
    "lt": _less("lt", lambda a, b: bool(a < b)),
    "le": _less("le", lambda a, b: bool(a <= b)),
    "gt": _less("gt", lambda a, b: bool(a > b)),
    "ge": _less("ge", lambda a, b: bool(a >= b)),
    "not": lambda value: not truth(value),
    "len": _len,
    "index": _index,
    "slice": _slice,
    "print": lambda *values: go_print(values),
    "println": lambda *values: " ".join(go_text(value) for value in values) + "\n",
    "printf": printf,
    "json": go_json,
    "join": _join,
    "split": lambda text, separator: text.split(separator) if separator else list(text),
    "lower": lambda text: text.lower(),
    "upper": lambda text: text.upper(),
    "title": _title,
    "pad": _pad,
    "truncate": _truncate,
}

ARITY = {
    **dict.fromkeys(("not", "len", "json", "lower", "upper", "title"), 1),
    **dict.fromkeys(("ne", "lt", "le", "gt", "ge", "join", "split", "truncate"), 2),
    "pad": 3,
}
"""Functions with a fixed number of arguments."""
