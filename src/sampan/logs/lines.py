"""A stream of bytes into log lines, split where dockerd splits them.

A line of 16 KiB or more is cut into pieces of exactly 16 KiB, counted from its start; only its last piece ends with
a newline. What is left without a newline at the end of the stream is a piece too.
"""

from __future__ import annotations

from typing import NamedTuple

PIECE = 16 * 1024


class Block(NamedTuple):
    """Whole lines (each with its newline), or one piece of a long line (`partial`, no newline)."""

    data: bytes
    partial: bool
    continued: bool
    """The first line of `data` continues the piece before it."""


class LineSplitter:
    """One stream's splitter. Blocks are as large as the data fed allows: encoders work on whole blocks."""

    def __init__(self) -> None:
        self._rest = b""
        self._continued = False

    def feed(self, data: bytes) -> list[Block]:
        """The blocks that are complete now."""
        if self._rest:
            data = self._rest + data
        blocks: list[Block] = []
        begin = 0
        """Start of the block being gathered."""
        at = 0
        """Start of a line, or of the remainder of a long one."""
        while len(data) - at >= PIECE:
            newline = data.rfind(b"\n", at, at + PIECE)
            if newline >= 0:
                at = newline + 1
                continue
            self._add(blocks, data[begin:at], partial=False)
            begin = at + PIECE
            self._add(blocks, data[at:begin], partial=True)
            at = begin
        at = max(at, data.rfind(b"\n", at) + 1)
        self._add(blocks, data[begin:at], partial=False)
        self._rest = data[at:]
        return blocks

    def finish(self) -> list[Block]:
        """The stream has ended: what is left, as a piece."""
        blocks: list[Block] = []
        self._add(blocks, self._rest, partial=True)
        self._rest = b""
        return blocks

    def _add(self, blocks: list[Block], data: bytes, *, partial: bool) -> None:
        if data:
            blocks.append(Block(data, partial, self._continued))
            self._continued = partial
