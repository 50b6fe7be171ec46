"""Help in docker's layout: tables of flags and of commands, and the pages of the program and its groups."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from sampan.cli.command import HELP, PROGRAM
from sampan.cli.commands import COMMON, GROUPS, TOP

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sampan.cli.flags import Flag


_SLACK = 5


def program_page(flags: Sequence[Flag]) -> str:
    """`sampan --help`"""
    groups = {name: help for name, (help, _) in GROUPS.items()}
    others = {name: home.help for name, home in TOP.items() if name not in COMMON}
    return (
        f"Usage:  {PROGRAM} [OPTIONS] COMMAND\n\nThe whole container platform as one Python package\n\n"
        f"Common Commands:\n{_table({name: TOP[name].help for name in COMMON})}\n\n"
        f"Management Commands:\n{_table(dict(sorted(groups.items())))}\n\n"
        f"Commands:\n{_table(dict(sorted((others | {'serve': 'Run the engine in the foreground'}).items())))}\n\n"
        f"Global Options:\n{option_table(flags)}\n\n"
        f"Run '{PROGRAM} COMMAND --help' for more information on a command."
    )


def group_page(name: str) -> str:
    """`sampan container --help`"""
    path = f"{PROGRAM} {name}"
    help, homes = GROUPS[name]
    rows = {verb: home.help for verb, home in sorted(homes.items())}
    return (
        f"Usage:  {path} COMMAND\n\n{help}\n\nCommands:\n{_table(rows)}\n\n"
        f"Run '{path} COMMAND --help' for more information on a command."
    )


def _table(rows: dict[str, str]) -> str:
    width = max(11, *map(len, rows))
    return "\n".join(f"  {name.ljust(width)} {help}" for name, help in rows.items())


def option_table(flags: Sequence[Flag]) -> str:
    """One row per visible flag, sorted by long name; help wrapped to the terminal's width."""
    rows = sorted((_row(flag) for flag in flags if not flag.hidden and flag is not HELP), key=_long_name)
    if not rows:
        return ""
    margin = max(len(left) for left, _ in rows) + 3
    width = max(20, min(shutil.get_terminal_size((80, 24)).columns, 160) - margin)
    lines = []
    for left, help in rows:
        first, *others = _wrapped(help, width)
        lines.append(left.ljust(margin) + first)
        lines += [" " * margin + other for other in others]
    return "\n".join(lines)


def _wrapped(text: str, width: int) -> list[str]:
    """As docker wraps: five columns short of the width, unless what is left fits into all of it; line feeds stay."""
    lines = []
    while len(text) >= width:
        at = text.rfind("\n", 0, width - _SLACK)
        if at < 0:
            at = text.rfind(" ", 0, width - _SLACK)
        if at <= 0:
            break
        lines.append(text[:at])
        text = text[at + 1 :]
    return [*lines, *text.split("\n")]


def _long_name(row: tuple[str, str]) -> str:
    return row[0][6:]


def _row(flag: Flag) -> tuple[str, str]:
    short = next((name for name in flag.names if not name.startswith("--")), "")
    long = next(name for name in flag.names if name.startswith("--"))
    left = f"  {short}, {long}" if short else f"      {long}"
    help = flag.help
    if flag.kind is None:
        return left, help + (" (default true)" if flag.default else "")
    if isinstance(flag.default, str) and flag.default:
        help += f' (default "{flag.default}")'
    elif isinstance(flag.default, int) and flag.default:
        help += f" (default {flag.default})"
    kind = "list" if flag.repeated and flag.kind.name == "string" else flag.kind.name
    return f"{left} {kind}", help
