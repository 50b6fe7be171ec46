"""Platforms, by containerd's rules."""

import pytest

from sampan.errors import InvalidParameter
from sampan.names.platform import Platform, choose, local, matches, normalize, parse, runnable_on

HERE = Platform("linux", "amd64")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("linux/amd64", "linux/amd64"),
        ("linux/x86_64", "linux/amd64"),
        ("linux/aarch64", "linux/arm64"),
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/arm64/v9", "linux/arm64/v9"),
        ("linux/arm", "linux/arm/v7"),
        ("linux/armhf", "linux/arm/v7"),
        ("linux/armel", "linux/arm/v6"),
        ("linux/arm/6", "linux/arm/v6"),
        ("arm64", "linux/arm64"),
        ("linux", "linux/amd64"),
        ("macos/arm64", "darwin/arm64"),
        ("windows(10.0.17763)/amd64", "windows/amd64"),
        ("LINUX/AMD64", "linux/amd64"),
    ],
)
def test_parses_and_normalizes(text: str, expected: str) -> None:
    assert str(parse(text, HERE)) == expected


@pytest.mark.parametrize("text", ["", "linux/", "linux/a/b/c", "nonsense", "linux/*", "linux/amd 64", "/"])
def test_refuses(text: str) -> None:
    with pytest.raises(InvalidParameter):
        parse(text, HERE)


def test_an_arm64_machine_runs_arm_and_an_amd64_one_386() -> None:
    assert [str(each) for each in runnable_on(Platform("linux", "arm64"))][:3] == [
        "linux/arm64",
        "linux/arm/v8",
        "linux/arm/v7",
    ]
    assert [str(each) for each in runnable_on(HERE)] == ["linux/amd64", "linux/386"]
    assert [str(each) for each in runnable_on(Platform("linux", "amd64", "v3"))][:3] == [
        "linux/amd64/v3",
        "linux/amd64/v2",
        "linux/amd64",
    ]


def test_chooses_the_best_candidate_and_the_first_of_equals() -> None:
    candidates = [parse("linux/386"), parse("linux/arm64"), parse("linux/amd64"), parse("linux/amd64")]
    chosen = choose(list(enumerate(candidates)), lambda pair: pair[1], HERE)
    assert [index for index, _ in chosen] == [2, 3, 0]


def test_exact_match() -> None:
    assert matches(Platform("linux", "aarch64", "v8"), Platform("linux", "arm64"))
    assert not matches(Platform("linux", "arm", "v6"), Platform("linux", "arm"))


def test_the_local_platform_is_normal() -> None:
    assert normalize(local()) == local()
    assert local().os == "linux"
