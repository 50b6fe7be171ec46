"""A container made by another OCI runtime's program; beside `native` the second thing that a shim can keep.

What the program leaves behind, the container's init and the processes of execs, become our children: while it runs, we are the
subreaper. Not longer: orphans of a container in the host's pid namespace are none of ours.

The kernel does not tie such a container to its shim (no PDEATHSIG: only a process itself can ask for it). A killed
shim's container is ended by the engine, or the next one, through its cgroup.
"""

from __future__ import annotations

import json
import os
import select
from typing import TYPE_CHECKING

from sampan.cgroups import DEFAULT_PARENT
from sampan.linux import mount, process
from sampan.runtime.foreign import bundle
from sampan.runtime.foreign.console import Console
from sampan.runtime.foreign.program import Program, reap_strays
from sampan.runtime.interface import LaunchError
from sampan.runtime.shim.confined import Confined
from sampan.runtime.shim.loop import READ
from sampan.runtime.shim.parking import leave_mount_namespace, open_own_mount_namespace, open_sandbox_of
from sampan.runtime.shim.protocol import Refused

if TYPE_CHECKING:
    from sampan.oci.runtime import Process, Resources
    from sampan.runtime.foreign.program import Call
    from sampan.runtime.interface import ContainerLaunch
    from sampan.runtime.shim.loop import Loop
    from sampan.runtime.shim.parking import SandboxDescriptors, Site

_STATE = "runtime"


class Adoption:
    """While it lasts, what the program leaves behind becomes our child."""

    _running = 0

    def __init__(self) -> None:
        if Adoption._running == 0:
            process.set_child_subreaper()
        Adoption._running += 1

    def end(self, loop: Loop, known: set[int]) -> None:
        """Reap what came beside the `known` children, now or when it ends."""
        Adoption._running -= 1
        if Adoption._running == 0:
            process.unset_child_subreaper()
            for pid in reap_strays(known):
                known.add(pid)
                _reap_at_its_end(loop, pid)


