"""update."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from sampan.cli.command import option, verb
from sampan.cli.options.limits import restart_policy
from sampan.cli.values import BYTES, DECIMAL, INT, STRING, UINT16
from sampan.client.http import quote
from sampan.errors import InvalidParameter, SampanError

if TYPE_CHECKING:
    from sampan.cli.session import Session

_KEYS = {
    "blkio_weight": "BlkioWeight",
    "cpu_period": "CpuPeriod",
    "cpu_quota": "CpuQuota",
    "cpu_rt_period": "CpuRealtimePeriod",
    "cpu_rt_runtime": "CpuRealtimeRuntime",
    "cpu_shares": "CpuShares",
    "cpus": "NanoCpus",
    "cpuset_cpus": "CpusetCpus",
    "cpuset_mems": "CpusetMems",
    "memory": "Memory",
    "memory_reservation": "MemoryReservation",
    "memory_swap": "MemorySwap",
    "pids_limit": "PidsLimit",
}


@verb(
    "[OPTIONS] CONTAINER [CONTAINER...]",
    "Update configuration of one or more containers",
    arity=(1, None),
    aliases=("container update", "update"),
    examples="$ sampan update -m 512m --memory-swap 512m web",
)
@option(
    "--blkio-weight", kind=UINT16, help="Block IO (relative weight), between 10 and 1000, or 0 to disable"
)
@option("--cpu-period", kind=INT, help="Limit CPU CFS (Completely Fair Scheduler) period")
@option("--cpu-quota", kind=INT, help="Limit CPU CFS (Completely Fair Scheduler) quota")
@option("--cpu-rt-period", kind=INT, help="Limit the CPU real-time period in microseconds")
@option("--cpu-rt-runtime", kind=INT, help="Limit the CPU real-time runtime in microseconds")
@option("-c", "--cpu-shares", kind=INT, help="CPU shares (relative weight)")
@option("--cpus", kind=DECIMAL, help="Number of CPUs")
@option("--cpuset-cpus", kind=STRING, help="CPUs in which to allow execution (0-3, 0,1)")
@option("--cpuset-mems", kind=STRING, help="MEMs in which to allow execution (0-3, 0,1)")
@option("-m", "--memory", kind=BYTES, help="Memory limit")
@option("--memory-reservation", kind=BYTES, help="Memory soft limit")
@option("--memory-swap", kind=BYTES, help="Swap limit equal to memory plus swap: -1 to enable unlimited swap")
@option("--pids-limit", kind=INT, help="Tune container pids limit (set -1 for unlimited)")
@option("--restart", kind=STRING, help="Restart policy to apply when a container exits")
def update(session: Session, args: tuple[str, ...], restart: str | None, **flags: Any) -> None:
    body: dict[str, Any] = {_KEYS[name]: value for name, value in flags.items() if value is not None}
    if restart is not None:
        body["RestartPolicy"] = restart_policy(restart)
    if not body:
        raise InvalidParameter("you must provide one or more flags when using this command")
    for name in args:
        try:
            answer = session.call("POST", f"/containers/{quote(name)}/update", None, body)
        except SampanError as error:
            session.complain(error)
            continue
        print(name)
        for warning in answer.get("Warnings") or []:
            print(warning, file=sys.stderr)
