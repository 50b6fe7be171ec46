"""The program: global flags, finding the verb, and turning errors into exit codes."""

from __future__ import annotations

import os
import sys
from typing import Any

import click

from sampan.cli.command import PROGRAM, CommandLineError, Value, flag, listing, option, unknown_flag
from sampan.cli.commands import ALIASES, COMMON, GROUPS, TOP, Home
from sampan.cli.errors import ExitStatus, describe
from sampan.cli.session import Session
from sampan.errors import InvalidParameter, SampanError

_STRING = Value("string", str)


def _load(home: Home) -> click.Command:
    from importlib import import_module

    command: click.Command = getattr(import_module(f"sampan.cli.verbs.{home.module}"), home.attribute)
    return command


class _LazyGroup(click.Group):
    """A group whose commands are imported when they are used."""

    homes: dict[str, Home]

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(self.homes)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            message = unknown_flag(error.option_name, args)
        except click.BadOptionUsage as error:
            message = f"flag needs an argument: {error.option_name}"
        except click.exceptions.NoArgsIsHelpError:
            click.echo(self.help_text(ctx))
            ctx.exit()
        raise CommandLineError(
            f"{message}\n\nUsage:  {ctx.command_path} [OPTIONS] COMMAND [ARG...]\n\n"
            f"Run '{ctx.command_path} --help' for more information",
            125,
        )

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        command = self.get_command(ctx, args[0])
        if command is None:
            usage = f"Usage:  {ctx.command_path}\n\n" if ctx.parent else ""
            raise CommandLineError(
                f"{PROGRAM}: unknown command: {ctx.command_path} {args[0]}\n\n{usage}"
                f"Run '{ctx.command_path} --help' for more information",
                1,
            )
        return args[0], command, args[1:]

    def help_text(self, ctx: click.Context) -> str:
        raise NotImplementedError


class _Subgroup(_LazyGroup):
    """`sampan container …`"""

    def __init__(self, name: str) -> None:
        help, self.homes = GROUPS[name]
        self._aliases = ALIASES[name]
        super().__init__(
            name, help=help, add_help_option=False, no_args_is_help=True, params=[_help_option()]
        )

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        home = self.homes.get(self._aliases.get(cmd_name, cmd_name))
        return _load(home) if home else None

    def help_text(self, ctx: click.Context) -> str:
        path = ctx.command_path
        return (
            f"Usage:  {path} COMMAND\n\n{self.help}\n\nCommands:\n{_table({n: h.help for n, h in self.homes.items()})}\n\n"
            f"Run '{path} COMMAND --help' for more information on a command."
        )


class _Root(_LazyGroup):
    """`sampan …`"""

    homes = TOP

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*TOP, *GROUPS, "serve"])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in GROUPS:
            return _Subgroup(cmd_name)
        if cmd_name == "serve":
            return _serve
        home = TOP.get(cmd_name)
        return _load(home) if home else None

    def help_text(self, ctx: click.Context) -> str:
        from sampan.cli.help import option_table

        groups = {name: help for name, (help, _) in GROUPS.items()}
        others = {name: home.help for name, home in TOP.items() if name not in COMMON}
        return (
            f"Usage:  {PROGRAM} [OPTIONS] COMMAND\n\nThe whole container platform as one Python package\n\n"
            f"Common Commands:\n{_table({name: TOP[name].help for name in COMMON}, sort=False)}\n\n"
            f"Management Commands:\n{_table(groups)}\n\n"
            f"Commands:\n{_table(others | {'serve': 'Run the engine in the foreground'})}\n\n"
            f"Global Options:\n{option_table(self.params)}\n\n"
            f"Run '{PROGRAM} COMMAND --help' for more information on a command."
        )


def _table(rows: dict[str, str], *, sort: bool = True) -> str:
    names = sorted(rows) if sort else list(rows)
    width = max(map(len, names))
    return "\n".join(f"  {name.ljust(width)}   {rows[name]}" for name in names)


