"""From lines to statements: continuations, comments and heredocs are resolved here, keyword and flags split off.

A *statement* is one instruction as written, however many lines it takes. What its text means is the next module's business.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from sampan.dockerfile.directives import Directives, read_directives
from sampan.dockerfile.expand import expand
from sampan.dockerfile.source import DockerfileError, Place, Source, TextError
from sampan.dockerfile.words import split_words

_HEREDOC = re.compile(r"(\d*)<<(-?)([^<]*)$")
_WITH_HEREDOCS = frozenset({"ADD", "COPY", "RUN"})


@dataclass(frozen=True, slots=True)
class Heredoc:
    """A file inside of the Dockerfile: `<<NAME` … `NAME`.

    `expands`: variables in it are replaced (its name was written without quotes). `strips`: leading tabs go (`<<-`);
    `content` still has them.
    """

    name: str
    descriptor: int
    content: str
    expands: bool
    strips: bool

    @property
    def text(self) -> str:
        """The content, without leading tabs where `<<-` asked for that."""
        if not self.strips:
            return self.content
        return re.sub(r"^\t+", "", self.content, flags=re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Statement:
    """One instruction as written.

    `keyword` in capitals, `flags` as written with their dashes, `text` the rest as one line, `comments` the lines above up to
    an empty comment.
    """

    keyword: str
    flags: tuple[str, ...]
    text: str
    place: Place
    heredocs: tuple[Heredoc, ...] = ()
    comments: tuple[str, ...] = ()
    original: str = ""


@dataclass(slots=True)
class Parsed:
    """A file's statements in order. `gaps` are statements with empty lines in their midst, each with its last line."""

    source: Source
    directives: Directives
    statements: list[Statement] = field(default_factory=list)
    gaps: list[tuple[str, Place]] = field(default_factory=list)


def parse(source: Source) -> Parsed:
    """All statements of a file. Raises `DockerfileError`, also for a file without any."""
    directives = read_directives(source)
    parsed = Parsed(source, directives)
    lines = _Lines(source, directives.count)
    comments: list[str] = []
    for line in lines:
        stripped = line.strip()
        if stripped.startswith("#"):
            comment = line[1:].strip()  # of an indented one the `#` stays, as with BuildKit
            comments = [*comments, comment] if comment else []
            continue
        if not stripped:
            continue
        first = lines.number
        try:
            statement = _statement(stripped, lines, parsed, tuple(comments))
        except DockerfileError as error:
            raise error.at(source, Place(first, lines.number)) from None
        if statement is not None:
            parsed.statements.append(statement)
        comments = []
    if not parsed.statements:
        last = len("\n".join(source.lines).rstrip().split("\n"))
        raise TextError("file with no instructions", source, Place(last, last))
    return parsed


class _Lines(Iterator[str]):
    """A file's lines one by one; `number` is that of the last one given."""

    def __init__(self, source: Source, skip: int) -> None:
        self._lines = source.lines
        self.number = skip

    def __next__(self) -> str:
        if self.number >= len(self._lines):
            raise StopIteration
        self.number += 1
        return self._lines[self.number - 1]


def _statement(line: str, lines: _Lines, parsed: Parsed, comments: tuple[str, ...]) -> Statement | None:
    escape = parsed.directives.escape
    first = lines.number
    text = _logical_line(line, lines, parsed)
    if not text.strip():
        return None
    keyword, flags, rest = split_statement(text.strip(), escape)
    heredocs = tuple(_bodies(_announced(keyword, rest, escape), lines))
    return Statement(keyword, flags, rest, Place(first, lines.number), heredocs, comments, text.strip())


def _logical_line(line: str, lines: _Lines, parsed: Parsed) -> str:
    """Join continued lines; comments and empty lines between them are left out."""
    continuation = re.compile(
        rf"(^|[^{re.escape(parsed.directives.escape)}]){re.escape(parsed.directives.escape)}[ \t]*$"
    )
    text, more = continuation.subn(r"\1", line)
    empty = False
    while more:
        following = next(lines, None)
        if following is None:
            break
        if following.lstrip().startswith("#"):
            continue
        if not following.strip():
            empty = True
            continue
        following, more = continuation.subn(r"\1", following)
        text += following
    if empty:
        parsed.gaps.append((text, Place(lines.number, lines.number)))
    return text


def split_statement(text: str, escape: str) -> tuple[str, tuple[str, ...], str]:
    """A logical line's keyword (in capitals), its leading `--flags`, and the rest."""
    keyword, _, rest = text.partition(" ") if "\t" not in text.split(" ", 1)[0] else text.partition("\t")
    rest = rest.strip()
    flags: list[str] = []
    while rest.startswith("--"):
        word = split_words(rest, escape)[0]
        rest = rest[len(word) :].lstrip()
        if word == "--":
            break
        flags.append(_unquoted(word, escape))
    return keyword.upper(), tuple(flags), rest


def _unquoted(word: str, escape: str) -> str:
    """A flag without its quotes; a `$` stays for later."""
    result, quote, letters = "", "", iter(word)
    for letter in letters:
        if letter == escape and quote != "'":
            following = next(letters, "")
            result += following if following in ("'", '"', escape, " ") else letter + following
        elif letter == quote:
            quote = ""
        elif not quote and letter in "'\"":
            quote = letter
        else:
            result += letter
    return result


def heredoc_of(word: str, escape: str = "\\") -> tuple[str, int, bool, bool] | None:
    """What a word like `<<EOF`, `3<<-"EOF"` announces: (name, descriptor, expands, strips)."""
    match = _HEREDOC.match(word)
    if match is None or not match[3]:
        return None
    name = expand(match[3], lambda _: "", escape=escape)
    if not name or any(character.isspace() for character in name):
        return None
    return name, int(match[1] or 0), name == match[3], bool(match[2])


def _announced(keyword: str, rest: str, escape: str) -> list[tuple[str, int, bool, bool]]:
    if keyword == "ONBUILD":
        keyword, _, rest = split_statement(rest, escape)
    if keyword not in _WITH_HEREDOCS or "<<" not in rest or rest.startswith("["):
        return []
    found = (heredoc_of(word, escape) for word in split_words(rest, escape))
    return [each for each in found if each is not None]


def _bodies(announced: list[tuple[str, int, bool, bool]], lines: _Lines) -> Iterator[Heredoc]:
    for name, descriptor, expands, strips in announced:
        content: list[str] = []
        for line in lines:
            if (line.lstrip("\t") if strips else line) == name:
                break
            content.append(line + "\n")
        else:
            raise DockerfileError("unterminated heredoc")
        yield Heredoc(name, descriptor, "".join(content), expands, strips)
