"""The entry of `sampan-runtime`: global options, dispatch, and errors where runc's callers look for them.

containerd reads the last entry of the `--log` file (JSON) when a command fails; a person reads stderr. The exit
codes are runc's: 1, and 255 when `exec` fails.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, NoReturn

from sampan.runtime.command.arguments import Option, Parsed, UsageError, format_options, parse
from sampan.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable

_EXIT_UNKNOWN_COMMAND = 3

DEFAULT_ROOT = "/run/sampan-runtime"

GLOBAL_OPTIONS = (
    Option(("debug",), "flag", "log what is done"),
    Option(("log",), "text", "file for log messages", "'/dev/stderr'"),
    Option(("log-format",), "text", "format of log messages: text or json", '"text"'),
    Option(("root",), "text", "directory of the containers' state, best on a tmpfs", f'"{DEFAULT_ROOT}"'),
    Option(("criu",), "text", "accepted for compatibility; there is no checkpointing"),
    Option(("systemd-cgroup",), "flag", 'take cgroupsPath as "slice:prefix:name"'),
    Option(("rootless",), "text", "accepted for compatibility", '"auto"'),
    Option(("help", "h"), "flag", "show help"),
    Option(("version", "v"), "flag", "print the version"),
)

_BUNDLE = Option(("bundle", "b"), "text", "directory with config.json; default: the current one")
_CONSOLE_SOCKET = Option(("console-socket",), "text", "Unix socket that receives the terminal's master side")
_PID_FILE = Option(("pid-file",), "text", "file to write the process's pid to")
_PRESERVE = Option(
    ("preserve-fds",), "number", "descriptors to pass on, from 3, after $LISTEN_FDS of them", "0"
)
_CREATE = (
    _BUNDLE,
    _CONSOLE_SOCKET,
    _PID_FILE,
    Option(("no-pivot",), "flag", "move the root instead of pivot_root, for a root on a ramdisk"),
    Option(("no-new-keyring",), "flag", "keep the caller's session keyring"),
    _PRESERVE,
)
_FORMAT = Option(("format", "f"), "text", "table or json", '"table"')
_UPDATE_NUMBERS = (
    ("blkio-weight", "weight of block I/O, 10 to 1000"),
    ("cpu-period", "period of the CPU quota, in microseconds"),
    ("cpu-quota", "CPU time in a period, in microseconds"),
    ("cpu-share", "share of CPU time, relative to other containers"),
    ("cpu-rt-period", "period of the real-time quota, in microseconds"),
    ("cpu-rt-runtime", "real-time CPU time in a period, in microseconds"),
    ("cpuset-cpus", "CPUs to use"),
    ("cpuset-mems", "memory nodes to use"),
    ("memory", "memory limit in bytes"),
    ("memory-reservation", "soft memory limit in bytes"),
    ("memory-swap", "memory and swap in bytes; -1 is unlimited"),
    ("pids-limit", "number of tasks"),
)


class Command:
    """A subcommand: its options, how many arguments it takes, and the function that carries it out."""

    def __init__(
        self,
        about: str,
        usage: str,
        options: tuple[Option, ...],
        count: tuple[int, int | None],
        function: str,
    ) -> None:
        self.about = about
        self.usage = usage
        self.options = options
        self.count = count
        self.function = function
        """`module:name`, imported when wanted: `state` need not load what `create` needs."""


_ONE = (1, 1)
COMMANDS: dict[str, Command] = {
    "create": Command("create a container", "<container-id>", _CREATE, _ONE, "lifecycle:create"),
    "delete": Command(
        "remove what a stopped container holds", "<container-id>",
        (Option(("force", "f"), "flag", "kill it first if it runs"),), _ONE, "lifecycle:delete",
    ),
    "events": Command(
        "print out-of-memory events and statistics", "<container-id>",
        (
            Option(("interval",), "duration", "time between statistics", "5s"),
            Option(("stats",), "flag", "print statistics once and end"),
        ), _ONE, "resources:events",
    ),
    "exec": Command(
        "run a further process in a container", "<container-id> <command> [arguments] | -p process.json <container-id>",
        (
            _CONSOLE_SOCKET,
            Option(("cwd",), "text", "working directory in the container"),
            Option(("env", "e"), "texts", "set an environment variable"),
            Option(("tty", "t"), "flag", "give it a terminal"),
            Option(("user", "u"), "text", "uid[:gid]"),
            Option(("additional-gids", "g"), "numbers", "further groups"),
            Option(("process", "p"), "text", "file with the process as JSON"),
            Option(("detach", "d"), "flag", "do not wait for it"),
            _PID_FILE,
            Option(("process-label",), "text", "SELinux label"),
            Option(("apparmor",), "text", "AppArmor profile"),
            Option(("no-new-privs",), "flag", "forbid gaining privileges"),
            Option(("cap", "c"), "texts", "add a capability"),
            _PRESERVE,
            Option(("cgroup",), "texts", "cgroup beneath the container's: [controller:]path"),
            Option(("ignore-paused",), "flag", "allow it in a paused container"),
        ), (1, None), "execute:execute",
    ),
    "features": Command("print what this runtime can do, as JSON", "", (), (0, 0), "documents:features"),
    "kill": Command(
        "send a signal (default SIGTERM) to the container's init", "<container-id> [signal]",
        (Option(("all", "a"), "flag", "to every process of the container"),), (1, 2), "lifecycle:kill",
    ),
    "list": Command(
        "list the containers of this state directory", "",
        (_FORMAT, Option(("quiet", "q"), "flag", "only ids")), (0, 0), "listing:list_containers",
    ),
    "pause": Command("suspend all processes of a container", "<container-id>", (), _ONE, "lifecycle:pause"),
    "ps": Command(
        "list the processes of a container", "<container-id> [ps options]", (_FORMAT,), (1, None), "listing:ps"
    ),
    "resume": Command("resume a paused container", "<container-id>", (), _ONE, "lifecycle:resume"),
    "run": Command(
        "create and start a container, and wait for its end", "<container-id>",
        (
            *_CREATE,
            Option(("detach", "d"), "flag", "do not wait"),
            Option(("keep",), "flag", "do not delete it at its end"),
            Option(("no-subreaper",), "flag", "accepted for compatibility"),
        ), _ONE, "lifecycle:run",
    ),
    "spec": Command(
        "write a config.json to start from", "",
        (
            Option(("bundle", "b"), "text", "directory to write it into"),
            Option(("rootless",), "flag", "for a container of an ordinary user"),
        ), (0, 0), "documents:spec",
    ),
    "start": Command("execute a created container's program", "<container-id>", (), _ONE, "lifecycle:start"),
    "state": Command("print a container's state as JSON", "<container-id>", (), _ONE, "listing:state"),
    "update": Command(
        "change a container's limits", "<container-id>",
        (
            Option(("resources", "r"), "text", "JSON file with the limits, - for stdin; all else is then ignored"),
            *(
                Option((name,), "number" if name in ("blkio-weight", "pids-limit") else "text", text)
                for name, text in _UPDATE_NUMBERS
            ),
            Option(("l3-cache-schema",), "text", "Intel RDT: not there"),
            Option(("mem-bw-schema",), "text", "Intel RDT: not there"),
        ), _ONE, "resources:update",
    ),
}  # fmt: skip


class Context:
    """What every command gets beside its own options."""

    def __init__(self, options: Parsed) -> None:
        self.root = options.text("root") or DEFAULT_ROOT
        self.log = options.text("log")
        self.log_format = options.text("log-format") or "text"
        self.debug = options.flag("debug")
        self.systemd_cgroup = options.flag("systemd-cgroup")

    def write_log(self, level: str, message: str) -> None:
        """One log entry to the log file, or to stderr."""
        if level == "debug" and not self.debug:
            return
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        # Imported here: only failures write, and `state` or `start` seldom fail.
        import json

        if self.log_format == "json":
            line = json.dumps({"level": level, "msg": message, "time": stamp})
        else:
            line = f'time="{stamp}" level={level} msg={json.dumps(message, ensure_ascii=False)}'
        if self.log in ("", "/dev/stderr"):
            sys.stderr.write(line + "\n")
            return
        try:
            with open(self.log, "a", encoding="utf-8", errors="surrogateescape") as file:
                file.write(line + "\n")
        except OSError:
            sys.stderr.write(line + "\n")

    def fail(self, message: str, code: int = 1) -> NoReturn:
        """Report an error where the caller looks for it, and end."""
        self.write_log("error", message)
        if self.log not in ("", "/dev/stderr"):
            sys.stderr.write(message + "\n")
        sys.stderr.flush()
        sys.exit(code)


def main(arguments: list[str] | None = None) -> None:
    """Carry out one command line; ends by SystemExit."""
    if arguments is None:
        arguments = sys.argv[1:]
    context = Context(Parsed({}, {}, []))
    try:
        options = parse(GLOBAL_OPTIONS, arguments)
        context = Context(options)
        if context.log_format not in ("text", "json"):
            wanted, context.log_format, context.log = context.log_format, "text", ""
            context.fail(f"invalid log-format: {wanted}")
        if options.flag("version"):
            _print_version()
        elif options.flag("help") or not options.rest or options.rest[0] in ("help", "h"):
            _print_help()
        else:
            _dispatch(context, options.rest[0], options.rest[1:])
    except UsageError as error:
        sys.stdout.write(f"Incorrect Usage. {error}\n\n")
        _print_help()
        context.fail(str(error))


def _dispatch(context: Context, name: str, arguments: list[str]) -> None:
    command = COMMANDS.get(name)
    if name in ("checkpoint", "restore"):
        context.fail(f"{name} is not supported: containers are not saved and brought back (CRIU)")
    if command is None:
        context.fail(f"No help topic for '{name}'", _EXIT_UNKNOWN_COMMAND)
    if any(argument in ("--help", "-h") for argument in arguments[:1]):
        _print_command_help(name, command)
        return
    try:
        parsed = parse(command.options, arguments)
    except UsageError as error:
        sys.stdout.write(f"Incorrect Usage: {error}\n\n")
        _print_command_help(name, command)
        context.fail(str(error))
    if wanted := _wrong_count(len(parsed.rest), *command.count):
        sys.stdout.write("Incorrect Usage.\n\n")
        _print_command_help(name, command)
        context.fail(f'{sys.argv[0]}: "{name}" requires {wanted} argument(s)')
    _function(command.function)(context, parsed)


def _wrong_count(count: int, low: int, high: int | None) -> str:
    """What is asked for instead; "" when the number of arguments is right."""
    if low == high and count != low:
        return f"exactly {low}"
    if count < low:
        return f"a minimum of {low}"
    return f"a maximum of {high}" if high is not None and count > high else ""


def _function(place: str) -> Callable[[Context, Parsed], None]:
    import importlib

    module, _, name = place.partition(":")
    function: Callable[[Context, Parsed], None] = getattr(
        importlib.import_module("sampan.runtime.command." + module), name
    )
    return function


def _print_version() -> None:
    from sampan.runtime.command.documents import SPEC_VERSION

    sys.stdout.write(f"sampan-runtime version {__version__}\nspec: {SPEC_VERSION}\n")


def _print_help() -> None:
    width = max(len(name) for name in COMMANDS) + 2
    commands = "".join(f"   {name:<{width}}{command.about}\n" for name, command in COMMANDS.items())
    sys.stdout.write(
        "NAME:\n   sampan-runtime - Sampan's OCI runtime, with runc's command line\n\n"
        "USAGE:\n   sampan-runtime [global options] command [command options] [arguments...]\n\n"
        f"VERSION:\n   {__version__}\n\nCOMMANDS:\n{commands}\n"
        f"GLOBAL OPTIONS:\n{format_options(GLOBAL_OPTIONS)}"
    )


def _print_command_help(name: str, command: Command) -> None:
    options = " [command options]" if command.options else ""
    text = (
        f"NAME:\n   sampan-runtime {name} - {command.about}\n\n"
        f"USAGE:\n   sampan-runtime {name}{options} {command.usage}\n"
    )
    if command.options:
        text += f"\nOPTIONS:\n{format_options(command.options)}"
    sys.stdout.write(text)
