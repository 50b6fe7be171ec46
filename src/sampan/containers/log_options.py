"""`--log-driver` and `--log-opt`: checks, and what the shim is told."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from sampan.engineapi.container import LogConfig
from sampan.errors import InvalidParameter, SystemFailure
from sampan.names.units import parse_memory

if TYPE_CHECKING:
    from sampan.containers.record import ContainerRecord
    from sampan.runtime.interface import LogConfig as ShimLog

DRIVERS = ("json-file", "local", "none")
_FILE_OPTIONS = frozenset(
    "max-file max-size compress labels labels-regex env env-regex tag mode max-buffer-size".split()  # noqa: SIM905
)
_OPTIONS = {"json-file": _FILE_OPTIONS, "local": _FILE_OPTIONS, "none": frozenset[str]()}
_TRUE = frozenset({"1", "t", "true"})
_FALSE = frozenset({"0", "f", "false"})
_FIELD = re.compile(r"{{\s*\.(\w+)\s*}}")
_GO_SPELLINGS = frozenset({"T", "TRUE", "True", "F", "FALSE", "False"})


def merge_log_config(given: LogConfig, default_driver: str, default_options: Mapping[str, str]) -> LogConfig:
    """The container's log configuration, completed with the engine's. Raises `InvalidParameter` in dockerd's words."""
    driver = given.type or default_driver
    options = dict(given.config or {})
    if driver == default_driver:
        options = {**default_options, **options}
    if driver not in DRIVERS:
        raise InvalidParameter(f'error looking up logging plugin {driver}: plugin "{driver}" not found')
    for name in options:
        if name not in _OPTIONS[driver]:
            where = f"log driver {driver}" if driver == "local" else f"{driver} log driver"
            raise InvalidParameter(f"unknown log opt '{name}' for {where}")
    _check(options)
    return LogConfig(type=driver, config=options)


def _check(options: Mapping[str, str]) -> None:
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


def _size(text: str) -> int:
    return -1 if text == "-1" else parse_memory(text)


def _count(text: str) -> int:
    if not text.removeprefix("-").isdigit():
        raise InvalidParameter(f'strconv.Atoi: parsing "{text}": invalid syntax')
    if int(text) < 1:
        raise InvalidParameter("max-file cannot be less than 1")
    return int(text)


def _boolean(text: str) -> bool:
    if text.lower() not in _TRUE | _FALSE or (text != text.lower() and text not in _GO_SPELLINGS):
        raise InvalidParameter(f'strconv.ParseBool: parsing "{text}": invalid syntax')
    return text.lower() in _TRUE


def log_path(record: ContainerRecord, directory: Path) -> Path:
    """The active log file; dockerd's `LogPath` for json-file."""
    if record.host_config.log_config.type == "local":
        return directory / "local-logs" / "container.log"
    return directory / f"{record.id}-json.log"


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
    local = config.type == "local"
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
                wanted = re.compile(pattern)
            except re.error as error:
                raise InvalidParameter(f"error parsing regexp: {_go_regexp_error(error, pattern)}") from None
            found.update({name: value for name, value in source.items() if wanted.search(name)})
    if tag := options.get("tag"):
        found["tag"] = _tag(tag, record)
    return found


def _go_regexp_error(error: re.error, pattern: str) -> str:
    return f"missing closing ): `{pattern}`" if "missing )" in error.msg else f"{error.msg}: `{pattern}`"


def _tag(template: str, record: ContainerRecord) -> str:
    """The fields of dockerd's tag templates that name the container or its image. Raises `InvalidParameter` for others."""
    for field, value in (
        ("{{.ID}}", record.id[:12]),
        ("{{.FullID}}", record.id),
        ("{{.Name}}", record.name),
        ("{{.ImageName}}", record.config.image),
        ("{{.ImageID}}", record.image_id.removeprefix("sha256:")[:12]),
        ("{{.ImageFullID}}", record.image_id),
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
