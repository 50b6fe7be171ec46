"""dockerd's command line.

Each flag sets one key of `EngineConfig`; the table below says which, and how its text becomes a value. The syntax is that of
Docker's programs: `--flag=value` or `--flag value`, `--flag` alone only for booleans, `-H x` or `-H=x`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from sampan.errors import InvalidParameter
from sampan.names.units import parse_memory


class Flag(NamedTuple):
    """One flag: the key it sets, how to read it, and what help says."""

    name: str
    key: str
    kind: str
    help: str
    short: str = ""


FLAGS = [
    Flag("add-runtime", "add-runtime", "list", "Register an additional OCI compatible runtime (name=path)"),
    Flag(
        "allow-direct-routing",
        "allow-direct-routing",
        "bool",
        "Allow remote access to published ports on container addresses",
    ),
    Flag("authorization-plugin", "authorization-plugins", "list", "Authorization plugins to load"),
    Flag("bip", "bip", "string", "IPv4 address for the default bridge"),
    Flag("bip6", "bip6", "string", "IPv6 address for the default bridge"),
    Flag("bridge", "bridge", "string", "Attach containers to a network bridge", "b"),
    Flag(
        "bridge-accept-fwmark",
        "bridge-accept-fwmark",
        "string",
        "Accept packets with this firewall mark/mask",
    ),
    Flag("cdi-spec-dir", "cdi-spec-dirs", "list", "CDI specification directories to use"),
    Flag("cgroup-parent", "cgroup-parent", "string", "Set parent cgroup for all containers"),
    Flag("containerd", "containerd", "string", "containerd grpc address"),
    Flag("containerd-namespace", "containerd-namespace", "string", "Containerd namespace to use"),
    Flag(
        "containerd-plugins-namespace",
        "containerd-plugins-namespace",
        "string",
        "Containerd namespace for plugins",
    ),
    Flag("cpu-rt-period", "cpu-rt-period", "int", "Limit the CPU real-time period in microseconds"),
    Flag("cpu-rt-runtime", "cpu-rt-runtime", "int", "Limit the CPU real-time runtime in microseconds"),
    Flag("cri-containerd", "cri-containerd", "bool", "start containerd with cri"),
    Flag("data-root", "data-root", "string", "Root directory of persistent state"),
    Flag("debug", "debug", "bool", "Enable debug mode", "D"),
    Flag(
        "default-address-pool", "default-address-pools", "pools", "Default address pools (base=CIDR,size=N)"
    ),
    Flag(
        "default-cgroupns-mode",
        "default-cgroupns-mode",
        "string",
        "Default cgroup namespace (host | private)",
    ),
    Flag(
        "default-gateway", "default-gateway", "string", "Default gateway IPv4 address for the default bridge"
    ),
    Flag(
        "default-gateway-v6",
        "default-gateway-v6",
        "string",
        "Default gateway IPv6 address for the default bridge",
    ),
    Flag(
        "default-ipc-mode",
        "default-ipc-mode",
        "string",
        "Default mode for containers ipc (shareable | private)",
    ),
    Flag(
        "default-network-opt", "default-network-opts", "mapmap", "Default network options (driver=key=value)"
    ),
    Flag("default-runtime", "default-runtime", "string", "Default OCI runtime for containers"),
    Flag("default-shm-size", "default-shm-size", "bytes", "Default shm size for containers (64MiB)"),
    Flag(
        "default-stop-timeout",
        "default-stop-timeout",
        "int",
        "Default container stop timeout in seconds (10)",
    ),
    Flag("default-ulimit", "default-ulimits", "ulimits", "Default ulimits for containers"),
    Flag("dns", "dns", "list", "DNS server to use"),
    Flag("dns-opt", "dns-opts", "list", "DNS options to use"),
    Flag("dns-search", "dns-search", "list", "DNS search domains to use"),
    Flag("exec-opt", "exec-opts", "list", "Runtime execution options"),
    Flag("exec-root", "exec-root", "string", "Root directory for execution state files"),
    Flag("experimental", "experimental", "bool", "Enable experimental features"),
    Flag("feature", "features", "features", "Enable feature in the engine (name=bool)"),
    Flag("firewall-backend", "firewall-backend", "string", "Firewall backend to use, iptables or nftables"),
    Flag("fixed-cidr", "fixed-cidr", "string", "IPv4 subnet for the default bridge network"),
    Flag("fixed-cidr-v6", "fixed-cidr-v6", "string", "IPv6 subnet for the default bridge network"),
    Flag("group", "group", "string", "Group for the unix socket (docker)", "G"),
    Flag("host", "hosts", "list", "Socket(s) to listen on: unix://, tcp://, fd://", "H"),
    Flag(
        "host-gateway-ip", "host-gateway-ips", "list", "Addresses that host-gateway in --add-host resolves to"
    ),
    Flag("http-proxy", "proxies.http-proxy", "string", "HTTP proxy URL to use for outgoing traffic"),
    Flag("https-proxy", "proxies.https-proxy", "string", "HTTPS proxy URL to use for outgoing traffic"),
    Flag("icc", "icc", "bool", "Enable inter-container communication for the default bridge (true)"),
    Flag("init", "init", "bool", "Run an init in the container to forward signals and reap processes"),
    Flag("init-path", "init-path", "string", "Path to the init binary"),
    Flag("insecure-registry", "insecure-registries", "list", "Enable insecure registry communication"),
    Flag("ip", "ip", "string", "Host IP for port publishing from the default bridge (0.0.0.0)"),
    Flag("ip-forward", "ip-forward", "bool", "Enable IP forwarding in system configuration (true)"),
    Flag("ip-forward-no-drop", "ip-forward-no-drop", "bool", "Do not set the FORWARD policy to DROP"),
    Flag("ip-masq", "ip-masq", "bool", "Enable IP masquerading for the default bridge network (true)"),
    Flag("ip6tables", "ip6tables", "bool", "Enable addition of IPv6 firewall rules (true)"),
    Flag("iptables", "iptables", "bool", "Enable addition of firewall rules (true)"),
    Flag("ipv6", "ipv6", "bool", "Enable IPv6 networking for the default bridge network"),
    Flag("label", "labels", "list", "Set key=value labels to the engine"),
    Flag("live-restore", "live-restore", "bool", "Keep containers running while the engine is stopped"),
    Flag("log-driver", "log-driver", "string", "Default driver for container logs (json-file)"),
    Flag("log-format", "log-format", "string", "Set the logging format (text | json)"),
    Flag("log-level", "log-level", "string", "Set the logging level (debug|info|warn|error|fatal)", "l"),
    Flag("log-opt", "log-opts", "map", "Default log driver options for containers"),
    Flag(
        "max-concurrent-downloads", "max-concurrent-downloads", "int", "Set the max concurrent downloads (3)"
    ),
    Flag("max-concurrent-uploads", "max-concurrent-uploads", "int", "Set the max concurrent uploads (5)"),
    Flag(
        "max-download-attempts",
        "max-download-attempts",
        "int",
        "Set the max download attempts for each pull (5)",
    ),
    Flag("metrics-addr", "metrics-addr", "string", "Address and port to serve the metrics api on"),
    Flag("mtu", "mtu", "int", "MTU of the default bridge network (1500)"),
    Flag("network-control-plane-mtu", "network-control-plane-mtu", "int", "Network control plane MTU"),
    Flag(
        "no-new-privileges",
        "no-new-privileges",
        "bool",
        "Set no-new-privileges by default for new containers",
    ),
    Flag("no-proxy", "proxies.no-proxy", "string", "Hosts or addresses for which the proxy is skipped"),
    Flag("node-generic-resource", "node-generic-resources", "list", "Advertise user-defined resource"),
    Flag("nri-opts", "nri-opts", "map", "Node Resource Interface configuration"),
    Flag("pidfile", "pidfile", "string", "Path to use for the engine's PID file", "p"),
    Flag("raw-logs", "raw-logs", "bool", "Full timestamps without ANSI coloring"),
    Flag("registry-mirror", "registry-mirrors", "list", "Preferred registry mirror"),
    Flag("rootless", "rootless", "bool", "Enable rootless mode"),
    Flag("seccomp-profile", "seccomp-profile", "string", "Path to seccomp profile, or unconfined (builtin)"),
    Flag("selinux-enabled", "selinux-enabled", "bool", "Enable selinux support"),
    Flag("shutdown-timeout", "shutdown-timeout", "int", "Set the default shutdown timeout (15)"),
    Flag("storage-driver", "storage-driver", "string", "Storage driver to use (overlayfs | native)", "s"),
    Flag("storage-opt", "storage-opts", "list", "Storage driver options"),
    Flag(
        "swarm-default-advertise-addr",
        "swarm-default-advertise-addr",
        "string",
        "Default swarm advertised address",
    ),
    Flag("tls", "tls", "bool", "Use TLS; implied by --tlsverify"),
    Flag("tlscacert", "tlscacert", "string", "Trust certs signed only by this CA"),
    Flag("tlscert", "tlscert", "string", "Path to TLS certificate file"),
    Flag("tlskey", "tlskey", "string", "Path to TLS key file"),
    Flag("tlsverify", "tlsverify", "bool", "Use TLS and verify the remote"),
    Flag("userland-proxy", "userland-proxy", "bool", "Use userland proxy for loopback traffic (true)"),
    Flag("userland-proxy-path", "userland-proxy-path", "string", "Path to the userland proxy binary"),
    Flag("userns-remap", "userns-remap", "string", "User/Group setting for user namespaces"),
]

PROGRAM_FLAGS = [
    Flag("config-file", "config-file", "string", "Configuration file (/etc/sampan/daemon.json)"),
    Flag("help", "help", "bool", "Print usage", "h"),
    Flag("on-demand", "on-demand", "bool", "Leave when idle: no container runs and nobody is connected"),
    Flag("ready-fd", "ready-fd", "int", "Write one byte to this descriptor when the sockets answer"),
    Flag("validate", "validate", "bool", "Validate the configuration and exit"),
    Flag("version", "version", "bool", "Print version information and quit", "v"),
]
"""Flags of the program rather than of the engine: not in daemon.json."""

_BY_NAME = {flag.name: flag for flag in FLAGS + PROGRAM_FLAGS}
_BY_SHORT = {flag.short: flag for flag in FLAGS + PROGRAM_FLAGS if flag.short}
_TRUTH = {"1": True, "t": True, "true": True, "0": False, "f": False, "false": False}


def parse(arguments: list[str]) -> dict[str, Any]:
    """Keys and values of the flags given, in the form that daemon.json has them.

    Raises `InvalidParameter` for an unknown flag, a missing or a malformed value.
    """
    values: dict[str, Any] = {}
    rest = iter(arguments)
    for argument in rest:
        flag, text = _split(argument)
        if text is None:
            if flag.kind == "bool":
                text = "true"
            else:
                text = next(rest, None)
                if text is None:
                    raise InvalidParameter(f"flag needs an argument: --{flag.name}")
        _store(values, flag, text)
    return values


def _split(argument: str) -> tuple[Flag, str | None]:
    """The flag, and the value that is written onto it."""
    if argument.startswith("--") and len(argument) > 2:
        name, equals, text = argument[2:].partition("=")
        flag = _BY_NAME.get(name)
        if flag is None:
            raise InvalidParameter(f"unknown flag: --{name}")
        return flag, text if equals else None
    if argument.startswith("-") and len(argument) > 1:
        flag = _BY_SHORT.get(argument[1])
        if flag is None:
            raise InvalidParameter(f"unknown shorthand flag: '{argument[1]}' in {argument}")
        text = argument[2:].removeprefix("=")
        return flag, text or None
    raise InvalidParameter(f'"sampan serve" accepts no arguments: {argument}')


def _store(values: dict[str, Any], flag: Flag, text: str) -> None:
    try:
        value = _READERS[flag.kind](text)
    except (ValueError, InvalidParameter) as error:
        raise InvalidParameter(f'invalid argument "{text}" for "--{flag.name}" flag: {error}') from error
    if flag.key.startswith("proxies."):
        values.setdefault("proxies", {})[flag.key.partition(".")[2]] = value
    elif isinstance(value, list):
        values.setdefault(flag.key, []).extend(value)
    elif isinstance(value, dict):
        for key, item in value.items():
            if isinstance(item, dict) and isinstance(values.get(flag.key, {}).get(key), dict):
                values[flag.key][key].update(item)
            else:
                values.setdefault(flag.key, {})[key] = item
    else:
        values[flag.key] = value


def _read_bool(text: str) -> bool:
    if text.lower() not in _TRUTH:
        raise ValueError(f'strconv.ParseBool: parsing "{text}": invalid syntax')
    return _TRUTH[text.lower()]


def _read_pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise ValueError("it must be key=value")
    return key, value


def _read_pools(text: str) -> list[dict[str, Any]]:
    pool: dict[str, Any] = {}
    for part in text.split(","):
        key, value = _read_pair(part)
        if key not in ("base", "size"):
            raise ValueError(f"unexpected key '{key}' in '{part}'")
        pool[key] = int(value) if key == "size" else value
    return [pool]


def _read_mapmap(text: str) -> dict[str, dict[str, str]]:
    driver, pair = _read_pair(text)
    key, value = _read_pair(pair)
    return {driver: {key: value}}


def _read_ulimits(text: str) -> dict[str, dict[str, Any]]:
    name, limits = _read_pair(text)
    soft, colon, hard = limits.partition(":")
    return {name: {"Name": name, "Soft": int(soft), "Hard": int(hard if colon else soft)}}


_READERS: dict[str, Callable[[str], Any]] = {
    "string": str,
    "bool": _read_bool,
    "int": int,
    "bytes": parse_memory,
    "list": lambda text: [text],
    "map": lambda text: dict([_read_pair(text)]),
    "mapmap": _read_mapmap,
    "pools": _read_pools,
    "features": lambda text: (
        {_read_pair(text)[0]: _read_bool(_read_pair(text)[1])} if "=" in text else {text: True}
    ),
    "ulimits": _read_ulimits,
}


def usage() -> str:
    """What `--help` prints."""
    lines = [
        "",
        "Usage:  sampan serve [OPTIONS]",
        "",
        "The container engine, in the foreground.",
        "",
        "Options:",
    ]
    for flag in sorted(FLAGS + PROGRAM_FLAGS, key=lambda flag: flag.name):
        short = f"-{flag.short}, " if flag.short else "    "
        kind = (
            ""
            if flag.kind == "bool"
            else " " + {"map": "map", "bytes": "bytes", "int": "int"}.get(flag.kind, flag.kind)
        )
        lines.append(f"  {short}--{flag.name + kind:<34} {flag.help}")
    return "\n".join(lines)
