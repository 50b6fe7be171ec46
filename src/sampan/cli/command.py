"""click with the manners of docker's command line.

Docker's flags are pflag's: `--rm=false` and `-t=true` are fine, a flag of a list may be repeated, `-it` is two flags, and
for some verbs everything after the first argument belongs to the container. Its errors and its help have a shape that
people and scripts know; both are made here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import click

from sampan.errors import SampanError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PROGRAM = "sampan"
_TRUE = frozenset(("1", "t", "T", "true", "TRUE", "True"))
_FALSE = frozenset(("0", "f", "F", "false", "FALSE", "False"))

F = TypeVar("F", bound="Callable[..., Any]")


class CommandLineError(SampanError):
    """The command line is wrong; `status` is the exit code, the message the whole text for the user."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Value(click.ParamType[Any]):
    """A kind of flag value: what help calls it, and how it is read (ValueError says what is wrong)."""

    def __init__(self, name: str, read: Callable[[str], Any]) -> None:
        self.name = name
        self._read = read

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return self._read(value)
        except ValueError as error:
            self.fail(f'invalid argument "{value}" for "{_spelling(param)}" flag: {error}', param, ctx)


def _spelling(param: click.Parameter | None) -> str:
    return ", ".join(param.opts) if param is not None else ""


def flag(*names: str, help: str, default: bool = False, hidden: bool = False) -> Callable[[F], F]:
    """A boolean flag."""
    return click.option(*names, is_flag=True, default=default, help=help, hidden=hidden)


def option(
    *names: str, kind: Value, help: str, default: Any = None, hidden: bool = False
) -> Callable[[F], F]:
    """A flag with a value; the last one given counts."""
    return click.option(*names, type=kind, default=default, help=help, hidden=hidden)


def listing(*names: str, kind: Value, help: str, hidden: bool = False) -> Callable[[F], F]:
    """A flag that may be repeated; the parameter is a tuple."""
    return click.option(*names, type=kind, multiple=True, help=help, hidden=hidden)


class Verb(click.Command):
    """One command of docker's kind."""

    def __init__(
        self,
        name: str | None,
        usage: Sequence[str] = (),
        arity: tuple[int, int | None] = (0, 0),
        aliases: Sequence[str] = (),
        examples: str = "",
        interspersed: bool = True,
        **settings: Any,
    ) -> None:
        super().__init__(name, **settings)
        self.add_help_option = False
        self.usages = usage
        self.arity = arity
        self.aliases = aliases
        self.examples = examples
        self.allow_interspersed_args = interspersed
        self.params.append(click.Argument(["args"], nargs=-1, type=click.UNPROCESSED))
        self.params.append(
            click.Option(
                ["--help"],
                is_flag=True,
                is_eager=True,
                expose_value=False,
                callback=_show_help,
                help="Print usage",
            )
        )

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            plain, switched_off = self._without_boolean_values(args)
            rest = super().parse_args(ctx, plain)
        except click.NoSuchOption as error:
            raise self._wrong(unknown_flag(error.option_name, args)) from None
        except click.BadOptionUsage as error:
            raise self._wrong(_needs_argument(error.option_name)) from None
        except click.BadParameter as error:
            raise self._wrong(error.message) from None
        ctx.params.update(dict.fromkeys(switched_off, False))
        self._check_arity(len(ctx.params["args"]))
        return rest

    def _without_boolean_values(self, args: list[str]) -> tuple[list[str], set[str]]:
        """`--flag=true` as click knows it, `--flag`; and the parameters that `--flag=false` switches off."""
        switches = {
            name: param for param in self.params if getattr(param, "is_flag", False) for name in param.opts
        }
        plain: list[str] = []
        off: set[str] = set()
        for position, arg in enumerate(args):
            if arg == "--" or (
                not self.allow_interspersed_args and not arg.startswith("-") and self._is_free(plain)
            ):
                return plain + args[position:], off
            name, separator, value = arg.partition("=")
            parameter = str(switches[name].name) if name in switches else ""
            if not separator or not parameter:
                off.discard(parameter)  # the last one counts
                plain.append(arg)
            elif value in _TRUE:
                off.discard(parameter)
                plain.append(name)
            elif value in _FALSE:
                off.add(parameter)
            else:
                spelling = _spelling(switches[name])
                raise self._wrong(
                    f'invalid argument "{value}" for "{spelling}" flag: strconv.ParseBool: parsing "{value}": invalid syntax'
                )
        return plain, off

    def _is_free(self, before: list[str]) -> bool:
        """True when the next word is an argument and not the value of the flag before it."""
        if not before or not before[-1].startswith("-") or before[-1] == "-":
            return True
        last = before[-1]
        if "=" in last:
            return True
        valued = {name for param in self.params if not getattr(param, "is_flag", True) for name in param.opts}
        if last.startswith("--"):
            return last not in valued
        for position, letter in enumerate(last[1:], start=1):
            if f"-{letter}" in valued:
                return position < len(last) - 1  # -p80:80 has its value, -p has not
        return True

    def _check_arity(self, count: int) -> None:
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
        path = click.get_current_context().command_path
        see = "See" if most is None else "Run"  # docker's two spellings
        raise self._wrong(f"{PROGRAM}: '{path}' {wanted}", status=1, see=see)

    def _wrong(self, message: str, status: int = 125, see: str = "Run") -> CommandLineError:
        path = click.get_current_context().command_path
        text = f"{message}\n\nUsage:  {self._usage()}\n\n{see} '{path} --help' for more information"
        return CommandLineError(text, status)

    def _usage(self) -> str:
        path = click.get_current_context().command_path
        return "\n\t".join(f"{path} {usage}".rstrip() for usage in self.usages or [""])

    def help_text(self) -> str:
        """The whole help, in docker's layout."""
        from sampan.cli.help import option_table

        parts = [f"Usage:  {self._usage()}", self.help or ""]
        if self.aliases:
            parts.append("Aliases:\n  " + ", ".join(f"{PROGRAM} {alias}" for alias in self.aliases))
        table = option_table(self.params)
        if table:
            parts.append("Options:\n" + table)
        if self.examples:
            parts.append(
                "Examples:\n" + "\n".join("  " + line for line in self.examples.strip().splitlines())
            )
        return "\n\n".join(parts)


def _show_help(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value and isinstance(ctx.command, Verb):
        click.echo(ctx.command.help_text())
        ctx.exit()


def unknown_flag(name: str, args: Sequence[str]) -> str:
    """pflag's words for a flag that there is not."""
    if name.startswith("--"):
        return f"unknown flag: {name}"
    whole = next(
        (arg for arg in args if arg.startswith("-") and not arg.startswith("--") and name[1:] in arg), name
    )
    return f"unknown shorthand flag: '{name[1:]}' in {whole}"


def _needs_argument(name: str) -> str:
    if name.startswith("--"):
        return f"flag needs an argument: {name}"
    return f"flag needs an argument: '{name[1:]}' in {name}"


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

    def decorate(function: Callable[..., Any]) -> Verb:
        return click.command(
            cls=Verb,
            help=help,
            usage=[usage] if isinstance(usage, str) else usage,
            arity=arity,
            aliases=aliases,
            examples=examples,
            interspersed=interspersed,
        )(click.pass_obj(function))

    return decorate
