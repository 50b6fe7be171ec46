"""Flags into the body of `POST /containers/create`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from sampan.cli.options import limits, mounts, networks, ports, texts
from sampan.cli.values import mapping
from sampan.errors import InvalidParameter, NotSupported

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_TEXTS = {
    "ipc": "IpcMode",
    "pid": "PidMode",
    "uts": "UTSMode",
    "userns": "UsernsMode",
    "cgroupns": "CgroupnsMode",
    "isolation": "Isolation",
    "runtime": "Runtime",
    "volume_driver": "VolumeDriver",
    "cgroup_parent": "CgroupParent",
    "cpuset_cpus": "CpusetCpus",
    "cpuset_mems": "CpusetMems",
}
_NAMESPACES = (
    ("pid", "PID", ("", "host", "container")),
    ("uts", "UTS", ("", "host")),
    ("userns", "USER", ("", "host")),
    ("cgroupns", "CGROUP", ("", "host", "private")),
)
_MAC_ADDRESS = re.compile(r"(?i)[0-9a-f]{2}([:-][0-9a-f]{2}){5}")
_NUMBERS = {
    "memory": "Memory",
    "memory_reservation": "MemoryReservation",
    "memory_swap": "MemorySwap",
    "kernel_memory": "KernelMemory",
    "cpus": "NanoCpus",
    "cpu_shares": "CpuShares",
    "cpu_period": "CpuPeriod",
    "cpu_quota": "CpuQuota",
    "cpu_rt_period": "CpuRealtimePeriod",
    "cpu_rt_runtime": "CpuRealtimeRuntime",
    "blkio_weight": "BlkioWeight",
    "pids_limit": "PidsLimit",
    "shm_size": "ShmSize",
    "oom_score_adj": "OomScoreAdj",
}
_SWITCHES = {
    "privileged": "Privileged",
    "read_only": "ReadonlyRootfs",
    "publish_all": "PublishAllPorts",
    "rm": "AutoRemove",
    "oom_kill_disable": "OomKillDisable",
    "init": "Init",
}
_CAPABILITIES = {"cap_add": "CapAdd", "cap_drop": "CapDrop"}
_LISTS = {
    "group_add": "GroupAdd",
    "dns": "Dns",
    "dns_option": "DnsOptions",
    "dns_search": "DnsSearch",
    "volumes_from": "VolumesFrom",
    "device_cgroup_rule": "DeviceCgroupRules",
}


def create_body(
    flags: Mapping[str, Any], image: str, command: Sequence[str], *, detach: bool
) -> dict[str, Any]:
    """The whole body. Raises InvalidParameter for what docker's CLI refuses, before anything is sent."""
    _refuse(flags)
    binds, anonymous = mounts.split_volumes(flags["volume"])
    published = ports.published(flags["publish"], flags["expose"])
    mode, endpoints = networks.networking(flags)
    config = _config(flags, image, command, detach=detach)
    config["ExposedPorts"] = published.exposed
    config["Volumes"] = anonymous
    host = _host_config(flags)
    host |= {"Binds": binds, "PortBindings": published.bindings, "NetworkMode": mode}
    return {**config, "HostConfig": host, "NetworkingConfig": {"EndpointsConfig": endpoints}}


def _refuse(flags: Mapping[str, Any]) -> None:
    if flags["use_api_socket"]:
        raise NotSupported("--use-api-socket is not supported: bind the socket with -v instead")
    policy = limits.restart_policy(flags["restart"])["Name"]
    if flags["rm"] and policy not in ("", "no"):
        raise InvalidParameter("conflicting options: cannot specify both --restart and --rm")
    for name, title, modes in _NAMESPACES:
        kind, separator, rest = flags[name].partition(":")
        if kind not in modes or (kind == "container" and not rest) or (kind != "container" and separator):
            raise InvalidParameter(f"--{name}: invalid {title} mode")
    if flags["mac_address"] and not _MAC_ADDRESS.fullmatch(flags["mac_address"].strip()):
        raise InvalidParameter(f"{flags['mac_address']} is not a valid mac address")
    swappiness = flags["memory_swappiness"]
    if swappiness != -1 and not 0 <= swappiness <= 100:
        raise InvalidParameter(f"invalid value: {swappiness}. Valid memory swappiness range is 0-100")


