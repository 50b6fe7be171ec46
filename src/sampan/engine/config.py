"""What an engine can be told: the keys of `daemon.json`, with Docker's names and defaults.

The same struct is filled from the file and from the command line (`sampan.serve`), so a key means one thing everywhere. Keys whose
subject Sampan does not have are kept apart in `ACCEPTED_WITHOUT_EFFECT`: they are read, and said to have no effect.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec


class AddressPool(msgspec.Struct, forbid_unknown_fields=True):
    """A range that subnets for new networks are cut from."""

    base: str
    size: int


class Ulimit(msgspec.Struct, rename={"name": "Name", "hard": "Hard", "soft": "Soft"}):
    """A resource limit of every container's processes."""

    name: str = ""
    hard: int = 0
    soft: int = 0


class RuntimeSpec(msgspec.Struct, rename={"runtime_args": "runtimeArgs", "runtime_type": "runtimeType"}):
    """A further OCI runtime, chosen by name with `docker run --runtime`."""

    path: str = ""
    runtime_args: list[str] = []
    runtime_type: str = ""
    options: dict[str, Any] = {}


class Proxies(msgspec.Struct, rename="kebab", forbid_unknown_fields=True):
    """Proxies of the engine's own requests."""

    http_proxy: str = ""
    https_proxy: str = ""
    no_proxy: str = ""


def default_data_root() -> str:
    """Persistent state: system-wide for root, else below `$XDG_DATA_HOME`."""
    if os.geteuid() == 0:
        return "/var/lib/sampan"
    return str(Path(os.environ.get("XDG_DATA_HOME") or "~/.local/share").expanduser() / "sampan")


def default_exec_root() -> str:
    """Run-time files: `/run/sampan` for root, else below `$XDG_RUNTIME_DIR`."""
    if os.geteuid() == 0:
        return "/run/sampan"
    return str(Path(os.environ.get("XDG_RUNTIME_DIR") or f"/tmp/sampan-{os.geteuid()}") / "sampan")


class EngineConfig(msgspec.Struct, rename="kebab", forbid_unknown_fields=True, kw_only=True):
    """Everything an engine is configured with. Sizes are bytes, times seconds."""

    # where things are
    data_root: str = msgspec.field(default_factory=default_data_root)
    exec_root: str = msgspec.field(default_factory=default_exec_root)
    pidfile: str = ""
    hosts: list[str] = []
    group: str = "docker"
    storage_driver: str = ""
    storage_opts: list[str] = []

    # how it talks
    debug: bool = False
    log_level: str = "info"
    log_format: str = "text"
    raw_logs: bool = False
    tls: bool | None = None
    tlsverify: bool | None = None
    tlscacert: str = ""
    tlscert: str = ""
    tlskey: str = ""
    labels: list[str] = []
    experimental: bool = False
    features: dict[str, bool] = {}
    metrics_addr: str = ""

    # containers
    add_runtimes: list[str] = msgspec.field(name="add-runtime", default_factory=list)
    runtimes: dict[str, RuntimeSpec] = {}
    default_runtime: str = "runc"
    cgroup_parent: str = ""
    default_cgroupns_mode: str = ""
    default_ipc_mode: str = "private"
    default_shm_size: int = 64 * 1024 * 1024
    default_stop_timeout: int = 10
    default_ulimits: dict[str, Ulimit] = {}
    exec_opts: list[str] = []
    init: bool = False
    init_path: str = ""
    live_restore: bool = False
    no_new_privileges: bool = False
    seccomp_profile: str = ""
    selinux_enabled: bool = False
    shutdown_timeout: int = 15
    userns_remap: str = ""
    log_driver: str = "json-file"
    log_opts: dict[str, str] = {}

    # networks
    bridge: str = ""
    bip: str = ""
    bip6: str = ""
    fixed_cidr: str = ""
    fixed_cidr_v6: str = ""
    default_gateway: str = ""
    default_gateway_v6: str = ""
    default_address_pools: list[AddressPool] = []
    default_network_opts: dict[str, dict[str, str]] = {}
    dns: list[str] = []
    dns_opts: list[str] = []
    dns_search: list[str] = []
    firewall_backend: str = ""
    host_gateway_ips: list[str] = []
    icc: bool = True
    ip: str = "0.0.0.0"
    ip_forward: bool = True
    ip_forward_no_drop: bool = False
    ip_masq: bool = True
    iptables: bool = True
    ip6tables: bool = True
    ipv6: bool = False
    mtu: int = 1500
    allow_direct_routing: bool = False
    bridge_accept_fwmark: str = ""
    userland_proxy: bool = True
    userland_proxy_path: str = ""

    # registries
    registry_mirrors: list[str] = []
    insecure_registries: list[str] = []
    signature_policy: str = ""
    max_concurrent_downloads: int = 3
    max_concurrent_uploads: int = 5
    max_download_attempts: int = 5
    proxies: Proxies = msgspec.field(default_factory=Proxies)

    # subjects of others
    authorization_plugins: list[str] = []
    cdi_spec_dirs: list[str] = []
    containerd: str = ""
    containerd_namespace: str = ""
    containerd_plugins_namespace: str = ""
    cri_containerd: bool = False
    cpu_rt_period: int = 0
    cpu_rt_runtime: int = 0
    network_control_plane_mtu: int = 1500
    node_generic_resources: list[str] = []
    nri_opts: dict[str, Any] = {}
    rootless: bool = False
    swarm_default_advertise_addr: str = ""
    builder: dict[str, Any] = {}
    network_diagnostic_port: int = 0

    @property
    def data_path(self) -> Path:
        """`data_root` as a path."""
        return Path(self.data_root)

    @property
    def exec_path(self) -> Path:
        """`exec_root` as a path."""
        return Path(self.exec_root)


