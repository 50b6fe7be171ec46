"""Giving up privileges: ids, groups, the five capability sets, no-new-privileges, LSM labels.

capabilities(7): the bounding set first (it needs CAP_SETPCAP), ids next with the permitted set kept, then the
sets themselves. Installing a seccomp filter without no-new-privileges needs CAP_SYS_ADMIN, so in that case it
is kept, permitted but not effective, until `finish`.
"""

from __future__ import annotations

import ctypes
import errno
import os
from typing import TYPE_CHECKING, NamedTuple

from sampan.linux import capabilities as caps
from sampan.linux import process
from sampan.linux.libc import checked, libc
from sampan.runtime.container.failure import Step
from sampan.runtime.interface import LaunchError

if TYPE_CHECKING:
    from sampan.oci.runtime import Capabilities, Process
    from sampan.runtime.container.procfs import Proc

_SYS_ADMIN = 1 << caps.NUMBERS["CAP_SYS_ADMIN"]


class Masks(NamedTuple):
    """The five sets as bits."""

    bounding: int
    effective: int
    permitted: int
    inheritable: int
    ambient: int


def masks_of(capabilities: Capabilities, last: int) -> Masks:
    """Bits of the sets, those that the kernel (up to number `last`) or Sampan does not know left out."""
    known = (1 << last + 1) - 1
    sets = []
    for names in (
        capabilities.get("bounding", []),
        capabilities.get("effective", []),
        capabilities.get("permitted", []),
        capabilities.get("inheritable", []),
        capabilities.get("ambient", []),
    ):
        bits = 0
        for name in names:
            bits |= 1 << caps.NUMBERS[name] if name in caps.NUMBERS else 0
        sets.append(bits & known)
    return Masks(*sets)


class Credentials:
    """The last privileges of a stub, and how it sheds them in two steps."""

    def __init__(self, spec: Process, proc: Proc, *, keep_admin: bool) -> None:
        """`keep_admin`: a seccomp filter will be installed without no-new-privileges."""
        self._process = spec
        last = _last_capability(proc)
        # No `capabilities` in the spec: the sets stay as they are (only an id change alters them).
        self._masks = masks_of(spec["capabilities"], last) if "capabilities" in spec else None
        self._last = last
        self._no_new_privileges = spec.get("noNewPrivileges", False)
        self._keep_admin = keep_admin
        self._final: caps.Sets | None = None

    def bound_only(self) -> None:
        """A user other than root: no capability is in force, only a setuid program can gain the bounding set's."""
        if self._masks is not None:
            self._masks = Masks(self._masks.bounding, 0, 0, 0, 0)

    def become_user(self, *, setgroups_denied: bool) -> None:
        """Bounding set, groups, gid, uid. The permitted capabilities stay until `shed`. Raises LaunchError."""
        with Step("limiting the capability bounding set"):
            if self._masks is not None:
                caps.limit_bounding_set(self._masks.bounding, self._last)
            process.set_keep_capabilities(True)
        user = self._process.get("user", {})
        uid, gid = user.get("uid", 0), user.get("gid", 0)
        groups = user.get("additionalGids", [])
        if setgroups_denied:
            if groups:
                raise LaunchError("cannot set any additional groups in a rootless container", "other")
        else:
            with Step("setgroups"):
                os.setgroups(groups)
        with Step("setgid"):
            os.setresgid(gid, gid, gid)
        with Step("setuid"):
            os.setresuid(uid, uid, uid)

    def shed(self) -> None:
        """The sets that the program will have, CAP_SYS_ADMIN aside when a filter needs it. Raises LaunchError."""
        process.set_keep_capabilities(False)
        if self._no_new_privileges:
            process.set_no_new_privileges()
        if self._masks is None:
            return
        masks = self._masks
        self._final = caps.Sets(masks.effective, masks.permitted, masks.inheritable)
        permitted = masks.permitted | (_SYS_ADMIN if self._keep_admin else 0)
        with Step("unable to apply caps"):
            # Raising inheritable beyond permitted would survive execve into a file's capabilities
            # (CVE-2022-29162): the sets are written exactly, none is derived from another.
            caps.capset(caps.Sets(masks.effective, permitted, masks.inheritable))
        with Step("can't raise ambient capability"):
            caps.set_ambient(masks.ambient & masks.permitted & masks.inheritable)

    def raise_admin(self) -> None:
        """Make CAP_SYS_ADMIN effective for the one call that installs the filter."""
        if self._final is not None and self._keep_admin:
            caps.capset(
                caps.Sets(
                    self._final.effective | _SYS_ADMIN,
                    self._final.permitted | _SYS_ADMIN,
                    self._final.inheritable,
                )
            )

    def finish(self) -> None:
        """Exactly the program's sets."""
        if self._final is not None and self._keep_admin:
            caps.capset(self._final)


