"""A build on a terminal: what runs, with its time and the end of its output, in place.

A frame is written at once, over the one before, and never ends a line beyond the terminal's width; so nothing flickers, and a
terminal that becomes narrower (and breaks the lines of the last frame) is counted right. What is over scrolls away at the end.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sampan.cli.progress.steps import Part, Step, Steps

_PERIOD = 0.1
_TAIL = 6
"""Lines of output of a running step, where there is room."""
_COLLAPSED = 3
"""So many cached steps in a row are one line."""
_BOLD, _DIM, _RED, _GREEN, _PLAIN = "1", "2", "31", "32", ""
_BEGIN, _END = "\x1b[?2026h\x1b[?25l", "\x1b[?25h\x1b[?2026l"
"""The terminal shows a frame when it is whole (where it knows how to), and no cursor that jumps about."""

Line = tuple[str, str, str]
"""Text, what stands at the right edge, and how it looks (an SGR code)."""


class Live:
    """Draws a build's steps, which others tell what happens, on a terminal's descriptor; a thread keeps the times going."""

    def __init__(self, descriptor: int, steps: Steps) -> None:
        import threading

        self._descriptor = descriptor
        self._colours = not os.environ.get("NO_COLOR")
        self._steps = steps
        self._began = time.time_ns()
        self._over = threading.Event()
        self._drawn: list[int] = []
        """How wide each line of the last frame is."""
        self._clock = threading.Thread(target=self._tick, daemon=True)
        self._clock.start()

    def show(self, events: Sequence[dict[str, Any]]) -> None:
        """The next frame shows the steps as they are then."""

    def finish(self, *, failed: bool) -> None:
        """The last frame: every step."""
        self._over.set()
        self._clock.join()
        _, columns = self._size()
        with self._steps.lock:
            lines = self._picture(10**6, over=True, failed=failed)
        self._draw(lines, columns)
        self._drawn = []

    def _tick(self) -> None:
        while not self._over.wait(_PERIOD):
            rows, columns = self._size()
            with self._steps.lock:
                lines = self._picture(rows - 1, over=False, failed=False)
            self._draw(lines, columns)

    def _size(self) -> tuple[int, int]:
        try:
            columns, rows = os.get_terminal_size(self._descriptor)
        except OSError:
            return 24, 80
        return max(rows, 3), max(columns, 10)

    # -- what is drawn

    def _picture(self, rows: int, *, over: bool, failed: bool) -> list[Line]:
        now = time.time_ns()
        steps = self._steps
        end = (" ERROR" if failed else " FINISHED") if over else ""
        seconds = (now - self._began) / 1e9
        head: Line = (f"[+] Building {seconds:.1f}s ({steps.done}/{steps.total}){end}", "", _BOLD)
        groups = _grouped(steps.begun)
        blocks = [_block(group, now, over=over, tail=0) for group in groups]
        running = [number for number, group in enumerate(groups) if group[0].runs and not over]
        room = rows - 1 - sum(map(len, blocks))
        if running and room > 0:
            tail = min(max(1, room // len(running)), _TAIL)
            for number in running:
                blocks[number] = _block(groups[number], now, over=over, tail=tail)
        return [head, *_fitting(blocks, running, rows - 1)]

    # -- how it gets to the terminal

    def _draw(self, lines: Sequence[Line], columns: int) -> None:
        width = columns - 1
        above = sum(max(1, -(-drawn // columns)) for drawn in self._drawn)
        out = [_BEGIN, f"\x1b[{above}F" if above else "\r"]
        self._drawn = []
        for text, right, look in lines:
            line = laid_out(text, right, width)
            self._drawn.append(cells(line))
            coloured = f"\x1b[{look}m{line}\x1b[0m" if look and self._colours else line
            out.append(f"{coloured}\x1b[K\n")
        out += ["\x1b[J", _END]
        data = "".join(out).encode(errors="replace")
        with suppress(OSError):
            while data:
                data = data[os.write(self._descriptor, data) :]


def _grouped(steps: Sequence[Step]) -> list[list[Step]]:
    """Steps one by one, but cached ones that follow each other together."""
    groups: list[list[Step]] = []
    for step in steps:
        if groups and step.cached and groups[-1][-1].cached:
            groups[-1].append(step)
        else:
            groups.append([step])
    return [
        part
        for group in groups
        for part in ([group] if len(group) >= _COLLAPSED else [[step] for step in group])
    ]


def _block(group: Sequence[Step], now: int, *, over: bool, tail: int) -> list[Line]:
    """The lines of a step, or of cached ones together."""
    first = group[0]
    if len(group) > 1:
        return [(f" => CACHED {len(group)} steps, {first.name} … {group[-1].name}", "", _GREEN)]
    seconds = "" if first.cached else f"{first.seconds(now):.1f}s"
    if first.error:
        return [(f" => ERROR {first.name}", seconds, _RED)]
    if first.cached:
        return [(f" => CACHED {first.name}", seconds, _GREEN)]
    lines: list[Line] = [(f" => {first.name}", seconds, _GREEN if first.completed else _PLAIN)]
    for part in first.parts.values():
        if over or not first.completed:
            lines.append((f" => => {_progress(part)}", _part_seconds(part, now), _DIM))
    lines += [(f"    {line}", "", _DIM) for line in first.last_lines(tail)]
    return lines


def _progress(part: Part) -> str:
    name = part.id.rstrip(":")
    if part.total > part.current:
        return f"{name} {size(part.current)} / {size(part.total)}"
    return f"{name} {size(part.current)}" if part.current else name


def _part_seconds(part: Part, now: int) -> str:
    return f"{max(0, (part.completed or now) - part.started) / 1e9:.1f}s" if part.started else ""


def _fitting(blocks: Sequence[Sequence[Line]], running: Sequence[int], rows: int) -> list[Line]:
    """As many blocks as there is room for: what is over goes first, the oldest of it before."""
    kept = set(range(len(blocks)))
    count = sum(map(len, blocks))
    for number in [each for each in range(len(blocks)) if each not in running] + list(running):
        if count <= rows:
            break
        kept.discard(number)
        count -= len(blocks[number])
    return [line for number in sorted(kept) for line in blocks[number]]


def laid_out(text: str, right: str, width: int) -> str:
    """A line of at most `width` cells, `right` at its edge: the text gives way.

    >>> laid_out(" => [2/3] RUN make", "1.2s", 20)
    ' => [2/3] RUN … 1.2s'
    """
    if cells(right) + 8 > width:
        right = ""
    room = width - (cells(right) + 1 if right else 0)
    if cells(text) > room:
        text = _cut(text, room - 1) + "…"
    return text + " " * (room - cells(text) + 1) + right if right else text


def _cut(text: str, width: int) -> str:
    taken = 0
    for index, letter in enumerate(text):
        taken += cells(letter)
        if taken > width:
            return text[:index]
    return text


def cells(text: str) -> int:
    """How many columns a terminal gives it."""
    if text.isascii():
        return len(text)
    import unicodedata

    return sum(
        0 if unicodedata.combining(letter) else 2 if unicodedata.east_asian_width(letter) in "WF" else 1
        for letter in text
    )


def size(count: int) -> str:
    """
    >>> size(999), size(1_250_000)
    ('999B', '1.2MB')
    """
    value, unit = float(count), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 1000 or unit == "TB":
            break
        value /= 1000
    return f"{count}B" if unit == "B" else f"{value:.1f}{unit}"
