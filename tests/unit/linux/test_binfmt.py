"""The kernel's table of emulators."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.linux.binfmt import architecture_of, emulators, entry_name, parse_entry

ARM64 = """enabled
interpreter /usr/libexec/qemu-binfmt/aarch64-binfmt-P
flags: POCF
offset 0
magic 7f454c460201010000000000000000000200b700
mask ffffffffffffff00fffffffffffffffffeffffff
"""
S390X = "enabled\ninterpreter /usr/bin/qemu-s390x-static\nflags: \noffset 0\nmagic 7f454c4602020100000000000000000000020016\n"


def test_an_entry_is_known_by_the_header_that_it_matches() -> None:
    found = parse_entry("whatever", ARM64)
    assert found is not None
    assert (found.architecture, found.everywhere) == ("arm64", True)
    assert found.interpreter == "/usr/libexec/qemu-binfmt/aarch64-binfmt-P"
    other = parse_entry("qemu-s390x", S390X)
    assert other is not None and (other.architecture, other.everywhere) == ("s390x", False)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ARM64.replace("enabled", "disabled"),
        ARM64.replace("offset 0", "offset 4"),
        ARM64.replace("7f45", "cafe"),
        ARM64.replace("7f45", "zz"),
        "enabled\ninterpreter /usr/bin/python3\nflags: \nextension .py\n",
    ],
)
def test_what_is_no_emulator_of_a_processor(text: str) -> None:
    assert parse_entry("x", text) is None


@given(st.text())
def test_any_text_is_an_entry_or_none(text: str) -> None:
    parse_entry("x", "enabled\n" + text)


@given(st.binary(max_size=64))
def test_any_bytes_have_a_processor_or_none(data: bytes) -> None:
    assert architecture_of(data) is None or data.startswith(b"\x7fELF")


def test_this_machines_table_can_be_read_or_not() -> None:
    found = emulators()
    assert found is None or all(each.architecture and each.name for each in found)


def test_usual_names() -> None:
    assert entry_name("arm64") == "qemu-aarch64" and entry_name("riscv64") == "qemu-riscv64"
