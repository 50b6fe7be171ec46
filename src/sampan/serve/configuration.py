"""One configuration from two sources: the command line and `daemon.json`.

As with dockerd, a key given in both is an error even when the values agree, because the loser would be silently ignored; unknown
keys are errors; list-valued flags conflict with the file's list as a whole. The words of the refusals are dockerd's: scripts look
for them.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from sampan.engine.config import (
    ALWAYS_RELOADED,
    NATIVE_RUNTIMES,
    RELOADABLE,
    EngineConfig,
    RuntimeSpec,
    without_credentials,
    without_effect,
)
from sampan.errors import InvalidParameter, reason_of
from sampan.serve import flags, values
from sampan.serve.validation import validate

DEFAULT_FILE = Path("/etc/sampan/daemon.json")

_KNOWN = {field.encode_name for field in msgspec.structs.fields(EngineConfig)}
_IGNORED = ("deprecated-key-path", "allow-nondistributable-artifacts", "min-api-version", "extension-config")
"""Keys that dockerd passes over in silence."""
_MAPS = (
    *("default-network-opts", "log-opts", "runtimes", "default-ulimits", "features", "builder"),
    *("nri-opts", "extension-config"),
)
"""Keys whose objects hold names of the user's; the keys within other objects are directives of their own."""
_MARKS = (
    (b"\xff\xfe", "utf-16-le"),
    (b"\xfe\xff", "utf-16-be"),
    (b"\xef\xbb\xbf", "utf-8"),
)
_FROM_FLAGS_AND_FILE = ("runtimes",)
"""`--add-runtime` adds to the file's runtimes."""


class Loaded(NamedTuple):
    """A configuration and what should be said about it."""

    config: EngineConfig
    warnings: list[str]
    file: Path
    written: frozenset[str]
    """The keys that the file holds."""


def load(given: dict[str, Any]) -> Loaded:
    """Join the flags (from `sampan.serve.flags.parse`) with the file that they or the default name.

    Raises `InvalidParameter` in dockerd's words.
    """
    file = Path(given.get("config-file") or DEFAULT_FILE)
    try:
        written = _read_file(file, must_exist="config-file" in given)
        from_flags = {key: value for key, value in given.items() if key in _KNOWN}
        _refuse_unknown(written)
        _refuse_conflicts(from_flags, written)
        config = _converted(_merged(written, from_flags))
        validate(config)
    except InvalidParameter as error:
        raise InvalidParameter(f"unable to configure the Docker daemon with file {file}: {error}") from error
    _take_runtimes(config)
    _complete(config)
    return Loaded(config, list(without_effect(config)), file, frozenset(written))


def reload(current: EngineConfig, given: dict[str, Any]) -> EngineConfig:
    """The configuration after SIGHUP: of the keys that can be reloaded those that the file holds now.

    Raises `InvalidParameter` for a file that a start would refuse; nothing has changed then.
    """
    loaded = load(given)
    fresh = {
        field.name: getattr(loaded.config, field.name)
        for field in msgspec.structs.fields(EngineConfig)
        if field.encode_name in ALWAYS_RELOADED
        or (field.encode_name in RELOADABLE and field.encode_name in loaded.written)
    }
    merged = msgspec.structs.replace(current, **fresh)
    _refuse_runtimes(merged)
    return merged


def _read_file(file: Path, must_exist: bool) -> dict[str, Any]:
    """The file's keys, null ones left out; those of nested objects in dockerd's flat form."""
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        if must_exist:
            raise InvalidParameter(f"open {file}: no such file or directory") from None
        return {}
    except OSError as error:
        raise InvalidParameter(f"open {file}: {reason_of(error)}") from error
    if not data.strip():
        return {}
    try:
        document = msgspec.json.decode(_text(data))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidParameter(f"{error}") from error
    if not isinstance(document, dict):
        raise InvalidParameter("it must hold a JSON object")
    if "host-gateway-ip" in document:  # the name until version 28
        if "host-gateway-ips" in document:
            raise InvalidParameter(
                "host-gateway-ip and host-gateway-ips must not both be specified in the config file"
            )
        document["host-gateway-ips"] = [document.pop("host-gateway-ip")]
    return {key: value for key, value in document.items() if value is not None and key not in _IGNORED}


def _text(data: bytes) -> str:
    """As its byte order mark says; UTF-8 without one."""
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return data.removeprefix(mark).decode(encoding)
    return data.decode()


