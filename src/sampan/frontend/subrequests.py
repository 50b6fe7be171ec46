"""What the frontend answers instead of a build: `frontend.lint` (`--check`), `frontend.outline`, `frontend.targets`, and which of
these there are. Answers have BuildKit's form: JSON, the same as text, a version, and for checks a status.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from sampan.dockerfile.checks import CHECK_ARGUMENT, Checks, Finding, checks_of, read_with
from sampan.dockerfile.source import DockerfileError, Place, Source
from sampan.dockerfile.stages import Dockerfile, Stage, read
from sampan.errors import NotSupported
from sampan.frontend.checks import StageChecks
from sampan.frontend.interface import Options, Resolver
from sampan.frontend.lower import Failure, survey
from sampan.frontend.outline import Need, Outline

_VERSION = "1.0.0"
_PREFIX = "frontend."
LINT, OUTLINE, TARGETS = f"{_PREFIX}lint", f"{_PREFIX}outline", f"{_PREFIX}targets"
DESCRIBE = f"{_PREFIX}subrequests.describe"
_DESCRIBED: tuple[tuple[str, str, list[dict[str, str]] | None], ...] = (
    (
        OUTLINE,
        "List all parameters current build target supports",
        [{"name": "target", "description": "Target build stage"}],
    ),
    (TARGETS, "List all targets current build supports", []),
    (DESCRIBE, "List available subrequest types", None),
)
"""Checks are not among them, as with BuildKit: clients know."""


class UnknownRequest(NotSupported):
    """There is no such question."""

    def __init__(self, name: str) -> None:
        super().__init__(f"unsupported request {name}")
        self.name = name


class Question(NamedTuple):
    """What is asked about."""

    name: str
    """Of the Dockerfile."""
    data: bytes
    options: Options
    resolver: Resolver
    notice: Callable[[Checks], None] = lambda checks: None
    """Gets what was found beside an answer that is about something else."""


async def answer(request: str, question: Question) -> dict[str, bytes]:
    """An answer's parts, by BuildKit's names.

    Raises `UnknownRequest`, `DockerfileError`, `SampanError` of the resolver; what is wrong with a file whose checks are asked for
    is part of the answer.
    """
    argument = question.options.arguments.get(CHECK_ARGUMENT)
    if argument is not None:
        checks_of(b"", argument)
    match request:
        case "frontend.lint":
            return await _lint(question)
        case "frontend.outline":
            return await _outline(question)
        case "frontend.targets":
            return _targets(question)
        case "frontend.subrequests.describe":
            return _describe()
    raise UnknownRequest(request)


def _parts(value: Any, text: str, **more: str) -> dict[str, bytes]:
    parts = {"result.json": _json(value), "result.txt": text, "version": _VERSION}
    parts |= {f"result.{name}": each for name, each in more.items()}
    return {name: each.encode() for name, each in parts.items()}


def _json(value: Any) -> str:
    """As Go's encoder writes it for people."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    for letter in "<>&\u2028\u2029":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return text


# -- checks


async def _lint(question: Question) -> dict[str, bytes]:
    """All stages are looked at, unless there is a target."""
    checks, error = await _checked(question)
    findings = checks.findings if checks is not None else []
    source = {
        "filename": question.name,
        "data": b64encode(question.data).decode(),
        "language": "Dockerfile",
    }
    told: dict[str, Any] = {
        "warnings": [_warning(each) for each in findings] or None,
        "sources": [source],
    }
    if error is not None:
        told["buildError"] = {"message": error.message, "location": _location(error.place) or {}}
    lines = Source(question.name, tuple(question.data.decode(errors="replace").split("\n")))
    in_order = sorted(findings, key=lambda each: each.place.first)
    text = "".join(_finding(each, lines) for each in in_order)
    return _parts(told, text, statuscode="1" if findings or error is not None else "0")


class _Mistake(NamedTuple):
    message: str
    place: Place | None


async def _checked(question: Question) -> tuple[Checks | None, _Mistake | None]:
    """What was found, and what is wrong."""
    options = question.options
    checks: Checks | None = None
    try:
        checks = checks_of(question.data, options.arguments.get(CHECK_ARGUMENT))
        file = read_with(checks, question.data, question.name)
    except DockerfileError as error:
        return checks, _Mistake(str(error), error.place)
    failure = await _checked_stages(file, question, checks)
    if failure is not None:
        why = failure.error
        return checks, _Mistake(why.message if isinstance(why, DockerfileError) else str(why), failure.place)
    try:
        checks.fail()
    except DockerfileError as error:
        return checks, _Mistake(error.message, None)
    return checks, None


async def _checked_stages(file: Dockerfile, question: Question, checks: Checks) -> Failure | None:
    options = question.options

    def stages() -> Sequence[Stage]:
        return file.needed(file.stage(options.target)) if options.target else file.stages

    try:
        watcher = StageChecks(checks, file, options)
    except DockerfileError as error:
        return Failure(error, error.place)
    return await survey(file, options, question.resolver, [watcher], stages)


