"""Lists as docker prints them: tables, templates, JSON.

A verb makes one record (name → text) per object and says which columns its table has. `--format` may then be empty
(the table), `table TEMPLATE`, `json`, or a template that is rendered once per record.
"""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any

from sampan.cli.gotemplate import Template, TemplateError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_PADDING = 3
_LEAST_WIDTH = 10


class Format:
    """A parsed `--format`; `default` is the table used when the user gave none.

    `headers` maps a field to its column's heading; `kind` is docker's name of the record's type, for messages.
    """

    def __init__(self, given: str, default: str, headers: Mapping[str, str], kind: str) -> None:
        text = given or default
        text = "table " + default.removeprefix("table ") if text in ("table", "table ") else text
        self.is_table = text.startswith("table")
        self.is_json = text in ("json", "{{json .}}", "{{ json . }}")
        source = text.removeprefix("table").lstrip(" ") if self.is_table else text
        source = source.replace(r"\t", "\t").replace(r"\n", "\n")
        self._headers = headers
        self._kind = kind
        self._template = None if self.is_json else _parse(source)

    def render(self, records: Iterable[Mapping[str, Any]]) -> str:
        """The whole text, with a line feed at the end of each line. Raises TemplateError."""
        if self._template is None:
            from sampan.cli.gotemplate.functions import go_json

            return "".join(go_json(_public(record)) + "\n" for record in records)
        lines = [self._line(self._template, record) for record in records]
        if not self.is_table:
            return "".join(line + "\n" for line in lines)
        return align([self._heading(self._template), *lines])

    def _line(self, template: Template, record: Mapping[str, Any]) -> str:
        try:
            return template.render(
                record, lambda field: f"can't evaluate field {field} in type *formatter.{self._kind}"
            )
        except TemplateError as error:
            raise TemplateError(f"failed to execute template: {error}") from None

    def _heading(self, template: Template) -> str:
        """The template over the column headings; functions that need other than text find them as they are."""
        try:
            return template.render(_Headings(self._headers))
        except TemplateError:
            return ""


class _Headings(dict[str, Any]):
    """Headings by field; a field without one is its own, in capitals."""

    def __missing__(self, key: str) -> str:
        return key.upper()

    def __contains__(self, key: object) -> bool:
        return True


def _public(record: Mapping[str, Any]) -> dict[str, Any]:
    return {name: record[name] for name in sorted(record) if not name.startswith("_")}


def _label(record: Mapping[str, Any], name: str) -> str:
    """`.Label "name"`: the value among the record's `_labels`; in a heading, the name."""
    return name if isinstance(record, _Headings) else str(record["_labels"].get(name, ""))


def _parse(source: str) -> Template:
    # In Go `.Label "x"` calls a method of the record; here it is a function of it.
    source = re.sub(r"\.Label\s+(\"[^\"]*\"|`[^`]*`)", r"label $ \1", source)
    try:
        return Template(source, {"label": _label})
    except TemplateError as error:
        raise TemplateError(f"failed to parse template: {error}") from None


def align(lines: Sequence[str], least: int = _LEAST_WIDTH) -> str:
    """Tab-separated cells in columns, as Go's tabwriter with width 10 and padding 3 sets them.

    >>> align(["A\\tB", "long word here\\tx"])
    'A                B\\nlong word here   x\\n'
    """
    rows = [line.split("\t") for line in "\n".join(lines).split("\n")]
    widths: list[int] = []
    for row in rows:
        for column, cell in enumerate(row[:-1]):  # the last cell of a line is not part of a column
            if column == len(widths):
                widths.append(0)
            widths[column] = max(widths[column], len(cell))
    padded = [max(width + _PADDING, least) for width in widths]
    return "".join(
        "".join(cell.ljust(padded[column]) for column, cell in enumerate(row[:-1])) + row[-1] + "\n"
        for row in rows
    )


def show(
    given: str, default: str, headers: Mapping[str, str], kind: str, records: Iterable[Mapping[str, Any]]
) -> None:
    """Print records in the format that the user asked for."""
    sys.stdout.write(Format(given, default, headers, kind).render(records))
