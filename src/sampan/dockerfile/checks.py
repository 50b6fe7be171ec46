"""Build checks: which rules are on (`# check=`), what they found, and those that look at a file's text alone.

The rules that need a stage's variables and base are `frontend.checks`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from sampan.dockerfile import rules
from sampan.dockerfile.directives import directive, read_directives
from sampan.dockerfile.parse import Statement, parse
from sampan.dockerfile.rules import Rule
from sampan.dockerfile.source import DockerfileError, Place, source_of
from sampan.dockerfile.stages import Dockerfile, understood
from sampan.dockerfile.words import split_words
from sampan.names.booleans import word_for

CHECK_ARGUMENT = "BUILDKIT_DOCKERFILE_CHECK"
"""A build argument that counts instead of a file's `# check=`."""
ALL = "all"
_RESERVED = ("context", "scratch")


@dataclass(frozen=True, slots=True)
class CheckOptions:
    """What `# check=skip=A,B;error=true;experimental=all` says. Sets that hold `all` hold every rule."""

    skipped: frozenset[str] = frozenset()
    experimental: frozenset[str] = frozenset()
    fails: bool = False
    """What is found fails the build."""

    def does(self, rule: Rule) -> bool:
        """Whether a rule is on."""
        if rule.experimental:
            return bool(self.experimental & {ALL, rule.name})
        return not self.skipped & {ALL, rule.name}

    def and_by(self, comments: Iterable[str]) -> CheckOptions:
        """With what a comment above an instruction says: `# check=skip=…`. One that cannot be read says nothing."""
        for comment in comments:
            found = directive(comment)
            if found is None or found[0] != "check":
                continue
            try:
                more = read_options(found[1].partition(" ")[0])
            except DockerfileError:
                return self
            return replace(
                self,
                skipped=self.skipped | more.skipped,
                experimental=self.experimental | more.experimental,
            )
        return self


def read_options(text: str) -> CheckOptions:
    """Raises `DockerfileError` for what is no option."""
    options = CheckOptions()
    text = text.strip()
    for part in text.split(";", 2) if text else ():
        name, equals, value = part.partition("=")
        if not equals:
            raise DockerfileError(f'invalid check option "{part}"')
        match name.strip():
            case "skip":
                options = replace(options, skipped=_names(value))
            case "experimental":
                options = replace(options, experimental=_names(value))
            case "error":
                value = value.strip()
                fails = word_for(value)
                if fails is None:
                    raise DockerfileError(
                        f'failed to parse check option "{part}":'
                        f' strconv.ParseBool: parsing "{value}": invalid syntax'
                    )
                options = replace(options, fails=fails)
            case other:
                raise DockerfileError(f'invalid check option "{other}"')
    return options


def _names(text: str) -> frozenset[str]:
    if text.strip() == ALL:
        return frozenset({ALL})
    return frozenset(each.strip() for each in text.split(",")) - {ALL}


@dataclass(frozen=True, slots=True)
class Finding:
    """What a rule found, and where."""

    rule: Rule
    text: str
    place: Place

    @property
    def short(self) -> str:
        """On one line, as a build's warning."""
        return f"{self.rule.name}: {self.text} (line {self.place.first})"


class Checks:
    """Collects findings of one file. `stage` keeps those of stages apart, so that all are in the file's order in the end."""

    def __init__(self, options: CheckOptions) -> None:
        self.options = options
        self._findings: list[Finding] = []
        self._of_stages: dict[int, list[Finding]] = {}

    def report(
        self, rule: Rule, text: str, place: Place, *, comments: Sequence[str] = (), stage: int | None = None
    ) -> None:
        """A rule's finding, unless the rule is off, here or above the instruction (whose comments are given)."""
        options = self.options.and_by(comments) if comments else self.options
        if options.does(rule):
            finding = Finding(rule, text, place)
            if stage is None:
                self._findings.append(finding)
            else:
                self._of_stages.setdefault(stage, []).append(finding)

    @property
    def findings(self) -> list[Finding]:
        """What was found, of the whole file first, then stage by stage."""
        of_stages = [each for stage in sorted(self._of_stages) for each in self._of_stages[stage]]
        return [*self._findings, *of_stages]

    def fail(self) -> None:
        """Raises `DockerfileError` when something was found and that is to be an error."""
        found = dict.fromkeys(each.rule.name for each in self.findings)
        if self.options.fails and found:
            raise DockerfileError(f"lint violation found for rules: {', '.join(found)}")


