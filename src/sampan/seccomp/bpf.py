"""Classic BPF, as much of it as a seccomp filter needs: instructions, labels, binary search.

A filter reads `struct seccomp_data` (seccomp(2)): number at 0, architecture at 4, six 64-bit arguments from 16 on.
Conditional jumps reach 255 instructions forward, unconditional ones any distance; nothing jumps backward.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

LOAD = 0x20  # ld [k]: a 32-bit word of seccomp_data, in the machine's byte order
AND = 0x54
JUMP = 0x05
JUMP_EQUAL = 0x15
JUMP_GREATER = 0x25
JUMP_GREATER_OR_EQUAL = 0x35
RETURN = 0x06

NUMBER_OFFSET = 0
ARCHITECTURE_OFFSET = 4
ARGUMENTS_OFFSET = 16

MAX_INSTRUCTIONS = 4096
"""BPF_MAXINSNS: the kernel takes no longer filter."""

_NEAR = 255


class Instruction(NamedTuple):
    """`struct sock_filter`; jumps are relative to the following instruction."""

    code: int
    if_true: int = 0
    if_false: int = 0
    k: int = 0


class Branch(NamedTuple):
    """A conditional jump whose targets are labels; None: the following instruction."""

    code: int
    if_true: str | None
    if_false: str | None
    k: int


class Piece(NamedTuple):
    """What happens to numbers from `start` on, up to the next piece."""

    start: int
    code: tuple[Instruction, ...]


def give(action: int) -> tuple[Instruction, ...]:
    """Return `action`."""
    return (Instruction(RETURN, k=action),)


def search(pieces: list[Piece]) -> list[Instruction]:
    """Binary search for the piece that the loaded number lies in; `pieces` are sorted and the first starts at 0.

    A linear list would cost a busy container up to 400 comparisons with each system call.
    """
    if len(pieces) == 1:
        return list(pieces[0].code)
    middle = len(pieces) // 2
    below, above = search(pieces[:middle]), search(pieces[middle:])
    pivot = pieces[middle].start
    if len(below) <= _NEAR:
        return [Instruction(JUMP_GREATER_OR_EQUAL, len(below), 0, pivot), *below, *above]
    return [
        Instruction(JUMP_GREATER_OR_EQUAL, 0, 1, pivot),
        Instruction(JUMP, k=len(below)),
        *below,
        *above,
    ]


def guard(value: int, body: list[Instruction]) -> list[Instruction]:
    """`body` when the loaded word is `value`; else whatever follows it."""
    return [Instruction(JUMP_EQUAL, 1, 0, value), Instruction(JUMP, k=len(body)), *body]


def link(code: list[Instruction | Branch | str]) -> tuple[Instruction, ...]:
    """Replace labels (the strings in `code`) by distances. All targets must be near and ahead."""
    positions: dict[str, int] = {}
    count = 0
    for item in code:
        if isinstance(item, str):
            positions[item] = count
        else:
            count += 1
    linked: list[Instruction] = []
    for item in code:
        if isinstance(item, Branch):
            here = len(linked) + 1
            true, false = (
                0 if label is None else positions[label] - here for label in (item.if_true, item.if_false)
            )
            linked.append(Instruction(item.code, true, false, item.k))
        elif not isinstance(item, str):
            linked.append(item)
    return tuple(linked)


def encode(code: list[Instruction]) -> bytes:
    """A `struct sock_filter` array in this machine's byte order."""
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code)
