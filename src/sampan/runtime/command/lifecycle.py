"""create, run, start, kill, delete, pause, resume."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from typing import TYPE_CHECKING

from sampan.cgroups.layout import detect
from sampan.errors import InvalidParameter, NotFound, SampanError
from sampan.linux.process import pidfd_send_signal, start_time
from sampan.runtime.command import state, supervision
from sampan.runtime.interface import LaunchError

if TYPE_CHECKING:
    from sampan.oci.runtime import Process, Spec
    from sampan.runtime.command.arguments import Parsed
    from sampan.runtime.command.main import Context
    from sampan.runtime.container.stub import Stub
    from sampan.seccomp.interface import Program

_SECCOMP_CACHE = ".sampan-seccomp"
_DELETE_SECONDS = 10.0
_FOUND_EARLY = ('sysctl "', "unable to set hostname", "unable to set domainname", "invalid rootfs: ")
"""What runc finds wrong before it makes a process."""


def create(context: Context, options: Parsed) -> None:
    """Everything but the program: namespaces, cgroup, root, and a stub that waits at the start socket."""
    try:
        _create(context, options, detached=True)[1].close()
    except (LaunchError, SampanError, OSError) as error:
        context.fail(f"runc create failed: {text_of(error)}")


def run(context: Context, options: Parsed) -> None:
    """create, start and, unless detached, wait and delete. Exits with the program's code."""
    from sampan.runtime.command.terminal import Foreground

    detached = options.flag("detach")
    try:
        container, stub, console = _create(context, options, detached=detached)
        foreground = None if detached else Foreground(stub.pid, stub.pidfd, console)
        try:
            stub.start()
            _unlink_socket(container)
            _run_hooks(container, "poststart", "running")
        except LaunchError:
            os.waitpid(stub.pid, 0)
            _destroy(container)
            raise
    except (LaunchError, SampanError, OSError) as error:
        context.fail(f"runc run failed: {text_of(error)}")
    if foreground is None:
        return
    code = foreground.wait()
    if not options.flag("keep"):
        _destroy(container)
        _run_hooks(container, "poststop", "stopped")
    sys.exit(code)


