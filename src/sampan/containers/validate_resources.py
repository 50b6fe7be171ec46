"""Limits: which are impossible (an error), which this kernel cannot set (a warning, and the limit is dropped)."""

from __future__ import annotations

from sampan.containers.host import HostFeatures, parse_cpu_list
from sampan.engineapi.container import Resources
from sampan.errors import InvalidParameter

MINIMUM_MEMORY = 6 * 1024 * 1024
_MAX_SHARES = 262144


def validate_resources(resources: Resources, features: HostFeatures, *, update: bool) -> list[str]:
    """Check and adjust in place; returns the warnings. Raises `InvalidParameter` in dockerd's words."""
    warnings: list[str] = []
    _memory(resources, features, warnings, update=update)
    _oom_and_pids(resources, features, warnings)
    _cpu(resources, features, warnings)
    _cpuset(resources, features, warnings)
    _blkio(resources, features, warnings)
    return warnings


def _memory(r: Resources, has: HostFeatures, warnings: list[str], *, update: bool) -> None:
    if r.memory_swappiness == -1:
        r.memory_swappiness = None  # the CLI's "not set"
    if r.memory != 0 and r.memory < MINIMUM_MEMORY:
        raise InvalidParameter("Minimum memory limit allowed is 6MB")
    if r.memory > 0 and not has.memory:
        warnings.append(
            "Your kernel does not support memory limit capabilities or the cgroup is not mounted. Limitation discarded."
        )
        r.memory, r.memory_swap = 0, -1
    if r.memory > 0 and r.memory_swap != -1 and not has.swap:
        warnings.append(
            "Your kernel does not support swap limit capabilities or the cgroup is not mounted."
            " Memory limited without swap."
        )
        r.memory_swap = -1
    if r.memory > 0 and r.memory_swap > 0 and r.memory_swap < r.memory:
        raise InvalidParameter("Minimum memoryswap limit should be larger than memory limit, see usage")
    if r.memory == 0 and r.memory_swap > 0 and not update:
        raise InvalidParameter(
            "You should always set the Memory limit when using Memoryswap limit, see usage"
        )
    if r.memory_swappiness is not None and not has.swappiness:
        warnings.append(
            "Your kernel does not support memory swappiness capabilities or the cgroup is not mounted."
            " Memory swappiness discarded."
        )
        r.memory_swappiness = None
    if r.memory_swappiness is not None and not 0 <= r.memory_swappiness <= 100:
        raise InvalidParameter(
            f"Invalid value: {r.memory_swappiness}, valid memory swappiness range is 0-100"
        )
    if r.memory_reservation > 0 and not has.reservation:
        warnings.append(
            "Your kernel does not support memory soft limit capabilities or the cgroup is not mounted."
            " Limitation discarded."
        )
        r.memory_reservation = 0
    if 0 < r.memory_reservation < MINIMUM_MEMORY:
        raise InvalidParameter("Minimum memory reservation allowed is 6MB")
    if r.memory > 0 and r.memory_reservation > 0 and r.memory < r.memory_reservation:
        raise InvalidParameter(
            "Minimum memory limit can not be less than memory reservation limit, see usage"
        )


def _oom_and_pids(r: Resources, has: HostFeatures, warnings: list[str]) -> None:
    if r.oom_kill_disable is not None and not has.oom_kill_disable:
        if r.oom_kill_disable:
            warnings.append("Your kernel does not support OomKillDisable. OomKillDisable discarded.")
        r.oom_kill_disable = None
    if r.oom_kill_disable and r.memory == 0:
        warnings.append(
            "OOM killer is disabled for the container, but no memory limit is set, this can result in the system"
            " running out of resources."
        )
    if r.pids_limit is not None and not has.pids:
        if r.pids_limit > 0:
            warnings.append(
                "Your kernel does not support PIDs limit capabilities or the cgroup is not mounted."
                " PIDs limit discarded."
            )
        r.pids_limit = None


