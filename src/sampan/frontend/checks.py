"""Build checks that need a stage's variables, its base, or the ignore file: done as a file is lowered."""

from __future__ import annotations

import csv
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from sampan.dockerfile import rules
from sampan.dockerfile.checks import Checks
from sampan.dockerfile.expand import expand, expand_words
from sampan.dockerfile.ignore import Ignore
from sampan.dockerfile.instructions import (
    Add,
    Arg,
    Cmd,
    Copy,
    Entrypoint,
    Env,
    Expose,
    Healthcheck,
    Instruction,
    Label,
    Run,
    Stopsignal,
    User,
    Volume,
    Workdir,
)
from sampan.dockerfile.nearest import closest
from sampan.dockerfile.parse import heredoc_of, split_statement
from sampan.dockerfile.rules import Rule
from sampan.dockerfile.source import DockerfileError, Place
from sampan.dockerfile.stages import Dockerfile, Stage
from sampan.dockerfile.words import split_words
from sampan.errors import InvalidParameter
from sampan.frontend.interface import Base, Options
from sampan.frontend.remote import git_reference, is_url
from sampan.frontend.stage import StageState
from sampan.frontend.variables import environment, outer_values
from sampan.frontend.watching import Watcher, Words
from sampan.names import platform as platforms
from sampan.names.platform import Platform
from sampan.names.reference import parse_normalized

_SECRET = re.compile(
    r"(?:_|^)(?:apikey|auth|credentials?|key|password|pword|passwd|secret|token)(?:_|$)", re.IGNORECASE
)
_NO_SECRET = re.compile(r"(?:_|^)(?:public|file|version)(?:_|$)", re.IGNORECASE)
_NOT_VARIABLES = ("BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE")
_EVERYTHING = ("*", "**", "**/*")


@dataclass(slots=True)
class _Seen:
    """What a stage has had so far."""

    last: dict[type[Instruction], Place] = field(default_factory=dict)
    variables: dict[str, None] | None = None
    """In the order in which they were set last; None until the stage has begun."""
    has_workdir: bool = False


