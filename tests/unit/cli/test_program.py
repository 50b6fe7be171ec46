"""The program as a whole, without an engine."""

from __future__ import annotations

import importlib

import pytest

from sampan.cli.command import Verb
from sampan.cli.commands import GROUPS, TOP
from sampan.cli.main import run


@pytest.mark.parametrize(
    "home",
    {home for homes in (TOP, *(group for _, group in GROUPS.values())) for home in homes.values()},
    ids=lambda home: f"{home.module}.{home.attribute}",
)
def test_every_verb_exists_and_has_help(home: object, capsys: pytest.CaptureFixture[str]) -> None:
    module, attribute, help = home  # type: ignore[misc]
    verb = getattr(importlib.import_module(f"sampan.cli.verbs.{module}"), attribute)
    assert isinstance(verb, Verb)
    assert verb.help == help


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["run", "--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(
        "Usage:  sampan run [OPTIONS] IMAGE [COMMAND] [ARG...]\n\nCreate and run a new container"
    )
    assert "  -d, --detach " in text
    assert "Examples:\n  $ sampan run --rm busybox echo hello" in text


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["foo"], 1, "sampan: unknown command: sampan foo\n\nRun 'sampan --help' for more information\n"),
        (
            ["container", "foo"],
            1,
            "sampan: unknown command: sampan container foo\n\nUsage:  sampan container\n",
        ),
        (["--foo"], 125, "unknown flag: --foo\n"),
        (["run"], 1, "sampan: 'sampan run' requires at least 1 argument\n"),
        (["ps", "a"], 1, "sampan: 'sampan ps' accepts no arguments\n"),
        (["-H", "ssh://x", "ps"], 1, "ssh://x: ssh:// is not supported"),
        (
            ["-H", "unix:///nowhere/x.sock", "ps"],
            1,
            "Cannot connect to the Docker daemon at unix:///nowhere/x.sock.",
        ),
        (["run", "-p", "99999:1", "b"], 125, "sampan: invalid hostPort: 99999\n"),
    ],
)
def test_mistakes(words: list[str], status: int, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(words) == status
    assert capsys.readouterr().err.startswith(message)
