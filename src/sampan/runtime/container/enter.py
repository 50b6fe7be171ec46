"""The stub's side of `exec`: joining a running container, whose processes are all hostile.

It was cloned into the container's pid namespace not dumpable (CVE-2016-9962), holds the host's genuine /proc,
loads nothing from the container (CVE-2019-14271), and from setns on treats every path as the container's.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from sampan.linux import process
from sampan.runtime.container import credentials, devices, namespaces
from sampan.runtime.container.departure import Departure, program_of
from sampan.runtime.container.failure import Step
from sampan.runtime.container.init import Inherited, become_root_of_userns, join_keyring
from sampan.runtime.container.procfs import Proc

if TYPE_CHECKING:
    from sampan.runtime.container.config import JoinConfig


def enter(pidfd: int, message: dict[str, Any], inherited: Inherited) -> tuple[Departure, int]:
    """Join and prepare; (what is left to do, the console's master or -1). Raises LaunchError, OSError."""
    config: JoinConfig = message["config"]
    spec_process = config["process"]
    proc = Proc()
    with Step("setsid"):
        os.setsid()
    credentials.set_label(proc, spec_process.get("apparmorProfile", ""))
    with Step("joining the container's namespaces"):
        process.setns(pidfd, namespaces.flags_of(message["join"]))
        os.close(pidfd)
        os.chdir("/")
    if message["own_userns"]:
        become_root_of_userns(setgroups_denied=message["setgroups_denied"])
    if not config.get("no_new_keyring", False):
        join_keyring(config["id"])
    if config.get("personality"):
        credentials.set_personality(config["personality"]["domain"], config["personality"].get("flags", []))
    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    departure = Departure(spec_process, proc, program_of(message))
    departure.resolve_user(root, config.get("user"), config.get("groups", []))
    proc.close()
    master, slave = -1, -1
    if spec_process.get("terminal", False):
        with Step("setting up the console"):
            master, slave = devices.open_console(root, -1)
    os.close(root)
    departure.take_stdio(inherited.many("stdio"), slave)
    departure.settle(
        setgroups_denied=message["setgroups_denied"],
        die_with_parent=config.get("die_with_parent", False),
        limits_by_parent=message["limits_by_parent"],
    )
    return departure, master
