"""`--log-driver` and `--log-opt`: checks, and what the shim is told."""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from sampan.engineapi.container import LogConfig
from sampan.errors import InvalidParameter, SystemFailure
from sampan.logs.remote.drivers import REMOTE
from sampan.names.booleans import word_for
from sampan.names.units import parse_memory

if TYPE_CHECKING:
    from sampan.containers.record import ContainerRecord
    from sampan.runtime.interface import LogConfig as ShimLog

_FILES = ("json-file", "local")
DRIVERS = (*sorted({*_FILES, *REMOTE}), "none")
"""As `docker info` lists them."""
_BUILT_IN = frozenset(
    "mode max-buffer-size cache-disabled cache-max-size cache-max-file cache-compress".split()  # noqa: SIM905
)
"""Accepted with every driver: dockerd's own, not the drivers'."""
_COMMON = frozenset({"labels", "labels-regex", "env", "env-regex", "tag"})
_FILE_OPTIONS = frozenset({"max-file", "max-size", "compress"})
_FIELD = re.compile(r"{{\s*\.(\w+)\s*}}")


def merge_log_config(given: LogConfig, default_driver: str, default_options: Mapping[str, str]) -> LogConfig:
    """The container's log configuration, completed with the engine's. Raises `InvalidParameter` in dockerd's words."""
    driver = given.type or default_driver
    options = dict(given.config or {})
    if driver == default_driver:
        options = {**default_options, **options}
    elif driver in REMOTE:
        cache = {name: value for name, value in default_options.items() if name.startswith("cache-")}
        options = {**cache, **options}
    check_log_options(driver, options)
    return LogConfig(type=driver, config=options)


def check_log_options(driver: str, options: Mapping[str, str]) -> None:
    """Raise `InvalidParameter` in dockerd's words for a driver or an option that there is not."""
    if driver not in DRIVERS:
        raise InvalidParameter(f'error looking up logging plugin {driver}: plugin "{driver}" not found')
    if driver == "none":
        return
    _check_built_in(options)
    own = {name: value for name, value in options.items() if name not in _BUILT_IN}
    remote = REMOTE.get(driver)
    known = _COMMON | (remote.options if remote else _FILE_OPTIONS)
    quote = remote.quotes if remote else "'"
    for name in own:
        if name not in known:
            where = f"log driver {driver}" if driver == "local" else f"{driver} log driver"
            raise InvalidParameter(f"unknown log opt {quote}{name}{quote} for {where}")
    if remote:
        remote.check(own)


def _check_built_in(options: Mapping[str, str]) -> None:
    mode = options.get("mode", "")
    if mode not in ("", "blocking", "non-blocking"):
        raise InvalidParameter(f"logger: logging mode not supported: {mode}")
    if "max-buffer-size" in options and mode != "non-blocking":
        raise InvalidParameter("logger: max-buffer-size option is only supported with 'mode=non-blocking'")
    if "max-buffer-size" in options:
        try:
            parse_memory(options["max-buffer-size"])
        except InvalidParameter as error:
            raise InvalidParameter(f"error parsing option max-buffer-size: {error}") from None
    if disabled := options.get("cache-disabled"):
        try:
            _boolean(disabled)
        except InvalidParameter:
            raise InvalidParameter(f"invalid value for option cache-disabled: {disabled}") from None


def _size(text: str) -> int:
    return -1 if text == "-1" else parse_memory(text)


def _count(text: str) -> int:
    if not text.removeprefix("-").isdigit():
        raise InvalidParameter(f'strconv.Atoi: parsing "{text}": invalid syntax')
    if int(text) < 1:
        raise InvalidParameter("max-file cannot be less than 1")
    return int(text)


def _boolean(text: str) -> bool:
    value = word_for(text)
    if value is None:
        raise InvalidParameter(f'strconv.ParseBool: parsing "{text}": invalid syntax')
    return value


def log_path(record: ContainerRecord, directory: Path) -> Path:
    """The active log file; dockerd's `LogPath` for json-file."""
    driver = record.host_config.log_config.type
    if driver == "local":
        return directory / "local-logs" / "container.log"
    if driver in REMOTE:
        return directory / "cached-logs" / "container-cached.log"
    return directory / f"{record.id}-json.log"


def file_format(driver: str) -> str:
    """The format of the local file that a driver's containers have."""
    return "local" if driver in REMOTE else driver