class StageChecks(Watcher):
    """For one pass over a file: reports what is suspicious about what it is told of."""

    def __init__(self, checks: Checks, file: Dockerfile, options: Options) -> None:
        self._checks = checks
        self._file = file
        self._options = options
        self._escape = file.directives.escape
        self._seen: dict[int, _Seen] = {}
        ignored = options.ignored
        self._ignored = ignored if not any(each.startswith("!") for each in ignored) else ()
        self._ignore = Ignore(list(self._ignored))
        self._excludes_all = any(each in _EVERYTHING for each in self._ignored)

    # -- FROM

    def origins(self, outer: Mapping[str, str]) -> None:
        """See `Watcher`."""
        self._default_origins()
        declared = {name for each in self._file.arguments for name, _ in each.arguments}
        known = sorted(declared | outer.keys())
        for stage in self._file.stages:
            words = Words()
            base = expand(stage.origin.base, words.watching(outer.get), escape=self._escape)
            self._undeclared(stage, words, known)
            if not base:
                raise self._mistake(stage, f"base name ({stage.origin.base}) should not be blank")
            if stage.origin.platform:
                self._platform(stage, outer, known)

    def _mistake(self, stage: Stage, message: str) -> DockerfileError:
        return DockerfileError(message, self._file.source, stage.origin.place)

    def _default_origins(self) -> None:
        """What the files' defaults alone make of a base has to be an image's name."""
        try:
            values = outer_values(self._file, self._options, {})
            bases = [expand(each.origin.base, values.get, escape=self._escape) for each in self._file.stages]
        except DockerfileError:
            return
        for stage, base in zip(self._file.stages, bases, strict=True):
            try:
                parse_normalized(base)
            except InvalidParameter:
                text = (
                    f"Default value for ARG {stage.origin.base} results in empty or invalid base image name"
                )
                self._checks.report(rules.INVALID_DEFAULT_ARG_IN_FROM, text, stage.origin.place)

    def _undeclared(self, stage: Stage, words: Words, known: Iterable[str]) -> None:
        for name in words.missing.keys() - set(known):
            text = f"FROM argument '{name}' is not declared{_meant(closest(name, known))}"
            self._of_origin(stage, rules.UNDEFINED_ARG_IN_FROM, text)

    def _platform(self, stage: Stage, outer: Mapping[str, str], known: Iterable[str]) -> None:
        written = stage.origin.platform
        words = Words()
        platform = expand(written, words.watching(outer.get), escape=self._escape)
        self._undeclared(stage, words, known)
        alone = list(words.found) == ["TARGETPLATFORM"] and not words.missing
        if alone and platform == outer["TARGETPLATFORM"]:
            text = f"Setting platform to predefined {written} in FROM is redundant as this is the default behavior"
            self._of_origin(stage, rules.REDUNDANT_TARGET_PLATFORM, text)
        if not words.found and not words.missing:
            self._constant(stage, platform)
        meant = _meant(next(filter(None, (closest(name, outer) for name in words.missing)), ""))
        if not platform:
            raise self._mistake(stage, f"empty platform value from expression {written}{meant}")
        try:
            platforms.parse(platform)
        except InvalidParameter as error:
            raise self._mistake(stage, f"failed to parse platform {written}: {error}{meant}") from None

    def _constant(self, stage: Stage, platform: str) -> None:
        try:
            parsed = platforms.parse(platform)
        except InvalidParameter:
            return
        if parsed.os not in stage.name and parsed.architecture not in stage.name:
            text = f'FROM --platform flag should not use constant value "{platform}"'
            self._of_origin(stage, rules.FROM_PLATFORM_FLAG_CONST_DISALLOWED, text)

    def _of_origin(self, stage: Stage, rule: Rule, text: str) -> None:
        self._checks.report(rule, text, stage.origin.place, comments=stage.origin.comments)

    def image(self, stage: Stage, name: str, found: Base, wanted: Platform) -> None:
        """See `Watcher`."""
        config = found.config
        actual = Platform(config.os, config.architecture, config.variant or "")
        if config.rootfs.diff_ids and actual[:2] != wanted[:2]:
            text = (
                f'Base image {name} was pulled with platform "{actual}",'
                f' expected "{wanted}" for current build'
            )
            self._checks.report(rules.INVALID_BASE_IMAGE_PLATFORM, text, stage.origin.place)

    def inherit(self, state: StageState, base: StageState) -> None:
        """See `Watcher`."""
        seen, before = self._of(state), self._of(base)
        seen.has_workdir = before.has_workdir
        # A stage begins with its environment once more, so what is no part of that comes first.
        set_again = dict.fromkeys(environment(state.config.env))
        seen.variables = {
            **{name: None for name in before.variables or () if name not in set_again},
            **set_again,
        }

    # -- the other instructions

    def before(self, state: StageState, instruction: Instruction) -> None:
        """See `Watcher`."""
        report = _Report(self._checks, state, instruction)
        if self._of(state).variables is None:
            self._of(state).variables = dict.fromkeys(environment(state.config.env))
        if isinstance(instruction, Arg):
            self._argument(state, instruction, report)
            return
        for text in _words(instruction, self._escape):
            self._undefined(state, text, (), report)
        match instruction:
            case Env(pairs=pairs):
                self._legacy(instruction, report)
                for name, _ in pairs:
                    _secret("ENV", state.expand(name), report)
            case Label():
                self._legacy(instruction, report)
            case Cmd() | Entrypoint() | Healthcheck():
                self._only_one(state, instruction)
                if not isinstance(instruction, Healthcheck) and instruction.command.shell:
                    _by_shell(state, instruction, report)
            case Workdir(path=path):
                self._workdir(state, state.expand(path), report)
            case Copy() if not instruction.from_ and self._ignored:
                for word in instruction.sources:
                    if heredoc_of(word, self._escape) is None:
                        self._copied(instruction, state.expand(word), report)
            case Expose(ports=ports):
                for text in ports:
                    for word in expand_words(text, state.lookup, escape=self._escape):
                        _port(word, report)

    def after(self, state: StageState, instruction: Instruction) -> None:
        """See `Watcher`."""
        match instruction:
            case Env(pairs=pairs):
                set_now = [state.expand(name) for name, _ in pairs]
            case Arg(arguments=arguments):
                set_now = [name for name, _ in arguments if state.variables.value(name) is not None]
            case _:
                return
        variables = self._of(state).variables or {}
        for name in set_now:
            variables.pop(name, None)
            variables[name] = None

    def _of(self, state: StageState) -> _Seen:
        return self._seen.setdefault(state.stage.index, _Seen())

    def _argument(self, state: StageState, instruction: Arg, report: _Report) -> None:
        """Those that follow in the same instruction may use what stands before."""
        names: list[str] = []
        for name, default in instruction.arguments:
            _secret("ARG", name, report)
            if default is not None and name not in self._options.arguments:
                self._undefined(state, default, names, report)
            names.append(name)

    def _undefined(self, state: StageState, text: str, declared: Iterable[str], report: _Report) -> None:
        """A word's variables; those of several words are said several times."""
        if "$" not in text:
            return
        words = Words()
        try:
            expand(text, words.watching(state.lookup), escape=self._escape)
        except DockerfileError:
            pass  # whoever does the instruction says so
        known = {*state.variables.names, *declared, *_NOT_VARIABLES}
        for name in words.missing:
            if name not in known:
                meant = closest(name, self._of(state).variables or ())
                found = f"Usage of undefined variable '${name}'{_meant('$' + meant if meant else '')}"
                report(rules.UNDEFINED_VAR, found)

    def _legacy(self, instruction: Instruction, report: _Report) -> None:
        """`ENV name value`."""
        words = split_words(split_statement(instruction.original, self._escape)[2], self._escape)
        if "=" not in words[0]:
            keyword = instruction.keyword
            text = f'"{keyword} key=value" should be used instead of legacy "{keyword} key value" format'
            report(rules.LEGACY_KEY_VALUE_FORMAT, text)

    def _only_one(self, state: StageState, instruction: Instruction) -> None:
        """It is the one before that counts for nothing."""
        seen = self._of(state).last
        before = seen.get(type(instruction))
        seen[type(instruction)] = instruction.place
        if before is not None:
            text = (
                f"Multiple {instruction.keyword} instructions should not be used in the same stage"
                " because only the last one will be used"
            )
            self._checks.report(
                rules.MULTIPLE_INSTRUCTIONS_DISALLOWED,
                text,
                before,
                comments=instruction.comments,
                stage=state.stage.index,
            )

    def _workdir(self, state: StageState, path: str, report: _Report) -> None:
        seen = self._of(state)
        if not seen.has_workdir and not path.startswith("/"):
            text = f'Relative workdir "{path}" can have unexpected results if the base image changes'
            report(rules.WORKDIR_RELATIVE_PATH, text)
        seen.has_workdir = True

    def _copied(self, instruction: Copy, source: str, report: _Report) -> None:
        if isinstance(instruction, Add) and (is_url(source) or git_reference(source)):
            return
        path = posixpath.normpath(source)
        excluded = self._excludes_all if path in (".", "/") else self._ignore.excludes(path)
        if excluded:
            keyword = "Add" if isinstance(instruction, Add) else "Copy"
            text = f'Attempting to {keyword} file "{path}" that is excluded by .dockerignore'
            report(rules.COPY_IGNORED_FILE, text)


