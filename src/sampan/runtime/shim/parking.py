"""What can be made before the container is known: namespaces, netlink sockets, a stub, its cgroup.

A parked shim has had it done already, by its maker (`making`), with a cgroup that only needs another name. All of this
belongs to the shim: when it ends, the stub dies with it, the namespaces go, and `Parked.release` removes the cgroup.
"""

from __future__ import annotations

import os
import signal
import socket
from typing import TYPE_CHECKING, NamedTuple

from sampan.linux import mount, process

if TYPE_CHECKING:
    from collections.abc import Collection

    from sampan.cgroups import Layout
    from sampan.runtime.shim.maker import Maker

NAMESPACES = ("pid", "mount", "uts", "ipc", "network")
"""What a parked stub is cloned with: what every usual container has."""

NETLINK_NETFILTER = 12


class Site(NamedTuple):
    """What a shim knows of the machine, the same for all its containers."""

    layout: Layout
    seccomp_cache: str
    """Directory of compiled filters."""


class SandboxDescriptors(NamedTuple):
    """A network namespace, and sockets made inside it through which the engine configures it without entering."""

    netns: int
    route: int
    netfilter: int

    def close(self) -> None:
        for descriptor in self:
            os.close(descriptor)


class Parked:
    """A stub that waits for its container, and the maker that holds its channel."""

    def __init__(self, site: Site, maker: Maker, cgroup_path: str, pid: int, made: dict[str, int]) -> None:
        self.maker = maker
        self.pid = pid
        self.pidfd = made["pidfd"]
        self.sandbox = SandboxDescriptors(made["netns"], made["route"], made["netfilter"])
        self.cgroup = site.layout.cgroup(cgroup_path) if site.layout.can_rename else None
        """Where the stub is already; None where the machine cannot rename cgroups."""

    def release(self) -> None:
        """Not wanted any more, the maker is gone: end the stub, remove the cgroup."""
        os.close(self.pidfd)
        self.sandbox.close()
        end(self.pid)
        if self.cgroup is not None:
            self.cgroup.delete()


def open_own_mount_namespace() -> int:
    """The host's, before a shim leaves it for another runtime's container."""
    return os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)


def leave_mount_namespace(home: int) -> None:
    """For whoever mounts something: a mount namespace of its own, a fresh copy of the host's: what it mounts never gets out."""
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


def end(pid: int) -> None:
    """Kill a child, and wait for it; one that has been reaped is left alone."""
    try:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    except (ProcessLookupError, ChildProcessError):
        pass


def end_children(keep: Collection[int] = ()) -> None:
    """End all children but those to `keep`, and wait for them: what a maker has left without telling whose it was.

    They are stubs, which end by themselves too when their maker does. But each must be reaped: the container's init
    cannot end as long as one of its pid namespace is not.
    """
    try:
        for pid in process.children():
            if pid not in keep:
                end(pid)
    except FileNotFoundError:
        # This kernel does not list them.
        try:
            while not keep:
                os.wait()
        except ChildProcessError:
            pass
