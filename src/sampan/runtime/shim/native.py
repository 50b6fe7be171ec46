"""A container made by Sampan's own runtime: stub, cgroup, execs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from sampan.cgroups import DEFAULT_PARENT, CgroupError
from sampan.runtime.container.stub import prefork_for, prefork_join
from sampan.runtime.interface import LaunchError
from sampan.runtime.shim import parking
from sampan.seccomp import cached_program, read_program

if TYPE_CHECKING:
    from sampan.cgroups import OomWatch
    from sampan.oci.runtime import Resources, Spec
    from sampan.runtime.container.config import InitConfig
    from sampan.runtime.container.stub import Stub
    from sampan.runtime.interface import ContainerLaunch
    from sampan.seccomp import Program


_ALONE_SECONDS = 0.05
"""How long an empty cgroup may still be busy with those who have just left it."""


class NativeRuntime:
    """The OCI runtime of one container. `create` raises LaunchError with everything taken back."""

    def __init__(self, site: parking.Site, launch: ContainerLaunch, parked: parking.Parked | None) -> None:
        self._launch = launch
        self._spec: Spec = launch["spec"]
        self._parked = parked
        self._site = site
        self._layout = site.layout
        linux = self._spec.get("linux", {})
        self.cgroup = site.layout.cgroup(linux.get("cgroupsPath") or f"{DEFAULT_PARENT}/{launch['id']}")
        self.sandbox: parking.SandboxDescriptors | None = None
        self.seccomp = self._filter()
        self.private_pids = any(n["type"] == "pid" and not n.get("path") for n in linux.get("namespaces", []))

    def create(self, stdio: tuple[int, int, int] | None) -> int | None:
        """Bring it to `created`; the terminal's master side when it has one."""
        try:
            self._stub = self._take_parked() if self._parked is not None else self._make_stub()
        except CgroupError as error:
            raise LaunchError(str(error), "other") from error
        try:
            self.cgroup.apply(self._spec.get("linux", {}).get("resources", {}))
            return self._stub.configure(self._config(), stdio=stdio, seccomp=self.seccomp)
        except BaseException as error:
            self.kill_all()
            parking.reap(self._stub.pid)
            self.delete()
            if isinstance(error, CgroupError):
                raise LaunchError(str(error), "other") from error
            raise

    @property
    def pid(self) -> int:
        return self._stub.pid

    @property
    def pidfd(self) -> int:
        """A descriptor of our own for the caller."""
        return os.dup(self._stub.pidfd)

    def start(self) -> None:
        """Execute the program. Raises LaunchError."""
        self._stub.start()

    def prepare_exec(self) -> Stub:
        """A stub in the container's pid namespace; on v2 already in its cgroup."""
        directory = None if self._layout.can_rename else self.cgroup.open()
        try:
            return prefork_join(self.pid, cgroup_fd=directory)
        finally:
            if directory is not None:
                os.close(directory)

    @property
    def execs_need_attach(self) -> bool:
        """Whether an exec's stub must be moved into the cgroup (v1)."""
        return self._layout.can_rename

    def pause(self) -> None:
        self.cgroup.freeze()

    def resume(self) -> None:
        self.cgroup.thaw()

    def update(self, resources: Resources) -> None:
        """Change limits of the running container."""
        self.cgroup.update(resources)

    def kill_all(self, number: int = 9) -> None:
        """Signal every process in the cgroup. Never fails: what is gone is gone."""
        try:
            self.cgroup.kill(number)
        except CgroupError:
            pass

    def oom_kills(self) -> int:
        try:
            return self.cgroup.oom_kills()
        except CgroupError:
            return 0

    def watch_oom(self) -> OomWatch | None:
        try:
            return self.cgroup.watch_oom()
        except CgroupError:
            return None

    def delete(self) -> None:
        """Drop the stub's descriptors and the cgroup; the processes have ended."""
        self._stub.close()
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

    def _take_parked(self) -> Stub:
        assert self._parked is not None
        self.sandbox = self._parked.sandbox
        if self._parked.cgroup is not None:
            self._parked.cgroup.rename(self.cgroup.path)
        else:
            self.cgroup.create()
            self.cgroup.attach(self._parked.stub.pid)
        return self._parked.stub

    def _make_stub(self) -> Stub:
        """Without a parked one: the namespaces as the spec has them."""
        parking.leave_mount_namespace(self._site.home)
        self.cgroup.create()
        directory = None if self._layout.can_rename else self.cgroup.open()
        try:
            stub = prefork_for(self._spec, cgroup_fd=directory)
        except BaseException:
            self.cgroup.delete()
            raise
        finally:
            if directory is not None:
                os.close(directory)
        if directory is None:
            self.cgroup.attach(stub.pid)
        if self._launch["private_network"]:
            self.sandbox = parking.open_sandbox_of(stub.pid)
        return stub

    def _config(self) -> InitConfig:
        config: InitConfig = {
            "id": self._launch["id"],
            "spec": self._spec,
            "bundle": self._launch["bundle"],
            "cgroup_paths": dict(self.cgroup.paths),
            "die_with_parent": True,
            "init": self._launch["init"],
        }
        if self._launch["rootfs"]:
            config["rootfs"] = self._launch["rootfs"]
        if "user" in self._launch:
            config["user"] = self._launch["user"]
            config["groups"] = self._launch.get("groups", [])
        return config

    def _filter(self) -> Program | None:
        path = self._launch.get("seccomp")
        if path is not None:
            program = read_program(path)
            if program is None:
                raise LaunchError(f"the compiled seccomp filter {path} cannot be read", "other")
            return program
        profile = self._spec.get("linux", {}).get("seccomp")
        return cached_program(profile, self._site.seccomp_cache) if profile else None
