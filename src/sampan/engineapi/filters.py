"""Docker's `filters` query parameter.

A JSON object of name → values, where the values come as a list (`{"label": ["a", "b"]}`) or, from older and many present clients,
as a map of value → bool (`{"label": {"a": true}}`), where dockerd looks at the values alone. Values of one name are
alternatives, names are conditions that must all hold.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from sampan.errors import InvalidParameter


class Filters:
    """Parsed filters. Empty filters are falsy and match everything."""

    def __init__(self, values: Mapping[str, Iterable[str]] | None = None) -> None:
        self._values = {name: list(items) for name, items in (values or {}).items()}

    @classmethod
    def parse(cls, text: str | None) -> Filters:
        """From the query parameter. Raises `InvalidParameter("invalid filter")` as dockerd does."""
        if not text:
            return cls()
        try:
            document = msgspec.json.decode(text)
        except (msgspec.DecodeError, RecursionError) as error:
            raise InvalidParameter("invalid filter") from error
        if document is None:
            return cls()
        if not isinstance(document, dict):
            raise InvalidParameter("invalid filter")
        values: dict[str, list[str]] = {}
        for name, items in document.items():
            if isinstance(items, dict):
                items = list(items)
            if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
                raise InvalidParameter("invalid filter")
            values[name] = items
        return cls(values)

    def __bool__(self) -> bool:
        return any(self._values.values())

    def __contains__(self, name: str) -> bool:
        return bool(self._values.get(name))

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def get(self, name: str) -> list[str]:
        """All values of a name; [] when it is not there."""
        return self._values.get(name, [])

    def validate(self, accepted: Iterable[str]) -> None:
        """Raise `InvalidParameter("invalid filter 'x'")` for a name outside `accepted`."""
        allowed = set(accepted)
        for name in self._values:
            if name not in allowed:
                raise InvalidParameter(f"invalid filter '{name}'")

    def boolean(self, name: str, default: bool) -> bool:
        """The one boolean of a name, `default` when absent. Raises `InvalidParameter` for contradictions and other words."""
        values = self.get(name)
        if not values:
            return default
        truth = {"1": True, "true": True, "t": True, "0": False, "false": False, "f": False}
        found = {truth.get(value.lower()) for value in values}
        if len(found) != 1 or None in found:
            raise InvalidParameter(f"invalid filter '{name}=[{' '.join(values)}]'")
        return bool(found.pop())

    def exact(self, name: str, value: str) -> bool:
        """True when the name is absent or one of its values equals `value`."""
        values = self.get(name)
        return not values or value in values

    def match(self, name: str, value: str) -> bool:
        """True when the name is absent, or one of its values is found in `value` as a regular expression or plain text."""
        values = self.get(name)
        return not values or any(_found(pattern, value) for pattern in values)

    def labels(self, labels: Mapping[str, str] | None, name: str = "label") -> bool:
        """True when every `key` or `key=value` of the label filter is present: labels are all conditions, not alternatives."""
        return all(_has_label(wanted, labels or {}) for wanted in self.get(name))

    def labels_absent(self, labels: Mapping[str, str] | None) -> bool:
        """True when none of the `label!` filter's labels is present."""
        return not any(_has_label(wanted, labels or {}) for wanted in self.get("label!"))


def _found(pattern: str, value: str) -> bool:
    if pattern == value:
        return True
    try:
        return re.search(pattern, value) is not None
    except re.error:
        return False


def _has_label(wanted: str, labels: Mapping[str, str]) -> bool:
    key, equals, value = wanted.partition("=")
    return key in labels and (not equals or labels[key] == value)