class _Report:
    """Reports about one instruction."""

    def __init__(self, checks: Checks, state: StageState, instruction: Instruction) -> None:
        self._checks = checks
        self._stage = state.stage.index
        self._instruction = instruction

    def __call__(self, rule: Rule, text: str) -> None:
        place, comments = self._instruction.place, self._instruction.comments
        self._checks.report(rule, text, place, comments=comments, stage=self._stage)


def _words(instruction: Instruction, escape: str) -> Iterator[str]:
    """All that variables are replaced in, each by itself."""
    match instruction:
        case Env(pairs=pairs) | Label(pairs=pairs):
            yield from (text for pair in pairs for text in pair)
        case Copy():
            yield from (instruction.chown, instruction.chmod)
            if isinstance(instruction, Add):
                yield instruction.checksum
            yield from (each for each in instruction.sources if heredoc_of(each, escape) is None)
            yield instruction.destination
            for heredoc in instruction.files:
                if heredoc.expands:  # quotes in it are the file's own
                    yield '"' + heredoc.text.replace('"', escape + '"') + '"'
        case Run(mounts=mounts):
            for text in mounts:
                yield from (each.partition("=")[2] for each in next(csv.reader([text]), []))
        case Workdir(path=text) | User(user=text) | Stopsignal(signal=text):
            yield text
        case Volume(paths=paths):
            yield from paths


def _secret(keyword: str, name: str, report: _Report) -> None:
    if _SECRET.search(name) and not _NO_SECRET.search(name):
        text = f'Do not use ARG or ENV instructions for sensitive data ({keyword} "{name}")'
        report(rules.SECRETS_USED_IN_ARG_OR_ENV, text)


def _by_shell(state: StageState, instruction: Instruction, report: _Report) -> None:
    """A line is for the shell, which gets the signals; who has chosen a shell wants that."""
    if not state.config.shell:
        text = (
            f"JSON arguments recommended for {instruction.keyword}"
            " to prevent unintended behavior related to OS signals"
        )
        report(rules.JSON_ARGS_RECOMMENDED, text)


def _port(word: str, report: _Report) -> None:
    protocol = word.rpartition(":")[2].partition("/")[2]
    if protocol != protocol.lower():
        text = f"Defined protocol '{word}' in EXPOSE instruction should be lowercase"
        report(rules.EXPOSE_PROTO_CASING, text)
    if word.rpartition(":")[0].strip(":"):
        text = f"EXPOSE instruction should not define an IP address or host-port mapping, found '{word}'"
        report(rules.EXPOSE_INVALID_FORMAT, text)


def _meant(word: str) -> str:
    return f" (did you mean {word}?)" if word else ""
