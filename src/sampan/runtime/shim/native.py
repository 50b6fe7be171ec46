"""A running container of Sampan's own runtime, as its shim keeps it: the init's channel, the cgroup, what execs need.

What it takes to make one is not here but in the maker's process (`making`).
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

from sampan.cgroups import CgroupError
from sampan.runtime.container.remote import start_over
from sampan.runtime.shim.confined import Confined
from sampan.runtime.shim.parking import SandboxDescriptors

if TYPE_CHECKING:
    from sampan.cgroups import Cgroup
    from sampan.oci.runtime import Resources


_ALONE_SECONDS = 0.05
"""How long an empty cgroup may still be busy with those who have just left it."""


class NativeRuntime(Confined):
    """One container, from `created` on."""

    def __init__(
        self,
        cgroup: Cgroup,
        pid: int,
        made: dict[str, int],
        sandbox: SandboxDescriptors | None,
        *,
        private_pids: bool,
    ) -> None:
        """`made`: the descriptors of the maker's answer, ours now; `sandbox` that of the parked stub, if it was one."""
        self.cgroup = cgroup
        self.pid = pid
        self.pidfd = made["pidfd"]
        """The caller's."""
        self.seccomp = made.get("seccomp", -1)
        """A file with the compiled filter for execs; -1 when there is none."""
        self.private_pids = private_pids
        if sandbox is None and "netns" in made:
            sandbox = SandboxDescriptors(made["netns"], made["route"], made["netfilter"])
        self.sandbox = sandbox
        self._channel: socket.socket | None = socket.socket(fileno=made["channel"])

    def start(self) -> None:
        """Execute the program. Raises LaunchError."""
        assert self._channel is not None
        try:
            start_over(self._channel, self.pidfd)
        finally:
            self._channel.close()
            self._channel = None

    def pause(self) -> None:
        self.cgroup.freeze()

    def resume(self) -> None:
        self.cgroup.thaw()

    def update(self, resources: Resources) -> None:
        """Change limits of the running container."""
        self.cgroup.update(resources)

    def delete(self) -> None:
        """Drop the descriptors and the cgroup; the processes have ended."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        if self.seccomp >= 0:
            os.close(self.seccomp)
            self.seccomp = -1
        if self.sandbox is not None:
            self.sandbox.close()
            self.sandbox = None
        try:
            # The kernel ended whatever lived in the container's pid namespace: looking for more in nine hierarchies can wait
            # until removing them shows that there is some.
            self.cgroup.delete(timeout=_ALONE_SECONDS)
        except CgroupError:
            self.kill_all()
            self.cgroup.delete()
