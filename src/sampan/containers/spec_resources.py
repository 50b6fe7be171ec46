"""Limits and devices of a HostConfig in the OCI runtime spec's form."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from sampan.engineapi.container import Resources, ThrottleDevice, Ulimit
from sampan.errors import InvalidParameter, SystemFailure, reason_of
from sampan.oci import defaults

if TYPE_CHECKING:
    from sampan.engineapi.container import DeviceMapping, HostConfig
    from sampan.oci import runtime as oci

UNLIMITED = (1 << 64) - 1
_PERIOD = 100_000


def oci_resources(resources: Resources) -> oci.Resources:
    """Everything but the device list; only what was asked for appears."""
    result: oci.Resources = {}
    if memory := _memory(resources):
        result["memory"] = memory
    if cpu := _cpu(resources):
        result["cpu"] = cpu
    if resources.pids_limit is not None:
        result["pids"] = {"limit": resources.pids_limit if resources.pids_limit > 0 else -1}
    if block_io := _block_io(resources):
        result["blockIO"] = block_io
    return result


def _memory(r: Resources) -> oci.Memory:
    memory: oci.Memory = {}
    if r.memory > 0:
        memory["limit"] = r.memory
    if r.memory_reservation > 0:
        memory["reservation"] = r.memory_reservation
    if r.memory_swap > 0 or (r.memory_swap == -1 and r.memory > 0):
        memory["swap"] = r.memory_swap
    if r.memory_swappiness is not None:
        memory["swappiness"] = r.memory_swappiness
    if r.oom_kill_disable:
        memory["disableOOMKiller"] = True
    return memory


def _cpu(r: Resources) -> oci.CPU:
    cpu: oci.CPU = {}
    if r.cpu_shares > 0:
        cpu["shares"] = r.cpu_shares
    if r.nano_cpus > 0:
        cpu["period"] = _PERIOD
        cpu["quota"] = r.nano_cpus * _PERIOD // 1_000_000_000
    if r.cpu_period:
        cpu["period"] = r.cpu_period
    if r.cpu_quota:
        cpu["quota"] = r.cpu_quota
    if r.cpu_realtime_period:
        cpu["realtimePeriod"] = r.cpu_realtime_period
    if r.cpu_realtime_runtime:
        cpu["realtimeRuntime"] = r.cpu_realtime_runtime
    if r.cpuset_cpus:
        cpu["cpus"] = r.cpuset_cpus
    if r.cpuset_mems:
        cpu["mems"] = r.cpuset_mems
    return cpu


def _block_io(r: Resources) -> oci.BlockIO:
    block: oci.BlockIO = {}
    if r.blkio_weight:
        block["weight"] = r.blkio_weight
    if r.blkio_weight_device:
        block["weightDevice"] = [
            {"major": major, "minor": minor, "weight": device.weight}
            for device in r.blkio_weight_device
            for major, minor in (_numbers(device.path),)
        ]
    if r.blkio_device_read_bps:
        block["throttleReadBpsDevice"] = _throttle(r.blkio_device_read_bps)
    if r.blkio_device_write_bps:
        block["throttleWriteBpsDevice"] = _throttle(r.blkio_device_write_bps)
    if r.blkio_device_read_iops:
        block["throttleReadIOPSDevice"] = _throttle(r.blkio_device_read_iops)
    if r.blkio_device_write_iops:
        block["throttleWriteIOPSDevice"] = _throttle(r.blkio_device_write_iops)
    return block


def _throttle(devices: list[ThrottleDevice]) -> list[oci.ThrottleDevice]:
    throttles: list[oci.ThrottleDevice] = []
    for device in devices:
        major, minor = _numbers(device.path)
        throttles.append({"major": major, "minor": minor, "rate": device.rate})
    return throttles


def _numbers(path: str) -> tuple[int, int]:
    try:
        status = os.stat(path)
    except OSError as error:
        raise SystemFailure(f"stat {path}: {reason_of(error)}") from None
    if not stat.S_ISBLK(status.st_mode) and not stat.S_ISCHR(status.st_mode):
        raise InvalidParameter(f"{path}: not a device node")
    return os.major(status.st_rdev), os.minor(status.st_rdev)


def rlimits(ulimits: list[Ulimit]) -> list[oci.Rlimit]:
    """-1 becomes the kernel's RLIM_INFINITY."""
    return [
        {
            "type": "RLIMIT_" + limit.name.upper(),
            "soft": UNLIMITED if limit.soft == -1 else limit.soft,
            "hard": UNLIMITED if limit.hard == -1 else limit.hard,
        }
        for limit in ulimits
    ]


def devices(host: HostConfig) -> tuple[list[oci.Device], list[oci.DeviceCgroup]]:
    """Device nodes to make and the cgroup's rules for them.

    Raises `SystemFailure` in dockerd's words when a mapped path is no device of this host.
    """
    rules: list[oci.DeviceCgroup] = list(defaults.device_rules(privileged=host.privileged))
    nodes: list[oci.Device] = []
    if host.privileged:
        nodes.extend(defaults.host_devices())
    chosen: set[str] = set()
    for mapping in host.devices or ():
        mapped, mapped_rules = _mapped(mapping)
        # The first to name a place has it, as with dockerd; it goes before the host's own device there.
        mapped = [node for node in mapped if node["path"] not in chosen]
        paths = {node["path"] for node in mapped}
        chosen |= paths
        nodes = [node for node in nodes if node["path"] not in paths] + mapped
        if not host.privileged:
            rules.extend(mapped_rules)
    if not host.privileged:
        rules.extend(_parse_rule(rule) for rule in host.device_cgroup_rules or ())
    return nodes, rules


def _mapped(mapping: DeviceMapping) -> tuple[list[oci.Device], list[oci.DeviceCgroup]]:
    """One `--device`: a node, a link to one, or a directory of them."""
    path = os.path.realpath(mapping.path_on_host)
    access = mapping.cgroup_permissions or "rwm"
    inside = mapping.path_in_container or mapping.path_on_host
    node = defaults.device_at(path, inside)
    if node is not None:
        return [node], [_allow(node, access)]
    found: list[oci.Device] = []
    if os.path.isdir(path):
        for directory, _, files in os.walk(path):
            for name in files:
                child = os.path.join(directory, name)
                if (node := defaults.device_at(child, inside + child[len(path) :])) is not None:
                    found.append(node)
    if found:
        return found, [_allow(node, access) for node in found]
    detail = "not a device node" if os.path.exists(path) else "no such file or directory"
    where = f'error gathering device information while adding custom device "{mapping.path_on_host}"'
    raise SystemFailure(f"{where}: {detail}")


def _allow(node: oci.Device, access: str) -> oci.DeviceCgroup:
    return {
        "allow": True,
        "type": node["type"],
        "major": node.get("major", 0),
        "minor": node.get("minor", 0),
        "access": access,
    }


def _parse_rule(text: str) -> oci.DeviceCgroup:
    """`c 42:* rmw`, checked at creation."""
    kind, numbers, access = text.split()
    major, minor = numbers.split(":")
    return {
        "allow": True,
        "type": kind,
        "major": -1 if major == "*" else int(major),
        "minor": -1 if minor == "*" else int(minor),
        "access": access,
    }
