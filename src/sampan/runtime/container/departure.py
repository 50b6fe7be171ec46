"""The last steps before execve, the same for a container's init and for a further process.

`settle` gives up the privileges, looks the program up as its user and leaves nothing to fail later; then the
process waits for its start; `leave` closes what is left, puts the filter on and executes.
"""

from __future__ import annotations

import binascii
import errno
import fcntl
import os
import signal
from typing import TYPE_CHECKING, Any

from sampan.linux import commandline, terminal
from sampan.linux import path as paths
from sampan.linux import process as processes
from sampan.runtime.container import credentials, limits, program, reaper, users
from sampan.runtime.container.failure import Step, reason
from sampan.runtime.interface import LaunchError
from sampan.seccomp.install import install
from sampan.seccomp.interface import Program

if TYPE_CHECKING:
    from collections.abc import Callable

    from sampan.oci.runtime import Process
    from sampan.runtime.container.procfs import Proc

_DEFAULT_UMASK = 0o022
INIT_PROGRAM = "/sbin/docker-init"
CHANNEL_FLOOR = 64
"""The stub's own descriptors move above those that the program gets (0, 1, 2 and the preserved ones)."""


class Departure:
    """A process about to become the container's program."""

    def __init__(self, process: Process, proc: Proc, seccomp: Program | None) -> None:
        self._process = process
        self.under_init = False
        """Fork the program and stay as its init, instead of becoming it."""
        self._seccomp = seccomp
        self._environment = program.environment_of(process.get("env", []))
        self._path = ""
        # Without no-new-privileges the kernel takes a filter from CAP_SYS_ADMIN only; with it, the filter can
        # come last of all, and then it need not allow anything but execve.
        admin = seccomp is not None and not process.get("noNewPrivileges", False)
        self._proc = proc
        self._label = -1
        self._credentials = credentials.Credentials(process, proc, keep_admin=admin)

    def resolve_user(self, root: int, user: str | None, groups: list[str]) -> None:
        """Fill in the ids by the image's files, if the caller gave names, and HOME if the environment has none."""
        if user is not None:
            found = users.resolve(root, user, groups)
            self._process["user"] = {
                **self._process.get("user", {}),
                "uid": found.uid, "gid": found.gid, "additionalGids": found.additional,
            }  # fmt: skip
            self._environment.setdefault("HOME", found.home)
            if found.uid != 0:
                self._credentials.bound_only()
        elif not self._environment.get("HOME"):
            self._environment["HOME"] = users.home_of(root, self._process.get("user", {}).get("uid", 0))

    def take_label(self) -> None:
        """Arrange for the program's AppArmor profile, and for its init's: that one executes nothing, but stays in there."""
        profile = self._process.get("apparmorProfile", "")
        credentials.set_label(self._proc, profile)
        if profile and self.under_init:
            self._label = move_up(credentials.open_label(self._proc))

    def take_name(self) -> None:
        """Let an init be shown as Docker's is; its own command line would show how the engine was started, on the host."""
        if not self.under_init:
            return
        arguments = [INIT_PROGRAM, "--", *self._process.get("args", [])]
        with os.fdopen(self._proc.open("self/stat", os.O_RDONLY), encoding="utf-8", errors="replace") as stat:
            text = stat.read()
        try:
            commandline.show(text, arguments, self._environment)
        except OSError:
            pass  # a kernel without the call shows what there is
        processes.set_name(os.path.basename(INIT_PROGRAM))

    def take_stdio(self, descriptors: list[int], slave: int) -> None:
        """Put the standard streams into place: three descriptors, or the terminal's slave."""
        if slave >= 0:
            terminal.make_controlling(slave)
            size = self._process.get("consoleSize")
            if size and (size["height"] or size["width"]):
                terminal.set_size(slave, size["height"], size["width"])
            descriptors = [slave, slave, slave]
        for number, descriptor in enumerate(descriptors):
            os.dup2(descriptor, number, inheritable=True)
        for descriptor in set(descriptors):
            os.close(descriptor)

    def settle(self, *, setgroups_denied: bool, die_with_parent: bool, limits_by_parent: bool) -> None:
        """Everything up to the wait. The root and all namespaces are the container's. Raises LaunchError."""
        user = self._process.get("user", {})
        os.umask(user.get("umask", _DEFAULT_UMASK))
        self._reopen_null()
        # First with our own rights, for a directory that only root may enter; then with the user's.
        entered = self._enter_directory(final=False)
        if not limits_by_parent:
            limits.apply_rlimits(0, self._process)
        self._credentials.become_user(setgroups_denied=setgroups_denied)
        if not entered:
            self._enter_directory(final=True)
        self._credentials.shed()
        self._check_directory()
        arguments = self._process.get("args") or [""]
        self._path = program.find(arguments[0], self._environment)
        if die_with_parent:
            # After the ids: changing them clears it.
            processes.set_parent_death_signal(signal.SIGKILL)

    def leave(self, preserved: list[int], notified: Callable[[int], None]) -> LaunchError:
        """Execute; only a failure returns. The caller's channels are close-on-exec and above the preserved.

        `notified` is given the notification descriptor of a filter that has one. Raises LaunchError.
        """
        for number, descriptor in enumerate(preserved, 3):
            os.dup2(descriptor, number, inheritable=True)
        # CVE-2016-9962, CVE-2024-21626: whatever else is open, the program never sees it.
        processes.close_range(3 + len(preserved), flags=processes.CLOSE_RANGE_CLOEXEC)
        if self._seccomp is not None:
            with Step("unable to init seccomp"):
                self._credentials.raise_admin()
                listener = install(self._seccomp)
            if listener is not None:
                notified(listener)
        with Step("unable to apply caps"):
            self._credentials.finish()
        if self.under_init:
            if self._label >= 0:
                credentials.become_labelled(self._label, self._process["apparmorProfile"])
            return reaper.run_beneath(self._execute)
        return self._execute()

    def _execute(self) -> LaunchError:
        return program.execute(self._path, self._process.get("args", []), self._environment)

    def _reopen_null(self) -> None:
        """Streams that are the host's null device become the container's, and the others the user's own.

        A descriptor of a host file is a way out of the container, if only to the host's /dev.
        """
        null = os.makedev(1, 3)
        for number in range(3):
            try:
                is_null = os.fstat(number).st_rdev == null
            except OSError:
                continue
            if is_null:
                self._replace_with_own_null(number, null)
        credentials.own_standard_streams(self._process.get("user", {}).get("uid", 0), null)

    def _replace_with_own_null(self, number: int, null: int) -> None:
        root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            own = paths.open_without_links(root, "dev/null", os.O_RDWR)
        except OSError:
            return
        finally:
            os.close(root)
        if os.fstat(own).st_rdev == null:
            os.dup2(own, number, inheritable=True)
        os.close(own)

    def _enter_directory(self, *, final: bool) -> bool:
        """Make `process.cwd` the working directory; False when the rights are missing and not `final`.

        CVE-2024-21626: `/proc/self/fd/7` as working directory led out through a descriptor leaked to us. Magic
        links are refused in the walk, and `_check_directory` looks at where it ended.
        """
        cwd = self._process["cwd"]
        try:
            root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                directory = paths.open_in_root(root, cwd, os.O_PATH | os.O_DIRECTORY)
            finally:
                os.close(root)
            os.fchdir(directory)
            os.close(directory)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EPERM) and not final:
                return False
            raise LaunchError(
                f'chdir to cwd ("{cwd}") set in config.json failed: {reason(error)}', "other"
            ) from error
        return True

    def _check_directory(self) -> None:
        try:
            inside = os.getcwd().startswith("/")
        except OSError:
            inside = False
        if not inside:
            raise LaunchError(
                "current working directory is outside of container mount namespace root -- "
                "possible container breakout detected",
                "other",
            )


def move_up(descriptor: int) -> int:
    """The same descriptor at a number that no preserved one will take, close-on-exec."""
    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, CHANNEL_FLOOR)
    os.close(descriptor)
    return moved


def program_of(message: dict[str, Any]) -> Program | None:
    """The compiled filter in a configuration message."""
    fields = message.get("seccomp")
    if fields is None:
        return None
    instructions, flags, path, metadata = fields
    return Program(binascii.a2b_base64(instructions), flags, path, metadata)
