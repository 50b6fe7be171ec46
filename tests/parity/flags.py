"""Which flags of the docker CLI the scenarios use, held against the CLI's own help.

A flag counts as used where a command of a scenario has it: rightly, when the recorded dockerd had nothing to say against the step,
and wrongly, when it had. A flag that takes a value wants both; a switch has no wrong use of its own.
"""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from parity import scenario
from parity.recordings import recorded
from parity.verdict import MODEL

VERBS = (
    *(
        "run",
        "start",
        "stop",
        "restart",
        "kill",
        "pause",
        "unpause",
        "wait",
        "attach",
        "exec",
        "logs",
        "top",
        "stats",
        "cp",
        "diff",
    ),
    *(
        "rename",
        "update",
        "port",
        "inspect",
        "ps",
        "rm",
        "load",
        "save",
        "import",
        "export",
        "commit",
        "tag",
        "images",
        "rmi",
    ),
    *(
        "history",
        "pull",
        "push",
        "search",
        "login",
        "logout",
        "build",
        "events",
        "info",
        "version",
        "container-prune",
    ),
    *(
        "container-inspect",
        "image-prune",
        "image-inspect",
        "network-create",
        "network-connect",
        "network-disconnect",
    ),
    *(
        "network-inspect",
        "network-ls",
        "network-prune",
        "network-rm",
        "volume-create",
        "volume-inspect",
        "volume-ls",
    ),
    *("volume-prune", "volume-rm", "system-df", "system-prune"),
)
"""What images, containers, networks and volumes are used with; a hyphen stands between a noun and its verb."""

ALIASES = {
    "create": "run",
    "container-ls": "ps",
    "image-ls": "images",
    "image-list": "images",
    "image-rm": "rmi",
    "image-remove": "rmi",
    "network-list": "network-ls",
    "network-remove": "network-rm",
    "volume-list": "volume-ls",
    "volume-remove": "volume-rm",
    "system-events": "events",
    "system-info": "info",
    "builder-build": "build",
}

HIDDEN = {
    "--net": "--network",
    "--net-alias": "--network-alias",
    "--dns-opt": "--dns-option",
    "--time": "--timeout",
}
"""Older spellings that the CLI takes and its help does not name."""

_OPTION = re.compile(r"^\s{1,6}(?:(-\w), |    )(--[\w-]+)(?: ([\w.]+)\b)?")
_NO_COMPLAINT = re.compile(r"\s*$|WARNING|DEPRECATED|  (?:BuildKit|environment)")


_SUBSTITUTION = re.compile(r"\$\([^()]*\)")


_COMPLAINT = re.compile(
    r"(?:docker: )?(?:Error response|invalid argument|OCI runtime exec failed|Requested |Minimum |failed to )"
)


class Flag(NamedTuple):
    """One line of a command's help."""

    verb: str
    name: str
    short: str
    """With its hyphen, "" when there is none."""
    takes_value: bool


class Use(NamedTuple):
    """A flag in a scenario's step."""

    verb: str
    flag: str
    refused: bool
    """The recorded dockerd, or the CLI in front of it, complained about the step."""
    accepted: bool


def helped(verb: str) -> list[Flag]:
    """The flags of `docker VERB --help`. Raises CalledProcessError when the CLI has no such command."""
    text = subprocess.run(
        ["docker", *verb.split("-"), "--help"],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "DOCKER_BUILDKIT": "0"},
    ).stdout
    matches = (_OPTION.match(line) for line in text.partition("Options:\n")[2].splitlines())
    return [Flag(verb, match[2], match[1] or "", match[3] is not None) for match in matches if match]


def used(scenarios: Iterable[scenario.Scenario], flags: Iterable[Flag]) -> Iterator[Use]:
    """Each use of a flag in the scenarios that dockerd's answers are kept of."""
    by_verb: dict[str, dict[str, Flag]] = {}
    for flag in flags:
        known = by_verb.setdefault(flag.verb, {})
        known[flag.name] = flag
        if flag.short:
            known[flag.short] = flag
    for each in scenarios:
        answers = recorded(MODEL, each.file).get(each.title, [])
        for step, answer in zip(each.steps, answers, strict=False):
            if step.kind != "$":
                continue
            complaint = not all(_NO_COMPLAINT.match(line) for line in answer.get("err", [])) or any(
                _COMPLAINT.match(line) for line in answer.get("out", [])
            )
            for verb, words in _commands(step.text):
                for name in _flags(words, by_verb.get(verb, {})):
                    yield Use(verb, name, complaint, answer.get("exit") == 0 or not complaint)


def _commands(text: str) -> Iterator[tuple[str, list[str]]]:
    """Each `docker …` of a line of shell, as its verb and the words behind it."""
    for match in re.finditer(r"\bdocker +((?:--?[\w-]+(?:=\S+)? +)*)(?=[a-z])", text):
        words = _words(_SUBSTITUTION.sub("it", text[match.end() :]))
        if not words:
            continue
        for length in (2, 1):
            verb = "-".join(words[:length])
            verb = ALIASES.get(verb, verb)
            for name in (verb, verb.removeprefix("container-"), verb.removeprefix("image-")):
                if len(words) >= length and name in VERBS:
                    yield name, words[length:]
                    break
            else:
                continue
            break


def _words(text: str) -> list[str]:
    """Words up to what ends a command."""
    lexer = shlex.shlex(text, posix=True, punctuation_chars=";|&<>()")
    lexer.whitespace_split = True
    lexer.commenters = ""
    words: list[str] = []
    try:
        for word in lexer:
            if word and set(word) <= set(";|&<>()"):
                break
            words.append(word)
    except ValueError:
        pass  # a quote that the surrounding shell closes
    return words


def _flags(words: list[str], known: dict[str, Flag]) -> Iterator[str]:
    """The long names of the flags among a command's words, up to its first argument where what follows is another program's."""
    words = list(words)
    program_follows = any(flag.verb in ("run", "create", "exec") for flag in known.values())
    while words:
        word = words.pop(0)
        if word == "--":
            return
        if not word.startswith("-") or word == "-":
            if program_follows:
                return
            continue
        name, equals, _ = word.partition("=")
        if name.startswith("--"):
            flag = known.get(HIDDEN.get(name, name))
            if flag:
                yield flag.name
                if flag.takes_value and not equals and words:
                    words.pop(0)
            continue
        rest = word[1:]
        while rest and (flag := known.get(f"-{rest[0]}")):
            yield flag.name
            if flag.takes_value:
                if not rest[1:] and words:
                    words.pop(0)
                break
            rest = rest[1:].removeprefix("=true").removeprefix("=false")
