"""Whose turn it is: jobs at once are limited, and who will not wait is told so instead of waiting after all."""

from __future__ import annotations

import asyncio
from typing import Any

from sampan.zygote.client import Zygote
from sampan.zygote.workers import Workers


class Endless(Zygote):
    """Never gets to a fork."""

    def __init__(self) -> None:
        """Without a process."""

    async def fork(self, *arguments: Any, **named: Any) -> Any:
        await asyncio.Event().wait()


def test_two_who_ask_at_once_for_the_last_turn() -> None:
    async def main() -> None:
        workers = Workers(Endless(), 1)
        asked = [workers.begin_if_free("module:job", {}) for _ in range(2)]
        first, second = await asyncio.gather(*asked)
        assert first is not None and second is None
        first.cancel()
        await asyncio.wait([first])
        await asyncio.sleep(0)  # its end is told on the next turn of the loop
        third = await workers.begin_if_free("module:job", {})
        assert third is not None
        third.cancel()

    asyncio.run(main())
