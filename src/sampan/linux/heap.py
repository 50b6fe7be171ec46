"""Where the interpreter puts its objects: for processes that are forked and whose pages should stay shared.

A new object takes a free block between older ones, and with it the page they lie in. If new ones lie beside each other, few
pages are written to, and the others stay shared with the parent.
"""

from __future__ import annotations

_ALIGNMENT = 16
_SMALL = 512
"""Objects up to this size are in pools of pymalloc (Objects/obmalloc.c), one size each; larger ones are malloc's."""
_POOL = 16 * 1024
_POOL_HEADER = 48
_LARGE = 8192
_MOST = 20_000
"""Blocks of one size that are tried: enough for any heap of a process that has only imported modules."""
_TOP = 96 * 1024
"""A block larger than any hole, smaller than what malloc maps apart (M_MMAP_THRESHOLD): it comes from the heap's end."""
_OVERHEAD = b"".__sizeof__()

_plugs: list[bytes] = []


def plug_holes() -> None:
    """Fill the free blocks between the objects: what is made from now on is put behind them, and side by side.

    The memory is given up for good; it was unusable without copying the pages that it lies in.
    """
    for size in range(_LARGE, _SMALL, -_ALIGNMENT):
        _fill_heap(size)
    for size in range(_SMALL, 2 * _ALIGNMENT, -_ALIGNMENT):
        _fill_pools(size)


def _fill_heap(size: int) -> None:
    """With blocks of malloc, until one comes from the end of the heap."""
    end = id(bytes(_TOP))
    for _ in range(_MOST):
        block = bytes(size - _OVERHEAD)
        if id(block) >= end:
            return  # given back: the end of the heap is where it was
        _plugs.append(block)


def _fill_pools(size: int) -> None:
    """With objects of one size, until one is the first in a fresh pool."""
    for _ in range(_MOST):
        block = bytes(size - _OVERHEAD)
        if id(block) % _POOL == _POOL_HEADER:
            return
        _plugs.append(block)
