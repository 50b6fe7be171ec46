"""What the user said about mounts, in each of the ways there are, as one kind of record.

`-v`/`Binds` (`source:destination[:mode]`), `--mount`/`Mounts`, `--tmpfs`, `--volumes-from` and the image's `VOLUME`.
This module parses and refuses; `mounts` makes volumes and directories of it.
"""

from __future__ import annotations

import posixpath

from sampan.containers.record import MountRecord
from sampan.engineapi.container import Mount
from sampan.errors import InvalidParameter

_PROPAGATION = frozenset({"private", "rprivate", "slave", "rslave", "shared", "rshared"})
_CONSISTENCY = frozenset({"consistent", "cached", "delegated"})
_TMPFS_FLAGS = frozenset(
    (  # noqa: SIM905
        "ro rw suid nosuid dev nodev exec noexec sync async dirsync remount mand nomand atime "
        "noatime diratime nodiratime relatime norelatime strictatime nostrictatime bind rbind "
        "unbindable runbindable private rprivate shared rshared slave rslave defaults"
    ).split()
)
_TMPFS_VALUES = frozenset(
    (  # noqa: SIM905
        "size mode uid gid nr_inodes nr_blocks mpol huge"
    ).split()
)


def parse_bind(text: str, volume_driver: str = "") -> MountRecord:
    """One `-v`. Raises `InvalidParameter("invalid volume specification: 'x'")` with what is wrong about it."""
    parts = text.split(":")
    if not 2 <= len(parts) <= 3 or not parts[0]:
        if len(parts) == 1 and parts[0]:
            parts = ["", parts[0]]
        else:
            raise InvalidParameter(f"invalid volume specification: '{text}'")
    source, destination, mode = parts[0], parts[1], parts[2] if len(parts) == 3 else ""
    if not destination:
        raise InvalidParameter(f"invalid volume specification: '{text}'")
    is_bind = source.startswith("/")
    kind = "bind" if is_bind else "volume"
    words = _mode_words(mode)
    try:
        _refuse_foreign_words(words, kind)
        target = check_target(destination, kind)
    except InvalidParameter as error:
        raise InvalidParameter(f"invalid volume specification: '{text}': {error}") from None
    propagation = next((word for word in words if word in _PROPAGATION), "")
    return MountRecord(
        type="bind" if is_bind else "volume",
        destination=target,
        source=posixpath.normpath(source) if is_bind else "",
        name="" if is_bind else source,
        driver="" if is_bind else volume_driver,
        mode=mode,
        read_only="ro" in words,
        propagation=(propagation or "rprivate") if is_bind else "",
        no_copy="nocopy" in words,
        create_source=is_bind,
    )


def _refuse_foreign_words(words: set[str], kind: str) -> None:
    foreign = "VolumeOptions" if kind == "bind" and "nocopy" in words else ""
    if kind == "volume" and words & _PROPAGATION:
        foreign = "BindOptions"
    if foreign:
        raise InvalidParameter(
            f'invalid mount config for type "{kind}": field {foreign} must not be specified'
        )


def _mode_words(mode: str) -> set[str]:
    words: set[str] = set()
    groups: set[str] = set()
    for word in filter(None, mode.split(",")):
        if word in ("ro", "rw"):
            group = "access"
        elif word in ("z", "Z"):
            group = "label"
        elif word == "nocopy":
            group = "copy"
        elif word in _PROPAGATION:
            group = "propagation"
        elif word in _CONSISTENCY:
            group = "consistency"
        else:
            raise InvalidParameter(f"invalid mode: {mode}")
        if group in groups:
            raise InvalidParameter(f"invalid mode: {mode}")
        groups.add(group)
        words.add(word)
    return words


def check_target(destination: str, kind: str = "") -> str:
    """The clean destination. Raises `InvalidParameter` when it is relative or the root itself; `kind` is for its words."""
    prefix = f'invalid mount config for type "{kind}": ' if kind else ""
    if not destination:
        raise InvalidParameter(prefix + "field Target must not be empty")
    clean = posixpath.normpath(destination)
    if not clean.startswith("/"):
        raise InvalidParameter(f"{prefix}invalid mount path: '{destination}' mount path must be absolute")
    clean = "/" + clean.lstrip("/")
    if clean == "/":
        raise InvalidParameter(prefix + "invalid specification: destination can't be '/'")
    return clean


def parse_mount(mount: Mount) -> MountRecord:
    """One `--mount`. Raises `InvalidParameter('invalid mount config for type "bind": …')`."""
    prefix = f'invalid mount config for type "{mount.type}": '
    if not mount.target:
        raise InvalidParameter(prefix + "field Target must not be empty")
    if mount.type not in ("bind", "volume", "tmpfs", "image"):
        raise InvalidParameter(prefix + "mount type unknown")
    target = check_target(mount.target, mount.type)
    _refuse_foreign_options(mount, prefix)
    match mount.type:
        case "bind":
            return _bind_mount(mount, target, prefix)
        case "volume":
            return _volume_mount(mount, target, prefix)
        case "tmpfs":
            if mount.source:
                raise InvalidParameter(prefix + "field Source must not be specified")
            return MountRecord(
                type="tmpfs",
                destination=target,
                read_only=mount.read_only,
                options=_tmpfs_mount_options(mount),
                from_spec=True,
            )
        case _:
            if not mount.source:
                raise InvalidParameter(prefix + "field Source must not be empty")
            subpath = mount.image_options.subpath if mount.image_options else ""
            return MountRecord(
                type="image",
                destination=target,
                source=mount.source,
                read_only=True,
                propagation="rprivate",
                subpath=_check_subpath(subpath, prefix),
                from_spec=True,
            )


