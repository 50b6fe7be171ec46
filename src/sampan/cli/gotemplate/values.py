"""How Go prints and judges values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def truth(value: Any) -> bool:
    """Go's: false, 0, nil and everything empty are false."""
    return bool(value)


def go_text(value: Any) -> str:
    """What fmt's %v makes of a value.

    >>> go_text({"b": 1, "a": [True, None, 1.0]})
    'map[a:[true <nil> 1] b:1]'
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "<nil>"
    if isinstance(value, Mapping) and type(value).__str__ is not dict.__str__:
        return str(value)  # it knows how it is printed
    if isinstance(value, Mapping):
        return "map[" + " ".join(f"{key}:{go_text(value[key])}" for key in sorted(value)) + "]"
    if isinstance(value, (list, tuple)):
        return "[" + " ".join(go_text(item) for item in value) + "]"
    if isinstance(value, float):
        return _float(value)
    return str(value)


def _float(value: float) -> str:
    """%v of a float64: like %g, with an exponent from 1e21 on."""
    if value != value or value in (float("inf"), float("-inf")):
        return {"nan": "NaN", "inf": "+Inf", "-inf": "-Inf"}[str(value)]
    if value == int(value) and abs(value) < 1e21:
        return str(int(value))
    return repr(value)


def go_print(values: tuple[Any, ...]) -> str:
    """fmt.Sprint: a space between two values when neither is a string."""
    text = ""
    for position, value in enumerate(values):
        if position and not isinstance(value, str) and not isinstance(values[position - 1], str):
            text += " "
        text += go_text(value)
    return text
