"""Pseudo terminals. pty(7), ioctl_tty(2)."""

from __future__ import annotations

import fcntl
import os
import struct
import termios

TIOCSPTLCK = 0x40045431
TIOCGPTPEER = 0x5441


def open_pair(ptmx: str = "/dev/ptmx", *, directory: int | None = None) -> tuple[int, int]:
    """(master, slave), close-on-exec, from this devpts instance's multiplexer.

    The slave is opened through the master (TIOCGPTPEER), never by its path: /dev/pts in a container belongs
    to the image, and its entry may be something else.
    """
    master = os.open(ptmx, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC, dir_fd=directory)
    try:
        fcntl.ioctl(master, TIOCSPTLCK, struct.pack("i", 0))
        slave = fcntl.ioctl(master, TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except BaseException:
        os.close(master)
        raise
    return master, slave


def set_size(descriptor: int, rows: int, columns: int) -> None:
    """The window's size in characters; its foreground process group gets SIGWINCH."""
    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def size(descriptor: int) -> tuple[int, int]:
    """(rows, columns)."""
    rows, columns, _, _ = struct.unpack("HHHH", fcntl.ioctl(descriptor, termios.TIOCGWINSZ, bytes(8)))
    return rows, columns


def make_controlling(slave: int) -> None:
    """Make it the controlling terminal of the calling session leader."""
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