def _last_capability(proc: Proc) -> int:
    descriptor = proc.open("sys/kernel/cap_last_cap", os.O_RDONLY)
    try:
        return int(os.read(descriptor, 16))
    finally:
        os.close(descriptor)


def own_standard_streams(uid: int, null_device: int) -> None:
    """Give the standard streams to the program's user, so that it can open /dev/stdout again.

    Not the null device: it is shared. Streams that cannot change hands (a pipe of another namespace's) stay.
    """
    for descriptor in range(3):
        try:
            status = os.fstat(descriptor)
            if status.st_uid != uid and status.st_rdev != null_device:
                os.fchown(descriptor, uid, -1)
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EINVAL, errno.EROFS, errno.EBADF):
                raise LaunchError(
                    f"chown of standard stream {descriptor}: {error.strerror}", "other"
                ) from error


def set_label(proc: Proc, profile: str) -> None:
    """The AppArmor profile that the program gets by execve; while /sys is still the host's. Raises LaunchError.

    CVE-2019-16884, CVE-2019-19921: written through the genuine /proc, so an image cannot swallow it.
    """
    if not profile:
        return
    attribute = _attribute(proc, "exec")
    with Step(f"unable to apply apparmor profile: apparmor failed to apply profile: write /proc/{attribute}"):
        proc.write(attribute, "exec " + profile)


def open_label(proc: Proc) -> int:
    """A descriptor by which the caller, and nobody else, can put itself under a profile later (`become_labelled`)."""
    return proc.open(_attribute(proc, "current"), os.O_WRONLY)


def become_labelled(descriptor: int, profile: str) -> None:
    """Be confined by the profile from now on, as is every program executed. Closes the descriptor. Raises LaunchError."""
    with Step("unable to apply apparmor profile: apparmor failed to apply profile"):
        os.write(descriptor, f"changeprofile {profile}".encode())
    os.close(descriptor)


def _attribute(proc: Proc, name: str) -> str:
    if not _apparmor_enabled():
        raise LaunchError("apparmor: config provided but apparmor not supported", "other")
    # The directory of its own exists since Linux 5.8; before, the file belongs to whichever LSM is major.
    attribute = f"self/attr/apparmor/{name}"
    return attribute if proc.exists(attribute) else f"self/attr/{name}"


def _apparmor_enabled() -> bool:
    try:
        with open("/sys/module/apparmor/parameters/enabled", encoding="ascii") as file:
            return file.read(1) == "Y"
    except OSError:
        return False


def set_personality(domain: str, flags: list[str]) -> None:
    """LINUX or LINUX32 (what uname tells 32-bit programs). Raises LaunchError."""
    if flags:
        raise LaunchError("personality flags are not supported", "other")
    values = {"LINUX": 0x0000, "LINUX32": 0x0008}
    if domain not in values:
        raise LaunchError(f"invalid personality domain {domain}", "other")
    with Step("personality"):
        checked(libc.personality(ctypes.c_ulong(values[domain])))
