"""Running a parsed template over data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sampan.cli.gotemplate.functions import ARITY, FUNCTIONS
from sampan.cli.gotemplate.parse import (
    Action,
    Call,
    Chain,
    Dot,
    Function,
    If,
    Leave,
    Literal,
    Node,
    Operand,
    Pipeline,
    Range,
    TemplateError,
    Text,
    Variable,
    With,
    parse,
)
from sampan.cli.gotemplate.values import go_text, truth

__all__ = ["Template", "TemplateError"]

Missing = Callable[[str], str]
"""Takes the name of a field that the data does not have, gives the rest of the error message."""


class _Leave(Exception):
    """Carries `break` and `continue` to their loop."""


def _no_entry(field: str) -> str:
    return f'map has no entry for key "{field}"'


class Template:
    """A template, parsed once.

    Raises TemplateError in Go's words: at once for bad syntax or an unknown function, at `render` for data that does not fit.
    """

    def __init__(self, source: str, functions: Mapping[str, Callable[..., Any]] | None = None) -> None:
        self._functions = {**FUNCTIONS, **(functions or {})}
        self._nodes = parse(source)
        _check_functions(self._nodes, self._functions)

    def render(self, data: Any, missing: Missing = _no_entry) -> str:
        """The template's text over `data` (mappings, lists, strings, numbers, booleans, None)."""
        return _Run(self._functions, data, missing).text(self._nodes)


class _Run:
    def __init__(self, functions: Mapping[str, Callable[..., Any]], data: Any, missing: Missing) -> None:
        self._functions = functions
        self._missing = missing
        self._scopes: list[dict[str, Any]] = [{"$": data}]
        self._dot = data

    def text(self, nodes: list[Node]) -> str:
        parts: list[str] = []
        self._walk(nodes, parts)
        return "".join(parts)

    def _walk(self, nodes: list[Node], parts: list[str]) -> None:
        for node in nodes:
            if isinstance(node, Text):
                parts.append(node.text)
            elif isinstance(node, Action):
                value = self._pipeline(node.pipeline)
                if not node.pipeline.declared:
                    parts.append("<no value>" if value is None else go_text(value))
            elif isinstance(node, Leave):
                raise _Leave(node.word)
            else:
                self._block(node, parts)

    def _block(self, node: If | With | Range, parts: list[str]) -> None:
        dot = self._dot
        self._scopes.append({})
        try:
            value = self._pipeline(node.pipeline)
            if isinstance(node, Range):
                self._loop(node, value, parts)
            elif truth(value):
                if isinstance(node, With):
                    self._dot = value
                self._walk(node.body, parts)
            else:
                self._walk(node.otherwise, parts)
        finally:
            self._scopes.pop()
            self._dot = dot

    def _loop(self, node: Range, value: Any, parts: list[str]) -> None:
        if value is not None and not isinstance(value, (Mapping, list, tuple, int)):
            raise TemplateError(f"range can't iterate over {go_text(value)}")
        dot = self._dot
        items: list[tuple[Any, Any]]
        if isinstance(value, Mapping):
            items = [(key, value[key]) for key in sorted(value)]
        else:
            items = list(enumerate(range(value) if isinstance(value, int) else value or []))
        if not items:
            self._walk(node.otherwise, parts)
            return
        names = node.pipeline.declared
        for key, item in items:
            self._dot = item
            self._scopes[-1].update(zip(names, (key, item) if len(names) == 2 else (item,), strict=False))
            try:
                self._walk(node.body, parts)
            except _Leave as leave:
                if str(leave) == "break":
                    break
        self._dot = dot

    def _pipeline(self, pipeline: Pipeline) -> Any:
        value: Any = None
        for position, call in enumerate(pipeline.calls):
            value = self._call(call, (value,) if position else ())
        if len(pipeline.declared) == 1 and pipeline.assign:
            self._assign(pipeline.declared[0], value)
        elif len(pipeline.declared) == 1:
            self._scopes[-1][pipeline.declared[0]] = value
        return value

    def _assign(self, name: str, value: Any) -> None:
        for scope in reversed(self._scopes):
            if name in scope:
                scope[name] = value
                return
        raise TemplateError(f'template: :1: undefined variable "{name}"')

    def _call(self, call: Call, piped: tuple[Any, ...]) -> Any:
        if not isinstance(call.operand, Function):
            if call.arguments or piped:
                raise TemplateError("template: :1: can't give argument to non-function")
            return self._operand(call.operand)
        name, position = call.operand
        if name in ("and", "or"):
            return self._logic(name, call.arguments, piped)
        arguments = [self._operand(argument) for argument in call.arguments] + list(piped)
        where = f'template: :1:{position}: executing "" at <{name}>: '
        wanted = ARITY.get(name)
        if wanted is not None and len(arguments) != wanted:
            raise TemplateError(f"{where}wrong number of args for {name}: want {wanted} got {len(arguments)}")
        try:
            return self._functions[name](*arguments)
        except TemplateError as error:
            raise TemplateError(where + str(error)) from None
        except (TypeError, AttributeError, ValueError, KeyError) as error:
            raise TemplateError(f"{where}wrong type of argument: {error}") from None

    def _logic(self, name: str, operands: tuple[Operand, ...], piped: tuple[Any, ...]) -> Any:
        """`and` and `or` stop at the first operand that decides."""
        value: Any = None
        for operand in operands:
            value = self._operand(operand)
            if truth(value) == (name == "or"):
                return value
        return piped[0] if piped else value

    def _operand(self, operand: Operand) -> Any:
        if isinstance(operand, Literal):
            return operand.value
        if isinstance(operand, Function):
            return self._call(Call(operand, ()), ())
        if isinstance(operand, Dot):
            return self._fields(self._dot, operand.fields, operand.position)
        if isinstance(operand, Variable):
            return self._fields(self._variable(operand.name), operand.fields, operand.position)
        return self._fields(self._pipeline(operand.pipeline), operand.fields, operand.position)

    def _variable(self, name: str) -> Any:
        for scope in reversed(self._scopes):
            if name in scope:
                return scope[name]
        raise TemplateError(f'template: :1: undefined variable "{name}"')

    def _fields(self, value: Any, fields: tuple[str, ...], position: int) -> Any:
        for field in fields:
            if value is None:
                raise TemplateError(
                    self._at(position, fields) + f"nil pointer evaluating interface {{}}.{field}"
                )
            if not isinstance(value, Mapping):
                raise TemplateError(
                    self._at(position, fields)
                    + f"can't evaluate field {field} in type {type(value).__name__}"
                )
            if field not in value:
                raise TemplateError(self._at(position, fields) + self._missing(field))
            value = value[field]
        return value

    @staticmethod
    def _at(position: int, fields: tuple[str, ...]) -> str:
        return f'template: :1:{position}: executing "" at <.{".".join(fields)}>: '


def _check_functions(nodes: list[Node], known: Mapping[str, object]) -> None:
    for node in nodes:
        if isinstance(node, (Action, If, With, Range)):
            _check_pipeline(node.pipeline, known)
        if isinstance(node, (If, With, Range)):
            _check_functions(node.body, known)
            _check_functions(node.otherwise, known)


def _check_pipeline(pipeline: Pipeline, known: Mapping[str, object]) -> None:
    for call in pipeline.calls:
        for operand in (call.operand, *call.arguments):
            if (
                isinstance(operand, Function)
                and operand.name not in known
                and operand.name not in ("and", "or")
            ):
                raise TemplateError(f'template: :1: function "{operand.name}" not defined')
            if isinstance(operand, Chain):
                _check_pipeline(operand.pipeline, known)
