"""The parent's side: clone a stub ahead of time, tell it what to become, let it go."""

from __future__ import annotations

import binascii
import contextlib
import os
import signal
import socket
from typing import TYPE_CHECKING, Any, NoReturn

from sampan.cgroups import Entrance
from sampan.linux import process, sockets
from sampan.runtime.container import hooks, limits, namespaces, notification, stubmain, sysctls, unsupported
from sampan.runtime.container.failure import Step, from_message
from sampan.runtime.container.host import HostFiles
from sampan.runtime.container.remote import start_over, state_document, state_of
from sampan.runtime.interface import LaunchError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from sampan.oci.runtime import IDMapping, Process, Spec, State, TimeOffset
    from sampan.runtime.container.config import InitConfig, JoinConfig
    from sampan.seccomp.interface import Program

_MADE_LATER = frozenset({"cgroup"})
"""Made by the stub on configure: a cgroup namespace is rooted where its maker is, and the stub's cgroup may
still change when it is cloned ahead."""

OUTSIDE = Entrance()
"""Of no cgroup: somebody moves the stub, or it stays in its parent's."""

_MAX_PRESERVED = 60
"""Above them the stub keeps its own descriptors."""

_VISITED = frozenset({"pid", "network", "uts", "ipc", "time"})
"""Namespaces that the parent can enter and leave, so that the stub is born in them."""


class Layout:
    """Descriptors to send, and the names by which the stub finds them."""

    def __init__(self) -> None:
        self.descriptors: list[int] = []
        self.names: dict[str, Any] = {}

    def one(self, name: str, descriptor: int) -> None:
        self.names[name] = len(self.descriptors)
        self.descriptors.append(descriptor)

    def many(self, name: str, descriptors: Collection[int]) -> None:
        first = len(self.descriptors)
        self.names[name] = list(range(first, first + len(descriptors)))
        self.descriptors.extend(descriptors)

    def pairs(self, name: str, pairs: Collection[tuple[Any, int]]) -> None:
        entries: list[tuple[Any, int]] = []
        for key, descriptor in pairs:
            if descriptor < 0:
                entries.append((key, -1))
                continue
            entries.append((key, len(self.descriptors)))
            self.descriptors.append(descriptor)
        self.names[name] = entries


