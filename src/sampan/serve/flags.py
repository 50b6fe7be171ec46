"""dockerd's command line.

Each flag sets one key of `EngineConfig`; the table below says which, and how its text becomes a value. The syntax is that of
Docker's programs: `--flag=value` or `--flag value`, `--flag` alone only for booleans, `-H x` or `-H=x`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from sampan.errors import InvalidParameter
from sampan.serve.values import READERS


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
    Flag("default-gateway", "default-gateway", "ip", "Default gateway IPv4 address for the default bridge"),
    Flag(
        "default-gateway-v6",
        "default-gateway-v6",
        "ip",
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
    Flag("dns", "dns", "addresses", "DNS server to use"),
    Flag("dns-opt", "dns-opts", "list", "DNS options to use"),
    Flag("dns-search", "dns-search", "domains", "DNS search domains to use"),
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
        "host-gateway-ip",
        "host-gateway-ips",
        "addresses",
        "Addresses that host-gateway in --add-host resolves to",
    ),
    Flag("http-proxy", "proxies.http-proxy", "string", "HTTP proxy URL to use for outgoing traffic"),
    Flag("https-proxy", "proxies.https-proxy", "string", "HTTPS proxy URL to use for outgoing traffic"),
    Flag("icc", "icc", "bool", "Enable inter-container communication for the default bridge (true)"),
    Flag("init", "init", "bool", "Run an init in the container to forward signals and reap processes"),
    Flag("init-path", "init-path", "string", "Path to the init binary"),
    Flag("insecure-registry", "insecure-registries", "registries", "Enable insecure registry communication"),
    Flag("ip", "ip", "ip", "Host IP for port publishing from the default bridge (0.0.0.0)"),
    Flag("ip-forward", "ip-forward", "bool", "Enable IP forwarding in system configuration (true)"),
    Flag("ip-forward-no-drop", "ip-forward-no-drop", "bool", "Do not set the FORWARD policy to DROP"),
    Flag("ip-masq", "ip-masq", "bool", "Enable IP masquerading for the default bridge network (true)"),
    Flag("ip6tables", "ip6tables", "bool", "Enable addition of IPv6 firewall rules (true)"),
    Flag("iptables", "iptables", "bool", "Enable addition of firewall rules (true)"),
    Flag("ipv6", "ipv6", "bool", "Enable IPv6 networking for the default bridge network"),
    Flag("label", "labels", "labels", "Set key=value labels to the engine"),
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
    Flag("nri-opts", "nri-opts", "nri", "Node Resource Interface configuration"),
    Flag("pidfile", "pidfile", "string", "Path to use for the engine's PID file", "p"),
    Flag("raw-logs", "raw-logs", "bool", "Full timestamps without ANSI coloring"),
    Flag("registry-mirror", "registry-mirrors", "mirrors", "Preferred registry mirror"),
    Flag("rootless", "rootless", "bool", "Enable rootless mode"),
    Flag("seccomp-profile", "seccomp-profile", "string", "Path to seccomp profile, or unconfined (builtin)"),
    Flag("selinux-enabled", "selinux-enabled", "bool", "Enable selinux support"),
    Flag("shutdown-timeout", "shutdown-timeout", "int", "Set the default shutdown timeout (15)"),
    Flag(
        "signature-policy",
        "signature-policy",
        "string",
        "Trust policy (containers-policy.json) that pulls and loads obey",
    ),
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

KINDS = {flag.key: flag.kind for flag in FLAGS}
"""What a key of daemon.json holds, by its flag."""

_BY_NAME = {flag.name: flag for flag in FLAGS + PROGRAM_FLAGS}
_BY_SHORT = {flag.short: flag for flag in FLAGS + PROGRAM_FLAGS if flag.short}


def parse(arguments: list[str]) -> dict[str, Any]:
    """Keys and values of the flags given, in the form that daemon.json has them.

    Raises `InvalidParameter` for an unknown flag, a missing or a malformed value.
    """
    values: dict[str, Any] = {}
    rest = iter(arguments)
    for argument in rest:
        for flag, text in _split(argument):
            if text is None:
                text = "true" if flag.kind == "bool" else next(rest, None)
            if text is None:
                where = f"--{flag.name}" if argument.startswith("--") else f"'{flag.short}' in {argument}"
                raise InvalidParameter(f"flag needs an argument: {where}")
            _store(values, flag, text)
    return values


def _split(argument: str) -> Iterator[tuple[Flag, str | None]]:
    """The flags of one word, each with the value that is written onto it: `--name=value`, or `-Dlinfo`."""
    if argument.startswith("--") and len(argument) > 2:
        name, equals, text = argument[2:].partition("=")
        if name not in _BY_NAME:
            raise InvalidParameter(f"unknown flag: --{name}")
        yield _BY_NAME[name], text if equals else None
        return
    if not argument.startswith("-") or argument in ("-", "--"):
        raise InvalidParameter('"sampan serve" accepts no argument(s).')
    letters = argument[1:]
    while letters:
        flag = _BY_SHORT.get(letters[0])
        if flag is None:
            raise InvalidParameter(f"unknown shorthand flag: '{letters[0]}' in {argument}")
        rest = letters[1:]
        if flag.kind == "bool" and not rest.startswith("="):
            yield flag, None
            letters = rest
        else:
            yield flag, rest.removeprefix("=") or None
            return


def _store(values: dict[str, Any], flag: Flag, text: str) -> None:
    try:
        value = READERS[flag.kind](text)
    except (ValueError, InvalidParameter) as error:
        name = f"-{flag.short}, --{flag.name}" if flag.short else f"--{flag.name}"
        raise InvalidParameter(f'invalid argument "{text}" for "{name}" flag: {error}') from error
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


_SHOWN_KINDS = {
    **dict.fromkeys(("addresses", "labels", "domains", "mirrors", "registries"), "list"),
    "features": "map",
    "nri": "nri-opts",
    "pools": "pool-options",
    "ulimits": "ulimit",
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
        kind = "" if flag.kind == "bool" else " " + _SHOWN_KINDS.get(flag.kind, flag.kind)
        lines.append(f"  {short}--{flag.name + kind:<34} {flag.help}")
    return "\n".join(lines)
