"""Dockerfile instructions as `docker commit --change` and `docker import --change` take them.

A change edits an image's configuration; it runs nothing. dockerd allows eleven instructions here and parses
them as a Dockerfile, so several lines, continuations and variables (`ENV PATH=$PATH:/opt`) work.
"""

from __future__ import annotations

import json
import posixpath
import re
import signal
from collections.abc import Callable, Iterable, Iterator

import msgspec

from sampan.errors import InvalidParameter
from sampan.images.words import expand, key_values, plain_words
from sampan.names.times import parse_duration
from sampan.oci.image import ContainerConfig, Healthcheck

_SHELL = ["/bin/sh", "-c"]

_SIGNAL = re.compile(r"[1-9]|[1-5][0-9]|6[0-4]|RTMIN(\+([0-9]|1[0-5]))?|RTMAX(-([0-9]|1[0-4]))?")
_FLAG = re.compile(r"--([a-z-]+)(?:=(\S*))?\s+")


def apply_changes(config: ContainerConfig, changes: Iterable[str]) -> ContainerConfig:
    """A copy of `config` with the instructions applied in order.

    Raises `InvalidParameter` in dockerd's words, for an instruction that is unknown, not
    allowed here or malformed.
    """
    lines = list(_instructions("\n".join(changes)))
    for name, _ in lines:
        if name not in _APPLY:
            raise InvalidParameter(f"{name} is not a valid change command")
    changed = msgspec.convert(msgspec.to_builtins(config), ContainerConfig)
    command_given = False
    for name, rest in lines:
        if not rest:
            raise InvalidParameter(f"{name} requires {_ARGUMENTS.get(name, 'at least one argument')}")
        _APPLY[name](changed, rest)
        command_given = command_given or name == "CMD"
        if name == "ENTRYPOINT" and not command_given:
            changed.cmd = None  # the old command was an argument of the old entrypoint
    return changed


def _instructions(text: str) -> Iterator[tuple[str, str]]:
    """(upper-case instruction, arguments) of each logical line."""
    pending = ""
    for line in text.splitlines():
        if line.lstrip().startswith("#"):
            continue
        if line.rstrip().endswith("\\"):
            pending += line.rstrip()[:-1]
            continue
        whole, pending = (pending + line).strip(), ""
        if whole:
            yield _instruction(whole)
    if pending.strip():
        yield _instruction(pending.strip())


def _instruction(line: str) -> tuple[str, str]:
    name, _, rest = line.replace("\t", " ").partition(" ")
    return name.upper(), rest.strip()


def _json_words(text: str) -> list[str] | None:
    """The exec form `["a", "b"]`; None when the text is not one, and so is the shell form."""
    if not text.startswith("["):
        return None
    try:
        words = json.loads(text)
    except ValueError:
        return None
    return words if isinstance(words, list) and all(isinstance(word, str) for word in words) else None


def _command(config: ContainerConfig, text: str) -> list[str]:
    words = _json_words(text)
    return [*(config.shell or _SHELL), text] if words is None else words


def _cmd(config: ContainerConfig, rest: str) -> None:
    config.cmd = _command(config, rest)


def _entrypoint(config: ContainerConfig, rest: str) -> None:
    config.entrypoint = _command(config, rest) or None


def _env(config: ContainerConfig, rest: str) -> None:
    environment = _environment(config)
    added = [
        (expand(name, environment), expand(value, environment)) for name, value in key_values(rest, "ENV")
    ]
    result = list(config.env or [])
    for name, value in added:
        entry = f"{name}={value}"
        for position, old in enumerate(result):
            if old.partition("=")[0] == name:
                result[position] = entry
                break
        else:
            result.append(entry)
    config.env = result


def _label(config: ContainerConfig, rest: str) -> None:
    environment = _environment(config)
    labels = dict(config.labels or {})
    for name, value in key_values(rest, "LABEL"):
        labels[expand(name, environment)] = expand(value, environment)
    config.labels = labels


def _expose(config: ContainerConfig, rest: str) -> None:
    ports = dict(config.exposed_ports or {})
    for word in plain_words(expand(rest, _environment(config))):
        for port in _exposed(word):
            ports[port] = {}
    config.exposed_ports = ports


def _volume(config: ContainerConfig, rest: str) -> None:
    words = _json_words(rest)
    volumes = dict(config.volumes or {})
    for word in plain_words(rest) if words is None else words:
        path = expand(word, _environment(config)).strip()
        if not path:
            raise InvalidParameter("VOLUME specified can not be an empty string")
        volumes[path] = {}
    config.volumes = volumes