def _refuse_foreign_options(mount: Mount, prefix: str) -> None:
    if mount.bind_options is not None and mount.type != "bind":
        raise InvalidParameter(f'BindOptions must not be specified on mount type "{mount.type}"')
    for kind, options, name in (
        ("volume", mount.volume_options, "VolumeOptions"),
        ("tmpfs", mount.tmpfs_options, "TmpfsOptions"),
        ("image", mount.image_options, "ImageOptions"),
    ):
        if options is not None and kind != mount.type:
            raise InvalidParameter(f'{name} must not be specified on mount type "{mount.type}"')


def _bind_mount(mount: Mount, target: str, prefix: str) -> MountRecord:
    if not mount.source:
        raise InvalidParameter(prefix + "field Source must not be empty")
    if not mount.source.startswith("/"):
        raise InvalidParameter(f"{prefix}invalid mount path: '{mount.source}' mount path must be absolute")
    options = mount.bind_options
    propagation = options.propagation if options else ""
    if propagation and propagation not in _PROPAGATION:
        raise InvalidParameter(f"{prefix}invalid propagation mode: {propagation}")
    recursive = not (options and options.non_recursive)
    if options and options.read_only_non_recursive and not mount.read_only:
        raise InvalidParameter(prefix + "mount must be read-only to use ReadOnlyNonRecursive")
    if options and options.read_only_force_recursive:
        if not mount.read_only:
            raise InvalidParameter(prefix + "mount must be read-only to use ReadOnlyForceRecursive")
        if options.read_only_non_recursive or not recursive:
            raise InvalidParameter(prefix + "conflicting options: ReadOnlyForceRecursive and non-recursive")
        if propagation not in ("", "rprivate"):
            raise InvalidParameter(prefix + "ReadOnlyForceRecursive needs the propagation rprivate")
    return MountRecord(
        type="bind",
        destination=target,
        source=posixpath.normpath(mount.source),
        read_only=mount.read_only,
        propagation=propagation or "rprivate",
        recursive=recursive,
        read_only_recursive=(
            "force"
            if options and options.read_only_force_recursive
            else "no"
            if options and options.read_only_non_recursive
            else ""
        ),
        create_source=bool(options and options.create_mountpoint),
        from_spec=True,
    )


def _volume_mount(mount: Mount, target: str, prefix: str) -> MountRecord:
    options = mount.volume_options
    if not mount.source and mount.read_only:
        raise InvalidParameter(prefix + "must not set ReadOnly mode when using anonymous volumes")
    subpath = _check_subpath(options.subpath if options else "", prefix)
    if not mount.source and subpath:
        raise InvalidParameter(prefix + "must not set Subpath when using anonymous volumes")
    return MountRecord(
        type="volume",
        destination=target,
        name=mount.source,
        driver=options.driver_config.name if options and options.driver_config else "",
        read_only=mount.read_only,
        no_copy=bool(options and options.no_copy),
        subpath=subpath,
        from_spec=True,
    )


def _check_subpath(subpath: str, prefix: str) -> str:
    if subpath and (subpath.startswith("/") or ".." in subpath.split("/")):
        raise InvalidParameter(f"{prefix}subpath must be a relative path within the volume")
    return subpath


def _tmpfs_mount_options(mount: Mount) -> list[str]:
    options: list[str] = []
    if mount.tmpfs_options is None:
        return options
    if mount.tmpfs_options.size_bytes:
        options.append(f"size={mount.tmpfs_options.size_bytes}")
    if mount.tmpfs_options.mode:
        options.append(f"mode={mount.tmpfs_options.mode:o}")
    for words in mount.tmpfs_options.options or ():
        options.append("=".join(words))
    return merge_tmpfs_options(options)


def parse_tmpfs(destination: str, options: str) -> MountRecord:
    """One `--tmpfs destination:options`."""
    target = check_target(destination)
    words = merge_tmpfs_options([word for word in options.split(",") if word])
    return MountRecord(type="tmpfs", destination=target, read_only="ro" in words, options=words)


def merge_tmpfs_options(options: list[str]) -> list[str]:
    """Later words win over earlier ones of the same key. Raises `InvalidParameter` for words that tmpfs does not know."""
    merged: dict[str, str] = {}
    for option in options:
        key, equals, _ = option.partition("=")
        if (equals and key not in _TMPFS_VALUES) or (not equals and key not in _TMPFS_FLAGS):
            raise InvalidParameter(f'invalid tmpfs option "{option}"')
        if not equals:
            key = key.removeprefix("no") if key.startswith("no") else key
            key = "ro" if key == "rw" else key
        merged.pop(key, None)
        merged[key] = option
    return list(merged.values())


def parse_volumes_from(text: str) -> tuple[str, bool | None]:
    """(container, read-only or None for as it was) of `--volumes-from id[:mode]`."""
    if not text:
        raise InvalidParameter("volumes-from specification cannot be an empty string")
    container, _, mode = text.partition(":")
    if not mode:
        return container, None
    words = _mode_words(mode)
    return container, True if "ro" in words else False if "rw" in words else None
