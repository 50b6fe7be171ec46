"""Sizes, durations and times as Docker reads and prints them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.errors import InvalidParameter
from sampan.names import times, units


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0B"),
        (999, "999B"),
        (1000, "1kB"),
        (1234567, "1.235MB"),
        (4_260_000, "4.26MB"),
        (999_999, "1000kB"),
        (72_800_000_000, "72.8GB"),
    ],
)
def test_human_size(size: int, text: str) -> None:
    assert units.human_size(size) == text


def test_bytes_size() -> None:
    assert units.bytes_size(1.5 * 2**30) == "1.5GiB"
    assert units.human_size(77_800_000, 3) == "77.8MB"


@pytest.mark.parametrize(
    ("text", "decimal", "binary"),
    [
        ("32", 32, 32),
        ("32b", 32, 32),
        ("32B", 32, 32),
        ("32k", 32_000, 32 << 10),
        ("32 kB", 32_000, 32 << 10),
        ("32KiB", 32_000, 32 << 10),
        ("1.5GB", 1_500_000_000, 3 << 29),
        (".5m", 500_000, 1 << 19),
        ("1t", 10**12, 1 << 40),
    ],
)
def test_parse_size(text: str, decimal: int, binary: int) -> None:
    assert units.parse_size(text) == decimal
    assert units.parse_memory(text) == binary


@pytest.mark.parametrize(
    "text", ["", "x", "-1", "32bb", "32mm", "32 k b", "32  mb", "1.2.3", "5ex", "9" * 30, "nan", "inf1"]
)
def test_parse_size_refuses(text: str) -> None:
    with pytest.raises(InvalidParameter):
        units.parse_size(text)


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "0s"),
        (1, "1ns"),
        (1100, "1.1µs"),
        (2_200_000, "2.2ms"),
        (3_300_000_000, "3.3s"),
        (90 * times.SECOND, "1m30s"),
        (2 * times.HOUR, "2h0m0s"),
        (-times.SECOND, "-1s"),
        (245 * times.SECOND + 1_000_000, "4m5.001s"),
    ],
)
def test_format_duration(ns: int, text: str) -> None:
    assert times.format_duration(ns) == text
    assert times.parse_duration(text) == ns


@given(st.integers(min_value=-(2**63) + 1, max_value=2**63 - 1))
def test_durations_round_trip(ns: int) -> None:
    assert times.parse_duration(times.format_duration(ns)) == ns


@pytest.mark.parametrize("text", ["", "1", "s", "1x", "1s 2s", "-", "+", ".s", "1.2.3s", "99999999999h"])
def test_durations_refused(text: str) -> None:
    with pytest.raises(InvalidParameter):
        times.parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.5, "Less than a second"),
        (1, "1 second"),
        (59, "59 seconds"),
        (60, "About a minute"),
        (119, "About a minute"),
        (120, "2 minutes"),
        (3599, "59 minutes"),
        (3600, "About an hour"),
        (5400, "2 hours"),
        (47 * 3600, "47 hours"),
        (48 * 3600, "2 days"),
        (14 * 86400, "2 weeks"),
        (60 * 86400, "2 months"),
        (730 * 86400, "2 years"),
    ],
)
def test_human_duration(seconds: float, text: str) -> None:
    assert times.human_duration(int(seconds * times.SECOND)) == text


NOW = 1_700_000_000 * times.SECOND


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10m", NOW - 600 * times.SECOND),
        ("1136073845", 1136073845 * times.SECOND),
        ("1136073845.5", 1136073845 * times.SECOND + 500_000_000),
        ("1136073845.000000001", 1136073845 * times.SECOND + 1),
        ("0", 0),
        ("2006-01-02T15:04:05Z", 1136214245 * times.SECOND),
        ("2006-01-02T15:04:05.000000009Z", 1136214245 * times.SECOND + 9),
        ("2006-01-02T15:04:05+01:00", 1136210645 * times.SECOND),
        ("2006-01-02T15:04Z", 1136214240 * times.SECOND),
        ("2006-01-02T15Z", 1136214000 * times.SECOND),
        ("2006-01-02Z", 1136160000 * times.SECOND),
        ("2006-01-02-07:00", 1136185200 * times.SECOND),
    ],
)
def test_timestamps(text: str, expected: int) -> None:
    assert times.parse_timestamp(text, NOW) == expected


@pytest.mark.parametrize(
    "text", ["", "yesterday", "2006-13-02", "2006-01-02T25:00", "12.34.56", "2006-01-02T15:04:05X"]
)
def test_timestamps_refused(text: str) -> None:
    with pytest.raises(InvalidParameter):
        times.parse_timestamp(text, NOW)


@given(st.integers(min_value=0, max_value=4_000_000_000 * times.SECOND))
def test_rfc3339_round_trip(ns: int) -> None:
    assert times.parse_rfc3339(times.format_rfc3339_nano(ns)) == ns