class ForeignRuntime(Confined):
    """One container of another runtime. `create` raises LaunchError with everything taken back."""

    def __init__(self, loop: Loop, site: Site, launch: ContainerLaunch) -> None:
        self.loop = loop
        self._launch = launch
        self._bundle = launch["bundle"]
        linux = launch["spec"].get("linux", {})
        self.cgroup = site.layout.cgroup(linux.get("cgroupsPath") or f"{DEFAULT_PARENT}/{launch['id']}")
        self.sandbox: SandboxDescriptors | None = None
        self.private_pids = any(n["type"] == "pid" and not n.get("path") for n in linux.get("namespaces", []))
        self.children: set[int] = set()
        """Children of the shim that are in somebody's charge."""
        self._site = site
        self._remapped = bool(linux.get("uidMappings"))
        self._program = Program(launch["runtime"], f"{self._bundle}/{_STATE}")
        self._execs = 0
        self._pid = 0
        self._pidfd = -1

    def create(self, stdio: tuple[int, int, int] | None) -> int | None:
        """Bring it to `created`; the terminal's master side when it has one."""
        host_mounts = open_own_mount_namespace()
        leave_mount_namespace(host_mounts)
        if self._site.layout.version == "hybrid" and self._site.layout.unified:
            # crun refuses a machine of both kinds while the second has controllers, which no container would get: it need not
            # know. Only the program's mount namespace changes.
            mount.umount(self._site.layout.unified, mount.MNT_DETACH)
        try:
            if self._launch["private_network"] and not self._remapped:
                self.sandbox = bundle.open_new_sandbox()
            if self._remapped:
                bundle.let_pass(self._bundle)
            bundle.mount_root(self._bundle, self._launch["rootfs"])
            spec = bundle.attach_shared(self._bundle, self._launch["spec"], host_mounts)
            bundle.write_config({**self._launch, "spec": spec}, self.sandbox)
            return self._create(stdio)
        except BaseException:
            self.kill_all()
            self.delete()
            raise
        finally:
            os.close(host_mounts)

    def _create(self, stdio: tuple[int, int, int] | None) -> int | None:
        console = Console(self._bundle) if stdio is None else None
        pid_file = f"{self._bundle}/init.pid"
        arguments = ["--bundle", self._bundle, "--pid-file", pid_file]
        if console is not None:
            arguments += ["--console-socket", console.path]
        adoption = Adoption()
        try:
            self._program.call("create", [*arguments, self._launch["id"]], stdio).wait()
            self._pid = _read_pid(pid_file)
            self.children.add(self._pid)
            self._pidfd = process.pidfd_open(self._pid)
            if self._launch["private_network"] and self._remapped:
                # Made by the program, in the container's user namespace: its root must own it, or could mount no /sys.
                self.sandbox = open_sandbox_of(self._pid)
            return console.receive() if console is not None else None
        finally:
            adoption.end(self.loop, self.children)
            if console is not None:
                console.close()

    @property
    def pid(self) -> int:
        return self._pid

    @property
    def pidfd(self) -> int:
        """A descriptor of our own for the caller."""
        return os.dup(self._pidfd)

    def start(self) -> None:
        """Execute the program. Raises LaunchError."""
        self._program.run("start", [self._launch["id"]])

    def kill(self, number: int) -> None:
        """Signal init. Raises Refused when it has ended."""
        try:
            self._program.run("kill", [self._launch["id"], str(number)])
        except LaunchError as error:
            if self._has_ended():
                raise Refused("not-running", "process has already ended") from None
            raise Refused("failed", str(error)) from None

    def _has_ended(self) -> bool:
        return bool(select.select([self._pidfd], [], [], 0)[0])

    def pause(self) -> None:
        """Raises Refused."""
        self._ask("pause")

    def resume(self) -> None:
        """Raises Refused. One that is not paused is fine: some programs thaw it to kill it, and the kernel kills in a
        frozen cgroup (v2), which stays frozen with nobody in it."""
        try:
            self._ask("resume")
        except Refused:
            if not self._has_ended() and self.cgroup.exists() and self.cgroup.frozen():
                raise

    def update(self, resources: Resources) -> None:
        """Change limits. Raises Refused."""
        path = f"{self._bundle}/{_STATE}/resources.json"
        with open(path, "w", encoding="ascii") as file:
            json.dump(resources, file)
        try:
            self._ask("update", "--resources", path)
        finally:
            os.unlink(path)

    def begin_exec(
        self, command: Process, user: str | None, groups: list[str], stdio: tuple[int, int, int] | None
    ) -> ExecCall:
        """Start a further process; `ExecCall.finish` when its call has ended. Raises LaunchError."""
        if user is not None:
            root = os.open(f"/proc/{self._pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                command = bundle.as_user(command, root, user, groups)
            finally:
                os.close(root)
        self._execs += 1
        place = f"{self._bundle}/{_STATE}/exec-{self._execs}"
        return ExecCall(self, self._program, self._launch["id"], place, command, stdio)

    def delete(self) -> None:
        """Let the program forget the container, then remove what is ours; the processes have ended."""
        if os.path.isdir(f"{self._bundle}/{_STATE}"):
            try:
                self._program.run("delete", ["--force", self._launch["id"]])
            except LaunchError:
                pass  # it never had it; what there is of it goes with the bundle and the cgroup
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1
        if self.sandbox is not None:
            self.sandbox.close()
            self.sandbox = None
        bundle.unmount(self._bundle)
        self.kill_all()
        self.cgroup.delete()

    def _ask(self, action: str, *options: str) -> None:
        try:
            self._program.run(action, [*options, self._launch["id"]])
        except LaunchError as error:
            raise Refused("failed", str(error)) from None


class ExecCall:
    """A call of `exec` under way."""

    def __init__(
        self,
        runtime: ForeignRuntime,
        program: Program,
        container_id: str,
        place: str,
        command: Process,
        stdio: tuple[int, int, int] | None,
    ) -> None:
        self._runtime = runtime
        self._place = place
        self._console: Console | None = None
        self._adoption = Adoption()
        try:
            os.mkdir(place, 0o700)
            bundle.write_process(f"{place}/process.json", command)
            arguments = ["--process", f"{place}/process.json", "--pid-file", f"{place}/pid", "--detach"]
            if stdio is None:
                self._console = Console(place)
                arguments += ["--console-socket", self._console.path]
            self._call: Call = program.call("exec", [*arguments, container_id], stdio)
            runtime.children.add(self._call.pid)
        except BaseException:
            self._clean()
            raise

    @property
    def pidfd(self) -> int:
        """Readable when `finish` will not wait."""
        return self._call.pidfd

    def finish(self) -> tuple[int, int | None]:
        """(pid, the terminal's master if it has one). The process is our child. Raises LaunchError."""
        try:
            self._runtime.children.discard(self._call.pid)
            self._call.finish()
            pid = _read_pid(f"{self._place}/pid")
            self._runtime.children.add(pid)
            return pid, self._console.receive() if self._console is not None else None
        finally:
            self._clean()

    def _clean(self) -> None:
        self._adoption.end(self._runtime.loop, self._runtime.children)
        if self._console is not None:
            self._console.close()
        for name in ("process.json", "pid"):
            try:
                os.unlink(f"{self._place}/{name}")
            except FileNotFoundError:
                pass
        try:
            os.rmdir(self._place)
        except OSError:
            pass


def _reap_at_its_end(loop: Loop, pid: int) -> None:
    pidfd = process.pidfd_open(pid)

    def ended(mask: int) -> None:
        loop.forget(pidfd)
        os.close(pidfd)
        os.waitpid(pid, 0)

    loop.watch(pidfd, READ, ended)


def _read_pid(path: str) -> int:
    """Raises LaunchError when there is none, or not of a child of ours."""
    try:
        with open(path, encoding="ascii") as file:
            pid = int(file.read())
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except (OSError, ValueError) as error:
        raise LaunchError(f"the runtime has left no process of ours ({path}): {error}", "other") from error
    return pid
