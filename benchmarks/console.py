"""The kernel's log on the machine's console, which every container pays for: its network port writes some ten lines.

A serial console takes about a millisecond for a line, while the kernel holds the lock that all changes of the network wait
for. Both engines pay alike, so the faster one pays the larger share.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PRINTK = Path("/proc/sys/kernel/printk")
_WARNINGS = "4"
"""What the kernel boots with where its command line says `quiet`: errors and worse are still seen."""


def level() -> int:
    """Messages below this level reach the console: 7 shows the ports' lines, 4 does not."""
    return int(_PRINTK.read_text().split()[0])


@contextmanager
def quiet() -> Iterator[None]:
    """Keep all but errors off the console meanwhile."""
    before = _PRINTK.read_text().split()[0]
    _PRINTK.write_text(_WARNINGS)
    try:
        yield
    finally:
        _PRINTK.write_text(before)
