"""Pages of a forked process that are as they were at the fork, given back.

Python counts references in the objects themselves, so a process writes to nearly every page it looks at, and owns a copy
from then on; yet most are, byte for byte, what they were, once the work is done. `lay_down` (once, in the process that
is forked) puts the heap's contents into a memory file and maps that, privately, in the heap's place. A child's
`give_back` then drops each page that equals the file's, which the kernel takes from the file, shared, when it is needed.

Nothing may write to the heap while its pages are compared and exchanged, and Python writes all the time. So these steps are
prepared as a chain of calls of the C library (makecontext(3)): while it runs, no line of Python does. For `give_back` its
first link waits for a helper, a child, which looks at the waiting parent from outside and writes the rest of the chain.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import socket
import struct
import time
from typing import TYPE_CHECKING, NamedTuple

from sampan.linux.libc import libc_holding_gil as libc

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

PAGE = os.sysconf("SC_PAGE_SIZE")
NAME = "sampan-heap"

_PROT_RW = 3
_MAP_SHARED, _MAP_PRIVATE, _MAP_FIXED, _MAP_ANONYMOUS = 1, 2, 0x10, 0x20
_MADV_DONTNEED = 4
_WORTH_WHILE = 256 * 1024
"""Smaller mappings are left alone: stacks of the C library's, thread-local storage."""
_SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
_PRESENT, _SWAPPED, _OF_FILE = 1 << 63, 1 << 62, 1 << 61
"""Bits of /proc/PID/pagemap (Documentation/admin-guide/mm/pagemap.rst)."""

_CONTEXT = 8192
"""Room for a ucontext_t: 968 bytes on x86-64, 4,560 on aarch64."""
_SLOT = _CONTEXT + 8192
"""A context and its stack."""
_MOST = 256
"""Links of a chain."""
_PATIENCE = 2.0
"""Seconds in which the parent must have begun to wait."""

_file = -1
"""The memory file that the heap of this process and its children lies over; -1: there is none."""


class Region(NamedTuple):
    begin: int
    end: int
    offset: int
    """In the file."""


class Chain:
    """Calls to be made one after the other. They lie in shared memory: a child may make what its parent runs."""

    def __init__(self) -> None:
        """Raises OSError, AttributeError where the C library has no contexts (musl)."""
        for name in ("getcontext", "makecontext", "swapcontext"):
            getattr(libc, name)
        libc.mmap.restype = ctypes.c_void_p
        self._size = _MOST * _SLOT
        address = libc.mmap(
            None, ctypes.c_size_t(self._size), _PROT_RW, _MAP_SHARED | _MAP_ANONYMOUS, -1, ctypes.c_long(0)
        )
        if address in (None, ctypes.c_void_p(-1).value):
            raise OSError(ctypes.get_errno(), "mmap of a chain")
        self._base: int = address

    def at(self, number: int) -> int:
        """Address of a link's context; 0 is where `run` returns to."""
        return self._base + number * _SLOT

    def link(self, number: int, then: int, function: str, *arguments: int) -> None:
        """Make link `number` a call, followed by link `then`."""
        context = self.at(number)
        if libc.getcontext(ctypes.c_void_p(context)) != 0:
            raise OSError(ctypes.get_errno(), "getcontext")
        # ucontext_t begins alike on every architecture: flags, uc_link, and a stack_t (address, flags, size).
        ctypes.memmove(
            context + 8, struct.pack("=QQQQ", self.at(then), context + _CONTEXT, 0, _SLOT - _CONTEXT), 32
        )
        libc.makecontext(
            ctypes.c_void_p(context),
            ctypes.cast(getattr(libc, function), ctypes.c_void_p),
            len(arguments),
            *(ctypes.c_long(argument) for argument in arguments),
        )

    def bytes_of(self, number: int) -> bytes:
        return ctypes.string_at(self.at(number), _CONTEXT)

    def run(self) -> None:
        """From link 1, until a link is followed by 0."""
        libc.swapcontext(ctypes.c_void_p(self.at(0)), ctypes.c_void_p(self.at(1)))

    def close(self) -> None:
        libc.munmap(ctypes.c_void_p(self._base), ctypes.c_size_t(self._size))


# --- in the process that is forked


def lay_down() -> bool:
    """Lay this process's heap over a memory file; whether that was possible. Single-threaded processes only.

    Tried in a child first: a C library or kernel on which it does not work costs memory, not the process.
    """
    trial = os.fork()
    if trial == 0:
        try:
            _lay_down()
            touched = [bytes(100) for _ in range(10_000)]
            os._exit(0 if len(touched) == 10_000 and give_back() else 1)
        finally:
            os._exit(1)
    _, status = os.waitpid(trial, 0)
    if status != 0:
        return False
    _lay_down()
    return True


def file() -> int:
    """The descriptor to keep open for `give_back` to be possible; -1 when it is not."""
    return _file


