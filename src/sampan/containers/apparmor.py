"""AppArmor: the profile that containers run under by default, and loading it into the kernel.

The name is Docker's, `docker-default`, and so is the rule that whoever needs it loads it when it is not there: engines side by
side, dockerd among them, share one profile. It is never unloaded, for containers outlive engines. Profiles that a user names
(`--security-opt apparmor=NAME`) are the user's to load; the kernel refuses one that is not.

The text is compiled by `apparmor_parser`, as the distribution's own profiles are. Without that program nothing is confined, as
with dockerd; `sampan system check` says so.

Sources: apparmor.d(5), apparmor_parser(8), Documentation/admin-guide/LSM/apparmor.rst.
"""

from __future__ import annotations

import os
import subprocess
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from sampan.errors import SystemFailure

if TYPE_CHECKING:
    from collections.abc import Callable

    from sampan.zygote.workers import Workers

DEFAULT = "docker-default"
UNCONFINED = "unconfined"

_ENABLED = "/sys/module/apparmor/parameters/enabled"
_POLICY = "/sys/kernel/security/apparmor"
_PARSERS = ("/sbin/apparmor_parser", "/usr/sbin/apparmor_parser")

PROFILE = f"""\
profile {DEFAULT} flags=(attach_disconnected,mediate_deleted) {{
  # What a container may do is the business of namespaces, capabilities, cgroups and seccomp. This says what it must not do
  # although they let it: reach the kernel of the host through its own /proc and /sys, and mount.
  network,
  capability,
  file,
  umount,

  signal (receive) peer=unconfined,
  signal (send, receive) peer={DEFAULT},
  ptrace (trace, read, tracedby, readby) peer={DEFAULT},
  ptrace (readby, tracedby) peer=unconfined,

  deny mount,

  # Directly in /proc: the kernel's memory, keys, triggers.
  deny /proc/[^0-9]* w,
  deny /proc/{{kcore,kmem,mem,sysrq-trigger}} rwklx,
  # Beneath it only processes (and the links self, thread-self) and the parameters below may be written.
  deny /proc/[^0-9st]*/** wkl,
  deny /proc/s[^ey]*/** wkl,
  deny /proc/sys[^/]*/** wkl,
  deny /proc/t[^h]*/** wkl,
  deny /proc/sys/[^k]** w,
  deny /proc/sys/ke[^r]** w,
  deny /proc/sys/kernel/[^s]** w,
  deny /proc/sys/kernel/s[^h]** w,
  deny /proc/sys/kernel/sh[^m]** w,

  # In /sys only the container's own cgroups.
  deny /sys/[^f]*/** wklx,
  deny /sys/f[^s]*/** wklx,
  deny /sys/fs/[^c]*/** wklx,
  deny /sys/fs/c[^g]*/** wklx,
  deny /sys/{{firmware,devices/virtual/powercap,kernel/security}}/** rwklx,
}}
"""


@lru_cache(maxsize=1)
def confines() -> bool:
    """Whether containers are confined here: the kernel has AppArmor, its policy can be seen, and there is a compiler for it."""
    try:
        with open(_ENABLED, encoding="ascii") as file:
            enabled = file.read(1) == "Y"
    except OSError:
        return False
    return enabled and os.path.isdir(_POLICY) and parser() is not None


def parser() -> str | None:
    """The program that loads profiles; None where it is not installed."""
    return next((path for path in _PARSERS if os.access(path, os.X_OK)), None)


def profile_of(wanted: str, *, privileged: bool) -> str:
    """The profile of a container, "" where nothing is confined: dockerd ignores the option there.

    `wanted` is that of `--security-opt apparmor=`. Privileged containers are never confined.
    """
    if not confines():
        return ""
    return UNCONFINED if privileged else wanted or DEFAULT


async def ensure_loaded(workers: Workers, profile: str) -> None:
    """Load the default profile if it is the one and is not there: an update of the system may have thrown it out.

    Raises `SystemFailure` in dockerd's words.
    """
    if profile != DEFAULT or is_loaded(DEFAULT):
        return
    result = await workers.run("sampan.containers.apparmor:load_job", {"parser": parser(), "text": PROFILE})
    if result["code"] != 0:
        raise SystemFailure(
            f"AppArmor enabled on system but the {DEFAULT} profile could not be loaded: running `{parser()} -Kr`"
            f" failed with output: {result['output'].strip()}"
        )


def is_loaded(profile: str) -> bool:
    """Whether the kernel has a profile of this name."""
    try:
        with open(f"{_POLICY}/profiles", encoding="utf-8", errors="replace") as file:
            return any(line.rpartition(" (")[0] == profile for line in file)
    except OSError:
        return False


def load_job(
    args: dict[str, Any], _fds: list[int], _report: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """`apparmor_parser`, replacing and without its cache; in a worker, because the engine never forks."""
    done = subprocess.run(
        [args["parser"], "--replace", "--skip-cache"],
        input=args["text"],
        capture_output=True,
        text=True,
        errors="replace",
        timeout=60,
        check=False,
    )
    return {"code": done.returncode, "output": done.stdout + done.stderr}
