"""exec: a further process in a running container."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

from sampan.cgroups.interface import CgroupError
from sampan.errors import InvalidParameter, SampanError
from sampan.runtime.command import state, terminal
from sampan.runtime.command.lifecycle import (
    check_environment,
    filter_of,
    preserved_descriptors,
    refuse_incomplete,
    text_of,
    warn_of_capabilities,
    write_pid_file,
)
from sampan.runtime.interface import LaunchError

if TYPE_CHECKING:
    from typing import NoReturn

    from sampan.oci.runtime import Process, Spec
    from sampan.runtime.command.arguments import Parsed
    from sampan.runtime.command.main import Context
    from sampan.runtime.container.config import JoinConfig

_EXIT_FAILED = 255
"""runc's: exec's own failures must not look like the program's exit codes."""


def execute(context: Context, options: Parsed) -> None:
    """Run the process; unless detached, exit with its code."""
    try:
        _execute(context, options)
    except LaunchError as error:
        _fail(context, f"exec failed: unable to start container process: {error}")
    except (SampanError, OSError) as error:
        _fail(context, f"exec failed: {text_of(error)}")


def _fail(context: Context, message: str) -> NoReturn:
    context.fail(message, _EXIT_FAILED)


def _execute(context: Context, options: Parsed) -> None:
    from sampan.runtime.container.stub import prefork_join

    container = state.load(context.root, options.rest[0])
    status = container.status()
    if status == "stopped":
        raise InvalidParameter("cannot exec in a stopped container")
    if status == "paused" and not options.flag("ignore-paused"):
        raise InvalidParameter("cannot exec in a paused container (use --ignore-paused to override)")
    spec = container.record["spec"]
    process = _process(spec, options)
    warn_of_capabilities(context, process)
    check_environment(process)
    detached = options.flag("detach")
    wants_terminal = process.get("terminal", False)
    console_socket = options.text("console-socket")
    terminal.check_console(wants_terminal=wants_terminal, detached=detached, console_socket=console_socket)
    preserved = preserved_descriptors(options)
    stub = prefork_join(container.record["pid"])
    try:
        _attach(container, options, stub.pid)
        config: JoinConfig = {
            "id": container.record["id"],
            "process": process,
            "bundle": container.record["bundle"],
            "annotations": spec.get("annotations", {}),
        }
        if "personality" in spec["linux"]:
            config["personality"] = spec["linux"]["personality"]
        master = stub.configure_join(
            config,
            stdio=None if wants_terminal else (0, 1, 2),
            seccomp=filter_of(context, spec),
            preserved=preserved,
        )
        if master is not None and console_socket:
            terminal.send_master(console_socket, master)
            os.close(master)
            master = None
        foreground = None if detached else terminal.Foreground(stub.pid, stub.pidfd, master)
        stub.start()
        write_pid_file(options.text("pid-file"), stub.pid)
    except BaseException:
        stub.close()
        os.waitpid(stub.pid, 0)
        raise
    if foreground is not None:
        sys.exit(foreground.wait())


def _attach(container: state.Container, options: Parsed, pid: int) -> None:
    """Move the process into the container's cgroup, or into those beneath it that --cgroup names.

    Raises InvalidParameter and LaunchError, in runc's words.
    """
    places = _places_beneath(options.lists.get("cgroup", []))
    try:
        container.cgroup.attach_beneath(pid, places)
    except CgroupError as error:
        if error.errno is None:
            raise InvalidParameter(f"unable to create new parent process: {error}") from None
        raise LaunchError(f"error adding pid {pid} to cgroups: {error}", "other") from error


def _places_beneath(wanted: list[str]) -> dict[str, str]:
    """controller → path of `[controller[,controller]:]path`; controller "" for all. Raises InvalidParameter."""
    places: dict[str, str] = {}
    for argument in wanted:
        controllers, *rest = argument.split(":")
        if len(rest) > 1:
            raise InvalidParameter(f"invalid --cgroup argument: {argument}")
        if not rest and len(wanted) > 1:
            raise InvalidParameter(f"invalid --cgroup argument: {argument} (missing <controller>: prefix)")
        places |= dict.fromkeys(controllers.split(","), rest[0]) if rest else {"": argument}
    return places


def _process(spec: Spec, options: Parsed) -> Process:
    """The process: from --process, or the container's own with what the options change. Raises InvalidParameter."""
    from sampan.oci.validation import check_process

    if options.text("process"):
        with open(options.text("process"), encoding="utf-8", errors="surrogateescape") as file:
            try:
                document = json.load(file)
            except ValueError as error:
                raise InvalidParameter(f"{options.text('process')}: {error}") from None
        refuse_incomplete(document)
        return check_process(document)
    if len(options.rest) < 2:
        raise InvalidParameter("process args cannot be empty")
    process: Process = {**spec["process"], "args": options.rest[1:]}
    process.pop("consoleSize", None)
    process["terminal"] = options.flag("tty")
    process["env"] = [*process.get("env", []), *options.lists.get("env", [])]
    if options.text("cwd"):
        process["cwd"] = options.text("cwd")
    refuse_incomplete(process)
    if options.text("apparmor"):
        process["apparmorProfile"] = options.text("apparmor")
    if options.text("process-label"):
        process["selinuxLabel"] = options.text("process-label")
    if "no-new-privs" in options.options:
        process["noNewPrivileges"] = options.flag("no-new-privs")
    added = options.lists.get("cap", [])
    if added:
        capabilities = dict(process.get("capabilities", {}))
        # Not inheritable, hence not ambient either: a program with file capabilities would otherwise gain
        # what its user was never given (CVE-2022-29162).
        for name in ("bounding", "effective", "permitted"):
            capabilities[name] = [*capabilities.get(name, []), *added]  # type: ignore[misc]
        process["capabilities"] = capabilities  # type: ignore[typeddict-item]
    _set_user(process, options)
    return check_process(process)


def _set_user(process: Process, options: Parsed) -> None:
    user = options.text("user")
    groups = options.lists.get("additional-gids", [])
    if not user and not groups:
        return
    identity = dict(process.get("user", {}))
    if user:
        uid, colon, gid = user.partition(":")
        if colon:
            identity["gid"] = _id("gid", gid)
        identity["uid"] = _id("uid", uid)
    if groups:
        identity["additionalGids"] = [int(group) for group in groups]
    process["user"] = identity  # type: ignore[typeddict-item]


def _id(kind: str, text: str) -> int:
    try:
        return _number(text)
    except InvalidParameter as error:
        raise InvalidParameter(f"parsing {text} as int for {kind} failed: {error}") from None


def _number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise InvalidParameter(f'strconv.Atoi: parsing "{text}": invalid syntax') from None
