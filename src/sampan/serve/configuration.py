"""One configuration from two sources: the command line and `daemon.json`.

As with dockerd, a key given in both is an error even when the values agree, because the loser would be silently ignored; unknown
keys are errors; list-valued flags conflict with the file's list as a whole.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from sampan.engine.config import (
    ACCEPTED_WITHOUT_EFFECT,
    NATIVE_RUNTIMES,
    RELOADABLE,
    EngineConfig,
    RuntimeSpec,
)
from sampan.errors import InvalidParameter

DEFAULT_FILE = Path("/etc/sampan/daemon.json")

_LOG_LEVELS = ("debug", "info", "warn", "error", "fatal")
_CHOICES = {
    "log-level": _LOG_LEVELS,
    "log-format": ("text", "json"),
    "default-ipc-mode": ("private", "shareable"),
    "default-cgroupns-mode": ("", "host", "private"),
    "firewall-backend": ("", "iptables", "nftables"),
    "storage-driver": ("", "overlayfs", "overlay2", "native", "vfs"),
}


class Loaded(NamedTuple):
    """A configuration and what should be said about it."""

    config: EngineConfig
    warnings: list[str]
    file: Path


def load(flags: dict[str, Any]) -> Loaded:
    """Join the flags (from `sampan.serve.flags.parse`) with the file that they or the default name.

    Raises `InvalidParameter` in dockerd's words.
    """
    file = Path(flags.get("config-file") or DEFAULT_FILE)
    written = _read_file(file, must_exist="config-file" in flags)
    known = {field.encode_name for field in msgspec.structs.fields(EngineConfig)}
    given = {key: value for key, value in flags.items() if key in known}
    _refuse_unknown(written, known, file)
    _refuse_conflicts(given, written, file)
    values = {**written, **given}
    try:
        config = msgspec.convert(values, EngineConfig)
    except msgspec.ValidationError as error:
        raise InvalidParameter(
            f"unable to configure the engine with file {file}: merged configuration validation failed: {error}"
        ) from error
    _validate(config)
    _take_runtimes(config)
    warnings = [
        f"{key} is accepted and has no effect: {reason}"
        for key, reason in ACCEPTED_WITHOUT_EFFECT.items()
        if values.get(key) not in (None, "", [], {}, False, 0)
    ]
    return Loaded(config, warnings, file)


def reload(current: EngineConfig, flags: dict[str, Any]) -> tuple[EngineConfig, list[str]]:
    """The configuration after SIGHUP, and the keys that changed. Only `RELOADABLE` keys move."""
    fresh = load(flags).config
    changed: list[str] = []
    values: dict[str, Any] = {}
    for field in msgspec.structs.fields(EngineConfig):
        value = getattr(fresh, field.name)
        if field.encode_name in RELOADABLE and value != getattr(current, field.name):
            changed.append(field.encode_name)
            values[field.name] = value
    return msgspec.structs.replace(current, **values), changed


def _read_file(file: Path, must_exist: bool) -> dict[str, Any]:
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        if must_exist:
            raise InvalidParameter(
                f"unable to configure the engine with file {file}: open {file}: no such file or directory"
            ) from None
        return {}
    except OSError as error:
        raise InvalidParameter(
            f"unable to configure the engine with file {file}: {error.strerror}"
        ) from error
    if not data.strip():
        return {}
    try:
        document = msgspec.json.decode(data)
    except msgspec.DecodeError as error:
        raise InvalidParameter(f"unable to configure the engine with file {file}: {error}") from error
    if not isinstance(document, dict):
        raise InvalidParameter(f"unable to configure the engine with file {file}: it must hold a JSON object")
    return document


def _refuse_unknown(written: dict[str, Any], known: set[str], file: Path) -> None:
    unknown = [key for key in written if key not in known]
    if unknown:
        raise InvalidParameter(
            f"unable to configure the engine with file {file}: the following directives don't match any configuration option: "
            + ", ".join(unknown)
        )


def _refuse_conflicts(given: dict[str, Any], written: dict[str, Any], file: Path) -> None:
    conflicts = [
        f"{key}: (from flag: {_go(given[key])}, from file: {_go(written[key])})"
        for key in written
        if key in given
    ]
    if conflicts:
        raise InvalidParameter(
            f"unable to configure the engine with file {file}: the following directives are specified both as a flag and in "
            "the configuration file: " + ", ".join(conflicts)
        )


def _go(value: Any) -> str:
    """A value as Go's %v prints it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "[" + " ".join(_go(item) for item in value) + "]"
    if isinstance(value, dict):
        return "map[" + " ".join(f"{key}:{_go(value[key])}" for key in sorted(value)) + "]"
    return str(value)


def _validate(config: EngineConfig) -> None:
    for key, choices in _CHOICES.items():
        value = getattr(config, key.replace("-", "_"))
        if value not in choices:
            raise InvalidParameter(
                f"invalid {key.replace('-', ' ')}: {value}: it must be one of {', '.join(filter(None, choices))}"
            )
    for label in config.labels:
        if "=" not in label:
            raise InvalidParameter(f"bad attribute format: {label}")
    for name in ("max_concurrent_downloads", "max_concurrent_uploads"):
        if getattr(config, name) < 0:
            raise InvalidParameter(f"invalid {name.replace('_', ' ')}: {getattr(config, name)}")
    if config.max_download_attempts < 1:
        raise InvalidParameter(f"invalid max download attempts: {config.max_download_attempts}")
    for path in ("data_root", "exec_root"):
        if not os.path.isabs(getattr(config, path)):
            setattr(config, path, os.path.abspath(getattr(config, path)))


def _take_runtimes(config: EngineConfig) -> None:
    """`--add-runtime name=path` becomes an entry of `runtimes`."""
    for text in config.add_runtimes:
        name, equals, path = text.partition("=")
        if not name or not equals or not path:
            raise InvalidParameter(f"invalid runtime specification '{text}': it must be name=path")
        if name in config.runtimes or name in NATIVE_RUNTIMES:
            raise InvalidParameter(f"runtime '{name}' is reserved or registered twice")
        config.runtimes[name] = RuntimeSpec(path=path)