def _flat(document: dict[str, Any]) -> dict[str, Any]:
    """Keys as directives: `{"proxies": {"http-proxy": …}}` is `http-proxy`."""
    directives: dict[str, Any] = {}
    for key, value in document.items():
        if isinstance(value, dict) and key not in _MAPS:
            directives.update(value)
        else:
            directives[key] = value
    return directives


def _refuse_unknown(written: dict[str, Any]) -> None:
    proxies = {flag.name for flag in flags.FLAGS if flag.key.startswith("proxies.")}
    unknown = [key for key in _flat(written) if key not in _KNOWN and key not in proxies]
    if unknown:
        raise InvalidParameter(
            "the following directives don't match any configuration option: " + ", ".join(unknown)
        )


def _refuse_conflicts(given: dict[str, Any], written: dict[str, Any]) -> None:
    flat_flags, flat_file = _flat(given), _flat(written)
    conflicts = []
    for key in sorted(flat_flags):
        if key in flat_file and key not in _FROM_FLAGS_AND_FILE:
            flag, file = values.shown(flags.KINDS.get(key, ""), flat_flags[key]), values.as_go(flat_file[key])
            if key.endswith("-proxy"):
                flag, file = without_credentials(flag), without_credentials(file)
            conflicts.append(f"{key}: (from flag: {flag}, from file: {file})")
    if conflicts:
        raise InvalidParameter(
            "the following directives are specified both as a flag and in the configuration file: "
            + ", ".join(conflicts)
        )


def _merged(written: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """Disjoint but for the members of `proxies`. dockerd takes sizes as text in the file."""
    merged = {**written, **given}
    if isinstance(written.get("proxies"), dict):
        merged["proxies"] = {**written["proxies"], **given.get("proxies", {})}
    if "default-shm-size" in written:
        merged["default-shm-size"] = values.read_size("default-shm-size", written["default-shm-size"])
    return merged


def _converted(document: dict[str, Any]) -> EngineConfig:
    try:
        return msgspec.convert(document, EngineConfig)
    except msgspec.ValidationError as error:
        message, _, place = str(error).partition(" - at `$.")
        raise InvalidParameter(f"{place.rstrip('`')}: {message}" if place else message) from error


def _take_runtimes(config: EngineConfig) -> None:
    """`--add-runtime name=path` becomes an entry of `runtimes`."""
    for text in config.add_runtimes:
        name, equals, path = text.partition("=")
        name, path = name.strip(), path.strip()
        if not name or not equals or not path:
            raise InvalidParameter(f"invalid runtime argument: {text}")
        if name in NATIVE_RUNTIMES:
            raise InvalidParameter(f"runtime name '{name}' is reserved")
        if name in config.runtimes:
            raise InvalidParameter(f"runtime '{name}' was already defined")
        config.runtimes[name] = RuntimeSpec(path=path)
    _refuse_runtimes(config)


def _refuse_runtimes(config: EngineConfig) -> None:
    for name, runtime in config.runtimes.items():
        if name in NATIVE_RUNTIMES:
            raise InvalidParameter(f"runtime name '{name}' is reserved")
        if not runtime.path and not runtime.runtime_type:
            raise InvalidParameter(f"runtime {name}: either a runtimeType or a path must be configured")
        if runtime.path and runtime.runtime_type:
            raise InvalidParameter(
                f"runtime {name}: cannot configure both path and runtimeType for the same runtime"
            )
        if runtime.runtime_type:
            raise InvalidParameter(
                f"runtime {name}: runtimeType {runtime.runtime_type} is a containerd shim, which Sampan has no use for: give a path"
            )
        if runtime.options:
            raise InvalidParameter(f"runtime {name}: options cannot be used with a path runtime")
    if config.default_runtime not in (*NATIVE_RUNTIMES, *config.runtimes):
        raise InvalidParameter(f"specified default runtime '{config.default_runtime}' does not exist")


def _complete(config: EngineConfig) -> None:
    """What follows from what was said."""
    for path in ("data_root", "exec_root"):
        setattr(config, path, os.path.abspath(getattr(config, path)))
    if config.tlsverify is not None:
        config.tls = True  # also `--tlsverify=false`
    elif config.tls:
        config.tlsverify = True
    config.hosts = [host.strip() for host in config.hosts if host.strip()]
    if not config.hosts and config.tls:
        config.hosts = ["tcp://localhost:2376"]
    config.labels = list(dict.fromkeys(config.labels))
