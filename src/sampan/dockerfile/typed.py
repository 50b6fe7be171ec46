"""A statement becomes one of the typed instructions: what each keyword takes, and what is said when it got something else."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import fields

from sampan.dockerfile.flags import Flags, Kind, read_flags
from sampan.dockerfile.health import read_health
from sampan.dockerfile.instructions import (
    Add,
    Arg,
    Cmd,
    Command,
    Copy,
    Entrypoint,
    Env,
    Expose,
    From,
    Instruction,
    Label,
    Maintainer,
    Onbuild,
    Run,
    Shell,
    Stopsignal,
    User,
    Volume,
    Workdir,
)
from sampan.dockerfile.mounts import origin_of
from sampan.dockerfile.nearest import suggestion
from sampan.dockerfile.parse import Statement, heredoc_of, split_statement
from sampan.dockerfile.source import DockerfileError
from sampan.dockerfile.words import json_array, pairs, split_words

_STAGE_NAME = re.compile(r"[a-z][a-z0-9._-]*\Z")

_COPY_FLAGS = {
    "chown": Kind.VALUE,
    "chmod": Kind.VALUE,
    "link": Kind.SWITCH,
    "exclude": Kind.LIST,
    "from": Kind.VALUE,
    "parents": Kind.SWITCH,
}
_ADD_FLAGS = {
    "chown": Kind.VALUE,
    "chmod": Kind.VALUE,
    "link": Kind.SWITCH,
    "exclude": Kind.LIST,
    "keep-git-dir": Kind.SWITCH,
    "checksum": Kind.VALUE,
    "unpack": Kind.SWITCH,
}
_RUN_FLAGS = {"mount": Kind.LIST, "network": Kind.VALUE, "security": Kind.VALUE, "device": Kind.LIST}
_NETWORKS = ("default", "none", "host")
_SECURITIES = ("sandbox", "insecure")


def typed(statement: Statement, escape: str) -> Instruction:
    """The instruction that a statement is. Raises `DockerfileError` without a place: the caller knows it."""
    reader = _READERS.get(statement.keyword)
    if reader is None:
        written = (statement.original.split() or [statement.keyword])[0]
        raise DockerfileError(f"unknown instruction: {written}{suggestion(written, _READERS)}")
    return reader(statement, escape)


def _no_flags(statement: Statement) -> None:
    read_flags(statement.flags, {})


def _command(statement: Statement) -> Command:
    """An array, or the line itself."""
    array = json_array(statement.text)
    if array is not None:
        return Command(tuple(array), shell=False)
    return Command((statement.text,), shell=True)


def _list(statement: Statement, escape: str) -> tuple[str, ...]:
    array = json_array(statement.text)
    return tuple(array if array is not None else split_words(statement.text, escape))


def _one(statement: Statement) -> str:
    _no_flags(statement)
    if not statement.text:
        raise DockerfileError(f"{statement.keyword} requires exactly one argument")
    return statement.text


def _some(statement: Statement, words: tuple[str, ...]) -> tuple[str, ...]:
    if not words:
        raise DockerfileError(f"{statement.keyword} requires at least one argument")
    return words


def _from(statement: Statement, escape: str) -> From:
    flags = read_flags(statement.flags, {"platform": Kind.VALUE})
    words = statement.text.split()
    name = ""
    if len(words) == 3 and words[1].lower() == "as":
        name = words[2].lower()
        if not _STAGE_NAME.match(name):
            raise DockerfileError(
                f'invalid name for build stage: "{words[2]}", name can\'t start with a number or contain symbols'
            )
    elif len(words) != 1:
        raise DockerfileError("FROM requires either one or three arguments")
    return From(statement.place, statement.original, words[0], name, flags.value("platform"))


def _arg(statement: Statement, escape: str) -> Arg:
    _no_flags(statement)
    arguments: list[tuple[str, str | None]] = []
    for word in _some(statement, tuple(split_words(statement.text, escape))):
        name, equals, value = word.partition("=")
        if not name:
            raise DockerfileError("ARG names can not be blank")
        arguments.append((name, value if equals else None))
    return Arg(statement.place, statement.original, tuple(arguments))


def _env(statement: Statement, escape: str) -> Env:
    _no_flags(statement)
    return Env(statement.place, statement.original, tuple(pairs("ENV", statement.text, escape)))


def _label(statement: Statement, escape: str) -> Label:
    _no_flags(statement)
    return Label(statement.place, statement.original, tuple(pairs("LABEL", statement.text, escape)))


def _run(statement: Statement, escape: str) -> Run:
    flags = read_flags(statement.flags, _RUN_FLAGS)
    command = _command(statement)
    for text in flags.all("mount"):
        origin_of(text)
    return Run(
        statement.place,
        statement.original,
        command,
        statement.heredocs,
        flags.all("mount"),
        _among(flags, "network", _NETWORKS, 'invalid network mode "{}"'),
        _among(flags, "security", _SECURITIES, 'security "{}" is not valid'),
        flags.all("device"),
    )


def _among(flags: Flags, name: str, known: tuple[str, ...], refusal: str) -> str:
    """A flag's value, one of `known`; the first is the default. A variable is not judged here."""
    value = flags.value(name) or known[0]
    if value not in known and "$" not in value:
        raise DockerfileError(refusal.format(value) + suggestion(value, known))
    return value


