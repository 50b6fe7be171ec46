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
_KEYS = (
    *(
        "type",
        "from",
        "source",
        "target",
        "readonly",
        "id",
        "sharing",
        "required",
        "size",
        "mode",
        "uid",
        "gid",
    ),
    *(*_SAME, "readwrite", "env"),
)
_OF_SOME = {"required": (SECRET, SSH), "size": (TMPFS,)}
"""Keys that are unknown to the other kinds."""
_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def read_mount(text: str) -> Mount:
    """`type=cache,target=/root/.cache,id=pip` as a `Mount`, variables already replaced. Raises `DockerfileError`."""
    mount = Mount()
    said: set[str] = set()
    for field in _fields(text):
        key, value = _option(field)
        if key not in _KEYS:
            raise DockerfileError(f"unexpected key '{key}' in '{field}'{suggestion(key, _KEYS)}")
        key = _SAME.get(key, key)
        if mount.kind not in _OF_SOME.get(key, TYPES):
            raise DockerfileError(f"unexpected key '{key}' for mount type '{mount.kind}'")
        said.add(key)
        mount = _with(mount, key, value)
    if not said & {"readonly", "readwrite"}:
        mount = replace(mount, readonly=mount.kind not in (CACHE, TMPFS))
    return _checked(mount)


def origin_of(text: str) -> str:
    """What a mount's `from=` names, "" for nothing. Raises `DockerfileError` for a variable: stages are told apart first."""
    found = ""
    for field in _fields(text):
        key, _, value = field.partition("=")
        if key.lower() == "from":
            if "$" in value[:-1]:
                raise DockerfileError("'from' doesn't support variable expansion, define alias stage instead")
            found = value
    return found


def _fields(text: str) -> list[str]:
    try:
        return next(csv.reader([text], strict=True), [])
    except csv.Error as error:
        raise DockerfileError(f"failed to parse csv mounts: {error}") from None


def _option(field: str) -> tuple[str, str]:
    key, equals, value = field.partition("=")
    key = key.lower()
    if not equals and _SAME.get(key, key) not in _SWITCHES:
        raise DockerfileError(f"invalid field '{field}' must be a key=value pair")
    return key, value if equals else "true"


def _with(mount: Mount, key: str, value: str) -> Mount:
    match key:
        case "type":
            if value.lower() not in TYPES:
                raise DockerfileError(f'unsupported mount type "{value}"{suggestion(value, TYPES)}')
            return replace(mount, kind=value.lower())
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
                raise DockerfileError(f'unsupported sharing value "{value}"{suggestion(value, SHARINGS)}')
            return replace(mount, sharing=value.lower())
        case "source":
            return replace(mount, source=value)
        case "target":
            return replace(mount, target=value)
        case "id":
            return replace(mount, id=value)
    return replace(mount, env=value)


def _checked(mount: Mount) -> Mount:
    if mount.kind in (BIND, TMPFS):
        for name in ("mode", "uid", "gid"):
            if getattr(mount, name) is not None:
                raise DockerfileError(f'{name} not allowed for "{mount.kind}" type mounts')
    if mount.kind == SECRET:
        if mount.from_:
            raise DockerfileError("secret mount should not have a from")
        if mount.sharing:
            raise DockerfileError("secret mount should not define sharing")
        if not (mount.id or mount.source or mount.target):
            raise DockerfileError("invalid secret mount. one of source, target required")
        if mount.source and mount.id:
            raise DockerfileError("both source and id can't be set")
    if mount.sharing and mount.kind != CACHE:
        raise DockerfileError(f"invalid cache sharing set for {mount.kind} mount")
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
        raise DockerfileError(f"invalid value {value} for {key}")
    try:
        number = int(value, base)
    except ValueError:
        raise DockerfileError(f"invalid value {value} for {key}") from None
    if number >= 1 << 32:
        raise DockerfileError(f"invalid value {value} for {key}")
    return number


def _bytes(value: str) -> int:
    lowered = value.lower().removesuffix("ib").removesuffix("b")
    digits = lowered.rstrip("kmgt")
    unit = lowered[len(digits) :]
    if not digits.isascii() or not digits.isdecimal() or unit not in _UNITS:
        raise DockerfileError(f"invalid value for size: {value}")
    return int(digits) * _UNITS[unit]
