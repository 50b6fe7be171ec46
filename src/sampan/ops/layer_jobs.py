"""Writing a layer again in another form, in a worker."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from sampan.archive.compression import InputStream, OutputStream
from sampan.archive.tarread import REGULAR, TarReader
from sampan.archive.tarwrite import TarWriter


def rewrite_job(
    args: dict[str, Any], fds: list[int], _report: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """The layer fds[0] to fds[1], compressed as `compression` says; no time is later than `latest_ns`, if there is one.

    The result is `archive.diff.diff_job`'s.
    """
    out = OutputStream(fds[1], args["compression"], args["level"])
    source = InputStream(fds[0])
    if args["latest_ns"] is None:
        while data := source.read():
            out.write(data)
    else:
        _clamp(source, out, args["latest_ns"])
    out.close()
    return {"diff_id": out.diff_id, "digest": out.digest, "size": out.size}


def _clamp(source: InputStream, out: OutputStream, latest_ns: int) -> None:
    reader, writer = TarReader(source), TarWriter(out)
    for entry in reader:
        entry.mtime_ns = min(entry.mtime_ns, latest_ns)
        if entry.kind != REGULAR or not entry.size:
            writer.add(entry)
            continue
        # What is written comes from a descriptor: the size is known, and the data may be large.
        with open(os.memfd_create("entry", os.MFD_CLOEXEC), "w+b", buffering=0) as data:
            for offset, length in entry.sparse if entry.sparse is not None else [(0, entry.size)]:
                _spool(reader, data.fileno(), offset, length)
            writer.add(entry, data.fileno())
    writer.finish()


def _spool(reader: TarReader, fd: int, offset: int, length: int) -> None:
    """So many bytes of the current entry to where they stand in the file."""
    while length:
        view = reader.read_view()
        if not view:
            return
        rest = view[:length]
        length -= len(rest)
        while rest:
            written = os.pwrite(fd, rest, offset)
            offset += written
            rest = rest[written:]
