"""What an instruction says about an image's configuration: everything but `FROM`, `ARG`, `RUN`, `COPY` and `ADD`.

`docker commit --change` and `docker import --change` apply the same eleven instructions as a build does.
"""

from __future__ import annotations

import posixpath
import re
import signal

from sampan.dockerfile.expand import Lookup, expand, expand_words
from sampan.dockerfile.instructions import (
    Cmd,
    Command,
    Entrypoint,
    Env,
    Expose,
    Instruction,
    Label,
    Maintainer,
    Onbuild,
    Shell,
    Stopsignal,
    User,
    Volume,
    Workdir,
)
from sampan.dockerfile.instructions import Healthcheck as HealthcheckInstruction
from sampan.dockerfile.source import DockerfileError
from sampan.names.addresses import is_address
from sampan.oci.image import ContainerConfig, Healthcheck

DEFAULT_SHELL = ("/bin/sh", "-c")

_SIGNAL = re.compile(r"[1-9]|[1-5][0-9]|6[0-4]|RTMIN(\+([0-9]|1[0-5]))?|RTMAX(-([0-9]|1[0-4]))?")


def configure(
    config: ContainerConfig, instruction: Instruction, lookup: Lookup, *, escape: str = "\\"
) -> None:
    """Change `config` as the instruction says. Raises `DockerfileError` for a value that is wrong once its variables are replaced,
    `TypeError` for an instruction that says nothing about a configuration.
    """

    def value(text: str) -> str:
        return expand(text, lookup, escape=escape)

    match instruction:
        case Env(pairs=pairs):
            config.env = with_variables(config.env, [(value(name), value(text)) for name, text in pairs])
        case Label(pairs=pairs):
            added = {value(name): value(text) for name, text in pairs}
            config.labels = {**(config.labels or {}), **added}
        case Expose():
            exposed = ports_of(instruction, lookup, escape=escape)
            config.exposed_ports = {**(config.exposed_ports or {}), **{port: {} for port in exposed}}
        case Volume(paths=paths):
            config.volumes = {**(config.volumes or {}), **{_volume(value(path)): {} for path in paths}}
        case User(user=user):
            config.user = value(user)
        case Workdir(path=path):
            config.working_dir = joined(config.working_dir, value(path))
        case Stopsignal(signal=text):
            config.stop_signal = _signal(value(text))
        case Cmd(command=command):
            config.cmd = _words(command, config)
            config.args_escaped = False
        case Entrypoint(command=command):
            config.entrypoint = _words(command, config) or None
        case Shell(words=words_):
            config.shell = list(words_)
        case Onbuild(trigger=trigger):
            config.on_build = [*(config.on_build or []), trigger]
        case HealthcheckInstruction():
            config.healthcheck = Healthcheck(
                test=list(instruction.test),
                interval=instruction.interval,
                timeout=instruction.timeout,
                start_period=instruction.start_period,
                start_interval=instruction.start_interval,
                retries=instruction.retries,
            )
        case Maintainer():
            pass  # the author, which is not part of a container's configuration
        case _:
            raise TypeError(f"{type(instruction).__name__} does not configure")


def with_variables(env: list[str] | None, added: list[tuple[str, str]]) -> list[str]:
    """An environment with variables set: those that it has keep their place, new ones follow."""
    result = dict.fromkeys(entry.partition("=")[0] for entry in env or [])
    values = {entry.partition("=")[0]: entry for entry in env or []}
    for name, text in added:
        result[name] = None
        values[name] = f"{name}={text}"
    return [values[name] for name in result]


def joined(directory: str, path: str) -> str:
    """`WORKDIR path` after `WORKDIR directory`, absolute and without dots."""
    return "/" + posixpath.normpath(posixpath.join("/", directory, path)).lstrip("/")


def _words(command: Command, config: ContainerConfig) -> list[str]:
    if not command.shell:
        return list(command.words)
    return [*(config.shell or DEFAULT_SHELL), *command.words] if command.words else []


def _volume(path: str) -> str:
    if not path.strip():
        raise DockerfileError("VOLUME specified can not be an empty string")
    return path.strip()


def _signal(text: str) -> str:
    name = text.upper().removeprefix("SIG")
    if not (_SIGNAL.fullmatch(name) or f"SIG{name}" in signal.Signals.__members__):
        raise DockerfileError(f"invalid signal: {text}")
    return text


def ports_of(instruction: Expose, lookup: Lookup, *, escape: str = "\\") -> list[str]:
    """The ports that EXPOSE names, in its order: `80` → `80/tcp`, `8000-8001/udp` → both. What is written as for publishing
    (`address:80:90`) is the container's port. Raises `DockerfileError`."""
    words = [word for port in instruction.ports for word in expand_words(port, lookup, escape=escape)]
    return [port for word in words for port in _ports(word)]


def _ports(word: str) -> list[str]:
    rest, _, container = word.rpartition(":")
    address, _, published = rest.rpartition(":")
    ports, _, protocol = container.partition("/")
    protocol = protocol or "tcp"
    if not ports:
        raise DockerfileError(f'invalid port: "{word}": no port specified')
    if protocol.lower() not in ("tcp", "udp", "sctp"):
        raise DockerfileError(f'invalid port: "{word}": invalid proto: {protocol}')
    if address and not is_address(address.removeprefix("[").removesuffix("]")):
        raise DockerfileError(f"invalid IP address: {address}")
    first, last = _range(ports, "containerPort")
    if published:
        lowest, highest = _range(published, "hostPort")
        if highest - lowest != last - first != 0:
            raise DockerfileError(
                f"invalid ranges specified for container and host Ports: {ports} and {published}"
            )
    return [f"{number}/{protocol.lower()}" for number in range(first, last + 1)]


def _range(text: str, what: str) -> tuple[int, int]:
    first, _, last = text.partition("-")
    numbers = [first, last or first]
    if not all(each.isascii() and each.isdigit() and int(each) <= 65535 for each in numbers):
        raise DockerfileError(f"invalid {what}: {text}")
    if int(numbers[1]) < int(numbers[0]):
        raise DockerfileError(f"invalid {what}: {text}")
    return int(numbers[0]), int(numbers[1])
