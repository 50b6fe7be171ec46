"""Splitting an instruction's text: words with quotes, JSON arrays, `name=value` lists."""

from __future__ import annotations

import json

from sampan.dockerfile.source import DockerfileError, TextError


def split_words(text: str, escape: str) -> list[str]:
    """Words as written, quotes and escapes still in them: white space inside of quotes or after an escape splits nothing."""
    words: list[str] = []
    word, quote = "", ""
    begun = False
    index = 0
    while index < len(text):
        character = text[index]
        index += 1
        if not quote and character.isspace():
            if begun:
                words.append(word)
            word, begun = "", False
            continue
        begun = True
        word += character
        if character == escape and quote != "'" and index < len(text):
            word += text[index]
            index += 1
        elif character == quote:
            quote = ""
        elif not quote and character in "'\"":
            quote = character
    if begun:
        words.append(word)
    return words


def json_array(text: str) -> list[str] | None:
    """An array of strings as `["a", "b"]`; None when the text is no JSON array (then it is a shell's line).

    Raises `DockerfileError` for an array with something else than strings in it.
    """
    text = text.strip()
    if not text.startswith("["):
        return None
    try:
        array = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if any(not isinstance(each, str) for each in array):
        raise TextError("when using JSON array syntax, arrays must be comprised of strings only")
    return [str(each) for each in array]


def pairs(keyword: str, text: str, escape: str) -> list[tuple[str, str]]:
    """`name=value name=value…`, or the old form `name everything else is the value`; quotes stay.

    Raises `DockerfileError` when a word has no `=`, or a name is empty.
    """
    words = split_words(text, escape)
    if not words:
        raise DockerfileError(f"{keyword} requires at least one argument")
    if "=" not in words[0]:
        parts = text.strip().split(None, 1)
        if len(parts) < 2:
            raise TextError(f"{keyword} must have two arguments")
        return [(parts[0], parts[1])]
    found = []
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise TextError(
                f"Syntax error - can't find = in {_quoted(word)}. Must be of the form: name=value"
            )
        if not name:
            raise DockerfileError(f"{keyword} names can not be blank")
        found.append((name, value))
    return found


def _quoted(word: str) -> str:
    return json.dumps(word, ensure_ascii=False)
