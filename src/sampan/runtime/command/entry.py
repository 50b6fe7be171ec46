"""The console script's first step: seal the interpreter, with as few imports as that takes.

Commands that start a process in a container run Python once more, from a read-only mount (CVE-2019-5736).
Whatever this first one imports is paid twice.
"""

from __future__ import annotations

import os
import sys

_ENTERING = frozenset({"create", "run", "exec"})
_CODE = "import sys; sys.path.extend(sys.argv.pop(1).split(chr(10))); from sampan.runtime.command.main import main; main()"


def main() -> None:
    """Carry out the command line of this process; ends by SystemExit."""
    if _ENTERING.intersection(sys.argv[1:]):
        _seal(sys.argv[1:])
    from sampan.runtime.command.main import main as command_line

    command_line()


def _seal(arguments: list[str]) -> None:
    """-I and -S: no environment variable and no site file of the caller's decides what is imported."""
    from sampan.runtime.container.interpreter import ensure_sealed

    source = os.path.abspath(__file__)
    for _ in ("entry.py", "command", "runtime", "sampan"):
        source = os.path.dirname(source)
    places = [source, *(_place_of("jeepney") if _asks_systemd(arguments) else [])]
    try:
        ensure_sealed([sys.executable, "-I", "-S", "-c", _CODE, "\n".join(places), *arguments])
    except OSError as error:
        sys.stderr.write(f"cannot seal the interpreter: {error.strerror}\n")
        sys.exit(1)


def _place_of(library: str) -> list[str]:
    """Where a library is installed that a sealed interpreter would not find."""
    from importlib.util import find_spec

    found = find_spec(library)
    return [os.path.dirname(os.path.dirname(found.origin))] if found and found.origin else []


def _asks_systemd(arguments: list[str]) -> bool:
    return any(word.lstrip("-").startswith("systemd-cgroup") for word in arguments if word.startswith("-"))
