"""The maker's own process: what is dear and done once, in a child that a shim sends away afterwards.

A shim waits for weeks beside its container, and every page that it has ever written stays its own. So what makes a
container (reading the launch, mounts, limits, the clone itself) happens in a child, and the stub is cloned as the
*shim's* child (CLONE_PARENT), who keeps it. Requests come one after the other by a socket (`maker`), in JSON:

=======  ==============================================  =======================================================
call     arguments and descriptors                       answer and descriptors (named in `names`)
=======  ==============================================  =======================================================
park     cgroup                                          pid; pidfd, netns, route, netfilter
make     launch (in memory), stdio?                      pid, cgroup, helper; channel, pidfd?, seccomp?, console?…
join     pid of the init, cgroup                         pid; pidfd
become   config; stdio?, seccomp?                        — once the program runs; console?
=======  ==============================================  =======================================================

A failure is `{"error": {"kind", "message"}}`, with the `pid` of a stub for the shim to reap. The process ends with its
socket, or with the shim.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import traceback
from typing import TYPE_CHECKING, Any, NoReturn

from sampan.cgroups import DEFAULT_PARENT, CgroupError
from sampan.linux import process, sockets
from sampan.runtime.container.stub import OUTSIDE, prefork, prefork_for, prefork_join
from sampan.runtime.interface import LaunchError
from sampan.runtime.shim import parking
from sampan.seccomp import cached_program, program_file, read_program

if TYPE_CHECKING:
    from sampan.cgroups import Cgroup
    from sampan.oci.runtime import Spec
    from sampan.runtime.container.config import InitConfig
    from sampan.runtime.container.stub import Stub
    from sampan.runtime.interface import ContainerLaunch
    from sampan.seccomp import Program

    Answer = tuple[dict[str, Any], dict[str, int]]
    """The message, and descriptors by name, which are closed here once they are sent."""


def main(channel: int, site: parking.Site, shim: int) -> NoReturn:
    """In a fresh fork of the process `shim`: serve its requests by the socket `channel`, and never return."""
    try:
        process.set_parent_death_signal(signal.SIGKILL)
        if os.getppid() != shim:
            os._exit(0)
        process.set_name("sampan-maker")
        # A copy of the container's pipes would keep their other ends from ever seeing the end.
        process.close_all_except([channel])
        # The shim's objects would close descriptors that by now are ours when the collector finds them.
        gc.freeze()
        _serve(socket.socket(fileno=channel), Making(site))
    except ConnectionError:
        pass  # sent away
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(0)


def _serve(sock: socket.socket, making: Making) -> NoReturn:
    while True:
        message, descriptors = sockets.receive(sock)
        made: dict[str, int] = {}
        try:
            answer, made = making.answer(message, descriptors)
        except LaunchError as error:
            answer = {"error": {"kind": error.kind, "message": str(error)}, "pid": making.give_up()}
        except (CgroupError, OSError) as error:
            answer = {"error": {"kind": "other", "message": str(error)}, "pid": making.give_up()}
        for descriptor in descriptors:
            os.close(descriptor)
        sockets.send(sock, {**answer, "names": list(made)}, list(made.values()))
        for descriptor in made.values():
            os.close(descriptor)


class Making:
    """One maker's calls. At any time it has at most one stub that is not yet a program."""

    def __init__(self, site: parking.Site) -> None:
        self._site = site
        self._stub: Stub | None = None
        self._cgroup: Cgroup | None = None
        """Where the parked stub is; None where the machine cannot rename cgroups."""

    def answer(self, message: dict[str, Any], descriptors: list[int]) -> Answer:
        """Do one call. Raises LaunchError, CgroupError, OSError."""
        call = message["call"]
        if call == "park":
            return self._park(message["cgroup"])
        if call == "make":
            return self._make(descriptors)
        if call == "join":
            return self._join(message["pid"], message["cgroup"])
        if call == "become":
            return self._become(message, descriptors)
        raise LaunchError(f"unknown call {call!r} to the maker", "other")

    def give_up(self) -> int:
        """Let go of a stub with which something went wrong; its pid, for the shim, 0 if there is none."""
        stub, self._stub, self._cgroup = self._stub, None, None
        if stub is None:
            return 0
        pid = stub.pid
        stub.close()
        return pid

    # --- the container

    def _park(self, cgroup_path: str) -> Answer:
        """Make everything that the usual container needs.

        We mount nothing ourselves (what we open is detached), so we stay with the host's mounts: they are always as they are
        now, and the stub makes its copy of them private before it mounts anything.
        """
        cgroup = self._site.layout.cgroup(cgroup_path) if self._site.layout.can_rename else None
        if cgroup is not None:
            cgroup.create()
        with OUTSIDE if cgroup is None else cgroup.entrance() as entrance:
            self._stub = stub = prefork(
                parking.NAMESPACES, entrance=entrance, clone_flags=process.CLONE_PARENT
            )
        self._cgroup = cgroup
        sandbox = parking.open_sandbox_of(stub.pid)
        return {"pid": stub.pid}, {"pidfd": os.dup(stub.pidfd), **sandbox._asdict()}

    def _make(self, descriptors: list[int]) -> Answer:
        """Bring a container to `created`."""
        launch: ContainerLaunch = sockets.from_memory(descriptors[0])  # type: ignore[assignment]
        spec: Spec = launch["spec"]
        linux = spec.get("linux", {})
        cgroup = self._site.layout.cgroup(linux.get("cgroupsPath") or f"{DEFAULT_PARENT}/{launch['id']}")
        given: dict[str, int] = {}
        if self._stub is None:
            self._stub = self._clone_for(spec, cgroup)
            given["pidfd"] = os.dup(self._stub.pidfd)
            if launch["private_network"]:
                given |= parking.open_sandbox_of(self._stub.pid)._asdict()
        elif self._cgroup is not None:
            self._cgroup.rename(cgroup.path)
            cgroup, self._cgroup = self._cgroup, None
        else:
            cgroup.create()
            cgroup.attach(self._stub.pid)
        cgroup.apply(linux.get("resources", {}))
        seccomp, kept = self._filter(launch)
        if kept >= 0:
            given["seccomp"] = kept
        streams = (descriptors[1], descriptors[2], descriptors[3]) if len(descriptors) > 1 else None
        console = self._stub.configure(_config(launch, cgroup), stdio=streams, seccomp=seccomp)
        if console is not None:
            given["console"] = console
        given["channel"] = os.dup(self._stub.channel)
        helper = self._stub.helper
        return {"pid": self.give_up(), "cgroup": cgroup.path, "helper": helper}, given

    def _clone_for(self, spec: Spec, cgroup: Cgroup) -> Stub:
        """Without a parked one: the namespaces as the spec has them."""
        cgroup.create()
        with cgroup.entrance() as entrance:
            return prefork_for(spec, entrance=entrance, clone_flags=process.CLONE_PARENT)

    def _filter(self, launch: ContainerLaunch) -> tuple[Program | None, int]:
        """The compiled filter, and a descriptor from which later makers read it for execs (-1: there is none)."""
        path = launch.get("seccomp")
        if path is not None:
            program = read_program(path)
            if program is None:
                raise LaunchError(f"the compiled seccomp filter {path} cannot be read", "other")
            return program, os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        profile = launch["spec"].get("linux", {}).get("seccomp")
        if not profile:
            return None, -1
        program = cached_program(profile, self._site.seccomp_cache)
        return program, program_file(program)

    # --- further processes

    def _join(self, init: int, cgroup_path: str) -> Answer:
        """Clone a stub beside a running container's init, into its cgroup."""
        with self._site.layout.cgroup(cgroup_path).entrance() as entrance:
            self._stub = prefork_join(init, entrance=entrance, clone_flags=process.CLONE_PARENT)
        return {"pid": self._stub.pid}, {"pidfd": os.dup(self._stub.pidfd)}

    def _become(self, message: dict[str, Any], descriptors: list[int]) -> Answer:
        """Make the stub of `join` the program; returns when execve has succeeded."""
        if self._stub is None:
            raise LaunchError("there is no process to become the program", "other")
        descriptors = list(descriptors)
        filter_ = read_program(f"/proc/self/fd/{descriptors.pop()}") if message["seccomp"] else None
        if message["seccomp"] and filter_ is None:
            raise LaunchError("the container's seccomp filter cannot be read", "other")
        streams = (descriptors[0], descriptors[1], descriptors[2]) if descriptors else None
        console = self._stub.configure_join(message["config"], stdio=streams, seccomp=filter_)
        given = {} if console is None else {"console": console}
        self._stub.start()
        self.give_up()
        return {}, given


def _config(launch: ContainerLaunch, cgroup: Cgroup) -> InitConfig:
    config: InitConfig = {
        "id": launch["id"],
        "spec": launch["spec"],
        "bundle": launch["bundle"],
        "cgroup_paths": dict(cgroup.paths),
        "die_with_parent": True,
        "init": launch["init"],
    }
    if launch["rootfs"]:
        config["rootfs"] = launch["rootfs"]
    if "user" in launch:
        config["user"] = launch["user"]
        config["groups"] = launch.get("groups", [])
    return config
