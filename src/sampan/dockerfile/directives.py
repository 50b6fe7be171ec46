"""Parser directives: `# key=value` lines before anything else."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sampan.dockerfile.source import DockerfileError, Place, Source

_LINE = re.compile(r"#\s*([a-zA-Z][a-zA-Z0-9]*)\s*=\s*(.+?)\s*$")


@dataclass(frozen=True, slots=True)
class Directives:
    """What the head of a file says; `count` is how many lines it takes."""

    syntax: str = ""
    escape: str = "\\"
    check: str = ""
    count: int = 0


def read_directives(source: Source) -> Directives:
    """The directives of a file.

    The head ends at the first line that isn't of the form `# key=value`, an empty one included. Unknown keys are comments. Raises
    `DockerfileError` for one that is given twice and for an escape that is neither a backslash nor a backtick.
    """
    found: dict[str, str] = {}
    count = 0
    for number, line in enumerate(source.lines, 1):
        if number == 1 and line.startswith("#!"):  # a Dockerfile may be a script
            count = 1
            continue
        match = _LINE.match(line.strip())
        if match is None:
            break
        key, value = match[1].lower(), match[2]
        count = number
        if key not in ("syntax", "escape", "check"):
            continue
        if key in found:
            raise DockerfileError(
                f"only one {key} parser directive can be used", source, Place(number, number)
            )
        if key == "escape" and value not in ("\\", "`"):
            raise DockerfileError(
                f"invalid escape token '{value}' does not match ` or \\", source, Place(number, number)
            )
        found[key] = value
    return Directives(**found, count=count)
