"""Checks of a container's configuration, with dockerd's words for every mistake.

`validate_request` looks at what was sent and needs nothing of the engine; what depends on other objects (names, networks, mounts'
sources) is checked where it is used.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable

from sampan.containers import capabilities, modes
from sampan.containers.host import HostFeatures
from sampan.containers.security import check_labels, parse_security_options
from sampan.containers.signals import parse_signal
from sampan.containers.validate_resources import validate_resources
from sampan.engineapi.container import ContainerConfig, HealthConfig, HostConfig, PortBinding, RestartPolicy
from sampan.errors import InvalidParameter
from sampan.names.addresses import is_address

_MS = 1_000_000
_PORT = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?(?:/(tcp|udp|sctp))?\Z", re.IGNORECASE)
_ULIMITS = frozenset(
    (  # noqa: SIM905
        "as core cpu data fsize locks memlock msgqueue nice nofile nproc rss rtprio rttime sigpending stack"
    ).split()
)
_DEVICE_RULE = re.compile(r"[acb] ([0-9]+|\*):([0-9]+|\*) [rwm]{1,3}\Z")
_NAMESPACED_SYSCTLS = frozenset(
    (  # noqa: SIM905
        "kernel.msgmax kernel.msgmnb kernel.msgmni kernel.sem kernel.shmall kernel.shmmax "
        "kernel.shmmni kernel.shm_rmid_forced kernel.domainname kernel.hostname"
    ).split()
)


def validate_config(config: ContainerConfig) -> None:
    """The portable half. Raises `InvalidParameter`."""
    if config.working_dir:
        if not config.working_dir.startswith("/"):
            raise InvalidParameter(
                f"the working directory '{config.working_dir}' is invalid, it needs to be an absolute path"
            )
        config.working_dir = posixpath.normpath(config.working_dir).replace("//", "/")
    if config.stop_signal:
        parse_signal(config.stop_signal)
    for variable in config.env or ():
        if not variable or variable.startswith("="):
            raise InvalidParameter(f"invalid environment variable: {variable}")
    for port in config.exposed_ports or ():
        parse_port(port)
    validate_health(config.healthcheck)
    if len(config.hostname) > 64:
        raise InvalidParameter(f'hostname "{config.hostname}" is too long (maximum 64 bytes)')


def validate_health(health: HealthConfig | None) -> None:
    """Durations below a millisecond are mistakes of unit."""
    if health is None:
        return
    for value, name in (
        (health.interval, "Interval"),
        (health.timeout, "Timeout"),
        (health.start_period, "StartPeriod"),
        (health.start_interval, "StartInterval"),
    ):
        if value != 0 and value < _MS:
            raise InvalidParameter(f"{name} in Healthcheck cannot be less than 1ms")
    if health.retries < 0:
        raise InvalidParameter("Retries in Healthcheck cannot be negative")


def validate_remapped(host: HostConfig) -> None:
    """What cannot be together with a user namespace. Raises `InvalidParameter` in dockerd's words."""
    if host.privileged:
        raise InvalidParameter(
            "privileged mode is incompatible with user namespaces.  You must run the container in the host namespace when"
            " running privileged mode"
        )
    if host.network_mode == "host":
        raise InvalidParameter("cannot share the host's network namespace when user namespaces are enabled")
    if host.pid_mode == "host":
        raise InvalidParameter("cannot share the host PID namespace when user namespaces are enabled")


def validate_host_config(
    host: HostConfig, features: HostFeatures, runtimes: Iterable[str], *, update: bool = False
) -> list[str]:
    """The machine's half, adjusted in place; returns the warnings. Raises `InvalidParameter`."""
    if host.auto_remove and host.restart_policy.name not in ("", "no"):
        raise InvalidParameter("can't create 'AutoRemove' container with restart policy")
    for entry in host.extra_hosts or ():
        _extra_host(entry)
    _port_bindings(host.port_bindings)
    validate_restart_policy(host.restart_policy)
    capabilities.normalise(host.cap_add or (), option="CapAdd")
    capabilities.normalise(host.cap_drop or (), option="CapDrop")
    if host.isolation not in ("", "default"):
        raise InvalidParameter(f"invalid isolation ({host.isolation}): linux only supports 'default'")
    if any(not key for key in host.annotations or ()):
        raise InvalidParameter("invalid Annotations: the empty string is not permitted as an annotation key")
    if host.io_maximum_bandwidth or host.io_maximum_iops:
        what = "bandwidth" if host.io_maximum_bandwidth else "IOPs"
        raise InvalidParameter(f"invalid option: QoS maximum {what} configuration is not supported on linux")
    warnings = validate_resources(host, features, update=update)
    _modes(host)
    _numbers(host)
    check_labels(parse_security_options(host.security_opt or ()).labels)
    if host.runtime and host.runtime not in runtimes:
        raise InvalidParameter(f"unknown or invalid runtime name: {host.runtime}")
    if host.network_mode == "host" and host.port_bindings:
        warnings.append("Published ports are discarded when using host network mode")
    return warnings


