"""Dockerfiles to compare builders with, as plain text.

::

    ## copy: a directory's content
    $ mkdir d; echo x > d/f; chmod 600 d/f
    @ target=last build-arg:A=b
    FROM busybox AS last
    COPY d /d

`## title` starts one; `$ …` makes its context, in an empty directory; `@ …` are options of the build, as BuildKit calls them, and
`secret:ID=VALUE`, `context:NAME=DIRECTORY`; `@ buildkit` keeps the classic builder out of it. What follows is the Dockerfile, to
the letter but for empty lines at its end; where there is none, the context has it, or not. All files of a context have one time.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import NamedTuple

CONTEXT_TIME = 1_700_000_000
"""Of every file in a context, in seconds."""
_PLAIN = re.compile(r"(build-arg:|label:|target$|filename$)")
_MODERN = re.compile(
    r"<<|^\s*(RUN|ONBUILD RUN) .*--(mount|device|security)|--(parents|exclude|keep-git-dir)\b", re.MULTILINE
)


class Case(NamedTuple):
    """One build."""

    preparation: str
    """Commands, in the context's directory."""
    options: dict[str, str]
    dockerfile: str

    @property
    def is_plain(self) -> bool:
        """Whether the classic builder, too, has what it takes."""
        plain = all(_PLAIN.match(name) for name in self.options)
        return plain and not _MODERN.search(self.dockerfile)


def cases(text: str) -> Iterator[tuple[str, str]]:
    """Title and text of each case of a file."""
    for part in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        title, _, body = part.partition("\n")
        yield title.strip(), body.rstrip("\n") + "\n" if body.strip() else ""


def case(text: str) -> Case:
    """What a case's text says."""
    lines = text.splitlines(keepends=True)
    commands, options = [], dict[str, str]()
    while lines and lines[0].startswith(("$ ", "@ ")):
        line = lines.pop(0)
        if line.startswith("$"):
            commands.append(line[2:])
        else:
            options |= {
                name: value for name, _, value in (each.partition("=") for each in shlex.split(line[2:]))
            }
    return Case("".join(commands), options, "".join(lines))
