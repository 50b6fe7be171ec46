"""A command's flags, read as pflag reads them for docker's own command line.

`--name value` and `--name=value`; `--rm`, `--rm=false`; `-it` is two flags, `-p80:80`, `-p=80:80` and `-p 80:80` are one; a
flag of a list may be repeated, of the others the last one counts; `--` ends them. The parsers of the standard library and of
frameworks have other manners (prefixes, no `=` for booleans), and cost more to import than the whole command takes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sampan.names.booleans import word_for

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class FlagError(Exception):
    """A flag is unknown, lacks its value, or has one that it does not take; the text is pflag's."""


class Value:
    """A kind of flag value: what help calls it, and how it is read (ValueError says what is wrong)."""

    __slots__ = ("name", "read")

    def __init__(self, name: str, read: Callable[[str], Any]) -> None:
        self.name = name
        self.read = read


class Flag:
    """One flag under all its names.

    `kind` None makes it boolean. `parameter` is the first long name as an identifier. A `repeated` one collects a tuple.
    """

    __slots__ = ("default", "help", "hidden", "kind", "names", "parameter", "repeated")

    def __init__(
        self,
        names: Sequence[str],
        kind: Value | None,
        help: str,
        *,
        default: Any = None,
        repeated: bool = False,
        hidden: bool = False,
    ) -> None:
        self.names = tuple(names)
        self.kind = kind
        self.help = help
        self.default = () if repeated else default
        self.repeated = repeated
        self.hidden = hidden
        self.parameter = next(name for name in names if name.startswith("--"))[2:].replace("-", "_")

    def read(self, text: str) -> Any:
        """The value that a word stands for. Raises FlagError."""
        try:
            return self.kind.read(text) if self.kind is not None else _boolean(text)
        except ValueError as error:
            short = [name for name in self.names if not name.startswith("--")][:1]
            spelling = ", ".join([*short, *[name for name in self.names if name.startswith("--")][:1]])
            raise FlagError(f'invalid argument "{text}" for "{spelling}" flag: {error}') from None


def _boolean(text: str) -> bool:
    value = word_for(text)
    if value is None:
        raise ValueError(f'strconv.ParseBool: parsing "{text}": invalid syntax')
    return value


def parse(
    flags: Sequence[Flag], words: Sequence[str], *, interspersed: bool
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Every flag's value by parameter, and the arguments. Raises FlagError.

    Without `interspersed` the first argument ends the flags: what follows is a container's command.

    >>> wanted = [Flag(("-t", "--tty"), None, "", default=False), Flag(("--name",), Value("string", str), "")]
    >>> parse(wanted, ["-t", "box", "--name=x"], interspersed=True)
    ({'tty': True, 'name': 'x'}, ('box',))
    >>> parse(wanted, ["-t", "box", "--name=x"], interspersed=False)
    ({'tty': True, 'name': None}, ('box', '--name=x'))
    """
    known = {name: flag for flag in flags for name in flag.names}
    values = {flag.parameter: flag.default for flag in flags}
    arguments: list[str] = []
    position = 0
    while position < len(words):
        word = words[position]
        position += 1
        if len(word) < 2 or word[0] != "-":
            arguments.append(word)
            if not interspersed:
                break
        elif word == "--":
            break
        elif word.startswith("--"):
            position = _long(known, values, words, position)
        else:
            position = _shorts(known, values, words, position)
    return values, (*arguments, *words[position:])


def _long(known: dict[str, Flag], values: dict[str, Any], words: Sequence[str], position: int) -> int:
    """Read the long flag before `position`; the position after its value."""
    word = words[position - 1]
    name, separator, text = word.partition("=")
    if len(name) == 2 or name[2] == "-":
        raise FlagError(f"bad flag syntax: {word}")
    flag = known.get(name)
    if flag is None:
        raise FlagError(f"unknown flag: {name}")
    if separator:
        _put(values, flag, text)
    elif flag.kind is None:
        values[flag.parameter] = True
    elif position == len(words):
        raise FlagError(f"flag needs an argument: {name}")
    else:
        _put(values, flag, words[position])
        position += 1
    return position


def _shorts(known: dict[str, Flag], values: dict[str, Any], words: Sequence[str], position: int) -> int:
    """Read the word of short flags before `position`; the position after the last one's value."""
    word = words[position - 1]
    for index in range(1, len(word)):
        letter, rest = word[index], word[index + 1 :]
        flag = known.get(f"-{letter}")
        if flag is None:
            raise FlagError(f"unknown shorthand flag: '{letter}' in -{word[index:]}")
        if rest.startswith("="):
            _put(values, flag, rest[1:])
            return position
        if flag.kind is None:
            values[flag.parameter] = True
            continue
        if rest:
            _put(values, flag, rest)
            return position
        if position == len(words):
            raise FlagError(f"flag needs an argument: '{letter}' in -{word[index:]}")
        _put(values, flag, words[position])
        return position + 1
    return position


def _put(values: dict[str, Any], flag: Flag, text: str) -> None:
    value = flag.read(text)
    values[flag.parameter] = (*values[flag.parameter], value) if flag.repeated else value
