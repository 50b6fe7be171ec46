"""`-v` and `--mount`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from sampan.cli.values import read_memory
from sampan.errors import InvalidParameter

if TYPE_CHECKING:
    from collections.abc import Iterable

_FLAGS = {"true": True, "1": True, "": True, "false": False, "0": False}


def split_volumes(specs: Iterable[str]) -> tuple[list[str], dict[str, dict[str, Any]]]:
    """`-v`: (Binds, anonymous Volumes). A source that starts with a dot is relative to the working directory.

    >>> split_volumes(["data:/data:ro", "/cache"])
    (['data:/data:ro'], {'/cache': {}})
    """
    binds: list[str] = []
    anonymous: dict[str, dict[str, Any]] = {}
    for spec in specs:
        source, *rest = _sections(spec)
        if not rest:
            if not spec:
                raise InvalidParameter("invalid empty volume spec")
            anonymous[spec] = {}
            continue
        if not source or not rest[0]:
            raise InvalidParameter(f"invalid spec: {spec}: empty section between colons")
        if len(rest) > 2:
            raise InvalidParameter(f"invalid spec: {spec}: too many colons")
        if source.startswith("."):
            source = os.path.abspath(source)
        binds.append(":".join((source, *rest)))
    return binds, anonymous


def _sections(spec: str) -> list[str]:
    """What colons part. Docker takes a letter and a colon for a drive of Windows, here too."""
    sections = [""]
    for character in spec:
        if character == ":" and not (len(sections[-1]) == 1 and sections[-1].isalpha()):
            sections.append("")
        else:
            sections[-1] += character
    return sections


def parse_mount(spec: str) -> dict[str, Any]:
    """`--mount type=bind,source=/a,target=/b,readonly` as the API's Mount. Raises InvalidParameter."""
    mount: dict[str, Any] = {"Type": "volume"}
    options: dict[str, dict[str, Any]] = {
        "BindOptions": {},
        "VolumeOptions": {},
        "TmpfsOptions": {},
        "ImageOptions": {},
    }
    import csv

    try:
        fields = next(csv.reader([spec], strict=True), [])
    except csv.Error as error:
        raise InvalidParameter(f"invalid mount {spec!r}: {error}") from None
    for field in fields:
        key, separator, value = field.partition("=")
        key = key.lower()
        if not separator and key not in ("readonly", "ro", "volume-nocopy", "bind-nonrecursive"):
            raise InvalidParameter(f"invalid field '{field}' must be a key=value pair")
        _set_field(mount, options, key, value, field)
    _check(mount, options)
    return mount | {name: given for name, given in options.items() if given}


def _set_field(
    mount: dict[str, Any], options: dict[str, dict[str, Any]], key: str, value: str, field: str
) -> None:
    if key == "type":
        mount["Type"] = value.lower()
    elif key in ("source", "src"):
        relative = value.startswith(("./", "../")) or value == "."
        mount["Source"] = os.path.abspath(value) if relative else value
    elif key in ("target", "dst", "destination"):
        mount["Target"] = value
    elif key in ("readonly", "ro"):
        mount["ReadOnly"] = _boolean(key, value)
    elif key == "consistency":
        mount["Consistency"] = value.lower()
    elif key.startswith("bind-"):
        _set_bind(options["BindOptions"], key, value)
    elif key.startswith("volume-"):
        _set_volume(options["VolumeOptions"], key, value)
    elif key == "tmpfs-size":
        options["TmpfsOptions"]["SizeBytes"] = _size(key, value)
    elif key == "tmpfs-mode":
        options["TmpfsOptions"]["Mode"] = _octal(key, value)
    elif key == "image-subpath":
        options["ImageOptions"]["Subpath"] = value
    else:
        raise InvalidParameter(f"unexpected key '{key}' in '{field}'")


def _set_bind(bind: dict[str, Any], key: str, value: str) -> None:
    if key == "bind-propagation":
        bind["Propagation"] = value.lower()
    elif key == "bind-nonrecursive":
        bind["NonRecursive"] = _boolean(key, value)
    elif key == "bind-recursive":
        flags: dict[str, dict[str, bool]] = {
            "enabled": {},
            "disabled": {"NonRecursive": True},
            "writable": {"ReadOnlyNonRecursive": True},
            "readonly": {"ReadOnlyForceRecursive": True},
        }
        if value not in flags:
            raise InvalidParameter(
                f'invalid value for {key}: {value} (must be "enabled", "disabled", "writable", or "readonly")'
            )
        bind.update(flags[value])
    else:
        raise InvalidParameter(f"unexpected key '{key}' in '{key}={value}'")


def _set_volume(volume: dict[str, Any], key: str, value: str) -> None:
    if key == "volume-subpath":
        volume["Subpath"] = value
    elif key == "volume-nocopy":
        volume["NoCopy"] = _boolean(key, value)
    elif key == "volume-label":
        name, _, text = value.partition("=")
        volume.setdefault("Labels", {})[name] = text
    elif key == "volume-driver":
        volume.setdefault("DriverConfig", {})["Name"] = value
    elif key == "volume-opt":
        name, _, text = value.partition("=")
        volume.setdefault("DriverConfig", {}).setdefault("Options", {})[name] = text
    else:
        raise InvalidParameter(f"unexpected key '{key}' in '{key}={value}'")


def _check(mount: dict[str, Any], options: dict[str, dict[str, Any]]) -> None:
    kind = mount["Type"]
    if not mount.get("Target"):
        raise InvalidParameter("target is required")
    for name, allowed in (("VolumeOptions", "volume"), ("BindOptions", "bind"), ("TmpfsOptions", "tmpfs")):
        if options[name] and kind != allowed:
            raise InvalidParameter(f"cannot mix '{allowed}-*' options with mount type '{kind}'")


def _boolean(key: str, value: str) -> bool:
    if value not in _FLAGS:
        raise InvalidParameter(f"invalid value for {key}: {value}")
    return _FLAGS[value]


def _size(key: str, value: str) -> int:
    try:
        return read_memory(value)
    except ValueError:
        raise InvalidParameter(f"invalid value for {key}: {value}") from None


def _octal(key: str, value: str) -> int:
    try:
        return int(value, 8)
    except ValueError:
        raise InvalidParameter(f"invalid value for {key}: {value}") from None
