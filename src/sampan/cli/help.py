"""The option table of `--help`, in docker's layout."""

from __future__ import annotations

import shutil
import textwrap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import click


def option_table(params: Sequence[click.Parameter]) -> str:
    """One row per visible option, sorted by long name; help wrapped to the terminal's width."""
    rows = sorted((_row(param) for param in params if _is_visible(param)), key=lambda row: row[0][6:])
    if not rows:
        return ""
    margin = max(len(left) for left, _ in rows) + 3
    width = max(20, min(shutil.get_terminal_size((80, 24)).columns, 160) - margin)
    lines = []
    for left, help in rows:
        first, *others = textwrap.wrap(help, width) or [""]
        lines.append(left.ljust(margin) + first)
        lines += [" " * margin + other for other in others]
    return "\n".join(lines)


def _is_visible(param: click.Parameter) -> bool:
    return (
        param.param_type_name == "option"
        and not getattr(param, "hidden", False)
        and "--help" not in param.opts
    )


def _row(param: click.Parameter) -> tuple[str, str]:
    short = next((name for name in param.opts if not name.startswith("--")), "")
    long = next((name for name in param.opts if name.startswith("--")), "")
    left = f"  {short}, " if short else "      "
    is_flag = getattr(param, "is_flag", False)
    kind = (
        ""
        if is_flag
        else " " + ("list" if param.multiple and param.type.name == "string" else param.type.name)
    )
    help = str(getattr(param, "help", "") or "")
    default = param.default
    if is_flag and default is True:
        help += " (default true)"
    elif isinstance(default, (str, int, float)) and not is_flag and default not in ("", 0):
        help += f' (default "{default}")' if isinstance(default, str) else f" (default {default})"
    return left + long + kind, help