def attached(flags: Mapping[str, Any], *, detach: bool) -> tuple[bool, bool, bool]:
    """Which of stdin, stdout, stderr the client attaches to: `-a`, else output unless detached, and stdin with `-i`."""
    if wanted := flags["attach"]:
        return "stdin" in wanted, "stdout" in wanted, "stderr" in wanted
    return flags["interactive"] and not detach, not detach, not detach


def _capability(name: str) -> str:
    name = name.strip().upper()
    return name if name == "ALL" or name.startswith("CAP_") else f"CAP_{name}"


def _config(flags: Mapping[str, Any], image: str, command: Sequence[str], *, detach: bool) -> dict[str, Any]:
    stdin, stdout, stderr = attached(flags, detach=detach)
    config: dict[str, Any] = {
        "Image": image,
        "Hostname": flags["hostname"],
        "Domainname": flags["domainname"],
        "User": flags["user"],
        "WorkingDir": flags["workdir"],
        "Tty": flags["tty"],
        "OpenStdin": flags["interactive"],
        "StdinOnce": flags["interactive"] and stdin,
        "AttachStdin": stdin,
        "AttachStdout": stdout,
        "AttachStderr": stderr,
        "Cmd": list(command) or None,
        "Env": texts.environment(flags["env_file"], flags["env"]),
        "Labels": texts.labels(flags["label_file"], flags["label"]),
    }
    if flags["entrypoint"] is not None:
        config["Entrypoint"] = [flags["entrypoint"]]  # [""] clears the image's
    if flags["stop_signal"]:
        config["StopSignal"] = flags["stop_signal"]
    if flags["stop_timeout"] is not None:
        config["StopTimeout"] = flags["stop_timeout"]
    if flags["mac_address"]:
        config["MacAddress"] = flags["mac_address"]
    probe = limits.healthcheck(flags)
    if probe is not None:
        config["Healthcheck"] = probe
    return config


def _host_config(flags: Mapping[str, Any]) -> dict[str, Any]:
    host: dict[str, Any] = {key: flags[name] for name, key in _TEXTS.items() if flags[name]}
    host |= {key: flags[name] for name, key in _NUMBERS.items() if flags[name]}
    host |= {key: True for name, key in _SWITCHES.items() if flags[name]}
    host |= {key: list(flags[name]) for name, key in _LISTS.items() if flags[name]}
    host |= {
        key: [_capability(name) for name in flags[flag]] for flag, key in _CAPABILITIES.items() if flags[flag]
    }
    if flags["memory_swappiness"] != -1:
        host["MemorySwappiness"] = flags["memory_swappiness"]
    if flags["link"]:
        host["Links"] = list(flags["link"])
    host["RestartPolicy"] = limits.restart_policy(flags["restart"])
    host["LogConfig"] = texts.log_config(flags["log_driver"], flags["log_opt"])
    host["ExtraHosts"] = list(flags["add_host"])
    host["SecurityOpt"], open_paths = texts.security_options(flags["security_opt"])
    host["Sysctls"] = mapping(flags["sysctl"])
    host["StorageOpt"] = texts.storage_options(flags["storage_opt"])
    host["Annotations"] = mapping(flags["annotation"])
    host["Tmpfs"] = dict(entry.partition(":")[::2] for entry in flags["tmpfs"])
    host["Mounts"] = list(flags["mount"])
    host["Ulimits"] = list(flags["ulimit"])
    host["Devices"], host["DeviceRequests"] = limits.devices(flags["device"])
    host["DeviceRequests"] += [flags["gpus"]] if flags["gpus"] else []
    host["BlkioWeightDevice"] = list(flags["blkio_weight_device"])
    host["BlkioDeviceReadBps"] = list(flags["device_read_bps"])
    host["BlkioDeviceWriteBps"] = list(flags["device_write_bps"])
    host["BlkioDeviceReadIOps"] = list(flags["device_read_iops"])
    host["BlkioDeviceWriteIOps"] = list(flags["device_write_iops"])
    return {key: value for key, value in host.items() if value not in ({}, [])} | (
        {"MaskedPaths": [], "ReadonlyPaths": []} if open_paths else {}
    )
