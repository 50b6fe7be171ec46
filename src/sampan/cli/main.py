"""The program: global flags, finding the verb, and turning errors into exit codes."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from sampan.cli.command import HELP, PROGRAM, CommandLineError, Verb
from sampan.cli.commands import ALIASES, GROUPS, TOP
from sampan.cli.errors import ExitStatus, describe
from sampan.cli.flags import Flag, FlagError, Value, parse
from sampan.cli.session import Session
from sampan.errors import InvalidParameter, NotSupported, SampanError

if TYPE_CHECKING:
    from collections.abc import Sequence

_STRING = Value("string", str)
GLOBAL_FLAGS = (
    Flag(
        ("-c", "--context"),
        _STRING,
        "Name of the context to use to connect to the engine (overrides DOCKER_HOST)",
    ),
    Flag(("--config",), _STRING, "Location of client config files"),
    Flag(("-D", "--debug"), None, "Enable debug mode: errors come with a traceback", default=False),
    Flag(("-H", "--host"), _STRING, "Daemon socket to connect to", repeated=True),
    Flag(
        ("-l", "--log-level"),
        _STRING,
        "Accepted for docker's sake; the client logs nothing",
        default="info",
    ),
    Flag(("--tls",), None, "Use TLS; implied by --tlsverify", default=False),
    Flag(("--tlscacert",), _STRING, "Trust certs signed only by this CA"),
    Flag(("--tlscert",), _STRING, "Path to TLS certificate file"),
    Flag(("--tlskey",), _STRING, "Path to TLS key file"),
    Flag(("--tlsverify",), None, "Use TLS and verify the remote", default=False),
    Flag(("-v", "--version"), None, "Print version information and quit", default=False),
    HELP,
)


def main() -> None:
    """Run `sampan` on sys.argv; never returns."""
    status = run(sys.argv[1:])
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        status = _unread()
    sys.exit(status)


def run(words: Sequence[str]) -> int:
    """Run a command line; the exit code."""
    try:
        return _run(words)
    except ExitStatus as leave:
        _say(str(leave))
        return leave.status
    except CommandLineError as error:
        _say(str(error))
        return error.status
    except SampanError as error:
        if "-D" in words or "--debug" in words:
            raise
        _say(describe(error))
        return 1
    except BrokenPipeError:
        return _unread()
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        _say(f"{error.filename}: {error.strerror}" if error.filename else str(error))
        return 1


def _run(words: Sequence[str]) -> int:
    try:
        given, rest = parse(GLOBAL_FLAGS, words, interspersed=False)
    except FlagError as error:
        raise _not_understood(str(error), PROGRAM) from None
    if given["version"]:
        from sampan.version import __version__

        print(f"Sampan version {__version__}")
        return 0
    if given["help"] or not rest:
        from sampan.cli.help import program_page

        print(program_page(GLOBAL_FLAGS))
        return 0
    if rest[0] == "help":
        return _run([*rest[1:], "--help"])
    if rest[0] == "serve":
        _serve(rest[1:])
    if rest[0] == "registry":
        _registry(rest[1:])
    if rest[0] == "__complete":
        from sampan.cli.completing import candidates, names

        print("\n".join(candidates(rest[1:], names)))
        return 0
    found = find(rest)
    if found is None:
        return 0
    verb, path, left = found
    session = _session(given)
    verb.run(session, path, left)
    sys.stdout.flush()
    return 1 if session.failed else 0


def find(words: Sequence[str]) -> tuple[Verb, str, Sequence[str]] | None:
    """The verb that words call for, its path, and what is left; None when a group's help was asked for, and printed.

    Raises CommandLineError when there is no such command.
    """
    name, *rest = words
    path, homes, aliases = PROGRAM, TOP, {}
    if name in GROUPS:
        path, homes, aliases = f"{PROGRAM} {name}", GROUPS[name][1], ALIASES[name]
        if not rest or rest[0] == "--help":
            from sampan.cli.help import group_page

            print(group_page(name), file=sys.stdout if rest else sys.stderr)
            return None
        name, *rest = rest
        if name.startswith("-"):
            kind = "flag: " if name.startswith("--") else f"shorthand flag: {name[1:2]!r} in "
            raise _not_understood(f"unknown {kind}{name}", path)
    home = homes.get(aliases.get(name, name))
    if home is None:
        usage = f"Usage:  {path}\n\n" if path != PROGRAM else ""
        raise CommandLineError(
            f"{PROGRAM}: unknown command: {path} {name}\n\n{usage}Run '{path} --help' for more information",
            1,
        )
    from importlib import import_module

    verb: Verb = getattr(import_module(f"sampan.cli.verbs.{home.module}"), home.attribute)
    return verb, f"{path} {name}", rest


def _not_understood(message: str, path: str) -> CommandLineError:
    return CommandLineError(
        f"{message}\n\nUsage:  {path} [OPTIONS] COMMAND [ARG...]\n\nRun '{path} --help' for more information",
        125,
    )


def _serve(words: Sequence[str]) -> None:
    """Become the engine. Isolated (-I): the caller's PYTHONPATH and directory have no say in a root process."""
    if not sys.platform.startswith("linux"):
        from sampan.client.autostart import ELSEWHERE

        raise NotSupported(ELSEWHERE)
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-I", "-m", "sampan.serve", *words])


def _registry(words: Sequence[str]) -> None:
    """Become the registry server; it is a program of its own, and the engine has no part in it."""
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-I", "-m", "sampan.registryserver", *words])


def _session(given: dict[str, Any]) -> Session:
    hosts, context = given["host"], given["context"]
    if len(hosts) > 1:
        raise InvalidParameter("Specify only one -H")
    if hosts and context:
        raise InvalidParameter("conflicting options: cannot specify both --host and --context")
    if given["config"]:
        os.environ["DOCKER_CONFIG"] = given["config"]
    return Session(hosts[0] if hosts else None, context, _tls(given))


def _tls(given: dict[str, Any]) -> Any:
    """TLS as the flags ask for it; None leaves it to the environment."""
    if not given["tls"] and not given["tlsverify"]:
        return None
    from sampan.client.endpoint import TlsFiles, config_directory, tls_files

    folder = os.environ.get("DOCKER_CERT_PATH") or config_directory()
    found = tls_files(folder, given["tlsverify"])
    return TlsFiles(
        given["tlscacert"] or found.ca,
        given["tlscert"] or found.cert,
        given["tlskey"] or found.key,
        given["tlsverify"],
    )


def _unread() -> int:
    """Nobody reads on: say nothing at the exit either."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return 1


def _say(message: str) -> None:
    sys.stdout.flush()
    if message:
        print(message, file=sys.stderr)