def _lay_down() -> None:
    global _file
    regions, size = _heap()
    if not regions:
        return
    _file = os.memfd_create(NAME, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    # All of it now: a write that falls short would lose what it was to keep.
    os.posix_fallocate(_file, 0, size)
    chain = Chain()
    for number, region in enumerate(regions):
        write, then = 1 + 2 * number, 0 if region is regions[-1] else 3 + 2 * number
        length = region.end - region.begin
        chain.link(write, write + 1, "pwrite", _file, region.begin, length, region.offset)
        mapping = (region.begin, length, _PROT_RW, _MAP_PRIVATE | _MAP_FIXED, _file, region.offset)
        chain.link(write + 1, then, "mmap", *mapping)
    chain.run()
    chain.close()
    # From now on it is what all of them rely upon.
    fcntl.fcntl(_file, fcntl.F_ADD_SEALS, _SEALS)


def _heap() -> tuple[list[Region], int]:
    """The writable private mappings that are large, as regions of a file, and its size."""
    regions: list[Region] = []
    offset = 0
    for begin, end, _, rights, name in _mappings("self"):
        if rights == "rw-p" and end - begin >= _WORTH_WHILE and not name.startswith("[stack"):
            regions.append(Region(begin, end, offset))
            offset += end - begin
    kept = sorted(regions, key=lambda region: region.begin - region.end)[: (_MOST - 1) // 2]
    return kept, offset


def _mappings(process: int | str) -> list[tuple[int, int, int, str, str]]:
    """(begin, end, offset, rights, name) of each mapping."""
    found = []
    with open(f"/proc/{process}/maps", encoding="utf-8", errors="surrogateescape") as text:
        for line in text:
            fields = line.split(None, 5)
            begin, _, end = fields[0].partition("-")
            name = fields[5].strip() if len(fields) > 5 else ""
            found.append((int(begin, 16), int(end, 16), int(fields[2], 16), fields[1], name))
    return found


# --- in its children


def give_back() -> bool:
    """Drop the pages that are what they were when the heap was laid down; whether that was possible.

    Takes some milliseconds. Single-threaded processes only; raises OSError when no helper can be forked.
    """
    if _file < 0:
        return False
    chain = Chain()
    try:
        _give_back(chain)
    finally:
        chain.close()
    return True


def _give_back(chain: Chain) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        # A helper that somebody stops must not stop us with it.
        seconds, microseconds = divmod(int(2e6 * _PATIENCE), 1_000_000)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", seconds, microseconds))
        # Without an answer link 2 does nothing; the helper's answer is another context in its place.
        chain.link(2, 0, "getpid")
        chain.link(1, 2, "recv", ours.fileno(), chain.at(2), _CONTEXT, 0)
        parent = os.getpid()
        helper = os.fork()
        if helper == 0:
            _help(chain, parent, ours, theirs)
        theirs.close()
        chain.run()
        os.kill(helper, signal.SIGKILL)
        os.waitpid(helper, 0)


def _help(chain: Chain, parent: int, ours: socket.socket, theirs: socket.socket) -> NoReturn:
    try:
        number = ours.fileno()
        ours.close()
        if _is_waiting(parent, number, chain.at(2)) and _extend(chain, parent):
            theirs.send(chain.bytes_of(3))
    finally:
        os._exit(0)


def _is_waiting(parent: int, descriptor: int, buffer: int) -> bool:
    """Whether the parent stands in the chain's first call: from there it touches nothing."""
    expected = [f"{descriptor:#x}", f"{buffer:#x}"]
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        with open(f"/proc/{parent}/syscall", encoding="ascii") as text:
            if text.read().split()[1:3] == expected:
                return True
        time.sleep(0.0002)
    return False


def _extend(chain: Chain, parent: int) -> bool:
    """Make links from 3 on that drop the parent's unchanged pages; whether there are any."""
    runs = _unchanged(parent)[: _MOST - 3]
    for number, (begin, end) in enumerate(runs, 3):
        then = number + 1 if number - 2 < len(runs) else 0
        chain.link(number, then, "madvise", begin, end - begin, _MADV_DONTNEED)
    return bool(runs)


def _unchanged(process: int) -> list[tuple[int, int]]:
    """Address ranges of the process's own pages that equal the file's, the longest first."""
    found: list[tuple[int, int]] = []
    with (
        open(f"/proc/{process}/mem", "rb", buffering=0) as memory,
        open(f"/proc/{process}/pagemap", "rb", buffering=0) as pagemap,
    ):
        for begin, end, offset, _, name in _mappings(process):
            if not name.startswith(f"/memfd:{NAME}"):
                continue
            for first, last in _own(pagemap.fileno(), begin, end):
                present = os.pread(memory.fileno(), last - first, first)
                former = os.pread(_file, last - first, offset + first - begin)
                found += _equal(first, present, former)
    return sorted(found, key=lambda run: run[0] - run[1])


def _own(pagemap: int, begin: int, end: int) -> list[tuple[int, int]]:
    """Ranges that the process has written to: not the file's pages any more."""
    count = (end - begin) // PAGE
    entries = struct.unpack(f"={count}Q", os.pread(pagemap, count * 8, begin // PAGE * 8))
    own = [entry & _PRESENT and not entry & (_SWAPPED | _OF_FILE) for entry in entries]
    return [(begin + first * PAGE, begin + last * PAGE) for first, last in _runs(own)]


def _equal(address: int, present: bytes, former: bytes) -> list[tuple[int, int]]:
    """Ranges of pages that are the same in both."""
    same = [present[at : at + PAGE] == former[at : at + PAGE] for at in range(0, len(present), PAGE)]
    return [(address + first * PAGE, address + last * PAGE) for first, last in _runs(same)]


def _runs(flags: Sequence[object]) -> list[tuple[int, int]]:
    """Half-open ranges in which all flags are true."""
    runs = []
    first = None
    for position, flag in enumerate((*flags, False)):
        if flag and first is None:
            first = position
        elif not flag and first is not None:
            runs.append((first, position))
            first = None
    return runs