class Stub:
    """A child that waits to become a container's process. Its owner reaps the pid (SIGCHLD, pidfd)."""

    def __init__(
        self,
        pid: int,
        pidfd: int,
        channel: socket.socket,
        made: Collection[str],
        joined: Mapping[str, str],
        target: int,
    ) -> None:
        self.pid = pid
        self.pidfd = pidfd
        """Close-on-exec; closed by `close`."""
        self.helper = 0
        """Pid of a helper of its birth that has ended and is the parent's to reap, with CLONE_PARENT; else 0."""
        self._channel = channel
        self._made = frozenset(made)
        self._joined = dict(joined)
        self._target = target

    def configure(
        self,
        config: InitConfig,
        *,
        stdio: tuple[int, int, int] | None,
        seccomp: Program | None = None,
        preserved: tuple[int, ...] = (),
        start_listener: int | None = None,
    ) -> int | None:
        """Make the container; when this returns, its state is `created`.

        `stdio`: descriptors that become 0, 1, 2; None with `process.terminal`, whose master side is then
        returned (close-on-exec, the caller's). `preserved` become 3, 4, …. With `start_listener`, a listening
        AF_UNIX SOCK_SEQPACKET socket, another process can start the container (`start_remote`) after this
        parent has ended.

        The parent's copies of all descriptors stay open. Blocks some milliseconds (longer with hooks).
        Raises LaunchError, the failing step named; the stub has then exited and must be reaped.
        """
        spec = config["spec"]
        unsupported.refuse(spec)
        new, joined = namespaces.of_spec(spec)
        files = HostFiles()
        layout = Layout()
        opened: list[int] = []
        try:
            files.open(config)
            late = {kind: path for kind, path in joined.items() if kind not in self._joined}
            for kind, path in late.items():
                opened.append(namespaces.open_path(kind, path))
            layout.pairs("namespaces", list(zip(late, opened, strict=True)))
            self._check_sysctls(spec, new, joined)
            layout.pairs("root", files.root)
            layout.pairs("binds", list(files.binds.items()))
            layout.pairs("nodes", list(files.nodes.items()))
            layout.pairs("hierarchies", [((h.name, h.controllers), h.tree) for h in files.hierarchies])
            _add_streams(layout, stdio, preserved, start_listener)
            start_hooks = spec.get("hooks", {}).get("startContainer", [])
            message = {
                "config": {**config, "spec": _without_filter(spec), "rootfs": []},
                "layout": layout.names,
                "unshare": sorted(new - self._made - {"user"}),
                "own_userns": "user" in self._made or "user" in late,
                "setgroups_denied": self._setgroups_denied(),
                "limits_by_parent": "user" in self._made or "user" in late,
                "wait_for_hooks": _has_runtime_hooks(spec),
                "hooks": start_hooks,
                "state": state_document(config, "created", self.pid) if spec.get("hooks") else "",
                "seccomp": _packed(seccomp),
                "agent": notification.agent_of(seccomp, state_of(config, "created", self.pid), self.pid),
            }
            if "user" in new and "user" not in self._made:
                raise LaunchError("a user namespace must be made when the stub is cloned", "other")
            limits.apply_before(self.pid, spec["process"])
            sockets.send(self._channel, message, layout.descriptors)
        except OSError as error:
            raise self._lost(error) from error
        finally:
            files.close()
            for descriptor in opened:
                os.close(descriptor)
        console = self._await_ready(config)
        self._limit(spec["process"], in_userns="user" in self._made or "user" in late)
        return console

    def configure_join(
        self,
        config: JoinConfig,
        *,
        stdio: tuple[int, int, int] | None,
        seccomp: Program | None = None,
        preserved: tuple[int, ...] = (),
    ) -> int | None:
        """As `configure`, for a stub of `prefork_join`."""
        unsupported.refuse_process(config["process"])
        layout = Layout()
        _add_streams(layout, stdio, preserved, None)
        join = [kind for kind in namespaces.FLAGS if self._differs(kind)]
        message = {
            "config": config,
            "layout": layout.names,
            "join": join,
            "own_userns": "user" in join,
            "limits_by_parent": "user" in join,
            "setgroups_denied": self._setgroups_denied(),
            "seccomp": _packed(seccomp),
            "agent": notification.agent_of(seccomp, self._state_of_joined(config), self.pid),
        }
        spec_process = config["process"]
        try:
            limits.apply_before(self.pid, spec_process)
            sockets.send(self._channel, message, layout.descriptors)
        except OSError as error:
            raise self._lost(error) from error
        console = self._await_ready(None)
        self._limit(spec_process, in_userns="user" in join)
        return console

    def start(self) -> None:
        """Let it execute the program; returns when execve succeeded. Raises LaunchError with its kind."""
        start_over(self._channel, self.pidfd)

    @property
    def channel(self) -> int:
        """The descriptor by which whoever has a duplicate of it can start the stub (`remote.start_over`)."""
        return self._channel.fileno()

    def close(self) -> None:
        """Drop the connection and the pidfd; a stub that was not started exits by itself."""
        self._channel.close()
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1

    def _await_ready(self, config: InitConfig | None) -> int | None:
        while True:
            try:
                answer, descriptors = sockets.receive(self._channel)
            except OSError as error:
                raise self._lost(error) from error
            if "error" in answer:
                raise from_message(answer)
            if "ready" in answer:
                return descriptors[0] if descriptors else None
            assert config is not None
            _run_runtime_hooks(config, self.pid)
            sockets.send(self._channel, {})

    def _limit(self, spec_process: Process, *, in_userns: bool) -> None:
        """What the stub cannot do itself. A stub for which that fails is killed: it would wait for ever."""
        try:
            limits.apply_after(self.pid, spec_process, with_rlimits=in_userns)
        except LaunchError:
            process.pidfd_send_signal(self.pidfd, signal.SIGKILL)
            raise

    def _lost(self, error: OSError) -> LaunchError:
        if isinstance(error, BrokenPipeError):  # it may have said why before it ended
            try:
                return from_message(sockets.receive(self._channel)[0])
            except OSError as nothing:
                error = nothing
        if isinstance(error, (sockets.Disconnected, ConnectionResetError)):
            return LaunchError("the container's first process ended during its set-up", "lost")
        where = f"{os.fsdecode(error.filename)}: " if error.filename else ""
        return LaunchError(f"{where}{error.strerror}", "other")

    def _check_sysctls(self, spec: Spec, new: set[str], joined: Mapping[str, str]) -> None:
        wanted = spec.get("linux", {}).get("sysctl", {})
        if not wanted:
            return
        private = set(new)
        for kind, path in joined.items():
            own = os.stat(f"/proc/self/ns/{namespaces.PROC_NAMES[kind]}")
            other = os.stat(path)
            if (own.st_dev, own.st_ino) != (other.st_dev, other.st_ino):
                private.add(kind)
        sysctls.check(wanted, private)

    def _state_of_joined(self, config: JoinConfig) -> State:
        return {
            "ociVersion": notification.OCI_VERSION,
            "id": config["id"],
            "status": "running",
            "pid": self._target,
            "bundle": config.get("bundle", ""),
            "annotations": config.get("annotations", {}),
        }

    def _differs(self, kind: str) -> bool:
        name = namespaces.PROC_NAMES[kind]
        try:
            return os.readlink(f"/proc/{self._target}/ns/{name}") != os.readlink(f"/proc/self/ns/{name}")
        except FileNotFoundError:
            return False

    def _setgroups_denied(self) -> bool:
        pid = self._target if self._target else self.pid
        try:
            descriptor = os.open(f"/proc/{pid}/setgroups", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            return os.read(descriptor, 16).startswith(b"deny")
        finally:
            os.close(descriptor)


def prefork(
    kinds: Collection[str],
    *,
    joined: Mapping[str, str] | None = None,
    entrance: Entrance = OUTSIDE,
    uid_mappings: list[IDMapping] | None = None,
    gid_mappings: list[IDMapping] | None = None,
    time_offsets: Mapping[str, TimeOffset] | None = None,
    clone_flags: int = 0,
) -> Stub:
    """Clone a stub into new namespaces of these kinds ("pid", "mount", "uts", "ipc", "network", "user"…).

    `joined`: kind → path of pid, network, uts and ipc namespaces in which it is born instead; what else the
    spec names is made or joined on configure. `entrance`: of the cgroup that it goes into first of all.
    Mappings go with "user", offsets with "time". `clone_flags`: CLONE_PARENT makes it the caller's parent's child.
    Raises LaunchError; on return the caller (or its parent) owns a child.
    """
    made = set(kinds) - _MADE_LATER - {"time"}
    opened: dict[str, int] = {}
    born_in = {kind: path for kind, path in (joined or {}).items() if kind in _VISITED}
    helper = 0
    user = (joined or {}).get("user")
    if user is not None:
        born_in["user"] = user
    try:
        for kind, path in born_in.items():
            opened[kind] = namespaces.open_path(kind, path)
        flags = namespaces.flags_of(made)
        offsets = (time_offsets or {}) if "time" in kinds else None
        if user is not None:
            if offsets is not None:
                raise LaunchError("a new time namespace in a joined user namespace is not supported", "other")
            pid, pidfd, channel, helper = _clone_within(opened, flags, entrance, clone_flags)
        else:
            with namespaces.Visit(opened, offsets):
                pid, pidfd, channel = _clone(clone_flags | flags, entrance, None)
    finally:
        for descriptor in opened.values():
            os.close(descriptor)
    of_user = {"user"} if user is not None else set()
    stub = Stub(pid, pidfd, channel, made | ({"time"} & set(kinds)) | of_user, born_in, 0)
    stub.helper = helper
    if "user" in made:
        try:
            namespaces.write_id_mappings(pid, uid_mappings or [], gid_mappings or [])
        except BaseException:
            stub.close()
            with contextlib.suppress(ChildProcessError):  # the parent's, which reaps it
                os.waitpid(pid, 0)
            raise
    return stub


def prefork_for(spec: Spec, *, entrance: Entrance = OUTSIDE, clone_flags: int = 0) -> Stub:
    """`prefork` with the namespaces, mappings and offsets that a spec asks for."""
    new, joined = namespaces.of_spec(spec)
    linux = spec.get("linux", {})
    return prefork(
        new,
        joined=joined,
        entrance=entrance,
        uid_mappings=linux.get("uidMappings"),
        gid_mappings=linux.get("gidMappings"),
        time_offsets=linux.get("timeOffsets"),
        clone_flags=clone_flags,
    )


def prefork_join(pid: int, *, entrance: Entrance = OUTSIDE, clone_flags: int = 0) -> Stub:
    """Clone a stub into the pid namespace of the container whose init is `pid`; the rest follows on configure.

    Raises LaunchError when there is no such process. On return the caller owns a child (its parent, with CLONE_PARENT).
    """
    with Step(f"opening the container's init {pid}"):
        target = os.pidfd_open(pid)
    try:
        own = os.readlink("/proc/self/ns/pid")
        with Step(f"opening the pid namespace of {pid}"):
            pidns = os.open(f"/proc/{pid}/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        try:
            differs = os.readlink(f"/proc/{pid}/ns/pid") != own
            with namespaces.Visit({"pid": pidns} if differs else {}, None):
                child, pidfd, channel = _clone(clone_flags, entrance, target)
        finally:
            os.close(pidns)
    finally:
        os.close(target)
    return Stub(child, pidfd, channel, (), {}, pid)


def _clone(flags: int, entrance: Entrance, target: int | None) -> tuple[int, int, socket.socket]:
    ours, theirs = sockets.pair()
    # CVE-2016-9962: a process of the container could otherwise trace its new neighbour, or take its
    # descriptors, in the instant before the neighbour protects itself. Inherited by the clone.
    was_dumpable = process.prctl(process.PR_GET_DUMPABLE) == 1
    process.set_dumpable(False)
    try:
        with Step("cloning the container's process"):
            cloned = process.clone3(flags, entrance.directory)
        if cloned.pid == 0:
            ours.close()
            stubmain.main(theirs, target, entrance)
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
        if was_dumpable:
            process.set_dumpable(True)
    return cloned.pid, cloned.pidfd, ours


def _clone_within(
    opened: Mapping[str, int], flags: int, entrance: Entrance, clone_flags: int
) -> tuple[int, int, socket.socket, int]:
    """`_clone` by a helper that has joined the `opened` namespaces, the user namespace last: what is made then belongs to that.

    Nobody can leave a user namespace again, hence the helper; the stub is its sibling. It has ended when this returns. With
    CLONE_PARENT it is the parent's to reap, like the stub: the last value is its pid then, else 0.
    """
    ours, theirs = sockets.pair()
    reading, writing = os.pipe2(os.O_CLOEXEC)
    was_dumpable = process.prctl(process.PR_GET_DUMPABLE) == 1
    process.set_dumpable(False)  # as in `_clone`
    try:
        with Step("cloning a helper into the user namespace"):
            helper = process.clone3(clone_flags)
        if helper.pid == 0:
            ours.close()
            _help(opened, flags, entrance, theirs, writing)
        os.close(helper.pidfd)
        os.close(writing)
        writing = -1
        with open(reading, "rb") as report:
            said = report.read().decode()
        if not clone_flags & process.CLONE_PARENT:
            os.waitpid(helper.pid, 0)
        if not said.isdigit():
            raise LaunchError(f"joining the user namespace: {said or 'the helper has ended'}", "other")
        pid = int(said)
        return pid, os.pidfd_open(pid), ours, helper.pid if clone_flags & process.CLONE_PARENT else 0
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
        if writing >= 0:
            os.close(writing)
            os.close(reading)
        if was_dumpable:
            process.set_dumpable(True)


def _help(
    opened: Mapping[str, int], flags: int, entrance: Entrance, channel: socket.socket, writing: int
) -> NoReturn:
    try:
        for kind in sorted(opened, key=lambda kind: kind == "user"):
            process.setns(opened[kind], namespaces.FLAGS[kind])
        cloned = process.clone3(process.CLONE_PARENT | flags, entrance.directory)
        if cloned.pid == 0:
            os.close(writing)
            stubmain.main(channel, None, entrance)
        os.write(writing, str(cloned.pid).encode())
    except OSError as error:
        os.write(writing, (error.strerror or str(error)).lower().encode())
    finally:
        os._exit(0)


def _add_streams(
    layout: Layout, stdio: tuple[int, int, int] | None, preserved: tuple[int, ...], listener: int | None
) -> None:
    if len(preserved) > _MAX_PRESERVED:
        raise LaunchError(f"{len(preserved)} descriptors to preserve, at most {_MAX_PRESERVED}", "other")
    layout.many("stdio", stdio or ())
    layout.many("preserved", preserved)
    if listener is not None:
        layout.one("listener", listener)


def _without_filter(spec: Spec) -> Spec:
    """The spec without its seccomp profile, three quarters of its size: the stub gets that compiled."""
    linux = {
        key: value for key, value in spec.get("linux", {}).items() if key not in ("seccomp", "resources")
    }
    return {**spec, "linux": linux}  # type: ignore[typeddict-item]


def _packed(program: Program | None) -> list[Any] | None:
    if program is None:
        return None
    return [
        # JSON would make six characters of each zero byte, and nearly all are.
        binascii.b2a_base64(program.instructions, newline=False).decode("ascii"),
        program.flags,
        program.listener_path,
        program.listener_metadata,
    ]


def _has_runtime_hooks(spec: Spec) -> bool:
    wanted = spec.get("hooks", {})
    return bool(wanted.get("prestart") or wanted.get("createRuntime"))


def _run_runtime_hooks(config: InitConfig, pid: int) -> None:
    wanted = config["spec"].get("hooks", {})
    state = state_document(config, "creating", pid).encode()
    hooks.run_all("prestart", wanted.get("prestart", []), state)
    hooks.run_all("createRuntime", wanted.get("createRuntime", []), state)
