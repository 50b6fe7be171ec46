"""The shim's entry, called in a fresh fork of the zygote."""

from __future__ import annotations

import os
import signal
import socket
from typing import Any

from sampan.cgroups import detect
from sampan.linux import process
from sampan.runtime.shim.loop import Loop
from sampan.runtime.shim.parking import Site, open_own_mount_namespace, park
from sampan.runtime.shim.service import Service, count_descriptors


def main(args: dict[str, Any], descriptors: list[int]) -> int:
    """Serve one container; the one descriptor is the engine's socket.

    `args`: `park`, the path of a cgroup to wait in, or null; `seccomp_cache`, a directory of compiled filters.
    """
    os.setsid()
    process.set_name("sampan-shim")
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    # The machine's shutdown and careless killers mean the containers, which their engine will stop in order.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    loop = Loop()
    site = Site(detect(), args["seccomp_cache"], open_own_mount_namespace())
    at_rest = count_descriptors()
    parked = park(site, args["park"]) if args.get("park") else None
    Service(loop, site, parked, at_rest).accept(socket.socket(fileno=descriptors[0]))
    loop.run()
    return 0
