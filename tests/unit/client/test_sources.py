"""What a client sends of its files."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.client.sources import Choice, Directory, Memory, described, followed
from sampan.dockerfile.ignore import Ignore


def made(top: Path, *files: str) -> Path:
    """Files by path; `a -> b` is a link, `a/` a directory."""
    for each in files:
        path, arrow, target = each.partition(" -> ")
        (top / path).parent.mkdir(parents=True, exist_ok=True)
        if arrow:
            (top / path).symlink_to(target)
        elif path.endswith("/"):
            (top / path).mkdir(exist_ok=True)
        else:
            (top / path).write_text(path)
    return top


def sent(
    top: Path, *, include: tuple[str, ...] = (), exclude: tuple[str, ...] = (), follow: tuple[str, ...] = ()
) -> list[str]:
    return [entry[0] for entry in Directory(top).entries(Choice(include, exclude, follow))]


def test_everything_in_order_with_directories_first(tmp_path: Path) -> None:
    made(tmp_path, "b/y", "b/x/1", "a", "c -> b")
    assert sent(tmp_path) == ["a", "b", "b/x", "b/x/1", "b/y", "c"]


def test_what_is_ignored_stays_but_not_what_is_taken_back(tmp_path: Path) -> None:
    made(tmp_path, "node_modules/a/1", "node_modules/keep/2", "src/x.log", "src/x.c")
    exclude = ("node_modules", "!node_modules/keep", "**/*.log")
    assert sent(tmp_path, exclude=exclude) == [
        "node_modules",
        "node_modules/keep",
        "node_modules/keep/2",
        "src",
        "src/x.c",
    ]


def test_only_what_is_followed(tmp_path: Path) -> None:
    made(tmp_path, "a/1", "a/2", "b/1", "Dockerfile", "link -> a/2", "up/in -> ../b", "round -> round")
    assert sent(tmp_path, follow=("Dockerfile", "nothing")) == ["Dockerfile"]
    assert sent(tmp_path, follow=("a",)) == ["a", "a/1", "a/2"]
    assert sent(tmp_path, follow=("*/1",)) == ["a", "a/1", "b", "b/1", "link", "round"]
    assert sent(tmp_path, follow=("link",)) == ["a", "a/2", "link"]
    assert sent(tmp_path, follow=("up/in/1",)) == ["b", "b/1", "up", "up/in"]
    assert sent(tmp_path, follow=("round",)) == ["round"]
    assert "b/1" in sent(tmp_path, follow=(".",))
    assert sent(tmp_path, include=("b",)) == ["b", "b/1"]


def test_links_do_not_lead_out(tmp_path: Path) -> None:
    made(tmp_path, "in/out -> ../../../../etc/passwd", "abs -> /etc/passwd")
    assert followed(str(tmp_path), ["in/out", "abs"]) == {"in/out", "abs", "etc/passwd"}
    assert sent(tmp_path, follow=("in/out", "abs")) == ["abs", "in", "in/out"]


def test_hard_links_modes_and_names_that_are_no_text(tmp_path: Path) -> None:
    made(tmp_path, "a")
    os.link(tmp_path / "a", tmp_path / "b")
    (tmp_path / "a").chmod(0o600)
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff")).write_text("x")
    first, second, third = Directory(tmp_path).entries(Choice((), (), ()))
    assert (first[1] & 0o777, first[4], second[4]) == (0o600, "", "a")
    assert os.fsencode(third[0]) == b"\xff"
    assert b"\\udcff" in b"".join(described([third]))


def test_files_in_memory_have_their_directories() -> None:
    memory = Memory({"a/b/c": "x", "a/d": b"y", "e": "", "f.log": ""})
    entries = memory.entries(Choice((), ("*.log",), ()))
    assert [entry[0] for entry in entries] == ["a", "a/b", "a/b/c", "a/d", "e"]
    assert b"".join(memory.pieces("a/b/c")) == b"x"


NAMES = st.sampled_from(["a", "b", "c.log", "d"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
PATTERNS = st.builds(
    lambda back, parts: "!" * back + "/".join(parts),
    st.booleans(),
    st.lists(st.sampled_from(["a", "b", "*", "**", "*.log", "?"]), min_size=1, max_size=3),
)


@given(st.lists(PATHS, max_size=8), st.lists(PATTERNS, max_size=4))
def test_the_walk_sends_what_the_patterns_leave(paths: list[str], patterns: list[str]) -> None:
    """Held against every file's own verdict: the walk must not lose what is below something excluded."""
    with tempfile.TemporaryDirectory() as scratch:
        top = Path(scratch)
        for path in paths:
            if not any((top / path).parents[n].is_file() for n in range(path.count("/"))):
                (top / path).parent.mkdir(parents=True, exist_ok=True)
                if not (top / path).exists():
                    (top / path).touch()
        files = {str(each.relative_to(top)) for each in top.rglob("*") if each.is_file()}
        ignore = Ignore(patterns)
        expected = {each for each in files if not ignore.excludes(each)}
        assert {each for each in sent(top, exclude=tuple(patterns)) if each in files} == expected


def test_a_source_that_vanishes_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Directory(tmp_path / "gone").entries(Choice((), (), ()))
