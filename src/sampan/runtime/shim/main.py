"""The shim's entry, called in a fresh fork of the zygote."""

from __future__ import annotations

import os
import signal
import socket
import sys
import traceback
from typing import Any

from sampan.cgroups import Layout
from sampan.linux import process
from sampan.runtime.shim import rehearsal
from sampan.runtime.shim.loop import Loop
from sampan.runtime.shim.maker import Crew, fork_maker
from sampan.runtime.shim.parking import Site
from sampan.runtime.shim.service import Service, count_descriptors


def main(args: dict[str, Any], descriptors: list[int]) -> int:
    """Serve one container; the one descriptor is the engine's socket.

    `args`: `park`, the path of a cgroup to wait in, or null; `seccomp_cache`, a directory of compiled filters; `layout`, the
    machine's cgroup hierarchies (the fields of `cgroups.Layout`).
    """
    os.setsid()
    process.set_name("sampan-shim")
    sys.meta_path.insert(0, _NoNewerSelf)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    # The machine's shutdown and careless killers mean the containers, which their engine will stop in order.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    loop = Loop()
    site = Site(Layout(*args["layout"]), args["seccomp_cache"])
    service = Service(loop, site, Crew(loop, lambda: fork_maker(site)), count_descriptors())
    service.accept(socket.socket(fileno=descriptors[0]))
    if args.get("park"):
        service.park(args["park"])
    loop.run()
    return 0


class _NoNewerSelf:
    """Finds nothing of Sampan's, with an error: the files may be those of another version by now, and what a shim needs it has."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        if name.partition(".")[0] == "sampan":
            raise ImportError(f"{name} was not there when this shim began, and is not imported later")


def prepare() -> None:
    """Called once in the zygote, before it forks the first shim."""
    try:
        rehearsal.rehearse()
    except Exception:
        traceback.print_exc()  # shims keep more memory to themselves then, and work as well
