"""A container's configuration from Python's own types: keyword arguments in, the Engine API's body out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

from sampan.errors import InvalidParameter

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Ports = Mapping[int | str, int | str | tuple[str, int] | None]
    Volumes = Mapping[str, str]

_UNITS = {"b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


class ContainerOptions(TypedDict, total=False):
    """The keyword arguments of `Engine.run` and `Engine.containers.create`, beside image and command."""

    name: str
    env: Mapping[str, str] | Sequence[str]
    """{"NAME": "value"} or ["NAME=value"]."""
    ports: Ports
    """Container port → host port: {80: 8080}, {"53/udp": None} for a free one, {80: ("127.0.0.1", 8080)}."""
    volumes: Volumes
    """Host path or volume name → path in the container, with options: {"/srv": "/srv:ro", "data": "/var/lib/data"}."""
    tmpfs: Mapping[str, str]
    network: str
    user: str
    workdir: str
    entrypoint: str | Sequence[str]
    hostname: str
    labels: Mapping[str, str]
    memory: int | str
    """Bytes, or a number with a unit: "512m"."""
    cpus: float
    pids_limit: int
    privileged: bool
    read_only: bool
    init: bool
    tty: bool
    restart: str
    """"no", "always", "unless-stopped", "on-failure" or "on-failure:3"."""
    cap_add: Sequence[str]
    cap_drop: Sequence[str]
    security_opt: Sequence[str]
    extra_hosts: Mapping[str, str]
    platform: str
    config: Mapping[str, Any]
    """Further members of the API's Config, as they are."""
    host_config: Mapping[str, Any]
    """Further members of the API's HostConfig, as they are."""


_CONFIG = {"user": "User", "workdir": "WorkingDir", "hostname": "Hostname", "tty": "Tty"}
_HOST_CONFIG = {
    "privileged": "Privileged",
    "read_only": "ReadonlyRootfs",
    "init": "Init",
    "network": "NetworkMode",
    "pids_limit": "PidsLimit",
}
_LISTS = {"cap_add": "CapAdd", "cap_drop": "CapDrop", "security_opt": "SecurityOpt"}
_OTHERS = frozenset(ContainerOptions.__annotations__) - _CONFIG.keys() - _HOST_CONFIG.keys() - _LISTS.keys()


def container_body(
    image: str, command: str | Sequence[str] | None, options: ContainerOptions, *, stdin: bool, remove: bool
) -> dict[str, Any]:
    """The body of `POST /containers/create`. Raises InvalidParameter for an unknown or malformed option.

    >>> container_body("busybox", ["true"], {"memory": "8m"}, stdin=False, remove=True)["HostConfig"]
    {'AutoRemove': True, 'Memory': 8388608}
    """
    given: dict[str, Any] = dict(options)
    _check_names(given)
    config: dict[str, Any] = {"Image": image}
    if command is not None:
        config["Cmd"] = _words(command)
    host: dict[str, Any] = {"AutoRemove": True} if remove else {}
    if stdin:
        config |= {"OpenStdin": True, "StdinOnce": True, "AttachStdin": True}
    config |= {key: given[name] for name, key in _CONFIG.items() if name in given}
    host |= {key: given[name] for name, key in _HOST_CONFIG.items() if name in given}
    host |= {key: list(given[name]) for name, key in _LISTS.items() if name in given}
    if "entrypoint" in given:
        config["Entrypoint"] = _words(given["entrypoint"])
    if "env" in given:
        config["Env"] = _environment(given["env"])
    if "labels" in given:
        config["Labels"] = dict(given["labels"])
    if "volumes" in given:
        host["Binds"] = [f"{source}:{target}" for source, target in given["volumes"].items()]
    if "tmpfs" in given:
        host["Tmpfs"] = dict(given["tmpfs"])
    if "memory" in given:
        host["Memory"] = _bytes(given["memory"])
    if "cpus" in given:
        host["NanoCpus"] = round(given["cpus"] * 1e9)
    if "restart" in given:
        host["RestartPolicy"] = _restart(given["restart"])
    if "extra_hosts" in given:
        host["ExtraHosts"] = [f"{name}:{address}" for name, address in given["extra_hosts"].items()]
    if "ports" in given:
        config["ExposedPorts"], host["PortBindings"] = _ports(given["ports"])
    config |= given.get("config", {})
    host |= given.get("host_config", {})
    return {**config, "HostConfig": host}


def _check_names(given: dict[str, Any]) -> None:
    known = _CONFIG.keys() | _HOST_CONFIG.keys() | _LISTS.keys() | _OTHERS
    for name in given:
        if name not in known:
            raise InvalidParameter(
                f"unknown container option {name!r}; known are: {', '.join(sorted(known))}"
            )


def _words(command: str | Sequence[str]) -> list[str]:
    if isinstance(command, str):
        import shlex

        return shlex.split(command)
    return list(command)


def _environment(env: Mapping[str, str] | Sequence[str]) -> list[str]:
    if hasattr(env, "items"):
        return [f"{name}={value}" for name, value in env.items()]
    return list(env)


def _bytes(size: int | str) -> int:
    if isinstance(size, int):
        return size
    text = size.strip().lower().removesuffix("ib").removesuffix("b") or "?"
    number, unit = (text[:-1], text[-1]) if text[-1] in _UNITS else (text, "b")
    try:
        return int(float(number) * _UNITS[unit])
    except ValueError:
        raise InvalidParameter(f"invalid size: {size!r} (examples: 512m, 1.5g, 1073741824)") from None


def _restart(policy: str) -> dict[str, Any]:
    name, _, count = policy.partition(":")
    if count and not count.isdecimal():
        raise InvalidParameter(f"invalid restart policy {policy!r}: the maximum retry count must be a number")
    return {"Name": name, "MaximumRetryCount": int(count or 0)}


def _ports(ports: Ports) -> tuple[dict[str, Any], dict[str, Any]]:
    exposed: dict[str, Any] = {}
    bindings: dict[str, Any] = {}
    for container_port, host in ports.items():
        key = str(container_port)
        key = key if "/" in key else f"{key}/tcp"
        address, port = host if isinstance(host, tuple) else ("", host)
        exposed[key] = {}
        bindings.setdefault(key, []).append(
            {"HostIp": address, "HostPort": "" if port is None else str(port)}
        )
    return exposed, bindings