def _user(config: ContainerConfig, rest: str) -> None:
    config.user = _one_word("USER", expand(rest, _environment(config)))


def _workdir(config: ContainerConfig, rest: str) -> None:
    path = expand(rest, _environment(config))
    joined = posixpath.normpath(posixpath.join("/", config.working_dir, path))
    config.working_dir = "/" + joined.lstrip("/")


def _stop_signal(config: ContainerConfig, rest: str) -> None:
    word = _one_word("STOPSIGNAL", expand(rest, _environment(config)))
    name = word.upper().removeprefix("SIG")
    if not (_SIGNAL.fullmatch(name) or f"SIG{name}" in signal.Signals.__members__):
        raise InvalidParameter(f"invalid signal: {word}")
    config.stop_signal = word


def _on_build(config: ContainerConfig, rest: str) -> None:
    trigger = rest.split()[0].upper()
    if trigger in ("ONBUILD", "FROM", "MAINTAINER"):
        raise InvalidParameter(
            "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"
            if trigger == "ONBUILD"
            else f"{trigger} isn't allowed as an ONBUILD trigger"
        )
    config.on_build = [*(config.on_build or []), rest]


def _healthcheck(config: ContainerConfig, rest: str) -> None:
    check = Healthcheck()
    while found := _FLAG.match(rest):
        _set_health_flag(check, found[1], found[2])
        rest = rest[found.end() :]
    kind, _, command = rest.partition(" ")
    if kind.upper() == "NONE":
        if command.strip():
            raise InvalidParameter("HEALTHCHECK NONE takes no arguments")
        check.test = ["NONE"]
    elif kind.upper() == "CMD":
        command = command.strip()
        if not command:
            raise InvalidParameter("Missing command after HEALTHCHECK CMD")
        words = _json_words(command)
        check.test = ["CMD-SHELL", command] if words is None else ["CMD", *words]
    else:
        raise InvalidParameter(f'Unknown type "{kind.upper()}" in HEALTHCHECK (try CMD)')
    config.healthcheck = check


def _set_health_flag(check: Healthcheck, name: str, value: str | None) -> None:
    if value is None:
        raise InvalidParameter(f"Missing a value on flag: {name}")
    if name == "retries":
        if not value.isdigit():
            raise InvalidParameter(f'strconv.ParseInt: parsing "{value}": invalid syntax')
        check.retries = int(value)
        return
    duration = parse_duration(value)
    if 0 < duration < 1_000_000:
        raise InvalidParameter(f"Interval {name!r} cannot be less than 1ms")
    if name == "interval":
        check.interval = duration
    elif name == "timeout":
        check.timeout = duration
    elif name == "start-period":
        check.start_period = duration
    elif name == "start-interval":
        check.start_interval = duration
    else:
        raise InvalidParameter(f"unknown flag: --{name}")


def _exposed(word: str) -> list[str]:
    """The ports that one word of EXPOSE names: `80` → `80/tcp`, `8000-8001/udp` → both."""
    ports, _, protocol = word.partition("/")
    first, dash, last = ports.partition("-")
    protocol = (protocol or "tcp").lower()
    if protocol not in ("tcp", "udp", "sctp"):
        raise InvalidParameter(f"invalid proto: {protocol}")
    numbers = [first, last] if dash else [first, first]
    if not all(number.isascii() and number.isdigit() and int(number) <= 65535 for number in numbers):
        raise InvalidParameter(f"invalid containerPort: {ports}")
    if int(numbers[0]) > int(numbers[1]):
        raise InvalidParameter(f"invalid range specified for port: {ports}")
    return [f"{number}/{protocol}" for number in range(int(numbers[0]), int(numbers[1]) + 1)]


def _one_word(instruction: str, text: str) -> str:
    words = plain_words(text)
    if len(words) != 1:
        raise InvalidParameter(f"{instruction} requires exactly one argument")
    return words[0]


def _environment(config: ContainerConfig) -> dict[str, str]:
    entries = (entry.partition("=") for entry in config.env or [])
    return {name: value for name, _, value in entries}


_APPLY: dict[str, Callable[[ContainerConfig, str], None]] = {
    "CMD": _cmd,
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "EXPOSE": _expose,
    "HEALTHCHECK": _healthcheck,
    "LABEL": _label,
    "ONBUILD": _on_build,
    "STOPSIGNAL": _stop_signal,
    "USER": _user,
    "VOLUME": _volume,
    "WORKDIR": _workdir,
}

_ARGUMENTS = {
    "USER": "exactly one argument",
    "WORKDIR": "exactly one argument",
    "STOPSIGNAL": "exactly one argument",
}
