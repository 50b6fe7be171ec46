"""Variables in a Dockerfile's words: `$name`, `${name}` and `${name…}` with the modifiers of a POSIX shell, and some of bash.

    >>> expand("${name:-nobody} pays \\\\$5", {}.get)
    'nobody pays $5'

| form | when `name` is unset (with `:` also when it is empty) | else |
| --- | --- | --- |
| `${name-word}` | word | its value |
| `${name+word}` | nothing | word |
| `${name?word}` | an error that says word | its value |
| `${name#glob}` `##` | nothing | without the shortest, longest match at the front |
| `${name%glob}` `%%` | nothing | without the shortest, longest match at the end |
| `${name/glob/word}` `//` | nothing | with the first match, each match replaced |
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from sampan.dockerfile.source import DockerfileError

Lookup = Callable[[str], str | None]
"""A variable's value, or None when it is unset."""

_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_SPECIAL = "@*#?-$!0123456789"
_MAX_DEPTH = 50


def expand(text: str, lookup: Lookup, *, escape: str = "\\") -> str:
    """`text` with its variables replaced, its quotes removed and its escapes resolved. Raises `DockerfileError`."""
    if not any(mark in text for mark in ("$", '"', "'", escape)):
        return text
    try:
        return _Expander(text, lookup, escape).whole()
    except DockerfileError as error:
        raise DockerfileError(f"failed to process {json.dumps(text, ensure_ascii=False)}: {error}") from None


def expand_words(text: str, lookup: Lookup, *, escape: str = "\\") -> list[str]:
    """As `expand`, split into words afterwards as a shell does: at white space that is in no quotes."""
    expander = _Expander(text, lookup, escape)
    expander.whole()
    return expander.words.finished()


def expand_raw_quotes(text: str, lookup: Lookup, *, escape: str = "\\") -> str:
    """`text` with its variables replaced; quotes and escapes stay (for text that is split afterwards)."""
    return _Expander(text, lookup, escape, keep_quotes=True, keep_escapes=True).whole()


def expand_document(text: str, lookup: Lookup) -> str:
    """A heredoc's text with its variables replaced and its backslashes resolved, whatever the file's escape is; quotes are its own.
    Raises `DockerfileError`."""
    return _Expander(text, lookup, "\\", plain_quotes=True).whole()


def shown(text: str, lookup: Lookup, *, escape: str = "\\") -> str:
    """`text` for people: what is unset stays as it is written, quotes too. Raises `DockerfileError`."""
    return _Expander(text, lookup, escape, keep_quotes=True, keep_unset=True).whole()


def names_in(text: str, *, escape: str = "\\") -> set[str]:
    """The names of the variables that `text` uses."""
    used: set[str] = set()

    def note(name: str) -> str:
        used.add(name)
        return ""

    try:
        expand(text, note, escape=escape)
    except DockerfileError:
        pass  # `${x:?}` of an empty value; the name has been seen
    return used


@dataclass(slots=True)
class _Words:
    """Collects words: quoted text never splits, an expansion's white space does."""

    done: list[str] = field(default_factory=list)
    current: str = ""
    begun: bool = False

    def quoted(self, text: str) -> None:
        self.current += text
        self.begun = True

    def plain(self, text: str) -> None:
        for character in text:
            if character.isspace():
                self._end()
            else:
                self.current += character
                self.begun = True

    def _end(self) -> None:
        if self.begun:
            self.done.append(self.current)
        self.current, self.begun = "", False

    def finished(self) -> list[str]:
        self._end()
        return self.done


