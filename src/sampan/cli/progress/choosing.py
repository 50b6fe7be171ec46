"""Which display a build gets, and what is said at its end."""

from __future__ import annotations

import os
import sys
from typing import IO, TYPE_CHECKING, Any, Protocol

from sampan.cli.progress.steps import Steps
from sampan.errors import InvalidParameter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sampan.client.solving import BuildFailed

_LOG_LINES = 200


class Display(Protocol):
    """Shows a build."""

    def show(self, events: Sequence[dict[str, Any]]) -> None:
        """What has happened."""
        ...

    def finish(self, *, failed: bool) -> None:
        """It is over."""
        ...


class Quiet:
    """Shows nothing."""

    def show(self, events: Sequence[dict[str, Any]]) -> None:
        """See `Display`."""

    def finish(self, *, failed: bool) -> None:
        """See `Display`."""


def display(mode: str, steps: Steps) -> Display:
    """By the name that `--progress` has for it; `auto` is live on a terminal and lines elsewhere. Raises `InvalidParameter`."""
    mode = mode or os.environ.get("BUILDKIT_PROGRESS", "") or "auto"
    if mode not in ("auto", "plain", "tty", "rawjson", "quiet"):
        raise InvalidParameter(
            f"invalid progress mode {mode!r}: expected one of auto, plain, quiet, rawjson, tty"
        )
    is_terminal = sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"
    if mode == "tty" and not sys.stderr.isatty():
        raise InvalidParameter("failed to get console: provided file is not a console")
    if mode == "tty" or (mode == "auto" and is_terminal):
        from sampan.cli.progress.live import Live

        return Live(sys.stderr.fileno(), steps)
    if mode == "rawjson":
        from sampan.cli.progress.rawjson import RawJson

        return RawJson(sys.stderr)
    if mode == "quiet":
        return Quiet()
    from sampan.cli.progress.plain import Lines

    return Lines(sys.stderr)


class Told:
    """A display, and what was told beside it for the end."""

    def __init__(self, mode: str) -> None:
        self._steps = Steps()
        self._display = display(mode, self._steps)
        self._says_warnings = mode not in ("rawjson", "quiet")

    def show(self, events: Sequence[dict[str, Any]]) -> None:
        """What has happened."""
        self._steps.apply(events)
        self._display.show(events)

    def finish(self, *, failed: bool) -> None:
        """The display's end, the build's warnings, and its advice."""
        self._display.finish(failed=failed)
        if self._says_warnings:
            _list("warning", self._steps.warnings, " found")
            _list("hint", self._steps.advice)

    def explain(self, error: BuildFailed, out: IO[str]) -> None:
        """What the failing step printed, and the lines of the Dockerfile that it stands in."""
        print(f"------\n > {error.step}:", file=out)
        step = self._steps.find(error.vertex)
        if step is not None:
            lines = "".join(step.output).splitlines()
            if len(lines) > _LOG_LINES:
                print(f"({len(lines) - _LOG_LINES} lines before)", file=out)
            for line in lines[-_LOG_LINES:]:
                print(line, file=out)
        print("------", file=out)
        if error.excerpt:
            print(error.excerpt, file=out)


def _list(what: str, texts: Sequence[str], end: str = "") -> None:
    """Each once, below a line that says how many."""
    texts = list(dict.fromkeys(texts))
    if texts:
        count = f"{len(texts)} {what}{'s' if len(texts) > 1 else ''}{end}"
        print(f"\n {count}:", *(f" - {each}" for each in texts), sep="\n", file=sys.stderr)
