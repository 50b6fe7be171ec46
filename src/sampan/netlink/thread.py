"""Threads that the event loop hands kernel work to: one for the host's namespace, one that visits others.

The host's thread is one, because RTNL is one lock: more would only wait in the kernel. The visitor enters a container's
namespace with setns(2), which changes the calling thread alone, and must never bring its namespace home: it checks where
it is after each visit, and a thread that could not return ends.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from sampan.errors import SystemFailure

T = TypeVar("T")

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


class NetworkThread:
    """Runs functions one after another, off the loop."""

    def __init__(self, name: str = "network") -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=name)

    async def run(self, function: Callable[[], T]) -> T:
        """Await the function's result. A cancelled caller does not stop a function that has begun."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, function)

    def close(self) -> None:
        """Finish what is queued."""
        self._executor.shutdown(wait=True)


class NamespaceVisitor:
    """Runs functions inside other network namespaces, each visit on one dedicated thread."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="netns-visitor")

    async def run(self, netns: int, function: Callable[[], T]) -> T:
        """Await the function's result, run inside the namespace of the descriptor `netns`.

        Raises `SystemFailure` when the namespace cannot be entered, and whatever the function raises.
        """
        loop = asyncio.get_running_loop()
        copy = os.dup(netns)  # the caller may close its own while we wait for our turn
        try:
            return await loop.run_in_executor(self._executor, lambda: self._visit(copy, function))
        except _LostThread as error:
            self._executor.shutdown(wait=False)
            self._executor = ThreadPoolExecutor(1, thread_name_prefix="netns-visitor")
            raise SystemFailure(f"cannot return from a network namespace: {error}") from error

    def close(self) -> None:
        """Finish what is queued."""
        self._executor.shutdown(wait=True)

    @staticmethod
    def _visit(netns: int, function: Callable[[], T]) -> T:
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _enter(netns)
            try:
                return function()
            finally:
                _return(home)
        finally:
            os.close(home)
            os.close(netns)


class _LostThread(Exception):
    """The thread is not in its own namespace any more and must not be used again."""


def _enter(netns: int) -> None:
    if _libc.setns(netns, _CLONE_NEWNET) != 0:
        raise SystemFailure(f"cannot enter the network namespace: {os.strerror(ctypes.get_errno())}")


def _return(home: int) -> None:
    if _libc.setns(home, _CLONE_NEWNET) != 0:
        raise _LostThread(os.strerror(ctypes.get_errno()))
    wanted, here = os.fstat(home), os.stat("/proc/thread-self/ns/net")
    if (wanted.st_dev, wanted.st_ino) != (here.st_dev, here.st_ino):
        raise _LostThread("setns succeeded, but the namespace is another one")
