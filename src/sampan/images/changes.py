"""Dockerfile instructions as `docker commit --change` and `docker import --change` take them.

A change edits an image's configuration; it runs nothing. dockerd allows eleven instructions here and parses them as a Dockerfile,
so several lines, continuations and variables (`ENV PATH=$PATH:/opt`) work.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from sampan.dockerfile.configure import configure
from sampan.dockerfile.instructions import Cmd, Entrypoint
from sampan.dockerfile.parse import parse
from sampan.dockerfile.source import DockerfileError, source_of
from sampan.dockerfile.typed import typed
from sampan.errors import InvalidParameter
from sampan.oci.image import ContainerConfig

_ALLOWED = frozenset(
    {
        *("CMD", "ENTRYPOINT", "ENV", "EXPOSE", "HEALTHCHECK", "LABEL", "ONBUILD", "STOPSIGNAL", "USER"),
        *("VOLUME", "WORKDIR"),
    }
)


def apply_changes(config: ContainerConfig, changes: Iterable[str]) -> ContainerConfig:
    """A copy of `config` with the instructions applied in order.

    Raises `InvalidParameter` in dockerd's words, for an instruction that is unknown, not allowed here or malformed.
    """
    changes = list(changes)
    changed = msgspec.convert(msgspec.to_builtins(config), ContainerConfig)
    text = "\n".join(changes)
    if not text.strip():
        if changes:
            raise InvalidParameter("file with no instructions")
        return changed
    parsed = parse(source_of(text, "changes"))
    for statement in parsed.statements:
        if statement.keyword not in _ALLOWED:
            raise InvalidParameter(f"{statement.keyword} is not a valid change command")
    command_given = False
    for statement in parsed.statements:
        try:
            instruction = typed(statement, parsed.directives.escape)
            environment = dict(entry.partition("=")[::2] for entry in changed.env or [])
            configure(changed, instruction, environment.get)
        except DockerfileError as error:
            raise InvalidParameter(error.message) from None
        command_given = command_given or isinstance(instruction, Cmd)
        if isinstance(instruction, Entrypoint) and not command_given:
            changed.cmd = None  # the old command was an argument of the old entrypoint
    return changed
