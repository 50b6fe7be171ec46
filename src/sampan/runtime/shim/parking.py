"""What can be made before the container is known: namespaces, netlink sockets, a stub, its cgroup.

The dear step is moving a process into a cgroup: the kernel waits for an RCU grace period, 9 to 14 ms. A parked shim
has done it already, in a cgroup that only needs another name. All of this belongs to the shim: when it ends, the stub
dies with it, the namespaces go, and `Parked.release` removes the cgroup.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, NamedTuple

from sampan.linux import mount, process
from sampan.runtime.container.stub import prefork

if TYPE_CHECKING:
    from sampan.cgroups import Cgroup, Layout
    from sampan.runtime.container.stub import Stub

NAMESPACES = ("pid", "mount", "uts", "ipc", "network")
"""What a parked stub is cloned with: what every usual container has."""

NETLINK_NETFILTER = 12


class Site(NamedTuple):
    """What a shim knows of the machine, the same for all its containers."""

    layout: Layout
    seccomp_cache: str
    """Directory of compiled filters."""
    home: int
    """The host's mount namespace, of which the shim's own are copies."""


class SandboxDescriptors(NamedTuple):
    """A network namespace, and sockets made inside it through which the engine configures it without entering."""

    netns: int
    route: int
    netfilter: int

    def close(self) -> None:
        for descriptor in self:
            os.close(descriptor)


class Parked(NamedTuple):
    """A stub that waits for its container."""

    stub: Stub
    sandbox: SandboxDescriptors | None
    cgroup: Cgroup | None
    """Where the stub is already; None where the machine cannot rename cgroups."""

    def release(self) -> None:
        """Not wanted any more: end the stub, remove the cgroup."""
        self.stub.close()
        if self.cgroup is not None:
            self.cgroup.kill()
            reap(self.stub.pid)
            self.cgroup.delete()


def park(site: Site, cgroup_path: str) -> Parked:
    """Make everything that the usual container needs. Blocks for the cgroup's grace period."""
    leave_mount_namespace(site.home)
    stub = prefork(NAMESPACES)
    sandbox = open_sandbox_of(stub.pid)
    cgroup = None
    if site.layout.can_rename:
        cgroup = site.layout.cgroup(cgroup_path)
        cgroup.create()
        cgroup.attach(stub.pid)
    return Parked(stub, sandbox, cgroup)


def open_own_mount_namespace() -> int:
    """The host's, before we leave it."""
    return os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)


def leave_mount_namespace(home: int) -> None:
    """A mount namespace of our own, a fresh copy of the host's: ours never get out.

    The host's new mounts still arrive where its root propagates; where not, this is called again when some have come or gone.
    """
    process.setns(home, process.CLONE_NEWNS)
    process.unshare(process.CLONE_NEWNS)
    mount.mount(None, "/", None, mount.MS_REC | mount.MS_SLAVE)


def open_sandbox_of(pid: int) -> SandboxDescriptors:
    """A process's network namespace and sockets in it: entered for the moment in which they are made."""
    home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    netns = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        process.setns(netns, process.CLONE_NEWNET)
        try:
            route = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
            netfilter = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
        finally:
            process.setns(home, process.CLONE_NEWNET)
    except BaseException:
        os.close(netns)
        raise
    finally:
        os.close(home)
    return SandboxDescriptors(netns, route.detach(), netfilter.detach())


def reap(pid: int) -> None:
    """Wait for a child that has ended or is about to."""
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:
        pass
