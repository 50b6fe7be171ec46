"""Flags as pflag reads them."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.cli.commands import GROUPS, TOP, Home
from sampan.cli.completing import candidates, names
from sampan.cli.flags import Flag, FlagError, parse
from sampan.cli.values import INT, STRING

WANTED = (
    Flag(("-t", "--tty"), None, "", default=False),
    Flag(("-i", "--interactive"), None, "", default=False),
    Flag(("--sig-proxy",), None, "", default=True),
    Flag(("-p", "--publish"), STRING, "", repeated=True),
    Flag(("-n", "--tail", "--last"), INT, "", default=-1),
)


def read(*words: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """What differs from the defaults, and the arguments."""
    values, args = parse(WANTED, words, interspersed=True)
    defaults, _ = parse(WANTED, (), interspersed=True)
    return {name: value for name, value in values.items() if value != defaults[name]}, args


@pytest.mark.parametrize(
    ("words", "values", "args"),
    [
        (["-it", "a"], {"tty": True, "interactive": True}, ("a",)),
        (["-itp", "1:2"], {"tty": True, "interactive": True, "publish": ("1:2",)}, ()),
        (["-p80", "-p=81", "-p", "82", "--publish=83"], {"publish": ("80", "81", "82", "83")}, ()),
        (["-t=true", "-i=false"], {"tty": True}, ()),
        (["--tty", "--tty=false"], {}, ()),
        (["--sig-proxy=0"], {"sig_proxy": False}, ()),
        (["--tty", "false"], {"tty": True}, ("false",)),
        (["-n", "-5", "-n5", "--last", "7"], {"tail": 7}, ()),
        (["a", "-t", "--", "-i"], {"tty": True}, ("a", "-i")),
        (["-", "-t"], {"tty": True}, ("-",)),
        (["--publish", "--tty"], {"publish": ("--tty",)}, ()),
        (["--publish="], {"publish": ("",)}, ()),
    ],
)
def test_forms(words: list[str], values: dict[str, Any], args: tuple[str, ...]) -> None:
    assert read(*words) == (values, args)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--tt"], "unknown flag: --tt"),
        (["--no=1"], "unknown flag: --no"),
        (["-tz"], "unknown shorthand flag: 'z' in -z"),
        (["--=x"], "bad flag syntax: --=x"),
        (["---x"], "bad flag syntax: ---x"),
        (["-ip"], "flag needs an argument: 'p' in -p"),
        (["--tail"], "flag needs an argument: --tail"),
        (["-n", "x"], 'invalid argument "x" for "-n, --tail" flag: '),
        (["-t=maybe"], 'invalid argument "maybe" for "-t, --tty" flag: strconv.ParseBool: '),
    ],
)
def test_mistakes(words: list[str], message: str) -> None:
    with pytest.raises(FlagError) as caught:
        read(*words)
    assert str(caught.value).startswith(message)


@given(st.lists(st.text(st.sampled_from("-tipn=x5"), max_size=4)))
def test_any_words_are_read_or_refused(words: list[str]) -> None:
    try:
        values, args = parse(WANTED, words, interspersed=False)
    except FlagError:
        return
    assert set(values) == {flag.parameter for flag in WANTED}
    assert not args or tuple(words[-len(args) :]) == args


@given(st.lists(st.text()))
def test_after_two_dashes_everything_is_an_argument(words: list[str]) -> None:
    assert read("--", *words) == ({}, tuple(words))


@pytest.mark.parametrize(
    "home", {home for homes in (TOP, *(group for _, group in GROUPS.values())) for home in homes.values()}
)
def test_every_verb_takes_its_flags(home: Home) -> None:
    verb = getattr(importlib.import_module(f"sampan.cli.verbs.{home.module}"), home.attribute)
    values, _ = verb.parse("sampan", [])
    del values["help"]
    inspect.signature(verb._function).bind(None, (), **values)
    names = [name for flag in verb.flags for name in flag.names]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["un"], ["unpause"]),
        (["network", "c"], ["connect", "create"]),
        (["run", "--rm"], ["--rm"]),
        (["container", "ls", "--no-"], ["--no-trunc"]),
        (["--tlsc"], ["--tlscacert", "--tlscert"]),
        (["nonsense", "--x"], []),
        (["run", "busy"], ["busybox"]),
        (["run", "--rm", "--network", ""], ["lan"]),
        (["run", "--name", ""], []),
        (["run", "busybox", ""], []),
        (["exec", "-it", ""], ["web"]),
        (["exec", "web", ""], []),
        (["rm", "web", ""], ["db", "web"]),
        (["-H", "tcp://other", "container", "logs", "d"], ["db@tcp://other"]),
        (["network", "connect", ""], ["lan"]),
        (["network", "connect", "lan", ""], ["db", "web"]),
        (["volume", "rm", ""], ["data"]),
        (["tag", "busybox", ""], []),
        (["cp", ""], []),
    ],
)
def test_completion(words: list[str], expected: list[str]) -> None:
    known = {
        "CONTAINER": ["web", "db"],
        "RUNNING": ["web"],
        "IMAGE": ["busybox"],
        "NETWORK": ["lan"],
        "VOLUME": ["data"],
    }

    def ask(given: dict[str, Any], kind: str) -> list[str]:
        return [f"{name}@{given['host'][0]}" if given["host"] else name for name in known[kind]]

    assert candidates(words, ask) == expected


def test_completion_starts_no_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    assert candidates(["stop", ""], names) == []
    assert not list(tmp_path.iterdir())
