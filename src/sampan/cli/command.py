"""A command: its usage, its flags, and the function behind them.

    @verb("[OPTIONS] CONTAINER", "Do it", arity=(1, 1))
    @flag("-f", "--force", help="Do it all the same")
    def do(session, args, force): ...

Errors and help have a shape that docker's users and their scripts know; both are made here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sampan.cli.flags import Flag, FlagError, Value, parse
from sampan.errors import SampanError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeVar

    from sampan.cli.session import Session

    F = TypeVar("F", bound="Callable[..., Any]")

PROGRAM = "sampan"
HELP = Flag(("--help",), None, "Print usage", default=False)


class CommandLineError(SampanError):
    """The command line is wrong; `status` is the exit code, the message the whole text for the user."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def flag(*names: str, help: str, default: bool = False, hidden: bool = False) -> Callable[[F], F]:
    """A boolean flag."""
    return flags(Flag(names, None, help, default=default, hidden=hidden))


def option(
    *names: str, kind: Value, help: str, default: Any = None, hidden: bool = False
) -> Callable[[F], F]:
    """A flag with a value; the last one given counts."""
    return flags(Flag(names, kind, help, default=default, hidden=hidden))


def listing(*names: str, kind: Value, help: str, hidden: bool = False) -> Callable[[F], F]:
    """A flag that may be repeated; the parameter is a tuple."""
    return flags(Flag(names, kind, help, repeated=True, hidden=hidden))


def flags(*added: Flag) -> Callable[[F], F]:
    """Give a function flags; `verb`, above all of them, collects what was given."""

    def decorate(function: F) -> F:
        function.__dict__.setdefault("flags", []).extend(added)
        return function

    return decorate


class Verb:
    """One command of docker's kind."""

    def __init__(
        self,
        function: Callable[..., Any],
        usages: Sequence[str],
        help: str,
        arity: tuple[int, int | None],
        aliases: Sequence[str],
        examples: str,
        interspersed: bool,
    ) -> None:
        self._function = function
        self.flags: tuple[Flag, ...] = (*function.__dict__.get("flags", ()), HELP)
        self.usages = usages
        self.help = help
        self.arity = arity
        self.aliases = aliases
        self.examples = examples
        self.interspersed = interspersed

    def run(self, session: Session, path: str, words: Sequence[str]) -> None:
        """Carry out a command line; `path` is how the command was called (`sampan container ls`)."""
        values, args = self.parse(path, words)
        if values.pop(HELP.parameter):
            print(self.help_text(path))
            return
        self._check_arity(path, len(args))
        self._function(session, args, **values)

    def parse(self, path: str, words: Sequence[str]) -> tuple[dict[str, Any], tuple[str, ...]]:
        """Flags by parameter, and the arguments. Raises CommandLineError with docker's text."""
        try:
            return parse(self.flags, words, interspersed=self.interspersed)
        except FlagError as error:
            raise self._wrong(path, str(error)) from None

    def _check_arity(self, path: str, count: int) -> None:
        least, most = self.arity
        if count >= least and (most is None or count <= most):
            return
        if most == 0:
            wanted = "accepts no arguments"
        elif most == least:
            wanted = f"requires {least} argument{'s' if least > 1 else ''}"
        elif most is None or count < least:
            wanted = f"requires at least {least} argument{'s' if least > 1 else ''}"
        else:
            wanted = f"requires at most {most} argument{'s' if most > 1 else ''}"
        see = "See" if most is None else "Run"  # docker's two spellings
        raise self._wrong(path, f"{PROGRAM}: '{path}' {wanted}", status=1, see=see)

    def _wrong(self, path: str, message: str, status: int = 125, see: str = "Run") -> CommandLineError:
        text = f"{message}\n\nUsage:  {self._usage(path)}\n\n{see} '{path} --help' for more information"
        return CommandLineError(text, status)

    def _usage(self, path: str) -> str:
        return "\n\t".join(f"{path} {usage}".rstrip() for usage in self.usages)

    def help_text(self, path: str) -> str:
        """The whole help, in docker's layout."""
        from sampan.cli.help import option_table

        parts = [f"Usage:  {self._usage(path)}", self.help]
        if list(self.aliases) != [path.removeprefix(f"{PROGRAM} ")] and self.aliases:
            parts.append("Aliases:\n  " + ", ".join(f"{PROGRAM} {alias}" for alias in self.aliases))
        table = option_table(self.flags)
        if table:
            parts.append("Options:\n" + table)
        if self.examples:
            parts.append(
                "Examples:\n" + "\n".join("  " + line for line in self.examples.strip().splitlines())
            )
        return "\n\n".join(parts)


def verb(
    usage: str | Sequence[str],
    help: str,
    *,
    arity: tuple[int, int | None] = (0, 0),
    aliases: Sequence[str] = (),
    examples: str = "",
    interspersed: bool = True,
) -> Callable[[Callable[..., Any]], Verb]:
    """Make a function a command. It is called with the session, the arguments as `args`, and its flags.

    `arity` is (least, most) arguments, most None for any number; `interspersed=False` leaves everything from the first
    argument on to the command.
    """
    usages = [usage] if isinstance(usage, str) else usage

    def decorate(function: Callable[..., Any]) -> Verb:
        return Verb(function, usages, help, arity, aliases, examples, interspersed)

    return decorate
