"""What a pull tells while it runs, in Docker's words: one line per layer, updated at most ten times a second."""

from __future__ import annotations

import time
from collections.abc import Callable

from sampan.engineapi.image import ProgressDetail, StreamMessage
from sampan.errors import SampanError
from sampan.images.transfers import Watcher
from sampan.names.digest import short
from sampan.oci.image import Descriptor

Report = Callable[[StreamMessage], None]

_INTERVAL = 0.1


class LayerProgress(Watcher):
    """The line of one layer (or of another blob)."""

    def __init__(self, descriptor: Descriptor, report: Report) -> None:
        self._id = short(descriptor.digest)
        self._size = descriptor.size
        self._report = report
        self._next = 0.0

    def pulling(self) -> None:
        self._say("Pulling fs layer")

    def exists(self) -> None:
        self._say("Already exists", done=True)

    def received(self, position: int) -> None:
        self._bar("Downloading", position)

    def waiting(self, delay: float, error: SampanError) -> None:
        seconds = max(1, round(delay))
        self._say(f"Retrying in {seconds} second{'s' if seconds != 1 else ''}")

    def downloaded(self) -> None:
        self._say("Download complete", done=True)

    def extracting(self, done: int) -> None:
        self._bar("Extracting", done)

    def complete(self) -> None:
        self._say("Pull complete", done=True)

    def _say(self, status: str, *, done: bool = False) -> None:
        self._report(
            StreamMessage(status=status, progress_detail=ProgressDetail(hide_counts=done), id=self._id)
        )

    def _bar(self, status: str, position: int) -> None:
        now = time.monotonic()
        if now >= self._next or position == self._size:
            self._next = now + _INTERVAL
            self._report(
                StreamMessage(
                    status=status, progress_detail=ProgressDetail(position, self._size), id=self._id
                )
            )