def start(context: Context, options: Parsed) -> None:
    """Let a created container's stub execute the program."""
    container = _load(context, options.rest[0])
    status = container.status()
    if status == "stopped":
        context.fail("cannot start a container that has stopped")
    if status == "paused":
        context.fail("cannot start a container in the paused state")
    if status != "created":
        context.fail("cannot start an already running container")
    from sampan.runtime.container.remote import start_remote

    directory = os.open(container.directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        start_remote(directory, state.START_SOCKET, container.record["pid"])
        _unlink_socket(container)
        _run_hooks(container, "poststart", "running")
    except LaunchError as error:
        context.fail(str(error))
    finally:
        os.close(directory)


def kill(context: Context, options: Parsed) -> None:
    """Signal the container's init, or with --all every process in its cgroup."""
    container = _load(context, options.rest[0])
    number = _signal_number(context, options.rest[1] if len(options.rest) > 1 else "SIGTERM")
    if options.flag("all"):
        container.cgroup.kill(number)
        return
    if not container.is_alive():
        context.fail("container not running")
    try:
        _signal_init(container, number)
    except InvalidParameter as error:
        context.fail(str(error))


def delete(context: Context, options: Parsed) -> None:
    """Remove a stopped container; with --force a running one, and one that is not there is no error."""
    force = options.flag("force")
    try:
        container = state.load(context.root, options.rest[0])
    except (NotFound, InvalidParameter) as error:
        if force:
            return
        context.fail(str(error))
    status = container.status()
    if status == "created" or (force and status != "stopped"):
        _signal_init(container, signal.SIGKILL)
        _await_end(container)
    elif status != "stopped":
        context.fail(f"cannot delete container {container.record['id']} that is not stopped: {status}")
    try:
        _destroy(container)
        _run_hooks(container, "poststop", "stopped")
    except (SampanError, LaunchError) as error:
        context.fail(str(error))


def pause(context: Context, options: Parsed) -> None:
    """Freeze the container's cgroup."""
    container = _load(context, options.rest[0])
    if container.status() not in ("running", "created"):
        context.fail("container not running")
    container.cgroup.freeze()


def resume(context: Context, options: Parsed) -> None:
    """Thaw it."""
    container = _load(context, options.rest[0])
    if container.status() != "paused":
        context.fail("container not paused")
    container.cgroup.thaw()


# -- parts ------------------------------------------------------------------------------------------------


def text_of(error: Exception) -> str:
    """An error in runc's, that is in Go's, words."""
    if isinstance(error, LaunchError) and str(error).startswith(_FOUND_EARLY):
        return str(error)
    if isinstance(error, LaunchError):
        return f"unable to start container process: {error}"
    if isinstance(error, OSError):
        where = f"open {os.fsdecode(error.filename)}: " if error.filename else ""
        return f"{where}{(error.strerror or str(error)).lower()}"
    return str(error)


def check_environment(process: Process, place: str = "") -> None:
    """Raises LaunchError for an entry that is no assignment; `place` begins the message."""
    for entry in process.get("env", []):
        if "=" not in entry:
            raise LaunchError(f'{place}invalid environment variable: "{entry}"', "other")


def warn_of_capabilities(context: Context, process: Process) -> None:
    """Those that this kernel does not have are left out, and that is said."""
    from sampan.linux.capabilities import NAMES, last_capability

    known = {f"CAP_{name.removeprefix('CAP_')}" for name in list(NAMES)[: last_capability() + 1]}
    asked = {name for names in process.get("capabilities", {}).values() for name in names}  # type: ignore[attr-defined]
    if unknown := sorted(asked - known):
        context.write_log("warning", f"ignoring unknown or unavailable capabilities: [{' '.join(unknown)}]")


def _load(context: Context, container_id: str) -> state.Container:
    try:
        return state.load(context.root, container_id)
    except SampanError as error:
        context.fail(str(error))


def load_spec(bundle: str) -> Spec:
    """The bundle's `config.json`, checked. Raises InvalidParameter."""
    from sampan.oci.validation import check_spec

    path = os.path.join(bundle, "config.json")
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            document = json.load(file)
    except FileNotFoundError:
        raise InvalidParameter("JSON specification file config.json not found") from None
    except ValueError as error:
        raise InvalidParameter(f"{path}: {error}") from None
    if isinstance(document, dict):
        refuse_incomplete(document.get("process"))
        if "root" not in document:
            raise InvalidParameter("root must be specified")
    spec = check_spec(document)
    if "linux" not in spec:
        raise InvalidParameter("linux: missing")
    return spec


def refuse_incomplete(process: object) -> None:
    """A process that lacks what every one must have. Raises InvalidParameter in runc's words."""
    if not isinstance(process, dict):
        raise InvalidParameter("process property must not be empty")
    if not process.get("cwd"):
        raise InvalidParameter("Cwd property must not be empty")
    if not str(process["cwd"]).startswith("/"):
        raise InvalidParameter("Cwd must be an absolute path")
    if not process.get("args"):
        raise InvalidParameter("args must not be empty")


def place_of(context: Context, spec: Spec, container_id: str) -> tuple[str, str]:
    """The cgroup's path, absolute beneath the hierarchies' roots, and the unit of systemd's that it belongs to ("": none).

    Raises CgroupError.
    """
    path = spec["linux"].get("cgroupsPath", "")
    if not context.systemd_cgroup:
        return "/" + os.path.normpath("/" + (path or container_id)).strip("/"), ""
    from sampan.cgroups import scope

    place = scope.parse(path, container_id)
    return place.path, place.unit


def filter_of(context: Context, spec: Spec) -> Program | None:
    """The container's compiled seccomp filter."""
    profile = spec["linux"].get("seccomp")
    if not profile:
        return None
    from sampan.seccomp.cache import cached_program

    return cached_program(profile, os.path.join(context.root, _SECCOMP_CACHE))


def preserved_descriptors(options: Parsed) -> tuple[int, ...]:
    """Those of $LISTEN_FDS and --preserve-fds, which begin at 3. Raises InvalidParameter for a closed one."""
    listening = os.environ.get("LISTEN_FDS", "")
    count = options.number("preserve-fds") + (int(listening) if listening.isdigit() else 0)
    for number in range(3, 3 + count):
        try:
            os.fstat(number)
        except OSError:
            raise InvalidParameter(f"preserve-fds: descriptor {number} is not open") from None
    return tuple(range(3, 3 + count))


def write_pid_file(path: str, pid: int) -> None:
    """Atomically: whoever waits for the file must not read half a number."""
    if path:
        temporary = os.path.join(os.path.dirname(path) or ".", f".{os.path.basename(path)}")
        with open(temporary, "w", encoding="ascii") as file:
            file.write(str(pid))
        os.replace(temporary, path)


def _create(context: Context, options: Parsed, *, detached: bool) -> tuple[state.Container, Stub, int | None]:
    from sampan.runtime.command import terminal

    bundle = os.path.abspath(options.text("bundle") or ".")
    pid_file = options.text("pid-file") and os.path.abspath(
        options.text("pid-file")
    )  # the caller's, not the bundle's
    try:
        os.chdir(bundle)
    except OSError as error:
        raise InvalidParameter(f"chdir {bundle}: {(error.strerror or '').lower()}") from None
    spec = load_spec(bundle)
    warn_of_capabilities(context, spec["process"])
    check_environment(spec["process"], "error during container init: ")
    state.check_id(options.rest[0])
    wants_terminal = spec["process"].get("terminal", False)
    terminal.check_console(
        wants_terminal=wants_terminal, detached=detached, console_socket=options.text("console-socket")
    )
    preserved = preserved_descriptors(options)
    path, unit = place_of(context, spec, options.rest[0])
    if unit:
        supervision.require()
    directory = state.reserve(context.root, options.rest[0])
    container = state.Container(
        context.root,
        {
            "id": options.rest[0],
            "bundle": bundle,
            "rootfs": os.path.join(bundle, spec["root"]["path"]),
            "created": _now(),
            "owner": os.getuid(),
            "pid": 0,
            "pid_start": 0,
            "cgroup": path,
            "spec": spec,
        },
    )
    if container.cgroup.processes(recursive=False):
        container.remove()  # and nothing more: who lives in that cgroup is somebody else's
        raise InvalidParameter(f"container's cgroup is not empty: {path}")
    try:
        stub, master = _make(context, options, container, directory, preserved, unit)
        if master is not None and options.text("console-socket"):
            terminal.send_master(options.text("console-socket"), master)
            os.close(master)
            master = None
        write_pid_file(pid_file, stub.pid)
    except BaseException:
        if container.record["pid"] and container.is_alive():
            _signal_init(container, signal.SIGKILL)
        _destroy(container)
        raise
    return container, stub, master


def _make(
    context: Context,
    options: Parsed,
    container: state.Container,
    directory: str,
    preserved: tuple[int, ...],
    unit: str,
) -> tuple[Stub, int | None]:
    from sampan.runtime.container.devices import with_default_rules
    from sampan.runtime.container.stub import prefork_for

    record = container.record
    spec = record["spec"]
    group = detect().cgroup(record["cgroup"])
    resources = with_default_rules(spec["linux"].get("resources", {}))
    listener = _listen(directory)
    stub = prefork_for(spec)
    try:
        record["pid"], record["pid_start"] = stub.pid, start_time(stub.pid)
        if unit:
            supervision.begin(container, resources)
        group.create()
        group.apply(resources)
        group.attach(stub.pid)
        master = stub.configure(
            {
                "id": record["id"],
                "spec": spec,
                "bundle": record["bundle"],
                "cgroup_paths": dict(group.paths),
                "no_pivot": options.flag("no-pivot"),
                "no_new_keyring": options.flag("no-new-keyring"),
            },
            stdio=None if spec["process"].get("terminal") else (0, 1, 2),
            seccomp=filter_of(context, spec),
            preserved=preserved,
            start_listener=listener.fileno(),
        )
        container.save()
    except BaseException:
        stub.close()
        os.waitpid(stub.pid, 0)
        record["pid"] = 0
        raise
    finally:
        listener.close()
    return stub, master


def _listen(directory: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    place = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    mask = os.umask(0o177)
    try:
        # By way of /proc/self/fd: a socket's path may have 107 bytes only. Never abstract (CVE-2020-15257):
        # an abstract socket would be reachable from every container in the host's network namespace.
        listener.bind(f"/proc/self/fd/{place}/{state.START_SOCKET}")
        listener.listen(1)
    finally:
        os.umask(mask)
        os.close(place)
    return listener


def _now() -> str:
    nanoseconds = time.time_ns()
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(nanoseconds // 10**9))
    return f"{stamp}.{nanoseconds % 10**9:09d}Z"


def _unlink_socket(container: state.Container) -> None:
    try:
        os.unlink(os.path.join(container.directory, state.START_SOCKET))
    except FileNotFoundError:
        pass


def _run_hooks(container: state.Container, moment: str, status: str) -> None:
    spec = container.record["spec"]
    wanted = spec.get("hooks", {}).get(moment)
    if not wanted:
        return
    from sampan.runtime.container.hooks import run_all
    from sampan.runtime.container.remote import state_document

    document = state_document(
        {"id": container.record["id"], "spec": spec, "bundle": container.record["bundle"]},
        status,
        container.record["pid"] if status != "stopped" else 0,
    )
    run_all(moment, wanted, document.encode())  # type: ignore[arg-type]


def _signal_init(container: state.Container, number: int) -> None:
    try:
        pidfd = os.pidfd_open(container.record["pid"])
    except ProcessLookupError:
        return
    try:
        # Checked after the pidfd is open: from here on it cannot become another process.
        if container.is_alive():
            try:
                pidfd_send_signal(pidfd, number)
            except OSError as error:
                if isinstance(error, ProcessLookupError):
                    raise
                raise InvalidParameter(f"unable to signal init: {(error.strerror or '').lower()}") from None
            if number == signal.SIGKILL and container.cgroup.frozen():
                container.cgroup.thaw()
    except ProcessLookupError:
        pass
    finally:
        os.close(pidfd)


def _await_end(container: state.Container) -> None:
    import select

    try:
        pidfd = os.pidfd_open(container.record["pid"])
    except ProcessLookupError:
        return
    try:
        if container.is_alive():
            select.select([pidfd], [], [], _DELETE_SECONDS)
    finally:
        os.close(pidfd)


def _destroy(container: state.Container) -> None:
    group = container.cgroup
    if group.exists():
        # Without a pid namespace of its own, init's end does not take the other processes with it.
        group.kill()
        supervision.end(container)
        group.delete(timeout=_DELETE_SECONDS)
    container.remove()


def _signal_number(context: Context, text: str) -> int:
    if text.removeprefix("-").isdigit():
        return int(text)
    name = text.upper()
    number = getattr(signal, name if name.startswith("SIG") else "SIG" + name, None)
    if not isinstance(number, signal.Signals):
        context.fail(f'unknown signal "{text}"')
    return number.value
