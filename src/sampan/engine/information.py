"""What the engine says about itself and its machine: version, info, disk usage."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import platform
import socket
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import UNSET, UnsetType

from sampan.containers import apparmor, cdi
from sampan.containers.host import HostFeatures, host_features
from sampan.containers.log_options import DRIVERS
from sampan.engine.config import cdi_directories, exposure, without_credentials
from sampan.engineapi.system import (
    Commit,
    Component,
    DeviceInfo,
    FirewallInfo,
    IndexInfo,
    PlatformName,
    PluginsInfo,
    RegistryConfig,
    RuntimeInfo,
    SwarmInfo,
    SystemInfo,
    Version,
)
from sampan.engineapi.version import API_VERSION, MINIMUM_API_VERSION
from sampan.names.platform import local
from sampan.version import __version__

if TYPE_CHECKING:
    from sampan.engine.config import EngineConfig
    from sampan.engine.engine import Engine


class Information:
    """Answers for one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def version(self) -> Version:
        """`docker version`'s server half."""
        machine = local().architecture
        api = "{}.{}".format(*API_VERSION)
        minimum = "{}.{}".format(*MINIMUM_API_VERSION)
        python = "python" + platform.python_version()
        details = {
            "ApiVersion": api,
            "Arch": machine,
            "BuildTime": "",
            "Experimental": str(self._engine.config.experimental).lower(),
            "GitCommit": "",
            "GoVersion": python,
            "KernelVersion": os.uname().release,
            "MinAPIVersion": minimum,
            "Os": "linux",
        }
        return Version(
            platform=PlatformName("Sampan"),
            components=[Component("Engine", __version__, details)],
            version=__version__,
            api_version=api,
            min_api_version=minimum,
            git_commit="",
            go_version=python,
            os="linux",
            arch=machine,
            kernel_version=os.uname().release,
            build_time="",
        )

    async def info(self) -> SystemInfo:
        """`docker info`'s server half."""
        engine, config = self._engine, self._engine.config
        counts = engine.containers.counts()
        features = host_features()
        return SystemInfo(
            id=engine.id,
            containers=sum(counts.values()),
            containers_running=counts["running"],
            containers_paused=counts["paused"],
            containers_stopped=counts["stopped"],
            images=await engine.images.count(),
            driver=engine.snapshots.name,
            driver_status=[["driver-type", "io.containerd.snapshotter.v1"]],
            plugins=PluginsInfo(
                ["local"],
                ["bridge", "host", "ipvlan", "macvlan", "null"],
                None,
                list(DRIVERS),
            ),
            memory_limit=features.memory,
            swap_limit=features.swap,
            cpu_cfs_period=features.cpu_cfs,
            cpu_cfs_quota=features.cpu_cfs,
            cpu_shares=features.cpu_shares,
            cpu_set=features.cpuset,
            pids_limit=features.pids,
            ipv4_forwarding=_read("/proc/sys/net/ipv4/ip_forward") == "1",
            debug=config.debug,
            n_fd=len(os.listdir("/proc/self/fd")),
            oom_kill_disable=features.oom_kill_disable,
            n_goroutines=engine.task_count(),
            system_time=datetime.now(UTC).isoformat().replace("+00:00", "Z"),
            logging_driver=config.log_driver,
            cgroup_driver="cgroupfs",
            cgroup_version="2" if features.unified else "1",
            n_events_listener=engine.events.subscribers,
            kernel_version=os.uname().release,
            operating_system=operating_system(),
            os_version=_os_release().get("VERSION_ID", ""),
            os_type="linux",
            architecture=os.uname().machine,
            index_server_address="https://index.docker.io/v1/",
            registry_config=self._registries(),
            ncpu=len(os.sched_getaffinity(0)),
            mem_total=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
            docker_root_dir=config.data_root,
            http_proxy=without_credentials(config.proxies.http_proxy),
            https_proxy=without_credentials(config.proxies.https_proxy),
            no_proxy=config.proxies.no_proxy,
            name=socket.gethostname(),
            labels=config.labels,
            experimental_build=config.experimental,
            server_version=__version__,
            runtimes={
                "runc": RuntimeInfo("sampan-runtime"),
                "io.containerd.runc.v2": RuntimeInfo("sampan-runtime"),
            }
            | {
                name: RuntimeInfo(runtime.path, runtime.runtime_args or None)
                for name, runtime in config.runtimes.items()
            },
            default_runtime=config.default_runtime,
            swarm=SwarmInfo(),
            live_restore_enabled=config.live_restore,
            init_binary="sampan-init",
            containerd_commit=Commit(""),
            runc_commit=Commit(__version__),
            init_commit=Commit(__version__),
            security_options=_security_options(
                config, v2=features.unified, remapped=engine.remapping is not None
            ),
            firewall_backend=FirewallInfo("nftables"),
            cdi_spec_dirs=cdi_directories(config),
            discovered_devices=await asyncio.to_thread(_discovered, cdi_directories(config)),
            warnings=[*exposure(engine.config), *_warnings(features)] or None,
        )

    def _registries(self) -> RegistryConfig:
        config = self._engine.config
        mirrors = config.registry_mirrors
        ranges = [text for text in config.insecure_registries if _is_range(text)]
        hosts = [text for text in config.insecure_registries if text not in ranges]
        return RegistryConfig(
            insecure_registry_cidrs=sorted({"::1/128", "127.0.0.0/8", *ranges}),
            index_configs={"docker.io": IndexInfo("docker.io", mirrors, True, True)}
            | {name: IndexInfo(name, [], False, False) for name in hosts},
            mirrors=mirrors,
        )


def _is_range(text: str) -> bool:
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return "/" in text


def operating_system() -> str:
    """The distribution's own name for itself."""
    return _os_release().get("PRETTY_NAME", sys.platform)


def _os_release() -> dict[str, str]:
    for path in ("/etc/os-release", "/usr/lib/os-release"):
        text = _read(path)
        if text:
            pairs = (line.partition("=") for line in text.splitlines() if "=" in line)
            return {key: value.strip().strip('"') for key, _, value in pairs}
    return {}


def _security_options(config: EngineConfig, *, v2: bool, remapped: bool) -> list[str]:
    options = []
    if apparmor.confines():
        options.append("name=apparmor")
    options.append(f"name=seccomp,profile={config.seccomp_profile or 'builtin'}")
    if remapped:
        options.append("name=userns")
    if config.no_new_privileges:
        options.append("name=no-new-privileges")
    if (config.default_cgroupns_mode or ("private" if v2 else "host")) == "private":
        options.append("name=cgroupns")
    return options


def _warnings(features: HostFeatures) -> list[str]:
    """What this kernel cannot limit, in dockerd's words."""
    missing = [
        (features.memory, "WARNING: No memory limit support"),
        (features.swap, "WARNING: No swap limit support"),
        (features.pids, "WARNING: No pids limit support"),
        (features.cpu_shares, "WARNING: No cpu shares support"),
        (features.cpu_cfs, "WARNING: No cpu cfs quota support"),
        (features.cpuset, "WARNING: No cpuset support"),
    ]
    return [text for present, text in missing if not present]


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _discovered(directories: list[str]) -> list[DeviceInfo] | UnsetType:
    """Members without a value are left out, as dockerd does."""
    return [DeviceInfo("cdi", name) for name in sorted(cdi.load(directories))] or UNSET
