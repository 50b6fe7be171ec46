"""Who follows a build misses nothing, and is not told each thing by itself."""

from __future__ import annotations

import asyncio

from sampan.solver.progress import Event, LogEvent, Progress


def event(number: int) -> Event:
    return LogEvent(vertex="v", stream=1, data=b"%d" % number, at=number)


async def followed(progress: Progress) -> list[list[Event]]:
    return [events async for events in progress.follow()]


def test_every_follower_is_told_everything() -> None:
    async def run() -> None:
        progress = Progress()
        followers = [asyncio.create_task(followed(progress)) for _ in range(3)]
        for number in range(5):
            await asyncio.sleep(0)
            progress.publish(event(number))
        progress.close()
        late = asyncio.create_task(followed(progress))
        for told in await asyncio.gather(*followers, late):
            assert [each for events in told for each in events] == [event(number) for number in range(5)]

    asyncio.run(asyncio.wait_for(run(), 10))


def test_what_comes_soon_after_the_last_is_told_together_and_an_end_at_once() -> None:
    async def run() -> None:
        progress = Progress()
        follower = asyncio.create_task(followed(progress))
        await asyncio.sleep(0)
        for number in range(20):
            progress.publish(event(number))
            for _ in range(3):
                await asyncio.sleep(0)
        progress.close()
        told = await follower
        assert [len(events) for events in told] == [1, 19]

    asyncio.run(asyncio.wait_for(run(), 10))