def checks_of(data: bytes | str, argument: str | None = None) -> Checks:
    """The checks that a file asks for in its head, or `argument` (`CHECK_ARGUMENT`'s value) instead. Raises `DockerfileError`."""
    try:
        if argument is not None:
            return Checks(read_options(argument))
        # The value ends at its first blank.
        return Checks(read_options(read_directives(source_of(data)).check.partition(" ")[0]))
    except DockerfileError as error:
        if error.place is not None:
            raise
        what = "check options" if argument is None else f"build-arg:{CHECK_ARGUMENT}"
        raise DockerfileError(f"failed to parse {what}: {error.message}") from None


def read_with(checks: Checks, data: bytes | str, name: str = "Dockerfile") -> Dockerfile:
    """Read a file and check its form. Raises `DockerfileError`; what was found above the mistake is found."""
    parsed = parse(source_of(data, name))
    for _, place in parsed.gaps:
        checks.report(rules.NO_EMPTY_CONTINUATION, "Empty continuation line", place)
    form = _Form(checks, parsed.directives.escape)
    file = understood(parsed, form.notice)
    form.stage_names(file)
    form.casing(file)
    return file


class _Form:
    """The rules about words alone."""

    def __init__(self, checks: Checks, escape: str) -> None:
        self._checks = checks
        self._escape = escape

    def notice(self, statement: Statement) -> None:
        match statement.keyword:
            case "FROM":
                self._from(statement)
            case "MAINTAINER":
                text = "Maintainer instruction is deprecated in favor of using label"
                self._report(rules.MAINTAINER_DEPRECATED, text, statement)
            case "ARG":
                words = split_words(statement.text, self._escape)
                self._description(statement, [word.partition("=")[0] for word in words])

    def _report(self, rule: Rule, text: str, statement: Statement) -> None:
        self._checks.report(rule, text, statement.place, comments=statement.comments)

    def _from(self, statement: Statement) -> None:
        words = statement.text.split()
        if len(words) != 3:
            return
        keyword, as_, name = statement.original.split(None, 1)[0], words[1], words[2]
        if name != name.lower():
            self._report(rules.STAGE_NAME_CASING, f"Stage name '{name}' should be lowercase", statement)
        wanted = {keyword.lower(): as_.lower(), keyword.upper(): as_.upper()}.get(keyword, as_)
        if as_ != wanted:
            text = f"'{as_}' and '{keyword}' keywords' casing do not match"
            self._report(rules.FROM_AS_CASING, text, statement)
        self._description(statement, [name.lower()])

    def _description(self, statement: Statement, names: Sequence[str]) -> None:
        """The last comment above is about what is defined, or it is none about anything."""
        if not statement.comments or not names or statement.comments[-1].split(" ")[0] in names:
            return
        name = names[0] if len(names) == 1 else "<arg_key>"
        text = f"Comment for {statement.keyword} should follow the format: `# {name} <description>`"
        self._report(rules.INVALID_DEFINITION_DESCRIPTION, text, statement)

    def stage_names(self, file: Dockerfile) -> None:
        seen: set[str] = set()
        for stage in file.stages:
            place = stage.origin.place
            if stage.name in _RESERVED:
                text = f'Stage name should not use the same name as reserved stage "{stage.name}"'
                self._checks.report(rules.RESERVED_STAGE_NAME, text, place)
            if stage.name in seen:
                text = f'Duplicate stage name "{stage.name}", stage names should be unique'
                self._checks.report(rules.DUPLICATE_STAGE_NAME, text, place)
            seen.add(stage.name or "/")  # no stage is called that

    def casing(self, file: Dockerfile) -> None:
        """Keywords are all in capitals or all in small letters, as most are."""
        written = [
            (each.keyword, each.place)
            for stage in file.stages
            for each in (stage.origin, *stage.instructions)
        ]
        count = Counter((word == word.lower(), word == word.upper()) for word, _ in written)
        lower = count[True, False] > count[False, True]
        for word, place in written:
            if word != (word.lower() if lower else word.upper()):
                wanted = "lowercase" if lower else "uppercase"
                text = f"Command '{word}' should match the case of the command majority ({wanted})"
                self._checks.report(rules.CONSISTENT_INSTRUCTION_CASING, text, place)
