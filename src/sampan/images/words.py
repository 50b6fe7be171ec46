"""Words, quotes and variables of Dockerfile instructions (Dockerfile reference, "Environment replacement").

`plain_words` splits, `key_values` reads the arguments of ENV and LABEL, `expand` replaces variables and takes
quotes away.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from sampan.errors import InvalidParameter

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def plain_words(text: str) -> list[str]:
    """Split at white space, nothing more."""
    return text.split()


def key_values(text: str, instruction: str) -> list[tuple[str, str]]:
    """`A=1 B="two words"`, or the old form `A rest of line`; values still carry their quotes.

    Raises `InvalidParameter` in the words of Dockerfile's parser.
    """
    words = _quoted_words(text)
    if "=" not in words[0]:
        name, _, value = text.partition(" ")
        if not value.strip():
            raise InvalidParameter(f"{instruction} must have two arguments")
        return [(name, value.strip())]
    pairs: list[tuple[str, str]] = []
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise InvalidParameter(
                f"Syntax error - can't find = in {word!r}. Must be of the form: name=value"
            )
        if not name:
            raise InvalidParameter(f"{instruction} names can not be blank")
        pairs.append((name, value))
    return pairs


def expand(text: str, environment: Mapping[str, str]) -> str:
    """Replace `$x`, `${x}`, `${x:-default}` and `${x:+other}`, and remove quotes and escapes.

    Raises `InvalidParameter` for a quote or brace that is not closed.
    """
    return _Expansion(text, environment).run()


def _quoted_words(text: str) -> list[str]:
    """Split at white space outside quotes; quotes and backslashes stay."""
    words: list[str] = []
    word, quote, position = "", "", 0
    while position < len(text):
        character = text[position]
        if character == "\\" and quote != "'" and position + 1 < len(text):
            word += text[position : position + 2]
            position += 2
            continue
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character.isspace():
            if word:
                words.append(word)
            word = ""
            position += 1
            continue
        word += character
        position += 1
    return [*words, word] if word else words


class _Expansion:
    """One text being read from left to right."""

    def __init__(self, text: str, environment: Mapping[str, str]) -> None:
        self.text = text
        self.position = 0
        self.environment = environment

    def run(self) -> str:
        result = ""
        while self.position < len(self.text):
            character = self.text[self.position]
            if character == "'":
                result += self._single_quoted()
            elif character == '"':
                result += self._double_quoted()
            elif character == "$":
                result += self._variable()
            elif character == "\\" and self.position + 1 < len(self.text):
                result += self.text[self.position + 1]
                self.position += 2
            else:
                result += character
                self.position += 1
        return result

    def _single_quoted(self) -> str:
        end = self.text.find("'", self.position + 1)
        if end < 0:
            raise InvalidParameter("unexpected end of statement while looking for matching single-quote")
        quoted = self.text[self.position + 1 : end]
        self.position = end + 1
        return quoted

    def _double_quoted(self) -> str:
        result = ""
        self.position += 1
        while self.position < len(self.text):
            character = self.text[self.position]
            if character == '"':
                self.position += 1
                return result
            if character == "$":
                result += self._variable()
                continue
            if character == "\\" and self.text[self.position + 1 : self.position + 2] in ('"', "$", "\\"):
                self.position += 1
                character = self.text[self.position]
            result += character
            self.position += 1
        raise InvalidParameter("unexpected end of statement while looking for matching double-quote")

    def _variable(self) -> str:
        if found := _NAME.match(self.text, self.position + 1):
            self.position = found.end()
            return self.environment.get(found[0], "")
        if not self.text.startswith("${", self.position):
            self.position += 1
            return "$"
        found = _NAME.match(self.text, self.position + 2)
        end = self._closing_brace()
        if found is None or found.end() > end:
            raise InvalidParameter(f"syntax error: bad substitution in {self.text!r}")
        name, rest = found[0], self.text[found.end() : end]
        self.position = end + 1
        return self._substitute(name, rest)

    def _closing_brace(self) -> int:
        depth = 0
        for position in range(self.position + 1, len(self.text)):
            if self.text[position] == "{":
                depth += 1
            elif self.text[position] == "}":
                depth -= 1
                if depth == 0:
                    return position
        raise InvalidParameter(f"syntax error: missing }} in {self.text!r}")

    def _substitute(self, name: str, rest: str) -> str:
        value = self.environment.get(name)
        if not rest:
            return value or ""
        operator, word = rest[:2], expand(rest[2:], self.environment)
        if operator == ":-":
            return value or word
        if operator == ":+":
            return word if value else ""
        raise InvalidParameter(f"unsupported modifier ({rest[:1]}) in substitution")
