"""`--log-driver` and `--log-opt`: checks, and what the shim is told."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from sampan.engineapi.container import LogConfig
from sampan.errors import InvalidParameter
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


def merge_log_config(given: LogConfig, default_driver: str, default_options: Mapping[str, str]) -> LogConfig:
    """The container's log configuration, completed with the engine's. Raises `InvalidParameter` in dockerd's words."""
    driver = given.type or default_driver
    options = dict(given.config or {})
    if driver == default_driver:
        options = {**default_options, **options}
    if driver not in DRIVERS:
        raise InvalidParameter(f"logger: no log driver named '{driver}' is registered")
    for name in options:
        if name not in _OPTIONS[driver]:
            raise InvalidParameter(f"unknown log opt '{name}' for {driver} log driver")
    _check(driver, options)
    return LogConfig(type=driver, config=options)


def _check(driver: str, options: Mapping[str, str]) -> None:
    mode = options.get("mode", "")
    if mode not in ("", "blocking", "non-blocking"):
        raise InvalidParameter(f"logger: logging mode not supported: {mode}")
    if "max-buffer-size" in options and mode != "non-blocking":
        raise InvalidParameter("logger: max-buffer-size option is only supported with 'mode=non-blocking'")
    if "max-size" in options:
        _size(options["max-size"])
    count = options.get("max-file")
    if count is not None and (not count.isdigit() or int(count) < 1):
        raise InvalidParameter("max-file cannot be less than 1")
    if driver == "json-file" and count not in (None, "1") and options.get("max-size", "-1") == "-1":
        raise InvalidParameter("max-file cannot be set when max-size is not set or is unlimited")


def _size(text: str) -> int:
    if text == "-1":
        return -1
    try:
        return parse_memory(text)
    except InvalidParameter as error:
        raise InvalidParameter(f"invalid value for max-size: {error}") from None


def log_path(record: ContainerRecord, directory: Path) -> Path:
    """The active log file; dockerd's `LogPath` for json-file."""
    if record.host_config.log_config.type == "local":
        return directory / "local-logs" / "container.log"
    return directory / f"{record.id}-json.log"


def shim_log(record: ContainerRecord, directory: Path) -> ShimLog:
    """What the shim has to know to write the log."""
    config = record.host_config.log_config
    options = config.config or {}
    local = config.type == "local"
    log: ShimLog = {
        "driver": "none" if config.type == "none" else "local" if local else "json-file",
        "path": str(log_path(record, directory)),
        "max_size": _size(options.get("max-size", "20m" if local else "-1")),
        "max_file": int(options.get("max-file", "5" if local else "1")),
        "compress": options.get("compress", "true" if local else "false").lower() in _TRUE,
    }
    if attrs := extra_attributes(record):
        log["attrs"] = attrs
    return log


def extra_attributes(record: ContainerRecord) -> dict[str, str]:
    """What log-opts `labels`, `env`, their `-regex` forms and `tag` add to each line."""
    import re

    options = record.host_config.log_config.config or {}
    found: dict[str, str] = {}
    labels = record.config.labels or {}
    environment = dict(entry.partition("=")[::2] for entry in record.config.env or ())
    for source, kind in ((labels, "labels"), (environment, "env")):
        for name in filter(None, options.get(kind, "").split(",")):
            if name in source:
                found[name] = source[name]
        if pattern := options.get(f"{kind}-regex"):
            found.update({name: value for name, value in source.items() if re.search(pattern, name)})
    if tag := options.get("tag"):
        found["tag"] = _tag(tag, record)
    return found


def _tag(template: str, record: ContainerRecord) -> str:
    """The fields of dockerd's tag templates that name the container or its image."""
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
    return template