RELOADABLE = frozenset(
    {
        "debug",
        "default-cgroupns-mode",
        "default-ipc-mode",
        "default-runtime",
        "default-shm-size",
        "default-stop-timeout",
        "insecure-registries",
        "labels",
        "live-restore",
        "registry-mirrors",
        "runtimes",
        "shutdown-timeout",
    }
)
"""Keys that SIGHUP takes over when the file holds them, as dockerd does; the others wait for the next start."""

ALWAYS_RELOADED = frozenset(
    {"features", "max-concurrent-downloads", "max-concurrent-uploads", "max-download-attempts"}
)
"""Keys that SIGHUP sets back to their defaults when the file does not hold them."""

ACCEPTED_WITHOUT_EFFECT: dict[str, str] = {
    "authorization-plugins": "plugins are not there yet",
    "builder": "what builds keep is tidied by rules of its own",
    "containerd": "Sampan has its own content store and shims",
    "containerd-namespace": "Sampan has its own content store and shims",
    "containerd-plugins-namespace": "Sampan has its own content store and shims",
    "cpu-rt-period": "real-time budgets are set on the containers (--cpu-rt-period)",
    "cpu-rt-runtime": "real-time budgets are set on the containers (--cpu-rt-runtime)",
    "cri-containerd": "Kubernetes' CRI is not there yet",
    "init-path": "process 1 of --init is Sampan's own, except with another OCI runtime",
    "metrics-addr": "metrics are not there yet",
    "network-control-plane-mtu": "Swarm is not there yet",
    "network-diagnostic-port": "the network diagnostic server is not there",
    "node-generic-resources": "Swarm is not there yet",
    "nri-opts": "NRI is not there",
    "rootless": "an ordinary user's engine is not there yet",
    "selinux-enabled": "SELinux is not there yet",
    "storage-opts": "no storage driver has options yet",
    "swarm-default-advertise-addr": "Swarm is not there yet",
    "userland-proxy-path": "published ports are the kernel's, no proxy program runs",
}
"""Keys that are read and have no effect, each with the reason that the warning gives."""


_CDI_DIRECTORIES = ("/etc/cdi", "/var/run/cdi")


def cdi_directories(config: EngineConfig) -> list[str]:
    """Where vendors' device specifications are looked for; nowhere without the feature."""
    if config.features.get("cdi") is False:
        return []
    return list(config.cdi_spec_dirs or _CDI_DIRECTORIES)


def exposure(config: EngineConfig) -> Iterator[str]:
    """A warning for each TCP address on which whoever reaches the API is root on this machine."""
    for host in config.hosts:
        scheme, _, address = host.partition("://")
        if scheme != "tcp" or config.tlsverify:
            continue
        how = (
            f"https://{address} without TLS client verification"
            if config.tls
            else f"http://{address} without encryption"
        )
        yield (
            f"[DEPRECATION NOTICE]: API is accessible on {how}: whoever reaches it is root on this machine."
            " Listen with --tlsverify, or on a unix socket."
        )


def without_effect(config: EngineConfig) -> Iterator[str]:
    """One warning for each thing that was asked for and that this engine does not have."""
    defaults = EngineConfig()
    for key, reason in ACCEPTED_WITHOUT_EFFECT.items():
        name = key.replace("-", "_")
        if getattr(config, name) != getattr(defaults, name):
            yield f"{key} is accepted and has no effect: {reason}"
    if "native.cgroupdriver=systemd" in (option.replace(" ", "").lower() for option in config.exec_opts):
        yield "exec-opts native.cgroupdriver=systemd is accepted and has no effect: cgroups are made through cgroupfs"
    if config.firewall_backend == "iptables":
        yield "firewall-backend iptables is accepted and has no effect: rules are always nftables"
    if config.features.get("containerd-snapshotter") is False:
        yield "features containerd-snapshotter=false is accepted and has no effect: images are always kept as containerd does"


NATIVE_RUNTIMES = ("runc", "io.containerd.runc.v2")
"""Names of Sampan's own OCI runtime; they are Docker's, because scripts and Compose files say them."""


def without_credentials(url: str) -> str:
    """A proxy's URL as a log, or `docker info`, may show it."""
    scheme, separator, rest = url.partition("://")
    place, slash, path = rest.partition("/")
    if not separator or "@" not in place:
        return url
    return f"{scheme}://xxxxx:xxxxx@{place.rpartition('@')[2]}{slash}{path}"
