"""Mistakes in a container's configuration get dockerd's words."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sampan.containers.host import HostFeatures, parse_cpu_list
from sampan.containers.validate import (
    parse_port,
    validate_config,
    validate_host_config,
    validate_network_conflicts,
)
from sampan.engineapi.container import (
    ContainerConfig,
    HealthConfig,
    HostConfig,
    PortBinding,
    RestartPolicy,
    Ulimit,
)
from sampan.errors import InvalidParameter

MACHINE = HostFeatures(
    unified=False, memory=True, swap=True, swappiness=True, reservation=True, oom_kill_disable=True, pids=True,
    cpu_shares=True, cpu_cfs=True, cpu_realtime=False, cpuset=True, blkio_weight=False, blkio_weight_device=False,
    blkio_throttle=True, cpus=2, cpus_available="0-1", mems_available="0",
)  # fmt: skip


def check(host: HostConfig) -> list[str]:
    return validate_host_config(host, MACHINE, ["runc"])


@pytest.mark.parametrize(
    ("host", "message"),
    [
        (HostConfig(memory=5 << 20), "Minimum memory limit allowed is 6MB"),
        (HostConfig(memory=64 << 20, memory_swap=1), "Minimum memoryswap limit should be larger than memory limit, see usage"),
        (HostConfig(memory_swap=64 << 20), "You should always set the Memory limit when using Memoryswap limit, see usage"),
        (HostConfig(nano_cpus=3_000_000_000), "range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available"),
        (HostConfig(nano_cpus=1, cpu_period=1000), "Conflicting options: Nano CPUs and CPU Period cannot both be set"),
        (HostConfig(cpu_quota=10), "CPU cfs quota can not be less than 1ms (i.e. 1000)"),
        (HostConfig(cpuset_cpus="0-7"), "Requested CPUs are not available - requested 0-7, available: 0-1"),
        (HostConfig(memory_swappiness=101), "Invalid value: 101, valid memory swappiness range is 0-100"),
        (HostConfig(shm_size=-1), "SHM size can not be less than 0"),
        (HostConfig(oom_score_adj=1001), "Invalid value 1001, range for oom score adj is [-1000, 1000]"),
        (HostConfig(ipc_mode="odd"), "invalid IPC mode: odd"),
        (HostConfig(pid_mode="container:"), "invalid PID mode: container:"),
        (HostConfig(cgroupns_mode="odd"), "invalid cgroup namespace mode: odd"),
        (HostConfig(runtime="odd"), "unknown or invalid runtime name: odd"),
        (HostConfig(cap_add=["ODD"]), 'invalid CapAdd: unknown capability: "CAP_ODD"'),
        (HostConfig(security_opt=["odd"]), 'invalid --security-opt 1: "odd"'),
        (HostConfig(security_opt=["odd=x"]), 'invalid --security-opt 2: "odd=x"'),
        (HostConfig(sysctls={"kernel.panic": "1"}), "sysctl 'kernel.panic' is not whitelisted"),
        (HostConfig(ulimits=[Ulimit(name="odd")]), "invalid ulimit type: odd"),
        (HostConfig(device_cgroup_rules=["c 1:3 odd"]), "invalid device cgroup rule format: 'c 1:3 odd'"),
        (HostConfig(extra_hosts=["name"]), 'bad format for add-host: "name"'),
        (HostConfig(port_bindings={"odd/tcp": None}), 'invalid port specification: "odd/tcp"'),
        (HostConfig(port_bindings={"80/tcp": [PortBinding(host_port="99999")]}), 'invalid port specification: "99999"'),
        (
            HostConfig(auto_remove=True, restart_policy=RestartPolicy(name="always")),
            "can't create 'AutoRemove' container with restart policy",
        ),
        (
            HostConfig(restart_policy=RestartPolicy(name="always", maximum_retry_count=3)),
            "invalid restart policy: maximum retry count can only be used with 'on-failure'",
        ),
        (
            HostConfig(restart_policy=RestartPolicy(name="odd")),
            "invalid restart policy: unknown policy 'odd'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'",
        ),
    ],
)  # fmt: skip
def test_host_configuration(host: HostConfig, message: str) -> None:
    with pytest.raises(InvalidParameter) as error:
        check(host)
    assert str(error.value) == message


def test_what_the_kernel_lacks_is_a_warning() -> None:
    host = HostConfig(blkio_weight=500)
    assert check(host) == [
        "Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded."
    ]
    assert host.blkio_weight == 0


def test_capabilities_are_shown_as_they_were_said() -> None:
    host = HostConfig(cap_add=["net_bind_service", "CAP_CHOWN"], cap_drop=["all"])
    check(host)
    assert (host.cap_add, host.cap_drop) == (["net_bind_service", "CAP_CHOWN"], ["all"])


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            ContainerConfig(working_dir="x"),
            "the working directory 'x' is invalid, it needs to be an absolute path",
        ),
        (ContainerConfig(stop_signal="ODD"), "invalid signal: ODD"),
        (ContainerConfig(env=["=x"]), "invalid environment variable: =x"),
        (
            ContainerConfig(healthcheck=HealthConfig(interval=5)),
            "Interval in Healthcheck cannot be less than 1ms",
        ),
        (ContainerConfig(healthcheck=HealthConfig(retries=-1)), "Retries in Healthcheck cannot be negative"),
    ],
)
def test_configuration(config: ContainerConfig, message: str) -> None:
    with pytest.raises(InvalidParameter) as error:
        validate_config(config)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c, h: setattr(c, "hostname", "x"), "conflicting options: hostname and the network mode"),
        (lambda c, h: setattr(h, "dns", ["1.1.1.1"]), "conflicting options: dns and the network mode"),
        (
            lambda c, h: setattr(h, "port_bindings", {"80/tcp": None}),
            "conflicting options: port publishing and the container type network mode",
        ),
        (
            lambda c, h: setattr(c, "exposed_ports", {"80/tcp": None}),
            "conflicting options: port exposing and the container type network mode",
        ),
    ],
)
def test_a_shared_network_excludes_options(
    change: Callable[[ContainerConfig, HostConfig], None], message: str
) -> None:
    config, host = ContainerConfig(), HostConfig(network_mode="container:x")
    validate_network_conflicts(config, host)
    change(config, host)
    with pytest.raises(InvalidParameter) as error:
        validate_network_conflicts(config, host)
    assert str(error.value) == message


def test_ports() -> None:
    assert parse_port("80") == (80, 80, "tcp")
    assert parse_port("8000-8010/UDP") == (8000, 8010, "udp")
    for bad in ("", "80/odd", "90-80", "65536", "-1"):
        with pytest.raises(InvalidParameter):
            parse_port(bad)


def test_cpu_lists() -> None:
    assert parse_cpu_list("0-2,7") == {0, 1, 2, 7}
    with pytest.raises(InvalidParameter):
        parse_cpu_list("2-0")
