"""completion: the shells' scripts."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from sampan.cli.command import verb
from sampan.errors import InvalidParameter

if TYPE_CHECKING:
    from sampan.cli.session import Session


@verb(
    "bash|zsh|fish",
    "Print the completion script of a shell",
    arity=(1, 1),
    aliases=("completion",),
    examples='$ eval "$(sampan completion bash)"',
)
def completion(session: Session, args: tuple[str, ...]) -> None:
    from sampan.cli.completing import SCRIPTS

    script = SCRIPTS.get(args[0])
    if script is None:
        raise InvalidParameter(f"no completion for {args[0]!r}: bash, zsh and fish have one")
    sys.stdout.write(script)
