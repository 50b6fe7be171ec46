"""events and info."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from sampan.cli.command import listing, option, verb
from sampan.cli.formats import VALUE_FORMAT
from sampan.cli.gotemplate import Template
from sampan.cli.values import FILTER, STRING, filters
from sampan.cli.verbs.container_details import moment
from sampan.names.units import bytes_size
from sampan.version import __version__

if TYPE_CHECKING:
    from sampan.cli.session import Session


@verb(
    "[OPTIONS]",
    "Get real time events from the server",
    aliases=("system events", "events"),
    examples="$ sampan events --filter type=container --since 10m",
)
@listing("-f", "--filter", kind=FILTER, help="Filter output based on conditions provided")
@option("--format", kind=STRING, default="", help=VALUE_FORMAT)
@option("--since", kind=STRING, help="Show all events created since timestamp")
@option("--until", kind=STRING, help="Stream events until this timestamp")
def events(
    session: Session,
    args: tuple[str, ...],
    filter: tuple[tuple[str, str], ...],
    format: str,
    since: str | None,
    until: str | None,
) -> None:
    template = None if format in ("", "json", "{{json .}}") else Template(format)
    query = {
        "since": moment(since),
        "until": moment(until),
        "filters": filters(filter) or None,
    }
    response = session.api.request("GET", "/events", query)
    try:
        for event in response.json_stream():
            if template is not None:
                print(template.render(event), flush=True)
            elif format:
                print(json.dumps(event, separators=(",", ":"), ensure_ascii=False), flush=True)
            else:
                print(_line(event), flush=True)
    finally:
        response.close()


def _line(event: dict[str, Any]) -> str:
    """`TIME TYPE ACTION ID (name=value, …)`."""
    nanoseconds = event.get("timeNano") or event["time"] * 10**9
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(nanoseconds // 10**9))
    offset = time.strftime("%z", time.localtime(nanoseconds // 10**9))
    zone = "Z" if offset == "+0000" else f"{offset[:3]}:{offset[3:]}"
    actor = event["Actor"]
    attributes = ", ".join(f"{name}={value}" for name, value in sorted((actor["Attributes"] or {}).items()))
    line = f"{stamp}.{nanoseconds % 10**9:09d}{zone} {event['Type']} {event['Action']} {actor['ID']}"
    return f"{line} ({attributes})" if attributes else line


@verb("[OPTIONS]", "Display system-wide information", aliases=("system info", "info"))
@option("-f", "--format", kind=STRING, default="", help=VALUE_FORMAT)
def info(session: Session, args: tuple[str, ...], format: str) -> None:
    facts = session.call("GET", "/info")
    if format in ("json", "{{json .}}"):
        print(json.dumps(facts, separators=(",", ":"), ensure_ascii=False))
    elif format:
        print(Template(format).render(facts))
    else:
        print(f"Client:\n Version:    {__version__}\n Debug Mode: false\n\nServer:")
        print("\n".join(_info_lines(facts)))
        for warning in facts.get("Warnings") or []:
            session.complain(warning)
        session.failed = False


def _info_lines(facts: dict[str, Any]) -> list[str]:
    lines = [
        f" Containers: {facts['Containers']}",
        f"  Running: {facts['ContainersRunning']}",
        f"  Paused: {facts['ContainersPaused']}",
        f"  Stopped: {facts['ContainersStopped']}",
        f" Images: {facts['Images']}",
        f" Server Version: {facts['ServerVersion']}",
        f" Storage Driver: {facts['Driver']}",
    ]
    lines += [f"  {name}: {value}" for name, value in facts.get("DriverStatus") or []]
    lines += _simple(facts, ("Logging Driver", "LoggingDriver"), ("Cgroup Driver", "CgroupDriver"))
    lines += _simple(facts, ("Cgroup Version", "CgroupVersion"))
    lines.append(" Plugins:")
    for name in ("Volume", "Network", "Authorization", "Log"):
        plugins = (facts.get("Plugins") or {}).get(name)
        lines += [f"  {name}: {' '.join(plugins)}"] if plugins else []
    if directories := facts.get("CDISpecDirs"):
        lines += [" CDI spec directories:", *(f"  {directory}" for directory in directories)]
    lines.append(f" Swarm: {(facts.get('Swarm') or {}).get('LocalNodeState', 'inactive')}")
    lines.append(f" Runtimes: {' '.join(sorted(facts.get('Runtimes') or {}))}")
    lines += _simple(facts, ("Default Runtime", "DefaultRuntime"), ("Init Binary", "InitBinary"))
    for name, key in (("containerd", "ContainerdCommit"), ("runc", "RuncCommit"), ("init", "InitCommit")):
        lines.append(f" {name} version: {(facts.get(key) or {}).get('ID', '')}")
    lines += _security(facts.get("SecurityOptions") or [])
    lines += _simple(facts, ("Kernel Version", "KernelVersion"), ("Operating System", "OperatingSystem"))
    lines += _simple(facts, ("OSType", "OSType"), ("Architecture", "Architecture"), ("CPUs", "NCPU"))
    lines.append(f" Total Memory: {bytes_size(facts.get('MemTotal', 0))}")
    lines += _simple(facts, ("Name", "Name"), ("ID", "ID"), ("Docker Root Dir", "DockerRootDir"))
    lines.append(f" Debug Mode: {_boolean(facts.get('Debug'))}")
    for name, key in (("HTTP Proxy", "HttpProxy"), ("HTTPS Proxy", "HttpsProxy"), ("No Proxy", "NoProxy")):
        lines += [f" {name}: {facts[key]}"] if facts.get(key) else []
    lines += [" Labels:", *(f"  {label}" for label in facts["Labels"])] if facts.get("Labels") else []
    lines.append(f" Experimental: {_boolean(facts.get('ExperimentalBuild'))}")
    return [
        *lines,
        *_registries(facts),
        f" Live Restore Enabled: {_boolean(facts.get('LiveRestoreEnabled'))}",
        "",
    ]


def _registries(facts: dict[str, Any]) -> list[str]:
    configuration = facts.get("RegistryConfig") or {}
    insecure = [
        name for name, index in (configuration.get("IndexConfigs") or {}).items() if not index.get("Secure")
    ]
    names = sorted(insecure) + list(configuration.get("InsecureRegistryCIDRs") or [])
    return [" Insecure Registries:", *(f"  {name}" for name in names)] if names else []


def _security(options: list[str]) -> list[str]:
    lines = [" Security Options:"] if options else []
    for entry in options:
        fields = [field.partition("=") for field in entry.split(",")]
        lines += [f"  {value}" for name, _, value in fields if name == "name"]
        lines += [f"   {name.capitalize()}: {value}" for name, _, value in fields if name != "name"]
    return lines


def _simple(facts: dict[str, Any], *pairs: tuple[str, str]) -> list[str]:
    return [f" {label}: {facts.get(key, '')}" for label, key in pairs]


def _boolean(value: object) -> str:
    return "true" if value else "false"
