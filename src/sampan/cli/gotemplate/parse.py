"""The syntax of Go templates: text to a tree."""

from __future__ import annotations

import re
from typing import NamedTuple

from sampan.errors import InvalidParameter


class TemplateError(InvalidParameter):
    """The template is malformed, or does not fit the data."""


class Literal(NamedTuple):
    value: object


class Dot(NamedTuple):
    """`.`, or a chain of fields below it: `.State.Pid`."""

    fields: tuple[str, ...]
    position: int


class Variable(NamedTuple):
    """`$x`, and fields below it; `$` is the data that the template was given."""

    name: str
    fields: tuple[str, ...]
    position: int


class Chain(NamedTuple):
    """Fields of a parenthesised pipeline: `(index .Ports 0).HostPort`."""

    pipeline: Pipeline
    fields: tuple[str, ...]
    position: int


class Function(NamedTuple):
    name: str
    position: int


Operand = Literal | Dot | Variable | Chain | Function


class Call(NamedTuple):
    """An operand and its arguments, between the bars of a pipeline."""

    operand: Operand
    arguments: tuple[Operand, ...]


class Pipeline(NamedTuple):
    """`$a, $b := x | f | g`: `declared` are the variables it sets; `assign` says `=` instead of `:=`."""

    declared: tuple[str, ...]
    assign: bool
    calls: tuple[Call, ...]


class Text(NamedTuple):
    text: str


class Action(NamedTuple):
    pipeline: Pipeline


class If(NamedTuple):
    pipeline: Pipeline
    body: list[Node]
    otherwise: list[Node]


class With(NamedTuple):
    pipeline: Pipeline
    body: list[Node]
    otherwise: list[Node]


class Range(NamedTuple):
    pipeline: Pipeline
    body: list[Node]
    otherwise: list[Node]


class Leave(NamedTuple):
    """`break` or `continue`."""

    word: str


Node = Text | Action | If | With | Range | Leave

_BLOCKS: dict[str, type[If] | type[With] | type[Range]] = {"if": If, "with": With, "range": Range}
_TOKEN = re.compile(
    r"""(?P<space>[ \t\r\n]+)
      | (?P<string>"(?:\\.|[^"\\\n])*")
      | (?P<raw>`[^`]*`)
      | (?P<char>'(?:\\.|[^'\\\n])+')
      | (?P<number>[+-]?(?:0[xX][0-9a-fA-F_]+|\d[\d_]*(?:\.\d*)?(?:[eE][+-]?\d+)?))
      | (?P<declare>:=)
      | (?P<variable>\$\w*(?:\.\w+)*)
      | (?P<field>(?:\.\w+)+)
      | (?P<dot>\.)
      | (?P<word>\w+)
      | (?P<mark>[|(),=])
    """,
    re.VERBOSE,
)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{3})|(.))", re.DOTALL)


class Token(NamedTuple):
    kind: str
    text: str
    position: int


def unquote(text: str) -> str:
    """The value of a Go string literal."""
    if text.startswith("`"):
        return text[1:-1]

    def replace(found: re.Match[str]) -> str:
        for digits, base in zip(found.groups()[:4], (16, 16, 16, 8), strict=True):
            if digits:
                try:
                    return chr(int(digits, base))
                except (ValueError, OverflowError):
                    raise TemplateError(f"template: :1: invalid escape in {text}") from None
        return _ESCAPES.get(found[5], found[5])

    return _ESCAPE.sub(replace, text[1:-1])


def parse(source: str) -> list[Node]:
    """The tree of a template. Raises TemplateError, in Go's words."""
    return _Parser(source).template()


