"""What the shim writes a container's output with: splitter, encoder and file in one.

log = open_writer("json-file", path, max_size=-1, max_file=1, compress=False, attrs={})
log.write("stdout", chunk); …; log.finish("stdout"); log.close()
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from sampan.logs.jsonfile import JsonEncoder
from sampan.logs.lines import LineSplitter
from sampan.logs.localfile import LocalEncoder
from sampan.logs.rotation import RotatingFile

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sampan.logs.lines import Block


class LogWriter:
    """One container's log. Not thread-safe; a failed write raises OSError and loses that chunk only."""

    def __init__(self, file: RotatingFile, encoder: JsonEncoder | LocalEncoder) -> None:
        self._file = file
        self._encoder = encoder
        self._splitters = {"stdout": LineSplitter(), "stderr": LineSplitter()}
        self._long_line_began: dict[str, int] = {}

    def write(self, stream: str, data: bytes) -> None:
        """Log what the process wrote. An unfinished line waits for its end (or its 16 KiB)."""
        self._append(stream, self._splitters[stream].feed(data))

    def finish(self, stream: str) -> None:
        """The stream has ended: log what waits."""
        self._append(stream, self._splitters[stream].finish())

    def reopen(self) -> None:
        """Open the file's path anew."""
        self._file.reopen()

    def close(self) -> None:
        """Finish both streams; wait for a compression under way."""
        try:
            for stream in self._splitters:
                self.finish(stream)
        finally:
            self._file.close()

    def _append(self, stream: str, blocks: list[Block]) -> None:
        if not blocks:
            return
        now = time.time_ns()
        for block in blocks:
            data, partial, continued = block
            if continued:
                # All pieces of a line carry the time of its first one.
                began = self._long_line_began.get(stream, now)
                end = len(data) if partial else data.index(b"\n") + 1
                self._store(self._encoder.encode(stream, data[:end], began, partial=partial))
                data = data[end:]
            elif partial:
                self._long_line_began[stream] = now
            if data:
                self._store(self._encoder.encode(stream, data, now, partial=partial))

    def _store(self, entries: bytes) -> None:
        """Append, cut where the file becomes full."""
        while entries:
            room = self._file.room
            end = len(entries) if len(entries) <= room else self._encoder.entry_end(entries, room)
            self._file.append(entries[:end])
            entries = entries[end:]


def open_writer(
    driver: str, path: str, *, max_size: int, max_file: int, compress: bool, attrs: Mapping[str, str] | None
) -> LogWriter | None:
    """The writer for a driver; None for `none`. `max_size` in bytes, -1 for no limit."""
    if driver == "none":
        return None
    file = RotatingFile(path, max_size=max_size, max_file=max_file, compress=compress)
    encoder = JsonEncoder(dict(attrs or {})) if driver == "json-file" else LocalEncoder()
    return LogWriter(file, encoder)
