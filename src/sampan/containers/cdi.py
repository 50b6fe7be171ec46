"""Devices by name: the Container Device Interface (`--device vendor.com/class=name`, `--gpus`).

Vendors put files into the specification directories; each names devices of one kind and what a container needs for them: device
nodes, mounts, environment, hooks, groups. Of two directories the later one counts; a name that one directory has twice
means nothing. (github.com/cncf-tags/container-device-interface/blob/main/SPEC.md)
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from sampan.errors import SystemFailure
from sampan.oci import defaults

if TYPE_CHECKING:
    from sampan.engineapi.container import DeviceRequest
    from sampan.oci import runtime as oci

log = logging.getLogger(__name__)

_KIND = re.compile(r"[A-Za-z][\w.-]*[A-Za-z0-9]/[A-Za-z][\w-]*")
_DEVICE = re.compile(r"[A-Za-z0-9]([\w.:-]*[A-Za-z0-9])?")
_GPU_VENDORS = ("nvidia.com", "amd.com")
_HOOKS = {"prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"}


class CdiDevice(NamedTuple):
    """A device, with the edits of its file that come before its own."""

    name: str
    """`vendor.com/class=name`."""
    file: str
    common: dict[str, Any]
    edits: dict[str, Any]


def load(directories: Iterable[str]) -> dict[str, CdiDevice]:
    """All devices by name. Files that cannot be read are logged and left out. Blocks."""
    found: dict[str, CdiDevice] = {}
    for directory in directories:
        here: dict[str, CdiDevice | None] = {}
        for path in _files(directory):
            try:
                devices = list(_devices(path))
            except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
                log.warning("CDI specification %s: %s", path, error)
                continue
            for device in devices:
                here[device.name] = None if device.name in here else device
        for name, chosen in here.items():
            if chosen is None:
                log.warning("CDI device %s is defined twice in %s", name, directory)
                found.pop(name, None)
            else:
                found[name] = chosen
    return found


def _files(directory: str) -> list[str]:
    try:
        names = sorted(os.listdir(directory))
    except OSError:
        return []
    return [os.path.join(directory, name) for name in names if name.endswith((".json", ".yaml", ".yml"))]


def _devices(path: str) -> Iterable[CdiDevice]:
    with open(path, encoding="utf-8") as file:
        text = file.read()
    if path.endswith(".json"):
        content = json.loads(text)
    else:
        import yaml  # only where a vendor writes it: importing it takes 20 ms

        try:
            content = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ValueError(error) from None
    kind = content["kind"]
    if not _KIND.fullmatch(kind):
        raise ValueError(f"invalid kind {kind!r}")
    for device in content["devices"]:
        name = str(device["name"])
        if not _DEVICE.fullmatch(name):
            raise ValueError(f"invalid device name {name!r}")
        yield CdiDevice(
            f"{kind}={name}", path, content.get("containerEdits") or {}, device.get("containerEdits") or {}
        )


def inject(spec: oci.Spec, requests: Sequence[DeviceRequest], directories: Sequence[str]) -> None:
    """Add what the requested devices need to a container's spec. Blocks.

    Raises `SystemFailure` in dockerd's words for devices and drivers that there are not.
    """
    devices = load(directories)
    seen: set[str] = set()
    for request in requests:
        names = _names(request, devices)
        missing = [name for name in names if name not in devices]
        if missing:
            raise SystemFailure(f"CDI device injection failed: unresolvable CDI devices {', '.join(missing)}")
        for name in names:
            device = devices[name]
            if device.file not in seen:
                seen.add(device.file)
                _apply(spec, device.common)
            _apply(spec, device.edits)


def _names(request: DeviceRequest, devices: Iterable[str]) -> list[str]:
    if request.driver == "cdi":
        if request.count:
            raise SystemFailure("unexpected count in CDI device request")
        if request.options:
            raise SystemFailure("unexpected options in CDI device request")
        return list(request.device_ids or ())
    wanted = request.capabilities or []
    if request.driver or not any("gpu" in group for group in wanted):
        raise SystemFailure(
            f'could not select device driver "{request.driver}" with capabilities: '
            + "[" + " ".join("[" + " ".join(group) + "]" for group in wanted) + "]"
        )  # fmt: skip
    vendors = {name.partition("/")[0] for name in devices}
    vendor = next((vendor for vendor in _GPU_VENDORS if vendor in vendors), None)
    if vendor is None:
        raise SystemFailure("failed to discover GPU vendor from CDI: no known GPU vendor found")
    if request.count and request.device_ids:
        raise SystemFailure("cannot set both Count and DeviceIDs on device request")
    chosen = list(request.device_ids or ())
    if request.count:
        chosen = ["all"] if request.count < 0 else [str(number) for number in range(request.count)]
    return [name if "=" in name else f"{vendor}/gpu={name}" for name in chosen]


def _apply(spec: oci.Spec, edits: dict[str, Any]) -> None:
    process = spec["process"]
    environment = {entry.partition("=")[0]: entry for entry in process.get("env", [])}
    for entry in edits.get("env") or ():
        environment[entry.partition("=")[0]] = entry
    process["env"] = list(environment.values())
    for node in edits.get("deviceNodes") or ():
        _add_node(spec, node)
    for mount in edits.get("mounts") or ():
        _add_mount(spec, mount)
    for hook in edits.get("hooks") or ():
        _add_hook(spec, hook)
    groups = [int(group) for group in edits.get("additionalGids") or () if group]
    if groups:
        known = process["user"].setdefault("additionalGids", [])
        known.extend(group for group in groups if group not in known)


def _add_node(spec: oci.Spec, node: dict[str, Any]) -> None:
    path, source = node["path"], node.get("hostPath") or node["path"]
    device = defaults.device_at(os.path.realpath(source), path)
    if device is None:
        if not node.get("type") or ("major" not in node and node["type"] != "p"):
            raise SystemFailure(
                f'CDI device injection failed: failed to stat CDI host device "{source}": no such file or directory'
            )
        device = {"path": path, "type": node["type"]}
    for key in ("type", "major", "minor", "fileMode", "uid", "gid"):
        if key in node:
            device[key] = node[key]
    linux = spec["linux"]
    nodes = linux.setdefault("devices", [])
    nodes[:] = [each for each in nodes if each["path"] != path] + [device]
    if device["type"] in ("b", "c"):
        linux.setdefault("resources", {}).setdefault("devices", []).append(
            {
                "allow": True,
                "type": device["type"],
                "major": device.get("major", 0),
                "minor": device.get("minor", 0),
                "access": node.get("permissions") or "rwm",
            }
        )


def _add_mount(spec: oci.Spec, mount: dict[str, Any]) -> None:
    options = list(mount.get("options") or ())
    if not any(option in ("bind", "rbind") for option in options) and mount.get("type", "bind") in (
        "",
        "bind",
    ):
        options.insert(0, "rbind")
    added: oci.Mount = {
        "destination": mount["containerPath"],
        "type": mount.get("type") or "bind",
        "source": mount["hostPath"],
        "options": options,
    }
    others = [each for each in spec["mounts"] if each["destination"] != added["destination"]]
    # Parents before children; what is equally deep stays in its order.
    spec["mounts"] = sorted([*others, added], key=lambda each: each["destination"].rstrip("/").count("/"))


def _add_hook(spec: oci.Spec, hook: dict[str, Any]) -> None:
    moment = hook["hookName"]
    if moment not in _HOOKS:
        raise SystemFailure(f'CDI device injection failed: unknown hook name "{moment}"')
    added = {key: hook[key] for key in ("path", "args", "env", "timeout") if hook.get(key)}
    hooks: dict[str, Any] = spec.setdefault("hooks", {})  # type: ignore[assignment]
    hooks.setdefault(moment, []).append(added)
