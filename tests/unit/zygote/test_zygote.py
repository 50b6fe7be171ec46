"""The fork server and its workers, as an ordinary user can have them."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING, Any

import pytest

from sampan.errors import SystemFailure
from sampan.zygote.client import Zygote
from sampan.zygote.workers import Workers

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


def with_zygote(scenario: Callable[[Zygote], Awaitable[None]]) -> None:
    async def main() -> None:
        zygote = await Zygote.start()
        try:
            await asyncio.wait_for(scenario(zygote), 30)
        finally:
            await zygote.close()

    asyncio.run(main())


def test_an_unexpected_error_is_a_system_failure() -> None:
    async def scenario(zygote: Zygote) -> None:
        with pytest.raises(SystemFailure, match="no attribute 'nothing'"):
            await Workers(zygote).run("json:nothing", {})

    with_zygote(scenario)


def test_a_killed_zygote_is_replaced_and_the_next_request_is_served() -> None:
    async def scenario(zygote: Zygote) -> None:
        first = zygote.pid
        os.kill(first, signal.SIGKILL)
        outcome: Any = None
        for _ in range(2):  # the request under way at the death fails, the next one finds a new process
            try:
                await Workers(zygote).run("json:nothing", {})
            except SystemFailure as error:
                outcome = str(error)
        assert "no attribute" in outcome
        assert zygote.pid != first

    with_zygote(scenario)


def test_nobody_can_write_the_interpreter_through_the_zygote() -> None:
    async def scenario(zygote: Zygote) -> None:
        held = os.open(f"/proc/{zygote.pid}/exe", os.O_PATH)
        await zygote.close()
        try:
            assert os.fstatvfs(held).f_flag & os.ST_RDONLY
        finally:
            os.close(held)

    if os.geteuid() != 0:
        pytest.skip("cloning a mount needs root")
    with_zygote(scenario)
