"""Conditions on a system call's arguments, as BPF.

Arguments have 64 bits, BPF registers 32: each comparison is of the high words first, then of the low ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sampan.errors import InvalidParameter
from sampan.seccomp.bpf import (
    AND,
    ARGUMENTS_OFFSET,
    JUMP_EQUAL,
    JUMP_GREATER,
    JUMP_GREATER_OR_EQUAL,
    LOAD,
    Branch,
    Instruction,
)

if TYPE_CHECKING:
    from sampan.oci.runtime import SeccompArg

    Code = list[Instruction | Branch | str]

_LOW = 0xFFFFFFFF
OPERATORS = (
    "SCMP_CMP_NE",
    "SCMP_CMP_LT",
    "SCMP_CMP_LE",
    "SCMP_CMP_EQ",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
    "SCMP_CMP_MASKED_EQ",
)


def check(argument: SeccompArg, ok: str, fail: str, *, big_endian: bool) -> Code:
    """Code that goes to label `ok`, or falls through to it, when the condition holds, and to `fail` otherwise.

    `ok` must stand directly behind the code. Raises InvalidParameter for an index or operator that does not exist.
    """
    index, operator, value = argument["index"], argument["op"], argument["value"]
    if not 0 <= index < 6:
        raise InvalidParameter(f"seccomp: a system call has arguments 0 to 5, not {index}")
    high, low = _words(index, big_endian)
    value_high, value_low = value >> 32 & _LOW, value & _LOW
    match operator:
        case "SCMP_CMP_EQ":
            return [
                high,
                Branch(JUMP_EQUAL, None, fail, value_high),
                low,
                Branch(JUMP_EQUAL, None, fail, value_low),
            ]
        case "SCMP_CMP_NE":
            return [
                high,
                Branch(JUMP_EQUAL, None, ok, value_high),
                low,
                Branch(JUMP_EQUAL, fail, None, value_low),
            ]
        case "SCMP_CMP_GT" | "SCMP_CMP_GE":
            jump = JUMP_GREATER if operator == "SCMP_CMP_GT" else JUMP_GREATER_OR_EQUAL
            return [
                high,
                Branch(JUMP_GREATER, ok, None, value_high),
                Branch(JUMP_EQUAL, None, fail, value_high),
                low,
                Branch(jump, None, fail, value_low),
            ]
        case "SCMP_CMP_LT" | "SCMP_CMP_LE":
            jump = JUMP_GREATER_OR_EQUAL if operator == "SCMP_CMP_LT" else JUMP_GREATER
            return [
                high,
                Branch(JUMP_GREATER, fail, None, value_high),
                Branch(JUMP_EQUAL, None, ok, value_high),
                low,
                Branch(jump, fail, None, value_low),
            ]
        case "SCMP_CMP_MASKED_EQ":  # value is the mask, valueTwo what must be left
            wanted = argument.get("valueTwo", 0)
            return [
                high,
                Instruction(AND, k=value_high),
                Branch(JUMP_EQUAL, None, fail, wanted >> 32 & _LOW),
                low,
                Instruction(AND, k=value_low),
                Branch(JUMP_EQUAL, None, fail, wanted & _LOW),
            ]
    raise InvalidParameter(f"seccomp: unknown comparison {operator!r}: one of {', '.join(OPERATORS)}")


def _words(index: int, big_endian: bool) -> tuple[Instruction, Instruction]:
    """Loads of an argument's high and low word."""
    offset = ARGUMENTS_OFFSET + 8 * index
    first, second = Instruction(LOAD, k=offset), Instruction(LOAD, k=offset + 4)
    return (first, second) if big_endian else (second, first)