class _Expander:
    """One pass over a text."""

    def __init__(
        self,
        text: str,
        lookup: Lookup,
        escape: str,
        *,
        keep_quotes: bool = False,
        keep_escapes: bool = False,
        keep_unset: bool = False,
        plain_quotes: bool = False,
        depth: int = 0,
    ) -> None:
        if depth > _MAX_DEPTH:
            raise DockerfileError(f"variables are nested deeper than {_MAX_DEPTH}")
        self._text = text
        self._at = 0
        self._lookup = lookup
        self._escape = escape
        self._keep_quotes = keep_quotes
        self._keep_escapes = keep_escapes
        self._keep_unset = keep_unset
        self._plain_quotes = plain_quotes
        self._depth = depth
        self.words = _Words()

    def whole(self) -> str:
        return self._until("")

    def _until(self, stops: str) -> str:
        """Up to one of `stops`, which is not taken; "" stops at the end only."""
        result: list[str] = []
        while self._at < len(self._text):
            character = self._text[self._at]
            if character in stops:
                return "".join(result)
            if self._plain_quotes and character in "'\"":
                self._at += 1
                piece = character
            elif character == "'":
                piece = self._single_quotes()
                self.words.quoted(piece)
            elif character == '"':
                piece = self._double_quotes()
                self.words.quoted(piece)
            elif character == "$":
                piece = self._variable()
                self.words.plain(piece)
            elif character == self._escape:
                piece = self._escaped()
                self.words.quoted(piece)
            else:
                self._at += 1
                piece = character
                self.words.plain(piece)
            result.append(piece)
        if stops:
            raise DockerfileError(f"syntax error: missing '{stops[0]}' in ${{}}")
        return "".join(result)

    def _escaped(self) -> str:
        self._at += 1
        if self._at >= len(self._text):
            return self._escape if self._keep_escapes else ""
        character = self._text[self._at]
        self._at += 1
        return self._escape + character if self._keep_escapes else character

    def _single_quotes(self) -> str:
        """Everything up to the next quote as it is."""
        end = self._text.find("'", self._at + 1)
        if end < 0:
            raise DockerfileError("unexpected end of statement while looking for matching single-quote")
        piece = self._text[self._at + 1 : end]
        self._at = end + 1
        return f"'{piece}'" if self._keep_quotes else piece

    def _double_quotes(self) -> str:
        """Variables are replaced; the escape keeps its character unless before `"`, `$` or itself."""
        result: list[str] = []
        self._at += 1
        while self._at < len(self._text):
            character = self._text[self._at]
            if character == '"':
                self._at += 1
                inside = "".join(result)
                return f'"{inside}"' if self._keep_quotes else inside
            if character == "$":
                result.append(self._variable())
                continue
            self._at += 1
            if character == self._escape and self._at < len(self._text):
                following = self._text[self._at]
                self._at += 1
                if self._keep_escapes or following not in ('"', "$", self._escape):
                    result.append(character)
                character = following
            result.append(character)
        raise DockerfileError("unexpected end of statement while looking for matching double-quote")

    def _variable(self) -> str:
        """At a `$`."""
        start = self._at
        self._at += 1
        if self._text[self._at : self._at + 1] == "{":
            self._at += 1
            name = self._name()
            self._at = start + 2
            value = self._braced()
        else:
            name = self._name()
            if not name:
                return "$"
            value = self._lookup(name) or ""
        if self._keep_unset and self._lookup(name) is None:
            return self._text[start : self._at]
        return value

    def _name(self) -> str:
        match = _NAME.match(self._text, self._at)
        if match:
            self._at = match.end()
            return match[0]
        if self._at < len(self._text) and self._text[self._at] in _SPECIAL:
            self._at += 1
            return self._text[self._at - 1]
        return ""

    def _braced(self) -> str:
        """After `${`."""
        if self._text[self._at : self._at + 1] in ("", "}", ":"):
            raise DockerfileError("syntax error: bad substitution")
        name = self._name()
        if self._at >= len(self._text):
            raise DockerfileError("syntax error: missing '}'")
        value = self._lookup(name)
        operator = self._text[self._at]
        self._at += 1
        match operator:
            case "}":
                return value or ""
            case ":" | "+" | "-" | "?":
                return self._conditional(name, value, operator)
            case "#" | "%":
                return self._trimmed(value, operator)
            case "/":
                return self._replaced(value)
        raise DockerfileError(f"unsupported modifier ({operator}) in substitution")

    def _nested(self, stops: str) -> str:
        """A word inside of braces, with variables of its own; the stop is taken."""
        inner = _Expander(self._text, self._lookup, self._escape, depth=self._depth + 1)
        inner._at = self._at
        word = inner._until(stops)
        self._at = inner._at + 1
        return word

    def _conditional(self, name: str, value: str | None, operator: str) -> str:
        also_empty = operator == ":"
        if also_empty:
            operator = self._text[self._at : self._at + 1]
            self._at += 1
            if operator not in ("+", "-", "?") or not operator:
                raise DockerfileError(f"unsupported modifier (:{operator}) in substitution")
        word = self._nested("}")
        is_set = value is not None and not (also_empty and value == "")
        if operator == "+":
            return word if is_set else ""
        if is_set:
            return value or ""
        if operator == "?":
            state = "empty" if value is not None else "unset"
            raise DockerfileError(f"{name}: {word or f'is not allowed to be {state}'}")
        return word

    def _trimmed(self, value: str | None, operator: str) -> str:
        longest = self._text[self._at : self._at + 1] == operator
        self._at += longest
        pattern = _glob(self._pattern("}"), greedy=longest)
        if value is None:
            return ""
        if operator == "#":
            match = re.match(pattern, value, re.DOTALL)
            return value[match.end() :] if match else value
        ends = range(len(value) + 1) if longest else range(len(value), -1, -1)
        for start in ends:
            if re.fullmatch(pattern, value[start:], re.DOTALL):
                return value[:start]
        return value

    def _replaced(self, value: str | None) -> str:
        every = self._text[self._at : self._at + 1] == "/"
        self._at += every
        pattern = _glob(self._pattern("/"), greedy=True)
        replacement = self._nested("}")
        if value is None or not pattern:
            return value or ""
        return re.sub(pattern, lambda _: replacement, value, count=0 if every else 1, flags=re.DOTALL)

    def _pattern(self, stop: str) -> str:
        """A glob inside of braces: escapes stay, so that `\\*` is a star."""
        inner = _Expander(self._text, self._lookup, self._escape, keep_escapes=True, depth=self._depth + 1)
        inner._at = self._at
        pattern = inner._until(stop)
        self._at = inner._at + 1
        return pattern


def _glob(pattern: str, *, greedy: bool) -> str:
    """A shell's pattern as a regular expression: `*`, `?`, and a backslash before what means itself."""
    star = ".*" if greedy else ".*?"
    result = []
    letters = iter(pattern)
    for letter in letters:
        if letter == "\\":
            result.append(re.escape(next(letters, "\\")))
        elif letter == "*":
            result.append(star)
        elif letter == "?":
            result.append(".")
        else:
            result.append(re.escape(letter))
    return "".join(result)