def _cpu(r: Resources, has: HostFeatures, warnings: list[str]) -> None:
    if r.nano_cpus > 0 and r.cpu_period > 0:
        raise InvalidParameter("Conflicting options: Nano CPUs and CPU Period cannot both be set")
    if r.nano_cpus > 0 and r.cpu_quota > 0:
        raise InvalidParameter("Conflicting options: Nano CPUs and CPU Quota cannot both be set")
    if r.nano_cpus > 0 and not has.cpu_cfs:
        raise InvalidParameter(
            "NanoCPUs can not be set, as your kernel does not support CPU CFS scheduler or the cgroup is not mounted"
        )
    if r.nano_cpus < 0 or r.nano_cpus > has.cpus * 1_000_000_000:
        raise InvalidParameter(
            f"range of CPUs is from 0.01 to {has.cpus}.00, as there are only {has.cpus} CPUs available"
        )
    if r.cpu_shares < 0:
        raise InvalidParameter(f"invalid CPU shares ({r.cpu_shares}): value must be a positive integer")
    if r.cpu_shares > 0 and not has.cpu_shares:
        warnings.append(
            "Your kernel does not support CPU shares or the cgroup is not mounted. Shares discarded."
        )
        r.cpu_shares = 0
    if r.cpu_shares > 0:
        r.cpu_shares = min(max(r.cpu_shares, 2), _MAX_SHARES)
    if (r.cpu_period or r.cpu_quota) and not has.cpu_cfs:
        warnings.append("Your kernel does not support CPU CFS scheduler. CPU period/quota discarded.")
        r.cpu_period = r.cpu_quota = 0
    if r.cpu_period and not 1000 <= r.cpu_period <= 1_000_000:
        raise InvalidParameter(
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)"
        )
    if 0 < r.cpu_quota < 1000:
        raise InvalidParameter("CPU cfs quota can not be less than 1ms (i.e. 1000)")
    if (r.cpu_realtime_period or r.cpu_realtime_runtime) and not has.cpu_realtime:
        raise InvalidParameter("kernel does not support CPU real-time scheduler")
    if r.cpu_realtime_period and r.cpu_realtime_runtime > r.cpu_realtime_period:
        raise InvalidParameter("cpu real-time runtime cannot be higher than cpu real-time period")
    if r.cpu_percent > 0:
        warnings.append("linux does not support CPU percent. Percent discarded.")
        r.cpu_percent = 0


def _cpuset(r: Resources, has: HostFeatures, warnings: list[str]) -> None:
    if (r.cpuset_cpus or r.cpuset_mems) and not has.cpuset:
        warnings.append("Your kernel does not support cpuset or the cgroup is not mounted. Cpuset discarded.")
        r.cpuset_cpus = r.cpuset_mems = ""
    for text, available, what, noun in (
        (r.cpuset_cpus, has.cpus_available, "cpus", "CPUs"),
        (r.cpuset_mems, has.mems_available, "mems", "memory nodes"),
    ):
        if not text:
            continue
        try:
            wanted = parse_cpu_list(text)
        except InvalidParameter as error:
            raise InvalidParameter(f"Invalid value {text} for cpuset {what}: {error}") from None
        if available and not wanted <= parse_cpu_list(available):
            raise InvalidParameter(
                f"Requested {noun} are not available - requested {text}, available: {available}"
            )


def _blkio(r: Resources, has: HostFeatures, warnings: list[str]) -> None:
    if r.blkio_weight > 0 and not has.blkio_weight:
        warnings.append(
            "Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded."
        )
        r.blkio_weight = 0
    if r.blkio_weight != 0 and not 10 <= r.blkio_weight <= 1000:
        raise InvalidParameter("Range of blkio weight is from 10 to 1000")
    if r.io_maximum_bandwidth or r.io_maximum_iops:
        raise InvalidParameter(
            "Invalid QoS settings: linux does not support Maximum IO Bandwidth or Maximum IO IOps"
        )
    if r.blkio_weight_device and not has.blkio_weight_device:
        warnings.append(
            "Your kernel does not support Block I/O weight_device or the cgroup is not mounted. Weight-device discarded."
        )
        r.blkio_weight_device = []
    if not has.blkio_throttle:
        for name, words in (
            ("blkio_device_read_bps", "BPS Block I/O read limit"),
            ("blkio_device_write_bps", "BPS Block I/O write limit"),
            ("blkio_device_read_iops", "IOPS Block read limit"),
            ("blkio_device_write_iops", "IOPS Block write limit"),
        ):
            if getattr(r, name):
                warnings.append(
                    f"Your kernel does not support {words} or the cgroup is not mounted. {words} discarded."
                )
                setattr(r, name, [])