def validate_network_conflicts(config: ContainerConfig, host: HostConfig) -> None:
    """Options that a shared or host network namespace makes meaningless."""
    mode = host.network_mode
    shared = modes.shared_container(mode)
    if shared == "":
        raise InvalidParameter("invalid network mode: invalid container format container:<name|id>")
    if shared is not None and config.hostname:
        raise InvalidParameter("conflicting options: hostname and the network mode")
    if host.uts_mode == "host" and config.hostname:
        raise InvalidParameter("conflicting options: hostname and the UTS mode")
    if host.links and shared is not None:
        raise InvalidParameter(
            "conflicting options: container type network can't be used with links. This would result in undefined behavior"
        )
    if host.links and mode == "host":
        raise InvalidParameter(
            "conflicting options: host type networking can't be used with links. This would result in undefined behavior"
        )
    if shared is None:
        return
    if host.dns:
        raise InvalidParameter("conflicting options: dns and the network mode")
    if host.extra_hosts:
        raise InvalidParameter("conflicting options: custom host-to-IP mapping and the network mode")
    if config.mac_address:
        raise InvalidParameter("conflicting options: mac-address and the network mode")
    if host.port_bindings or host.publish_all_ports:
        raise InvalidParameter("conflicting options: port publishing and the container type network mode")
    if config.exposed_ports:
        raise InvalidParameter("conflicting options: port exposing and the container type network mode")


def validate_restart_policy(policy: RestartPolicy) -> None:
    """Raises `InvalidParameter` for unknown names and misplaced retry counts."""
    retries = policy.maximum_retry_count
    match policy.name:
        case "always" | "unless-stopped" | "no" | "":
            if retries != 0:
                tail = " and cannot be negative" if retries < 0 else ""
                raise InvalidParameter(
                    f"invalid restart policy: maximum retry count can only be used with 'on-failure'{tail}"
                )
        case "on-failure":
            if retries < 0:
                raise InvalidParameter("invalid restart policy: maximum retry count cannot be negative")
        case _:
            raise InvalidParameter(
                f"invalid restart policy: unknown policy '{policy.name}';"
                " use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
            )


def parse_port(text: str) -> tuple[int, int, str]:
    """(first, last, protocol) of `80/tcp` or `8000-8010/udp`. Raises `InvalidParameter`."""
    found = _PORT.match(text)
    if found is None:
        raise InvalidParameter(f'invalid port specification: "{text}"')
    first, last = int(found[1]), int(found[2] or found[1])
    if not 0 <= first <= last <= 65535:
        raise InvalidParameter(f'invalid port specification: "{text}"')
    return first, last, (found[3] or "tcp").lower()


def _port_bindings(bindings: dict[str, list[PortBinding] | None] | None) -> None:
    for port, host_ports in (bindings or {}).items():
        if parse_port(port)[0] == 0:
            raise InvalidParameter(f'invalid port specification: "{port}"')
        for binding in host_ports or ():
            if binding.host_port and not _PORT.match(binding.host_port):
                raise InvalidParameter(f'invalid port specification: "{binding.host_port}"')
            if binding.host_port:
                parse_port(binding.host_port)


def _extra_host(entry: str) -> None:
    name, separator, address = entry.partition("=") if "=" in entry else entry.partition(":")
    if not separator or not name:
        raise InvalidParameter(f'bad format for add-host: "{entry}"')
    if address.startswith("[") and address.endswith("]"):
        address = address[1:-1]
    if address != "host-gateway" and not is_address(address):
        raise InvalidParameter(f'invalid IP address in add-host: "{address}"')


def _modes(host: HostConfig) -> None:
    if not modes.valid_ipc(host.ipc_mode):
        raise InvalidParameter(f"invalid IPC mode: {host.ipc_mode}")
    if not modes.valid_pid(host.pid_mode):
        raise InvalidParameter(f"invalid PID mode: {host.pid_mode}")
    if not modes.valid_uts(host.uts_mode):
        raise InvalidParameter(f"invalid UTS mode: {host.uts_mode}")
    if not modes.valid_userns(host.userns_mode):
        raise InvalidParameter(f"invalid user namespace mode: {host.userns_mode}")
    if not modes.valid_cgroupns(host.cgroupns_mode):
        raise InvalidParameter(f"invalid cgroup namespace mode: {host.cgroupns_mode}")


def _numbers(host: HostConfig) -> None:
    if host.shm_size < 0:
        raise InvalidParameter("SHM size can not be less than 0")
    if not -1000 <= host.oom_score_adj <= 1000:
        raise InvalidParameter(
            f"Invalid value {host.oom_score_adj}, range for oom score adj is [-1000, 1000]"
        )
    for limit in host.ulimits or ():
        if limit.name not in _ULIMITS:
            raise InvalidParameter(f"invalid ulimit type: {limit.name}")
        if limit.hard != -1 and (limit.soft == -1 or limit.soft > limit.hard):
            raise InvalidParameter(
                f"ulimit soft limit must be less than or equal to hard limit: {limit.soft} > {limit.hard}"
            )
    for rule in host.device_cgroup_rules or ():
        if not _DEVICE_RULE.match(rule):
            raise InvalidParameter(f"invalid device cgroup rule format: '{rule}'")
    for name in host.sysctls or ():
        _sysctl(name, host)


def _sysctl(name: str, host: HostConfig) -> None:
    """Only what belongs to a namespace of the container may be set; anything else would change the host."""
    dotted = name.replace("/", ".")
    if dotted.startswith("net."):
        return  # in the host's network namespace the runtime refuses it
    if dotted in _NAMESPACED_SYSCTLS or dotted.startswith("fs.mqueue."):
        if host.ipc_mode == "host" and dotted not in ("kernel.domainname", "kernel.hostname"):
            raise InvalidParameter(f"sysctl '{name}' not allowed in host ipc namespace")
        if host.uts_mode == "host" and dotted == "kernel.domainname":
            raise InvalidParameter(f"sysctl '{name}' not allowed in host UTS namespace")
        return
    raise InvalidParameter(f"sysctl '{name}' is not whitelisted")
