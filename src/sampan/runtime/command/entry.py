"""The console script's first step: seal the interpreter, with as few imports as that takes.

Commands that start a process in a container run Python once more, from a read-only mount (CVE-2019-5736).
Whatever this first one imports is paid twice.
"""

from __future__ import annotations

import os
import sys

_ENTERING = frozenset({"create", "run", "exec"})
_CODE = "import sys; sys.path.append(sys.argv.pop(1)); from sampan.runtime.command.main import main; main()"


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
    try:
        ensure_sealed([sys.executable, "-I", "-S", "-c", _CODE, source, *arguments])
    except OSError as error:
        sys.stderr.write(f"cannot seal the interpreter: {error.strerror}\n")
        sys.exit(1)
