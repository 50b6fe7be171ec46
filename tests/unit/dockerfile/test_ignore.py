"""Which paths stay behind."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.dockerfile.ignore import Ignore, patterns_of
from sampan.dockerfile.source import DockerfileError


@pytest.mark.parametrize(
    ("text", "path", "excluded"),
    [
        ("a", "a", True),
        ("a", "a/b/c", True),
        ("a", "ab", False),
        ("a", "x/a", False),
        ("/a/", "a/b", True),
        ("./a", "a", True),
        ("*.md", "README.md", True),
        ("*.md", "docs/README.md", False),
        ("**/*.md", "docs/x/README.md", True),
        ("**/*.md", "README.md", True),
        ("**", "any/thing", True),
        ("a/**", "a/b", True),
        ("a/**", "a", False),
        ("a/**/z", "a/z", True),
        ("a/**/z", "a/b/c/z", True),
        ("a?c", "abc", True),
        ("a?c", "a/c", False),
        ("[a-c]x", "bx", True),
        ("[^a-c]x", "bx", False),
        ("[^a-c]x", "dx", True),
        ("\\*", "*", True),
        ("\\*", "a", False),
        ("*\n!keep", "keep", False),
        ("*\n!keep", "keep/inside", False),
        ("*\n!keep\nkeep/secret", "keep/secret", True),
        ("a\n!a/b", "a/b/c", False),
        ("a\n!a/b", "a/c", True),
        ("!a\na", "a", True),
        ("# a\na", "# a", False),
        ("", "a", False),
        (".git", ".git/config", True),
    ],
)
def test_paths(text: str, path: str, excluded: bool) -> None:
    assert Ignore.read(text).excludes(path) is excluded


def test_patterns_are_cleaned() -> None:
    assert patterns_of("\ufeff# no\n\n  a/../b/ \n! c \n/x\n") == ["b", "!c", "x"]


@pytest.mark.parametrize("text", ["!", "[", "a[", "[]", "\\", "[a\\"])
def test_mistakes(text: str) -> None:
    with pytest.raises(DockerfileError):
        Ignore.read(text)


_PATTERNS = st.lists(
    st.text(alphabet="ab*?!/", min_size=1, max_size=6).filter(lambda text: text.strip("!/ ") != ""),
    max_size=4,
)
_PATHS = st.lists(st.sampled_from(["a", "b", "ab"]), min_size=1, max_size=4).map("/".join)


@given(_PATTERNS, _PATHS)
def test_what_is_skipped_holds_nothing_wanted(patterns: list[str], path: str) -> None:
    ignore = Ignore.read("\n".join(patterns))
    parts = path.split("/")
    for count in range(1, len(parts)):
        if ignore.skips("/".join(parts[:count])):
            assert ignore.excludes(path)
