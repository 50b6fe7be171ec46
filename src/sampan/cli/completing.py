"""Shell completion: what may stand next on a command line.

The shells' scripts (`sampan completion bash`) call `sampan __complete WORDS…`, the last word being the unfinished one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sampan.cli.command import CommandLineError
from sampan.cli.commands import GROUPS, TOP

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sampan.cli.flags import Flag

SCRIPTS = {
    "bash": """_sampan() {
    local IFS=$'\\n'
    COMPREPLY=($(sampan __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
}
complete -o default -F _sampan sampan
""",
    "zsh": """#compdef sampan
_sampan() {
    local -a found
    found=("${(@f)$(sampan __complete "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    compadd -a found || _files
}
compdef _sampan sampan
""",
    "fish": """complete -c sampan -f -a '(sampan __complete (commandline -opc)[2..] (commandline -ct) 2>/dev/null)'
""",
}


def candidates(words: Sequence[str]) -> list[str]:
    """Commands, then flags; nothing where only the engine or the file system knows more.

    >>> candidates(["container", "unp"])
    ['unpause']
    """
    from sampan.cli.main import GLOBAL_FLAGS, find

    *before, unfinished = words or [""]
    if not before:
        names = [*TOP, *GROUPS, "serve"]
        return _starting(unfinished, _long(GLOBAL_FLAGS) if unfinished.startswith("-") else names)
    if before[0] in GROUPS and len(before) == 1:
        return _starting(unfinished, GROUPS[before[0]][1])
    if not unfinished.startswith("-") or before[0].startswith("-"):
        return []
    try:
        found = find(before)
    except CommandLineError:
        return []
    return _starting(unfinished, _long(found[0].flags)) if found else []


def _long(flags: Sequence[Flag]) -> list[str]:
    return [name for flag in flags if not flag.hidden for name in flag.names if name.startswith("--")]


def _starting(prefix: str, names: Iterable[str]) -> list[str]:
    return sorted(name for name in names if name.startswith(prefix))