def _warning(finding: Finding) -> dict[str, Any]:
    told = {"ruleName": finding.rule.name, "description": finding.rule.description}
    if finding.rule.url:
        told["url"] = finding.rule.url
    return {**told, "detail": finding.text, "location": _location(finding.place)}


def _finding(finding: Finding, source: Source) -> str:
    address = f" - {finding.rule.url}" if finding.rule.url else ""
    excerpt = source.excerpt(finding.place)
    return f"\nWARNING: {finding.rule.name}{address}\n{finding.text}\n{excerpt}\n"


def _location(place: Place | None) -> dict[str, Any] | None:
    if place is None:
        return None
    lines = range(place.first, place.last + 1)
    return {"ranges": [{"start": {"line": line}, "end": {"line": line}} for line in lines]}


# -- outline


async def _outline(question: Question) -> dict[str, bytes]:
    options = question.options
    checks = checks_of(question.data, options.arguments.get(CHECK_ARGUMENT))
    try:
        file = read_with(checks, question.data, question.name)
        outline = Outline(file, options)
        watchers = [StageChecks(checks, file, options), outline]
        failure = await survey(
            file, options, question.resolver, watchers, lambda: file.needed(file.stage(options.target))
        )
        if failure is not None:
            raise failure.error
        checks.fail()
    finally:
        question.notice(checks)
    target = file.stage(options.target)
    description = target.origin.description(target.name)
    arguments, secrets, agents = (
        outline.arguments(target),
        outline.secrets(target),
        outline.agents(target),
    )
    told = {
        "name": target.name,
        "description": description,
        "args": [
            _without_nothing(
                name=each.name,
                description=each.description,
                value=each.value,
                location=_location(each.place),
            )
            for each in arguments
        ],
        "secrets": [_need(each) for each in secrets],
        "ssh": [_need(each) for each in agents],
        "sources": [b64encode(question.data).decode()],
    }
    text = ""
    if target.name or description:
        head = [("TARGET:", target.name or "(default)")]
        text += _table([*head, *([("DESCRIPTION:", description)] if description else [])], 1) + "\n"
    if arguments:
        rows = [(each.name, each.value, each.description) for each in arguments]
        text += _table([("BUILD ARG", "VALUE", "DESCRIPTION"), *rows], 3) + "\n"
    for title, needs in (("SECRET", secrets), ("SSH", agents)):
        if needs:
            needed = [(each.name, "true" if each.required else "") for each in needs]
            text += _table([(title, "REQUIRED"), *needed], 3) + "\n"
    return _parts(_without_nothing(**told), text)


def _need(need: Need) -> dict[str, Any]:
    return _without_nothing(name=need.name, required=need.required, location=_location(need.place))


def _without_nothing(**members: Any) -> dict[str, Any]:
    """Members that are empty are left out."""
    return {name: value for name, value in members.items() if value}


# -- targets


def _targets(question: Question) -> dict[str, bytes]:
    file = read(question.data, question.name)
    targets = [
        _without_nothing(
            name=stage.name,
            default=stage is file.stages[-1],
            description=stage.origin.description(stage.name),
            base=stage.origin.base,
            platform=stage.origin.platform,
            location=_location(stage.origin.place),
        )
        for stage in file.stages
    ]
    rows = [("TARGET", "DESCRIPTION")]
    for each in targets:
        name = each.get("name", "")
        if each.get("default"):
            name = f"{name} (default)".lstrip()
        rows.append((name, each.get("description", "")))
    return _parts({"targets": targets, "sources": [b64encode(question.data).decode()]}, _table(rows, 1))


# -- which of them there are


def _describe() -> dict[str, bytes]:
    told = [
        {
            "name": name,
            "version": _VERSION,
            "type": "rpc",
            "description": description,
            "opts": options,
            "inputs": None,
            "metadata": [{"name": each, "description": ""} for each in ("result.json", "result.txt")],
            "refs": None,
        }
        for name, description, options in _DESCRIBED
    ]
    rows = [(name.removeprefix(_PREFIX), _VERSION, description) for name, description, _ in _DESCRIBED]
    return _parts(told, _table([("NAME", "VERSION", "DESCRIPTION"), *rows], 1))


def _table(rows: Iterable[Sequence[str]], gap: int) -> str:
    """Columns as wide as their widest word and `gap` blanks; the last one as it is."""
    rows = list(rows)
    widths = [max(len(row[column]) for row in rows) + gap for column in range(len(rows[0]) - 1)]
    return "".join(
        "".join(word.ljust(width) for word, width in zip(row, widths, strict=False)) + row[-1] + "\n"
        for row in rows
    )
