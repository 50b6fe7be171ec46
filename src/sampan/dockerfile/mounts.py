"""`RUN --mount=…`: what is put into a command's file system while it runs, and never stays."""

from __future__ import annotations

import csv
from dataclasses import dataclass, replace

from sampan.dockerfile.nearest import suggestion
from sampan.dockerfile.source import DockerfileError
from sampan.names.booleans import word_for

BIND, CACHE, TMPFS, SECRET, SSH = TYPES = ("bind", "cache", "tmpfs", "secret", "ssh")
SHARED, PRIVATE, LOCKED = SHARINGS = ("shared", "private", "locked")


@dataclass(frozen=True, slots=True)
class Mount:
    """One mount. Empty strings and None where nothing was said; `size` in bytes, `mode` as a number."""

    kind: str = BIND
    source: str = ""
    target: str = ""
    from_: str = ""
    id: str = ""
    sharing: str = ""
    env: str | None = None
    readonly: bool = True
    required: bool = False
    size: int = 0
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None


_SAME = {"src": "source", "dst": "target", "destination": "target", "ro": "readonly", "rw": "readwrite"}
_SWITCHES = ("readonly", "readwrite", "required")
_TAKEN = {
    BIND: {"type", "from", "source", "target", "readonly", "readwrite"},
    CACHE: {
        "type",
        "from",
        "source",
        "target",
        "id",
        "sharing",
        "readonly",
        "readwrite",
        "mode",
        "uid",
        "gid",
    },
    TMPFS: {"type", "target", "size"},
    SECRET: {"type", "id", "source", "target", "required", "mode", "uid", "gid", "env"},
    SSH: {"type", "id", "target", "required", "mode", "uid", "gid"},
}
_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def read_mount(text: str) -> Mount:
    """`type=cache,target=/root/.cache,id=pip` as a `Mount`, variables already replaced. Raises `DockerfileError`."""
    try:
        fields = next(csv.reader([text], strict=True), [])
    except csv.Error as error:
        raise DockerfileError(f"failed to parse csv mounts: {error}") from None
    options = [_option(field) for field in fields]
    kind = next((value for key, value in options if key == "type"), BIND).lower()
    if kind not in TYPES:
        raise DockerfileError(f"unsupported mount type {kind!r}{suggestion(kind, TYPES)}")
    mount = Mount(kind=kind, readonly=kind == BIND)
    for key, value in options:
        if key not in _TAKEN[kind]:
            known = sorted(_TAKEN[kind])
            raise DockerfileError(f"unexpected key '{key}' for mount type '{kind}'{suggestion(key, known)}")
        if key != "type":
            mount = _with(mount, key, value)
    return _checked(mount, text)


def _option(field: str) -> tuple[str, str]:
    key, equals, value = field.partition("=")
    key = key.strip().lower()
    key = _SAME.get(key, key)
    if not equals and key not in _SWITCHES:
        raise DockerfileError(f"invalid field '{field}' must be a key=value pair")
    return key, value if equals else "true"


def _with(mount: Mount, key: str, value: str) -> Mount:
    match key:
        case "from":
            return replace(mount, from_=value)
        case "readonly" | "readwrite":
            return replace(mount, readonly=_boolean(key, value) is (key == "readonly"))
        case "required":
            return replace(mount, required=_boolean(key, value))
        case "size":
            return replace(mount, size=_bytes(value))
        case "mode":
            return replace(mount, mode=_number("mode", value, 8))
        case "uid":
            return replace(mount, uid=_number("uid", value, 10))
        case "gid":
            return replace(mount, gid=_number("gid", value, 10))
        case "sharing":
            if value.lower() not in SHARINGS:
                raise DockerfileError(f"unsupported sharing value {value!r}{suggestion(value, SHARINGS)}")
            return replace(mount, sharing=value.lower())
        case "source":
            return replace(mount, source=value)
        case "target":
            return replace(mount, target=value)
        case "id":
            return replace(mount, id=value)
    return replace(mount, env=value)


def _checked(mount: Mount, text: str) -> Mount:
    if mount.kind in (BIND, CACHE, TMPFS) and not mount.target:
        raise DockerfileError(f"invalid mount, target is required in '{text}'")
    if mount.kind == SECRET and not (mount.id or mount.source or mount.target):
        raise DockerfileError("invalid secret mount. must have one of target, source or id")
    if mount.kind == CACHE and mount.from_ == "" and mount.source not in ("", "/") and not mount.id:
        return replace(mount, id=mount.target)
    return mount


def _boolean(key: str, value: str) -> bool:
    said = word_for(value)
    if said is None:
        raise DockerfileError(f"invalid value for {key}: {value}")
    return said


def _number(key: str, value: str, base: int) -> int:
    if not value.isascii() or not value.isdecimal():
        raise DockerfileError(f"invalid value {value!r} for {key}")
    try:
        number = int(value, base)
    except ValueError:
        raise DockerfileError(f"invalid value {value!r} for {key}") from None
    if number >= 1 << 32:
        raise DockerfileError(f"invalid value {value!r} for {key}: out of range")
    return number


def _bytes(value: str) -> int:
    lowered = value.lower().removesuffix("ib").removesuffix("b")
    digits = lowered.rstrip("kmgt")
    unit = lowered[len(digits) :]
    if not digits.isascii() or not digits.isdecimal() or unit not in _UNITS:
        raise DockerfileError(f"invalid value for size: {value}")
    return int(digits) * _UNITS[unit]
