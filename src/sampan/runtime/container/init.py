"""The stub's side of a new container: from the configuration's arrival to the wait for `start`.

The order matters, and each part of it is somebody's attack:

1. the stub is not dumpable since before it was cloned (CVE-2016-9962), and holds the host's genuine /proc;
2. it joins what has a path and makes the namespaces that are left;
3. the root file system, by descriptors only (`rootfs`);
4. hooks; pivot_root; nothing of the host's mounts is left;
5. privileges go and the program is looked up, as its user (`departure`).
"""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING, Any

from sampan.linux import keyring, process, sockets
from sampan.linux import mount as mnt
from sampan.linux import path as paths
from sampan.runtime.container import credentials, devices, hooks, namespaces, sysctls
from sampan.runtime.container.cgroupfs import Hierarchy
from sampan.runtime.container.departure import Departure, program_of
from sampan.runtime.container.failure import Step
from sampan.runtime.container.procfs import Proc
from sampan.runtime.container.rootfs import Root

if TYPE_CHECKING:
    from sampan.oci.runtime import Linux, Process, Spec
    from sampan.runtime.container.config import InitConfig

_KEY_USER_SEARCH = 0x080000


class Inherited:
    """Descriptors that came with a message, by the names that the parent gave them."""

    def __init__(self, layout: dict[str, Any], descriptors: list[int]) -> None:
        self._layout = layout
        self._descriptors = descriptors

    def one(self, name: str) -> int:
        """-1 when there is none."""
        index = self._layout.get(name)
        return -1 if index is None else self._descriptors[index]

    def many(self, name: str) -> list[int]:
        return [self._descriptors[index] for index in self._layout.get(name, [])]

    def pairs(self, name: str) -> list[tuple[Any, int]]:
        """(key, descriptor) in the parent's order."""
        return [
            (key, -1 if index < 0 else self._descriptors[index]) for key, index in self._layout.get(name, [])
        ]


def become_init(
    channel: socket.socket, message: dict[str, Any], inherited: Inherited
) -> tuple[Departure, int]:
    """Do all of it; (what is left to do, the console's master or -1). Raises LaunchError, OSError."""
    config: InitConfig = message["config"]
    spec = config["spec"]
    linux = spec.get("linux", {})
    proc = Proc()
    with Step("setsid"):
        os.setsid()
    _enter_namespaces(message, inherited)
    if not config.get("no_new_keyring", False):
        join_keyring(config["id"])
    _name_host(spec)
    sysctls.write(proc, linux.get("sysctl", {}))
    root = _build_root(proc, spec, inherited)
    master, slave = _open_console(root, spec)
    if message["wait_for_hooks"]:
        # prestart and createRuntime are the parent's: mounts are there, the root is still the host's.
        sockets.send(channel, {"hooks": True})
        sockets.receive(channel)
    hooks.run_all(
        "createContainer", spec.get("hooks", {}).get("createContainer", []), message["state"].encode()
    )
    return _settle(config, message, inherited, proc, root, slave), master


def _settle(
    config: InitConfig, message: dict[str, Any], inherited: Inherited, proc: Proc, root: Root, slave: int
) -> Departure:
    spec = config["spec"]
    linux = spec.get("linux", {})
    departure = Departure(spec["process"], proc, program_of(message))
    departure.under_init = config.get("init", False)
    departure.resolve_user(root.fd, config.get("user"), config.get("groups", []))
    departure.take_label()
    departure.take_name()
    _make_working_directory(root.fd, spec["process"])
    root.finish(linux.get("maskedPaths", []), linux.get("readonlyPaths", []))
    if spec.get("root", {}).get("readonly", False):
        root.make_read_only()
    root.pivot(linux.get("rootfsPropagation", ""), no_pivot=config.get("no_pivot", False))
    # CVE-2024-21626: while it waits for its start, the stub has nothing open from which to walk anywhere.
    root.close()
    proc.close()
    if "personality" in linux:
        credentials.set_personality(linux["personality"]["domain"], linux["personality"].get("flags", []))
    departure.take_stdio(inherited.many("stdio"), slave)
    departure.settle(
        setgroups_denied=message["setgroups_denied"],
        die_with_parent=config.get("die_with_parent", False),
        limits_by_parent=message["limits_by_parent"],
    )
    return departure


