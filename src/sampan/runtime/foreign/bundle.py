"""The OCI bundle of a container that another runtime makes.

The root file system is mounted in the shim's own mount namespace, of which the program's is a copy: the host's mount table
never has it, and it goes with the shim. The network namespace exists before the container, as with dockerd.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from sampan.linux import mount as mnt
from sampan.linux import path as paths
from sampan.linux import process
from sampan.runtime.container import users
from sampan.runtime.container.failure import Step
from sampan.runtime.container.host import clone_in, is_shared, open_mount
from sampan.runtime.container.mountoptions import parse_options
from sampan.runtime.shim.parking import SandboxDescriptors, open_sandbox_of

if TYPE_CHECKING:
    from sampan.oci.runtime import Linux, Mount, Process, Spec
    from sampan.runtime.interface import ContainerLaunch

ROOTFS = "rootfs"
_SHARED = "shared-"
_OCI_VERSION = "1.0.2"
"""crun refused whatever is not 1.0 for years, and nothing that dockerd's specs say is younger."""


def mount_root(bundle: str, rootfs: list[Mount]) -> None:
    """Mount the snapshot at the bundle's `rootfs`. Raises LaunchError."""
    place = f"{bundle}/{ROOTFS}"
    os.makedirs(place, mode=0o700, exist_ok=True)
    root = -1
    try:
        for entry in rootfs:
            descriptor = open_mount(entry)
            try:
                with Step("mounting the root file system"):
                    target = os.open(place, os.O_PATH | os.O_CLOEXEC) if root < 0 else _beneath(root, entry)
                    mnt.move_mount(descriptor, target)
                    os.close(target)
            finally:
                os.close(descriptor)
            if root < 0:
                root = os.open(place, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    finally:
        if root >= 0:
            os.close(root)


def _beneath(root: int, entry: Mount) -> int:
    return paths.open_in_root(root, entry["destination"])


def attach_shared(bundle: str, spec: Spec, host_mounts: int) -> Spec:
    """The spec with its shared bind mounts attached in our mount namespace as the host's own peers, and taken from there.

    From our copy of the host's mount table, a slave, what is mounted in them would not get out. Raises LaunchError.
    """
    mounts: list[Mount] = []
    for number, entry in enumerate(spec.get("mounts", [])):
        options = parse_options(entry.get("options", []), entry.get("type", ""))
        if options.bind and is_shared(options):
            place = f"{bundle}/{_SHARED}{number}"
            with Step(f'mounting "{entry["source"]}" at "{entry["destination"]}"'):
                _attach(clone_in(host_mounts, entry["source"], recursive=options.recursive_bind), place)
            entry = {**entry, "source": place}
        mounts.append(entry)
    return {**spec, "mounts": mounts}


def _attach(descriptor: int, place: str) -> None:
    try:
        if paths.is_directory(descriptor):
            os.mkdir(place, 0o700)
        else:
            os.close(os.open(place, os.O_CREAT | os.O_CLOEXEC, 0o600))
        target = os.open(place, os.O_PATH | os.O_CLOEXEC)
        mnt.move_mount(descriptor, target)
        os.close(target)
    finally:
        os.close(descriptor)


def let_pass(bundle: str) -> None:
    """Let the root of a user namespace, nobody on the host, pass to the root file system; nothing beside it can be read."""
    for directory in (bundle, os.path.dirname(bundle)):
        os.chmod(directory, 0o711)


def unmount(bundle: str) -> None:
    """Take back all that is mounted in the bundle; what is not mounted is fine."""
    names = os.listdir(bundle) if os.path.isdir(bundle) else []
    for name in names:
        if name != ROOTFS and not name.startswith(_SHARED):
            continue
        try:
            # Private first: the end of what lies in a shared mount would else be the end of it on the host.
            mnt.mount(None, f"{bundle}/{name}", None, mnt.MS_PRIVATE | mnt.MS_REC)
            mnt.umount(f"{bundle}/{name}", mnt.MNT_DETACH)
        except OSError:
            pass


def open_new_sandbox() -> SandboxDescriptors:
    """A new network namespace, and sockets in it."""
    home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        process.unshare(process.CLONE_NEWNET)
        try:
            return open_sandbox_of(os.getpid())
        finally:
            process.setns(home, process.CLONE_NEWNET)
    finally:
        os.close(home)


def write_config(launch: ContainerLaunch, sandbox: SandboxDescriptors | None) -> None:
    """`config.json` for this launch. The root must be mounted: the user's name is looked up in it. Raises LaunchError."""
    bundle, spec = launch["bundle"], launch["spec"]
    command = spec["process"]
    if "user" in launch:
        root = os.open(f"{bundle}/{ROOTFS}", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            command = as_user(command, root, launch["user"], launch.get("groups", []))
        finally:
            os.close(root)
    linux: Linux = {**spec.get("linux", {})}
    config: Spec = {
        **spec,
        "ociVersion": _OCI_VERSION,
        "process": command,
        "root": {**spec["root"], "path": ROOTFS},
        "linux": linux,
    }
    if domain := config.pop("domainname", ""):
        # Older programs do not know the field; the kernel's name for it they all know.
        linux["sysctl"] = {**linux.get("sysctl", {}), "kernel.domainname": domain}
    if sandbox is not None:
        linux["namespaces"] = [
            # By our descriptor: the namespace has no name in any file system.
            {"type": "network", "path": f"/proc/{os.getpid()}/fd/{sandbox.netns}"}
            if namespace["type"] == "network"
            else namespace
            for namespace in linux.get("namespaces", [])
        ]
    _write(f"{bundle}/config.json", config)


def write_process(path: str, command: Process) -> None:
    """The process document that `exec --process` reads."""
    _write(path, command)


def as_user(command: Process, root: int, user: str, groups: list[str]) -> Process:
    """The process with its user resolved by the files beneath `root`: other runtimes know numbers only.

    As dockerd: anyone but root has the capabilities in the bounding set only. HOME is added, which crun leaves out
    for users without an entry. Raises LaunchError.
    """
    found = users.resolve(root, user, groups)
    identity = {**command.get("user", {}), "uid": found.uid, "gid": found.gid}
    if found.additional:
        identity["additionalGids"] = found.additional
    changed: Process = {**command, "user": identity}  # type: ignore[typeddict-item]
    environment = command.get("env", [])
    if not any(entry.startswith("HOME=") for entry in environment):
        changed["env"] = [*environment, f"HOME={found.home}"]
    if found.uid != 0 and "capabilities" in command:
        changed["capabilities"] = {"bounding": command["capabilities"].get("bounding", [])}
    return changed


def _write(path: str, document: Spec | Process) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(descriptor, "w", encoding="utf-8", errors="surrogateescape") as file:
        json.dump(document, file, ensure_ascii=False)
