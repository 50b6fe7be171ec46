"""Variables: every form against what the reference's tables say, and anything at all against crashes."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.dockerfile.expand import expand, expand_words, names_in
from sampan.dockerfile.source import DockerfileError

VALUES = {"name": "value", "empty": "", "path": "/usr/local/bin", "file": "a.tar.gz", "two": "a b"}


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("plain", "plain"),
        ("$name", "value"),
        ("${name}", "value"),
        ("$name/x", "value/x"),
        ("$nothing", ""),
        ("$", "$"),
        ("a$ b", "a$ b"),
        ("\\$name", "$name"),
        ("'$name'", "$name"),
        ('"$name"', "value"),
        ('"\\$name"', "$name"),
        ('"a\\b"', "a\\b"),
        ("a\\b", "ab"),
        ("${nothing:-other}", "other"),
        ("${empty:-other}", "other"),
        ("${empty-other}", ""),
        ("${nothing-other}", "other"),
        ("${name:+yes}", "yes"),
        ("${empty:+yes}", ""),
        ("${empty+yes}", "yes"),
        ("${nothing+yes}", ""),
        ("${name?never}", "value"),
        ("${nothing:-${name}}", "value"),
        ("${nothing:-$name-x}", "value-x"),
        ('${nothing:-"a b"}', "a b"),
        ("${path#*/}", "usr/local/bin"),
        ("${path##*/}", "bin"),
        ("${path%/*}", "/usr/local"),
        ("${path%%/*}", ""),
        ("${file%.gz}", "a.tar"),
        ("${file%.*}", "a.tar"),
        ("${file%%.*}", "a"),
        ("${file#nothing}", "a.tar.gz"),
        ("${path/\\//:}", ":usr/local/bin"),
        ("${file/a/b}", "b.tar.gz"),
        ("${file//a/b}", "b.tbr.gz"),
        ("${file/nothing/b}", "a.tar.gz"),
        ("${file/?.t/b}", "bar.gz"),
        ("${nothing#x}", ""),
    ],
)
def test_forms(text: str, result: str) -> None:
    assert expand(text, VALUES.get) == result


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("${name", "missing '}'"),
        ("${}", "bad substitution"),
        ("${:-x}", "bad substitution"),
        ("${name!x}", "unsupported modifier (!)"),
        ("${name:x}", "unsupported modifier (:x)"),
        ("${nothing:?needed here}", "nothing: needed here"),
        ("${nothing?}", "nothing: is not allowed to be unset"),
        ("${empty:?}", "empty: is not allowed to be empty"),
        ("'open", "single-quote"),
        ('"open', "double-quote"),
    ],
)
def test_mistakes(text: str, message: str) -> None:
    with pytest.raises(DockerfileError) as caught:
        expand(text, VALUES.get)
    assert message in str(caught.value)


def test_another_escape() -> None:
    assert expand("C:\\$name`$name", VALUES.get, escape="`") == "C:\\value$name"


def test_words() -> None:
    assert expand_words("a $two '$two' \"$two\" $nothing ''", VALUES.get) == [
        "a",
        "a",
        "b",
        "$two",
        "a b",
        "",
    ]


def test_names() -> None:
    assert names_in("$a ${b:-$c} '$d' ${e:?}") == {"a", "b", "c", "e"}


@given(st.text(alphabet="ab$\\{}'\"`:-+?#%/* ", max_size=40))
def test_anything_gives_a_text_or_a_clear_error(text: str) -> None:
    try:
        assert isinstance(expand(text, VALUES.get), str)
    except DockerfileError as error:
        assert str(error)


@given(
    st.text(alphabet="ab/.*?x", max_size=12),
    st.text(alphabet="ab/.x", max_size=12),
    st.sampled_from(["#", "##", "%", "%%"]),
)
def test_trimming_is_the_shells(pattern: str, value: str, operator: str) -> None:
    shell = subprocess.run(
        ["sh", "-c", f'v=$1; printf %s "${{v{operator}{pattern}}}"', "sh", value],
        capture_output=True,
        text=True,
        check=True,
    )
    assert expand(f"${{v{operator}{pattern}}}", {"v": value}.get) == shell.stdout