def is_readable(record: ContainerRecord) -> bool:
    """Whether `docker logs` works."""
    config = record.host_config.log_config
    remote = REMOTE.get(config.type)
    if remote is None or remote.readable:
        return config.type != "none"
    return not _boolean((config.config or {}).get("cache-disabled") or "false")


def shim_log(record: ContainerRecord, directory: Path) -> ShimLog:
    """What the shim has to know to write the log.

    Raises `SystemFailure` for options whose values the driver cannot use: dockerd finds them out at the start only.
    """
    try:
        return _shim_log(record, directory)
    except InvalidParameter as error:
        raise SystemFailure(
            f"failed to create task for container: failed to initialize logging driver: {error}"
        ) from None


def _shim_log(record: ContainerRecord, directory: Path) -> ShimLog:
    config = record.host_config.log_config
    options = config.config or {}
    if config.type in REMOTE:
        # What docker logs reads, and what the driver is fed from.
        options = {
            name: options[f"cache-{name}"]
            for name in ("max-size", "max-file", "compress")
            if options.get(f"cache-{name}")
        }
    local = file_format(config.type) == "local"
    log: ShimLog = {
        "driver": "none" if config.type == "none" else "local" if local else "json-file",
        "path": str(log_path(record, directory)),
        "max_size": _size(options.get("max-size", "20m" if local else "-1")),
        "max_file": _count(options.get("max-file", "5" if local else "1")),
        "compress": _boolean(options.get("compress", "true" if local else "false")),
    }
    if not local and log["compress"] and (log["max_file"] < 2 or log["max_size"] < 0):
        raise InvalidParameter("compress cannot be true when max-file is less than 2 or max-size is not set")
    if attrs := extra_attributes(record):
        log["attrs"] = attrs
    return log


def extra_attributes(record: ContainerRecord) -> dict[str, str]:
    """What log-opts `labels`, `env`, their `-regex` forms and `tag` add to each line."""
    found = attributes(record)
    if tag := tag_of(record):
        found["tag"] = tag
    return found


def attributes(record: ContainerRecord) -> dict[str, str]:
    """What log-opts `labels`, `env` and their `-regex` forms choose. Raises `InvalidParameter`."""
    options = record.host_config.log_config.config or {}
    found: dict[str, str] = {}
    labels = record.config.labels or {}
    environment = dict(entry.partition("=")[::2] for entry in record.config.env or ())
    for source, kind in ((labels, "labels"), (environment, "env")):
        for name in filter(None, options.get(kind, "").split(",")):
            if name in source:
                found[name] = source[name]
        if pattern := options.get(f"{kind}-regex"):
            try:
                compiled = re.compile(pattern)
                found.update({name: value for name, value in source.items() if compiled.search(name)})
            except re.error as error:
                raise InvalidParameter(f"error parsing regexp: {_go_regexp_error(error, pattern)}") from None
    return found


def _go_regexp_error(error: re.error, pattern: str) -> str:
    return f"missing closing ): `{pattern}`" if "missing )" in error.msg else f"{error.msg}: `{pattern}`"


def tag_of(record: ContainerRecord, default: str = "") -> str:
    """The tag option's text with the fields of dockerd's tag templates filled in. Raises `InvalidParameter` for others."""
    template = (record.host_config.log_config.config or {}).get("tag") or default
    for field, value in (
        ("{{.ID}}", record.id[:12]),
        ("{{.FullID}}", record.id),
        ("{{.Name}}", record.name),
        ("{{.ImageName}}", record.config.image),
        ("{{.ImageID}}", record.image_id.removeprefix("sha256:")[:12]),
        ("{{.ImageFullID}}", record.image_id),
        ("{{.Command}}", " ".join([record.path, *record.args])),
        ("{{.Hostname}}", socket.gethostname()),
        ("{{.DaemonName}}", "docker"),
    ):
        template = template.replace(field, value)
    if found := _FIELD.search(template):
        at = found.start() + 2
        raise InvalidParameter(
            f'template: log-tag:1:{at}: executing "log-tag" at <.{found[1]}>:'
            f" can't evaluate field {found[1]} in type *logger.Info"
        )
    if "{{" in template:
        raise InvalidParameter("template: log-tag:1: unclosed action")
    return template
