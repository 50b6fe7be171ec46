"""What a build shows while it runs."""

from __future__ import annotations

import fcntl
import io
import json
import os
import pty
import re
import struct
import termios
import time
from typing import Any

import pytest

from sampan.cli.progress.choosing import Told
from sampan.cli.progress.live import Live, _block, _fitting, _grouped, cells, laid_out
from sampan.cli.progress.plain import Lines
from sampan.cli.progress.rawjson import RawJson
from sampan.cli.progress.steps import Steps, shown

NOW = 1_700_000_000 * 10**9


def vertex(
    name: str, *, started: int = NOW, completed: int = 0, cached: bool = False, error: str = ""
) -> Any:
    return {
        "kind": "vertex",
        "digest": f"sha256:{name}",
        "name": name,
        "inputs": [],
        "started": started,
        "completed": completed,
        "cached": cached,
        "error": error,
    }


def said(name: str, data: str) -> Any:
    return {"kind": "log", "vertex": f"sha256:{name}", "stream": 1, "data": data, "at": NOW}


def test_steps_keep_the_end_of_their_output() -> None:
    steps = Steps()
    steps.apply([vertex("a"), said("a", "one\ntwo\x1b[31m!\x1b[0m\n10%\r20%\r\nhal"), said("a", "f")])
    (step,) = steps.begun
    assert step.last_lines(3) == ["two!", "20%", "half"]
    assert step.runs and not steps.done
    steps.apply([vertex("a", completed=NOW + 10**9)])
    assert (steps.begun[0].seconds(0), steps.done, steps.total) == (1.0, 1, 1)


@pytest.mark.parametrize(
    ("line", "seen"),
    [("a\tb", "a   b"), ("\x1b]0;title\x07x", "x"), ("ab\x07\x00c", "abc"), ("over\rwritten\r", "written")],
)
def test_output_is_shown_without_what_moves_the_cursor(line: str, seen: str) -> None:
    assert shown(line) == seen


def test_cached_steps_in_a_row_are_one_line() -> None:
    steps = Steps()
    steps.apply(vertex(f"[{n}/5] X", completed=NOW, cached=n != 4) for n in range(1, 6))
    groups = _grouped(steps.begun)
    assert [len(group) for group in groups] == [3, 1, 1]
    assert _block(groups[0], NOW, over=False, tail=0)[0][0] == " => CACHED 3 steps, [1/5] X … [3/5] X"


def test_what_runs_stays_when_there_is_no_room() -> None:
    steps = Steps()
    steps.apply(vertex(str(n), completed=0 if n == 3 else NOW + 1) for n in range(10))
    blocks = [_block(group, NOW, over=False, tail=0) for group in _grouped(steps.begun)]
    assert [line[0] for line in _fitting(blocks, [3], 3)] == [" => 3", " => 8", " => 9"]


@pytest.mark.parametrize("width", [9, 20, 40, 79, 200])
@pytest.mark.parametrize("text", [" => [1/2] RUN make", " => 日本語の手順 " * 9, "x" * 300, ""])
def test_lines_fit(text: str, width: int) -> None:
    line = laid_out(text, "12.3s", width)
    assert cells(line) <= width
    assert width < 14 or line.endswith(" 12.3s")


class Screen:
    """As much of a terminal as the display uses: lines that wrap, cursor up, erase."""

    def __init__(self, columns: int) -> None:
        self.columns, self.rows, self.row, self.column = columns, [""], 0, 0

    def write(self, text: str) -> None:
        for part in re.findall(r"\x1b\[[?\d;]*[A-Za-z]|[^\x1b]", text.replace("\r\n", "\n")):
            if part == "\n":
                self._next()
            elif part == "\r":
                self.column = 0
            elif part.endswith("F"):
                self.row, self.column = max(0, self.row - int(part[2:-1])), 0
            elif part == "\x1b[K":
                self.rows[self.row] = self.rows[self.row][: self.column]
            elif part == "\x1b[J":
                del self.rows[self.row + 1 :]
                self.rows[self.row] = self.rows[self.row][: self.column]
            elif not part.startswith("\x1b"):
                if self.column == self.columns:
                    self._next()
                line = self.rows[self.row].ljust(self.column)
                self.rows[self.row] = line[: self.column] + part + line[self.column + 1 :]
                self.column += 1

    def _next(self) -> None:
        self.row, self.column = self.row + 1, 0
        if self.row == len(self.rows):
            self.rows.append("")

    def narrow(self, columns: int) -> None:
        """Break lines anew, as terminals do."""
        broken: list[str] = []
        for line in self.rows[:-1]:
            broken += [line[at : at + columns] for at in range(0, max(1, len(line)), columns)]
        self.rows, self.columns = [*broken, ""], columns
        self.row, self.column = len(broken), 0


