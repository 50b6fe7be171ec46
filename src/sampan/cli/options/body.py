"""Flags into the body of `POST /containers/create`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sampan.cli.options import limits, mounts, networks, ports, texts
from sampan.cli.values import mapping
from sampan.errors import InvalidParameter, NotSupported

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_STREAMS = ("stdin", "stdout", "stderr")
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
_LISTS = {
    "cap_add": "CapAdd",
    "cap_drop": "CapDrop",
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
    if flags["rm"] and flags["restart"] not in ("", "no"):
        raise InvalidParameter("conflicting options: cannot specify both --restart and --rm")
    swappiness = flags["memory_swappiness"]
    if swappiness != -1 and not 0 <= swappiness <= 100:
        raise InvalidParameter(f"invalid value: {swappiness}. Valid memory swappiness range is 0-100")


def attached(flags: Mapping[str, Any], *, detach: bool) -> tuple[bool, bool, bool]:
    """Which of stdin, stdout, stderr the client attaches to: `-a`, else output unless detached, and stdin with `-i`."""
    wanted = [stream.lower() for stream in flags["attach"]]
    for stream in wanted:
        if stream not in _STREAMS:
            raise InvalidParameter(
                f'invalid argument "{stream}" for "-a, --attach" flag: valid streams are STDIN, STDOUT and STDERR'
            )
    if wanted:
        stdin, stdout, stderr = (stream in wanted for stream in _STREAMS)
        return stdin, stdout, stderr
    return flags["interactive"] and not detach, not detach, not detach


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
    if flags["memory_swappiness"] != -1:
        host["MemorySwappiness"] = flags["memory_swappiness"]
    if flags["link"]:
        host["Links"] = list(flags["link"])
    host["RestartPolicy"] = limits.restart_policy(flags["restart"])
    host["LogConfig"] = texts.log_config(flags["log_driver"], flags["log_opt"])
    host["ExtraHosts"] = texts.extra_hosts(flags["add_host"])
    host["SecurityOpt"], open_paths = texts.security_options(flags["security_opt"])
    host["Sysctls"] = mapping(flags["sysctl"])
    host["StorageOpt"] = texts.storage_options(flags["storage_opt"])
    host["Annotations"] = mapping(flags["annotation"])
    host["Tmpfs"] = dict(entry.partition(":")[::2] for entry in flags["tmpfs"])
    host["Mounts"] = [mounts.parse_mount(spec) for spec in flags["mount"]]
    host["Ulimits"] = [limits.ulimit(spec) for spec in flags["ulimit"]]
    host["Devices"], host["DeviceRequests"] = limits.devices(flags["device"])
    host["DeviceRequests"] += [limits.gpus(flags["gpus"])] if flags["gpus"] else []
    host["BlkioWeightDevice"] = limits.weights(flags["blkio_weight_device"])
    host["BlkioDeviceReadBps"] = limits.rates(flags["device_read_bps"], unit="bytes")
    host["BlkioDeviceWriteBps"] = limits.rates(flags["device_write_bps"], unit="bytes")
    host["BlkioDeviceReadIOps"] = limits.rates(flags["device_read_iops"], unit="operations")
    host["BlkioDeviceWriteIOps"] = limits.rates(flags["device_write_iops"], unit="operations")
    return {key: value for key, value in host.items() if value not in ({}, [])} | (
        {"MaskedPaths": [], "ReadonlyPaths": []} if open_paths else {}
    )