class _Parser:
    def __init__(self, source: str) -> None:
        self._pieces = _split(source)
        self._at = 0
        self._tokens: list[Token] = []
        self._loops = 0

    def template(self) -> list[Node]:
        nodes, end = self._nodes()
        if end is not None:
            raise TemplateError(f"template: :1: unexpected {{{{{end}}}}}")
        return nodes

    def _nodes(self) -> tuple[list[Node], str | None]:
        """Nodes up to `end` or `else`, which is returned (None at the end of the source)."""
        nodes: list[Node] = []
        while self._at < len(self._pieces):
            kind, text, position = self._pieces[self._at]
            self._at += 1
            if kind == "text":
                nodes.append(Text(text))
                continue
            self._tokens = _tokens(text, position)
            if not self._tokens:
                raise TemplateError("template: :1: missing value for command")
            word = self._tokens[0].text if self._tokens[0].kind == "word" else ""
            if word in ("end", "else"):
                self._tokens.pop(0)
                return nodes, word
            nodes.append(self._action(word))
        return nodes, None

    def _action(self, word: str) -> Node:
        if word in ("define", "template", "block"):
            raise TemplateError(f"template: :1: {{{{{word}}}}} is not supported in a format")
        if word in ("break", "continue"):
            if not self._loops:
                raise TemplateError(f"template: :1: {{{{{word}}}}} outside {{{{range}}}}")
            return Leave(word)
        if word in _BLOCKS:
            self._tokens.pop(0)
            return self._block(word)
        return Action(self._whole_pipeline("command"))

    def _block(self, word: str) -> Node:
        pipeline = self._whole_pipeline(word)
        self._loops += word == "range"
        body, end = self._nodes()
        self._loops -= word == "range"
        otherwise: list[Node] = []
        if end == "else":
            if self._tokens and self._tokens[0].text in ("if", "with"):
                otherwise = [self._block(self._tokens.pop(0).text)]
                return _BLOCKS[word](pipeline, body, otherwise)
            otherwise, end = self._nodes()
        if end != "end":
            raise TemplateError(
                "template: :1: unexpected EOF" if end is None else "template: :1: unexpected {{else}}"
            )
        return _BLOCKS[word](pipeline, body, otherwise)

    def _whole_pipeline(self, context: str) -> Pipeline:
        pipeline = self._pipeline(context)
        if self._tokens:
            raise TemplateError(f'template: :1: unexpected "{self._tokens[0].text}" in {context}')
        return pipeline

    def _pipeline(self, context: str) -> Pipeline:
        declared, assign = self._declaration()
        calls = []
        while True:
            operands = self._operands()
            if not operands:
                raise TemplateError(f"template: :1: missing value for {context}")
            first = operands[0]
            if len(operands) > 1 and isinstance(first, Literal):
                raise TemplateError(f"template: :1: can't give argument to non-function {first.value}")
            calls.append(Call(first, tuple(operands[1:])))
            if not (self._tokens and self._tokens[0].text == "|" and self._tokens[0].kind == "mark"):
                return Pipeline(declared, assign, tuple(calls))
            self._tokens.pop(0)

    def _declaration(self) -> tuple[tuple[str, ...], bool]:
        texts = [token.text for token in self._tokens[:4]]
        if len(texts) >= 2 and texts[0].startswith("$") and texts[1] in (":=", "="):
            del self._tokens[:2]
            return (texts[0],), texts[1] == "="
        if len(texts) == 4 and texts[1] == "," and texts[3] in (":=", "="):
            del self._tokens[:4]
            return (texts[0], texts[2]), texts[3] == "="
        return (), False

    def _operands(self) -> list[Operand]:
        operands: list[Operand] = []
        while self._tokens and not (self._tokens[0].kind == "mark" and self._tokens[0].text in "|),="):
            operands.append(self._operand(self._tokens.pop(0)))
        return operands

    def _operand(self, token: Token) -> Operand:
        kind, text, position = token
        if kind in ("string", "raw"):
            return Literal(unquote(text))
        if kind == "char":
            return Literal(ord(unquote(text)[0]))
        if kind == "number":
            return Literal(_number(text))
        if kind == "dot":
            return Dot((), position)
        if kind == "field":
            return Dot(tuple(text[1:].split(".")), position)
        if kind == "variable":
            name, *below = text.split(".")
            return Variable(name, tuple(below), position)
        if kind == "word":
            if text in ("true", "false", "nil"):
                return Literal({"true": True, "false": False, "nil": None}[text])
            return Function(text, position)
        if text == "(":
            pipeline = self._pipeline("parenthesized pipeline")
            if not self._tokens or self._tokens.pop(0).text != ")":
                raise TemplateError("template: :1: unclosed left paren")
            fields: tuple[str, ...] = ()
            if self._tokens and self._tokens[0].kind == "field":
                fields = tuple(self._tokens.pop(0).text[1:].split("."))
            return Chain(pipeline, fields, position)
        raise TemplateError(f'template: :1: unexpected "{text}" in operand')


def _number(text: str) -> int | float:
    text = text.replace("_", "")
    try:
        return int(text, 0)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        raise TemplateError(f'template: :1: bad number syntax: "{text}"') from None


def _split(source: str) -> list[tuple[str, str, int]]:
    """The source as ("text" | "action", content, position) pieces, white space trimmed where markers ask for it."""
    pieces: list[tuple[str, str, int]] = []
    at = 0
    trim = False
    while True:
        start = source.find("{{", at)
        text = source[at:] if start < 0 else source[at:start]
        text = text.lstrip() if trim else text
        if start >= 0 and re.match(r"\{\{-[ \t\r\n]", source[start:]):
            text, opening = text.rstrip(), start + 3
        else:
            opening = start + 2
        if text:
            pieces.append(("text", text, at))
        if start < 0:
            return pieces
        end = _end_of_action(source, opening)
        content = source[opening:end]
        trim = bool(re.search(r"[ \t\r\n]-$", content))
        content = content[:-1] if trim else content
        if not re.fullmatch(r"\s*/\*.*?\*/\s*", content, re.DOTALL):
            pieces.append(("action", content, opening))
        at = end + 2


def _end_of_action(source: str, at: int) -> int:
    """Index of the `}}` that closes the action; quotes and comments may contain one."""
    comment = re.compile(r"\s*/\*").match(source, at)
    if comment:
        at = source.find("*/", at)
    while at >= 0 and not source.startswith("}}", at):
        if at >= len(source):
            at = -1
        elif source[at] in "\"`'":
            quoted = _TOKEN.match(source, at)
            if quoted is None:
                kind = "raw quoted string" if source[at] == "`" else "quoted string"
                raise TemplateError(f"template: :1: unterminated {kind}")
            at = quoted.end()
        else:
            at += 1
    if at < 0:
        raise TemplateError("template: :1: unclosed action")
    return at


def _tokens(content: str, start: int) -> list[Token]:
    tokens = []
    at = 0
    while at < len(content):
        found = _TOKEN.match(content, at)
        if found is None:
            character = content[at]
            raise TemplateError(f"template: :1: unexpected U+{ord(character):04X} {character!r} in operand")
        at = found.end()
        kind = found.lastgroup or ""
        if kind != "space":
            tokens.append(Token(kind, found[0], start + found.start()))
    return tokens