def _copied(statement: Statement, escape: str, flags: Flags) -> Copy:
    """What `COPY` and `ADD` have in common; a flag that one of them lacks was refused when the flags were read."""
    words = _list(statement, escape)
    if len(words) < 2:
        raise DockerfileError(
            f"{statement.keyword} requires at least two arguments, but only one was provided."
            " Destination could not be determined"
        )
    if heredoc_of(words[-1], escape) is not None and statement.heredocs:
        raise DockerfileError(f"{statement.keyword} cannot accept a heredoc as a destination")
    return Copy(
        statement.place,
        statement.original,
        words[:-1],
        words[-1],
        statement.heredocs,
        flags.value("chown"),
        flags.value("chmod"),
        flags.on("link"),
        flags.on("parents"),
        flags.all("exclude"),
        flags.value("from"),
    )


def _copy(statement: Statement, escape: str) -> Copy:
    return _copied(statement, escape, read_flags(statement.flags, _COPY_FLAGS))


def _add(statement: Statement, escape: str) -> Add:
    flags = read_flags(statement.flags, _ADD_FLAGS)
    copy = _copied(statement, escape, flags)
    return Add(
        **{field.name: getattr(copy, field.name) for field in fields(copy)},
        checksum=flags.value("checksum"),
        keep_git_dir=flags.on("keep-git-dir"),
        unpack=flags.switches.get("unpack"),
    )


def _cmd(statement: Statement, escape: str) -> Cmd:
    _no_flags(statement)
    return Cmd(statement.place, statement.original, _command(statement))


def _entrypoint(statement: Statement, escape: str) -> Entrypoint:
    _no_flags(statement)
    return Entrypoint(statement.place, statement.original, _command(statement))


def _shell(statement: Statement, escape: str) -> Shell:
    _no_flags(statement)
    array = json_array(statement.text)
    if array is None:
        raise DockerfileError("SHELL requires the arguments to be in JSON form")
    return Shell(statement.place, statement.original, _some(statement, tuple(array)))


def _expose(statement: Statement, escape: str) -> Expose:
    _no_flags(statement)
    return Expose(
        statement.place, statement.original, _some(statement, tuple(sorted(statement.text.split())))
    )


def _volume(statement: Statement, escape: str) -> Volume:
    _no_flags(statement)
    paths = tuple(path.strip() for path in _some(statement, _list(statement, escape)))
    if "" in paths:
        raise DockerfileError("VOLUME specified can not be an empty string")
    return Volume(statement.place, statement.original, paths)


def _onbuild(statement: Statement, escape: str) -> Onbuild:
    _no_flags(statement)
    if not statement.text:
        raise DockerfileError("ONBUILD requires at least one argument")
    keyword, flags, rest = split_statement(statement.text, escape)
    if keyword == "ONBUILD":
        raise DockerfileError("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
    if keyword in ("MAINTAINER", "FROM"):
        raise DockerfileError(f"{keyword} isn't allowed as an ONBUILD trigger")
    typed(Statement(keyword, flags, rest, statement.place, statement.heredocs), escape)
    bodies = "".join(f"\n{each.content}{each.name}" for each in statement.heredocs)
    return Onbuild(statement.place, statement.original, statement.text + bodies)


_READERS: dict[str, Callable[[Statement, str], Instruction]] = {
    "ADD": _add,
    "ARG": _arg,
    "CMD": _cmd,
    "COPY": _copy,
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "EXPOSE": _expose,
    "FROM": _from,
    "HEALTHCHECK": lambda statement, escape: read_health(statement),
    "LABEL": _label,
    "MAINTAINER": lambda statement, escape: Maintainer(statement.place, statement.original, _one(statement)),
    "ONBUILD": _onbuild,
    "RUN": _run,
    "SHELL": _shell,
    "STOPSIGNAL": lambda statement, escape: Stopsignal(statement.place, statement.original, _one(statement)),
    "USER": lambda statement, escape: User(statement.place, statement.original, _one(statement)),
    "VOLUME": _volume,
    "WORKDIR": lambda statement, escape: Workdir(statement.place, statement.original, _one(statement)),
}
KEYWORDS = tuple(_READERS)
"""Every instruction there is."""