def _enter_namespaces(message: dict[str, Any], inherited: Inherited) -> None:
    for kind, descriptor in inherited.pairs("namespaces"):
        with Step(f"joining the {kind} namespace"):
            process.setns(descriptor, namespaces.FLAGS[kind])
            os.close(descriptor)
    remaining = namespaces.flags_of(message["unshare"])
    if remaining:
        with Step("making namespaces"):
            process.unshare(remaining)
    if message["own_userns"]:
        become_root_of_userns(setgroups_denied=message["setgroups_denied"])


def become_root_of_userns(*, setgroups_denied: bool) -> None:
    """Be uid and gid 0 of the user namespace just entered. Raises LaunchError when 0 is not mapped."""
    with Step("becoming root of the user namespace"):
        os.setresgid(0, 0, 0)
        if not setgroups_denied:
            os.setgroups([])
        os.setresuid(0, 0, 0)


def join_keyring(container_id: str) -> None:
    """A session keyring of the container's own, so that it cannot read its creator's keys."""
    try:
        serial = keyring.join_session_keyring("_ses." + container_id)
        keyring.set_permissions(serial, keyring.permissions(serial) | _KEY_USER_SEARCH)
    except OSError as error:
        # A kernel without keyrings, or one whose seccomp filter denies them, has nothing to share.
        if error.errno not in (errno.ENOSYS, errno.EPERM, errno.EDQUOT):
            raise


def _name_host(spec: Spec) -> None:
    if spec.get("hostname"):
        with Step("sethostname"):
            process.sethostname(spec["hostname"])
    if spec.get("domainname"):
        with Step("setdomainname"):
            process.setdomainname(spec["domainname"])


def _build_root(proc: Proc, spec: Spec, inherited: Inherited) -> Root:
    with Step("making the mount namespace private"):
        # Before the first mount: what happens in here must never propagate to the host.
        mnt.mount(None, "/", None, mnt.MS_REC | mnt.MS_SLAVE)
    root = Root(proc, inherited.pairs("root"))
    binds = dict(inherited.pairs("binds"))
    hierarchies = [
        Hierarchy(name, controllers, tree) for (name, controllers), tree in inherited.pairs("hierarchies")
    ]
    for index, entry in enumerate(spec.get("mounts", [])):
        root.mount(entry, binds.get(index), hierarchies)
    for descriptor in binds.values():
        os.close(descriptor)
    if root.has_own_dev:
        _populate_dev(root, spec.get("linux", {}), dict(inherited.pairs("nodes")))
    return root


def _populate_dev(root: Root, linux: Linux, nodes: dict[str, int]) -> None:
    mask = os.umask(0)
    try:
        devices.make_devices(root.fd, linux.get("devices", []), nodes)
        with Step("making the links in /dev"):
            devices.make_links(root.fd)
    finally:
        os.umask(mask)
    for descriptor in nodes.values():
        os.close(descriptor)


def _open_console(root: Root, spec: Spec) -> tuple[int, int]:
    if not spec["process"].get("terminal", False):
        return -1, -1
    with Step("setting up the console"):
        master, slave = devices.open_console(root.fd, root.devpts)
        if root.has_own_dev:
            devices.mount_console(root.fd, slave)
        return master, slave


def _make_working_directory(root: int, spec_process: Process) -> None:
    """A missing working directory is made, in the root; what cannot be made will fail at chdir."""
    try:
        os.close(paths.open_in_root(root, spec_process["cwd"]))
    except FileNotFoundError:
        with Step(f'making the working directory "{spec_process["cwd"]}"'):
            os.close(paths.make_directories(root, spec_process["cwd"]))
    except OSError:
        return