def _sized(descriptor: int, rows: int, columns: int) -> None:
    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def _read_until(master: int, text: str) -> str:
    """What the display writes, to the end of a frame that has the text in it."""
    data = ""
    deadline = time.monotonic() + 20
    while text not in data or not data.endswith("\x1b[?2026l"):
        assert time.monotonic() < deadline, data
        data += os.read(master, 65536).decode(errors="replace")
    return data


def test_frames_replace_each_other_also_after_the_terminal_became_narrower() -> None:
    master, terminal = pty.openpty()
    now = time.time_ns()
    try:
        _sized(terminal, 20, 60)
        screen = Screen(60)
        steps = Steps()
        live = Live(terminal, steps)
        steps.apply([vertex("[1/2] RUN first", started=now), said("[1/2] RUN first", "hello\n")])
        screen.write(_read_until(master, "hello"))
        assert len([row for row in screen.rows if "RUN first" in row]) == 1
        screen.narrow(30)
        _sized(terminal, 20, 30)
        steps.apply([vertex("[2/2] RUN second", started=now), said("[2/2] RUN second", "world\n")])
        screen.write(_read_until(master, "world"))
        assert len([row for row in screen.rows if "first" in row]) == 1, screen.rows
        assert len([row for row in screen.rows if "Building" in row]) == 1, screen.rows
        assert all(len(row) < 30 for row in screen.rows)
        steps.apply([vertex("[2/2] RUN second", started=now, completed=now + 1, error="exit 1")])
        live.finish(failed=True)
        screen.write(_read_until(master, "ERROR"))
        assert "(1/2) ERROR" in screen.rows[0] and screen.rows[-1] == ""
        assert any(row.startswith(" => ERROR [2/2]") for row in screen.rows)
        assert not any("world" in row for row in screen.rows), "output of a step that is over goes"
    finally:
        os.close(master)
        os.close(terminal)


def test_lines_name_each_step_once() -> None:
    out = io.StringIO()
    lines = Lines(out)
    lines.show([vertex("a"), vertex("b"), said("a", "x\n"), vertex("a", completed=NOW + 10**9)])
    lines.show([vertex("b", completed=NOW, cached=True)])
    assert out.getvalue() == "#1 a\n\n#2 b\n\n#1 0.000 x\n#1 DONE 1.0s\n\n#2 CACHED\n"


def test_json_is_buildxs() -> None:
    out = io.StringIO()
    RawJson(out).show([vertex("a"), said("a", "x")])
    told = json.loads(out.getvalue())
    assert told["vertexes"] == [
        {"digest": "sha256:a", "name": "a", "started": "2023-11-14T22:13:20.000000000Z"}
    ]
    assert told["logs"][0]["data"] == "eA=="


def warned(short: str, level: int = 1) -> Any:
    return {"kind": "warning", "vertex": "sha256:a", "short": short, "level": level, "detail": [], "url": ""}


def test_warnings_and_hints_stand_at_the_end_each_once(capsys: pytest.CaptureFixture[str]) -> None:
    told = Told("plain")
    told.show([warned("wrong"), warned("better", level=0), warned("wrong"), warned("worse")])
    told.finish(failed=False)
    assert capsys.readouterr().err == "\n 2 warnings found:\n - wrong\n - worse\n\n 1 hint:\n - better\n"


def test_advice_is_not_in_buildxs_json() -> None:
    out = io.StringIO()
    RawJson(out).show([warned("better", level=0)])
    assert out.getvalue() == ""
    RawJson(out).show([warned("wrong"), warned("better", level=0)])
    assert len(json.loads(out.getvalue())["warnings"]) == 1
