"""The command line's syntax."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.runtime.command.arguments import Option, UsageError, format_options, parse

OPTIONS = (
    Option(("bundle", "b"), "text", "a directory"),
    Option(("force", "f"), "flag", "really"),
    Option(("env", "e"), "texts", "a variable"),
    Option(("preserve-fds",), "number", "how many", "0"),
)


def test_every_spelling() -> None:
    parsed = parse(
        OPTIONS, ["-b", "/x", "--force", "--env", "A=1", "--env=B=2", "-preserve-fds=3", "id", "-f", "rest"]
    )
    assert parsed.text("bundle") == "/x"
    assert parsed.flag("force")
    assert parsed.lists["env"] == ["A=1", "B=2"]
    assert parsed.number("preserve-fds") == 3
    assert parsed.rest == ["id", "-f", "rest"]


def test_options_end_at_two_dashes() -> None:
    assert parse(OPTIONS, ["-f", "--", "-b"]).rest == ["-b"]


@pytest.mark.parametrize(("value", "flag"), [("true", True), ("0", False), ("F", False)])
def test_flags_with_a_value(value: str, flag: bool) -> None:
    assert parse(OPTIONS, [f"--force={value}"]).flag("force") is flag


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--nope"], "flag provided but not defined: -nope"),
        (["--env", "A=1", "-e", "B=2"], "Cannot use two forms of the same flag: e env"),
        (["-b"], "flag needs an argument: -b"),
        (["--force=perhaps"], 'invalid boolean value "perhaps" for -force'),
    ],
)
def test_mistakes(arguments: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse(OPTIONS, arguments)


def test_a_wrong_number() -> None:
    with pytest.raises(UsageError, match='invalid value "x" for flag -preserve-fds'):
        parse(OPTIONS, ["--preserve-fds", "x"]).number("preserve-fds")


@given(st.lists(st.text(), max_size=6))
def test_any_arguments_parse_or_are_refused(arguments: list[str]) -> None:
    try:
        parsed = parse(OPTIONS, arguments)
    except UsageError:
        return
    assert parsed.rest == arguments[len(arguments) - len(parsed.rest) :]


def test_help_lists_each_option() -> None:
    lines = format_options(OPTIONS).splitlines()
    assert lines[0].split() == ["--bundle", "value,", "-b", "value", "a", "directory"]
    assert lines[3].endswith("how many (default: 0)")
