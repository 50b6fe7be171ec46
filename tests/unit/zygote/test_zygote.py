"""The fork server and its workers, as an ordinary user can have them."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from pathlib import Path
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


def test_lasting_children_are_the_zygotes_own_and_survive_their_seed() -> None:
    def named(zygote: Zygote, name: str) -> list[int]:
        children = Path(f"/proc/{zygote.pid}/task/{zygote.pid}/children").read_text().split()
        return [int(pid) for pid in children if Path(f"/proc/{pid}/comm").read_text().strip() == name]

    async def scenario(zygote: Zygote) -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with ours, theirs:
            entry = "tests_of_zygote:wait"
            with pytest.raises(SystemFailure, match="tests_of_zygote"):
                await zygote.fork_lasting(entry, {}, [theirs.fileno()])
            child = await zygote.fork_lasting("sampan.zygote.worker:main", {"target": "x"}, [theirs.fileno()])
            assert await child.wait() == 0
            (seed,) = named(zygote, "sampan-seed")
            os.kill(seed, signal.SIGKILL)
            again = await zygote.fork_lasting("sampan.zygote.worker:main", {"target": "x"}, [theirs.fileno()])
            assert await again.wait() == 0
            (successor,) = named(zygote, "sampan-seed")
            assert successor != seed
            child.close()
            again.close()

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
