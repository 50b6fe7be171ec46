"""Running a function in a process of its own: for whatever would hold the engine's GIL for milliseconds.

::

    def apply_job(args: dict, fds: list[int], report: Callable[[dict], None]) -> dict: ...

    result = await workers.run("sampan.archive.apply:apply_job", {"target": …}, fds=[layer], progress=show)

Arguments, progress reports and the result are JSON objects. An exception of `sampan.errors` (and OSError) is raised
again in the engine as itself; any other as SystemFailure. Cancelling the call kills the process.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from sampan.errors import SystemFailure
from sampan.linux import sockets
from sampan.zygote.client import ZygoteLost
from sampan.zygote.worker import restore

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterable, Sequence

    from sampan.zygote.client import Zygote


class Workers:
    """Forks a process per job, at most `limit` at once; further jobs wait their turn."""

    def __init__(self, zygote: Zygote, limit: int = 8) -> None:
        self._zygote = zygote
        self._turns = asyncio.Semaphore(limit)

    def apart(self, limit: int) -> Workers:
        """Others of the same fork server, with turns of their own: for jobs that last as long as a client likes."""
        return Workers(self._zygote, limit)

    async def preload(self, modules: Iterable[str]) -> None:
        """Say that jobs of these modules will come: from now on they need not import them."""
        await self._zygote.preload(modules)

    async def run(
        self,
        target: str,
        args: dict[str, Any],
        fds: Sequence[int] = (),
        progress: Callable[[dict[str, Any]], None] | None = None,
    ) -> Any:
        """Call `target` ("module:function") with (args, fds, report) in a forked process; its JSON result.

        `fds` stay open here. `progress` is called on the loop with each report. Raises what the function raised;
        SystemFailure when the process died without an answer (killed, out of memory).
        """
        async with self._turns:
            return await self._insistent(target, args, fds, progress)

    async def begin_if_free(
        self, target: str, args: dict[str, Any], fds: Sequence[int] = ()
    ) -> asyncio.Task[Any] | None:
        """The same, for who would rather not wait for a turn: the call as a task that has one, or None."""
        if self._turns.locked():
            return None
        await self._turns.acquire()  # at once: nothing else runs between the question and this
        task = asyncio.ensure_future(self._insistent(target, args, fds, None))
        task.add_done_callback(lambda _: self._turns.release())
        return task

    async def _insistent(
        self,
        target: str,
        args: dict[str, Any],
        fds: Sequence[int],
        progress: Callable[[dict[str, Any]], None] | None,
    ) -> Any:
        try:
            return await self._run(target, args, fds, progress)
        except ZygoteLost:
            # A worker that it may have forked has died with it.
            return await self._run(target, args, fds, progress)

    async def _run(
        self,
        target: str,
        args: dict[str, Any],
        fds: Sequence[int],
        progress: Callable[[dict[str, Any]], None] | None,
    ) -> Any:
        ours, theirs = sockets.pair()
        ours.setblocking(False)
        with ours:
            with theirs:
                child = await self._zygote.fork(
                    "sampan.zygote.worker:main",
                    {"target": target, "args": args},
                    [theirs.fileno(), *fds],
                )
            try:
                return await self._outcome(ours, progress, target)
            except BaseException:
                child.kill()
                raise
            finally:
                # The job's descriptors and locks are free only when the process is gone.
                await asyncio.shield(child.wait())
                child.close()

    async def _outcome(
        self, sock: socket.socket, progress: Callable[[dict[str, Any]], None] | None, target: str
    ) -> Any:
        loop = asyncio.get_running_loop()
        while True:
            readable = loop.create_future()
            loop.add_reader(sock, _set, readable)
            try:
                await readable
            finally:
                loop.remove_reader(sock)
            while True:
                try:
                    message, _ = sockets.receive(sock)
                except BlockingIOError:
                    break
                except ConnectionError:
                    raise SystemFailure(f"worker {target} died before it answered") from None
                if "result" in message:
                    return message["result"]
                if "error" in message:
                    raise restore(message["error"])
                if progress is not None:
                    progress(message["progress"])


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