def _show_help(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value and isinstance(ctx.command, _LazyGroup):
        click.echo(ctx.command.help_text(ctx))
        ctx.exit()


def _help_option() -> click.Option:
    return click.Option(
        ["--help"], is_flag=True, is_eager=True, expose_value=False, callback=_show_help, help="Print usage"
    )


@click.command(
    add_help_option=False, context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False}
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def _serve(arguments: tuple[str, ...]) -> None:
    """Become the engine. Isolated (-I): the caller's PYTHONPATH and directory have no say in a root process."""
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-I", "-m", "sampan.serve", *arguments])


@click.group(cls=_Root, add_help_option=False, no_args_is_help=True)
@option(
    "-c",
    "--context",
    kind=_STRING,
    help="Name of the context to use to connect to the engine (overrides DOCKER_HOST)",
)
@option("--config", kind=_STRING, help="Location of client config files")
@flag("-D", "--debug", help="Enable debug mode: errors come with a traceback")
@listing("-H", "--host", kind=_STRING, help="Daemon socket to connect to")
@option(
    "-l",
    "--log-level",
    kind=_STRING,
    default="info",
    help="Accepted for docker's sake; the client logs nothing",
)
@flag("--tls", help="Use TLS; implied by --tlsverify")
@option("--tlscacert", kind=_STRING, help="Trust certs signed only by this CA")
@option("--tlscert", kind=_STRING, help="Path to TLS certificate file")
@option("--tlskey", kind=_STRING, help="Path to TLS key file")
@flag("--tlsverify", help="Use TLS and verify the remote")
@flag("-v", "--version", help="Print version information and quit")
@click.pass_context
def program(
    ctx: click.Context, /, host: tuple[str, ...], context: str | None, config: str | None, **flags: Any
) -> None:
    if len(host) > 1:
        raise InvalidParameter("Specify only one -H")
    if host and context:
        raise InvalidParameter("conflicting options: cannot specify both --host and --context")
    if config:
        os.environ["DOCKER_CONFIG"] = config
    ctx.obj = Session(host[0] if host else None, context, _tls(flags))


program.params.append(_help_option())


def _tls(flags: dict[str, Any]) -> Any:
    """TLS as the flags ask for it; None leaves it to the environment."""
    if not flags["tls"] and not flags["tlsverify"]:
        return None
    from sampan.client.endpoint import TlsFiles, config_directory, tls_files

    folder = os.environ.get("DOCKER_CERT_PATH") or config_directory()
    found = tls_files(folder, flags["tlsverify"])
    return TlsFiles(
        flags["tlscacert"] or found.ca,
        flags["tlscert"] or found.cert,
        flags["tlskey"] or found.key,
        flags["tlsverify"],
    )


def main() -> None:
    """Run `sampan` on sys.argv; never returns."""
    if sys.argv[1:] in (["-v"], ["--version"]):
        from sampan.version import __version__

        print(f"Sampan version {__version__}")
        sys.exit(0)
    if "_SAMPAN_COMPLETE" in os.environ:
        program.main(prog_name=PROGRAM)  # click answers the shell's question and leaves
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run a command line; the exit code."""
    session: Session | None = None
    try:
        with program.make_context(PROGRAM, list(arguments)) as ctx:
            program.invoke(ctx)
            session = ctx.obj
        sys.stdout.flush()
    except click.exceptions.Exit as leave:
        return leave.exit_code
    except ExitStatus as leave:
        _say(str(leave))
        return leave.status
    except CommandLineError as error:
        _say(str(error))
        return error.status
    except SampanError as error:
        if "-D" in arguments or "--debug" in arguments:
            raise
        _say(describe(error))
        return 1
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # nobody reads on: say nothing at the exit either
        return 1
    except (KeyboardInterrupt, click.Abort):
        return 130
    except OSError as error:
        _say(f"{error.filename}: {error.strerror}" if error.filename else str(error))
        return 1
    return 1 if session is not None and session.failed else 0


def _say(message: str) -> None:
    sys.stdout.flush()
    if message:
        print(message, file=sys.stderr)
