"""Looking at a running container from outside: `top` and `stats`."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from sampan.containers.container import Container
from sampan.containers.inspection import NEVER, time_of
from sampan.errors import Conflict, InvalidParameter, SampanError, SystemFailure

if TYPE_CHECKING:
    from sampan.containers.services import Services

_FORBIDDEN_PS = re.compile(r"\s+(\S*=\s*)?(PID=\s)")


_UNKNOWN_TO_DOCKERD = ("shmem", "swap", "workingset_")


class Monitoring:
    """Processes and usage of running containers."""

    def __init__(self, services: Services) -> None:
        self._services = services

    # --- top ---------------------------------------------------------------------------------------------------------

    async def top(self, container: Container, ps_args: str) -> dict[str, Any]:
        """What the host's ps says about the container's processes: `Titles` and `Processes`.

        Raises `Conflict` unless it runs, `InvalidParameter` for arguments that hide the pids.
        """
        arguments = ps_args.split() or ["-ef"]
        if _FORBIDDEN_PS.search(" " + ps_args + " "):
            raise InvalidParameter("specifying 'PID=' is not allowed")
        if not container.state.alive or container.shim is None:
            if container.state.status == "restarting":
                raise Conflict(f"Container {container.id} is restarting, wait until the container is running")
            raise Conflict(f"container {container.id} is not running")
        pids = set(await container.shim.processes())
        output = await self._run_ps(arguments)
        self._services.publish(container, "top")
        return parse_ps(output, pids)

    async def _run_ps(self, arguments: list[str]) -> str:
        program = shutil.which("ps")
        if program is None:
            raise SystemFailure("ps: not found on the host: install procps to use docker top")
        result = await self._services.workers.run(
            "sampan.containers.root_jobs:ps_job", {"program": program, "arguments": arguments}
        )
        if result["code"] != 0:
            raise SystemFailure(f"ps: {result['errors'].strip().partition(chr(10))[0] or result['code']}")
        output: str = result["output"]
        return output

    # --- stats -------------------------------------------------------------------------------------------------------

    async def stats(self, container: Container, *, one_shot: bool) -> dict[str, Any]:
        """One reading; without `one_shot` it follows a first one by a second, so that rates can be computed."""
        first = await self._reading(container)
        if one_shot:
            return self._document(container, first, None)
        await asyncio.sleep(1)
        return self._document(container, await self._reading(container), first)

    async def stats_stream(self, container: Container) -> AsyncIterator[dict[str, Any]]:
        """A reading every second, until the container is removed; an empty one while it does not run."""
        previous: dict[str, Any] | None = None
        while self._services.registry.by_id(container.id) is container:
            reading = await self._reading(container)
            yield self._document(container, reading, previous)
            previous = reading
            await asyncio.sleep(1)

    async def _reading(self, container: Container) -> dict[str, Any]:
        shim = container.shim
        if shim is None or not container.state.alive:
            return {"read": 0}
        try:
            return await asyncio.to_thread(_read, shim.cgroup, shim.init_pid, self._services.clock())
        except (OSError, SampanError):
            return {"read": 0}  # it has just ended

    def _document(
        self, container: Container, now: dict[str, Any], before: dict[str, Any] | None
    ) -> dict[str, Any]:
        before = before or {}
        document = {
            "name": "/" + container.name,
            "id": container.id,
            "os_type": "linux",
            "read": time_of(now["read"]) if now["read"] else NEVER,
            "preread": time_of(before["read"]) if before.get("read") else NEVER,
            "cpu_stats": now.get("cpu_stats") or _no_cpu(),
            "precpu_stats": before.get("cpu_stats") or _no_cpu(),
            "memory_stats": _memory(now.get("memory_stats", {})),
            "blkio_stats": now.get("blkio_stats") or _no_blkio(),
            "pids_stats": now.get("pids_stats", {}),
            "num_procs": 0,
            "storage_stats": {},
        }
        if now.get("networks"):
            document["networks"] = now["networks"]
        return document


def _memory(stats: dict[str, Any]) -> dict[str, Any]:
    """What dockerd passes on of the kernel's figures: its table of cgroup v1 is older than some of them."""
    told = {name: value for name, value in stats.items() if name != "failcnt" or value}
    table = told.get("stats", {})
    if "total_rss" in table:
        told["stats"] = {
            name: value
            for name, value in table.items()
            if not name.removeprefix("total_").startswith(_UNKNOWN_TO_DOCKERD)
        }
    return told


def _read(cgroup: str, pid: int, at: int) -> dict[str, Any]:
    from sampan import cgroups

    stats = cgroups.detect().cgroup(cgroup).stats()
    return {"read": at, **stats, "networks": interface_counters(pid)}


def interface_counters(pid: int) -> dict[str, dict[str, int]]:
    """Counters of every interface but loopback in the network namespace of `pid`; {} when it shares the host's."""
    if os.stat(f"/proc/{pid}/ns/net").st_ino == os.stat("/proc/self/ns/net").st_ino:
        return {}
    with open(f"/proc/{pid}/net/dev", encoding="ascii") as file:
        lines = file.read().splitlines()[2:]
    counters: dict[str, dict[str, int]] = {}
    for line in lines:
        name, _, figures = line.partition(":")
        if name.strip() == "lo":
            continue
        values = [int(word) for word in figures.split()]
        counters[name.strip()] = {
            "rx_bytes": values[0],
            "rx_packets": values[1],
            "rx_errors": values[2],
            "rx_dropped": values[3],
            "tx_bytes": values[8],
            "tx_packets": values[9],
            "tx_errors": values[10],
            "tx_dropped": values[11],
        }
    return counters


def _no_cpu() -> dict[str, Any]:
    usage: dict[str, Any] = {"total_usage": 0, "usage_in_kernelmode": 0, "usage_in_usermode": 0}
    throttling = {"periods": 0, "throttled_periods": 0, "throttled_time": 0}
    return {"cpu_usage": usage, "throttling_data": throttling}


def _no_blkio() -> dict[str, Any]:
    names = (
        "io_service_bytes",
        "io_serviced",
        "io_queue",
        "io_service_time",
        "io_wait_time",
        "io_merged",
        "io_time",
    )
    return {**{f"{name}_recursive": None for name in names}, "sectors_recursive": None}


def parse_ps(output: str, pids: set[int]) -> dict[str, Any]:
    """The table with the lines of `pids` only. Raises `InvalidParameter` when ps was told to leave out the pid."""
    lines = output.splitlines()
    titles = lines[0].split() if lines else []
    if "PID" not in titles:
        raise SystemFailure("Couldn't find PID field in ps output")
    index = titles.index("PID")
    processes = []
    for line in lines[1:]:
        fields = line.split(None, len(titles) - 1)
        if len(fields) > index and fields[index].isdigit() and int(fields[index]) in pids:
            processes.append(fields)
    return {"Titles": titles, "Processes": processes}
