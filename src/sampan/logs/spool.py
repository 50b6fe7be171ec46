"""Parts of a log file as a client's bytes: in small steps in the engine, or by a worker process in one go.

A worker gets the open file and a pipe; its client's slowness reaches it through the pipe.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

from sampan.logs.entries import FORMATS
from sampan.logs.present import View, frame_lines, render

if TYPE_CHECKING:
    from collections.abc import Callable

    from sampan.logs.entries import Format

LARGEST_ENTRY = 16 * 1024 * 1024


class Piece(NamedTuple):
    """What one step has found."""

    data: Any
    """Bytes for the client, empty when nothing in the step is wanted; or runs."""
    offset: int
    """Where the next step begins; unchanged when there is no whole entry yet."""
    over: bool
    """An entry was later than the view goes: nothing after it is wanted."""


def read_piece(form: Format, view: View, descriptor: int, offset: int, size: int) -> Piece:
    """The whole entries among the next `size` bytes of a file, as the client wants them."""
    data = _entries(form, descriptor, offset, size)
    end = offset + len(data)
    if view.everything and data:
        texts = form.texts(data)
        if texts is not None:
            streams, lines = texts
            return Piece(frame_lines(streams, lines) if view.framed else b"".join(lines), end, False)
    runs = form.decode(data)
    over = view.until_ns is not None and any(run.time_ns > view.until_ns for run in runs)
    return Piece(render(runs, view), end, over)


def read_runs(form: Format, descriptor: int, offset: int, size: int) -> Piece:
    """The same as they are: the piece's data is a list of runs."""
    data = _entries(form, descriptor, offset, size)
    return Piece(form.decode(data), offset + len(data), False)


def _entries(form: Format, descriptor: int, offset: int, size: int) -> bytes:
    """The whole entries among the next bytes; a long one although it is longer than `size`. Empty when there is none yet."""
    data = os.pread(descriptor, size, offset)
    whole = form.complete(data)
    if not whole and len(data) == size:
        data = os.pread(descriptor, LARGEST_ENTRY, offset)
        whole = form.complete(data)
        if not whole and len(data) == LARGEST_ENTRY:
            whole = LARGEST_ENTRY  # not an entry of anybody's: decoding skips it
    return data[:whole]


_STEP = 256 * 1024


def spool_job(
    args: dict[str, Any], fds: list[int], report: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """Worker: everything of the file `fds[0]` from `offset` up to `end`, into the pipe `fds[1]`."""
    form, view = FORMATS[args["driver"]], View(*args["view"])
    offset, end = args["offset"], args["end"]
    over = False
    while offset < end and not over:
        piece = read_piece(form, view, fds[0], offset, min(_STEP, end - offset))
        if piece.offset == offset:
            break
        rest = memoryview(piece.data)
        while rest:
            rest = rest[os.write(fds[1], rest) :]
        offset, over = piece.offset, piece.over
    return {"offset": offset, "over": over}
