"""The throttle: never more under way than people want, nobody forgotten, changed at any time."""

from __future__ import annotations

import asyncio
import random

from cluster.working.throttle import Throttle


async def use(throttle: Throttle, seen: list[int], draw: random.Random) -> None:
    if not throttle.free:
        await throttle.wait()
    throttle.under_way += 1
    seen.append(throttle.under_way)
    try:
        for _ in range(draw.randrange(4)):
            await asyncio.sleep(0)
    finally:
        throttle.leave()


def test_as_many_as_are_wanted_and_no_more() -> None:
    async def play(seed: int) -> None:
        draw, throttle, seen = random.Random(seed), Throttle(), list[int]()
        throttle.set(3)
        tasks = [asyncio.create_task(use(throttle, seen, draw)) for _ in range(40)]
        for task in draw.sample(tasks, 5):
            await asyncio.sleep(0)
            task.cancel()
        await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 10)
        assert len(seen) >= 35 and max(seen) == 3 and throttle.under_way == 0

    for seed in range(20):
        asyncio.run(play(seed))


def test_fewer_let_what_is_under_way_finish_and_none_let_all_by() -> None:
    async def play() -> None:
        throttle, seen = Throttle(), list[int]()
        for _ in range(5):
            assert throttle.free
            throttle.under_way += 1
        throttle.set(1)
        waiting = [asyncio.create_task(use(throttle, seen, random.Random(0))) for _ in range(3)]
        for _ in range(4):
            await asyncio.sleep(0)
            throttle.leave()
        await asyncio.sleep(0)
        assert seen == []  # one of the five is still there
        throttle.set(None)
        await asyncio.wait_for(asyncio.gather(*waiting), 10)
        assert len(seen) == 3
        throttle.leave()
        assert throttle.under_way == 0 and throttle.free

    asyncio.run(play())


def test_who_was_called_gets_the_place_whoever_comes_by_again_at_once() -> None:
    async def play(many: int, most: int) -> None:
        throttle, turns = Throttle(), [0] * many

        async def again(who: int) -> None:
            while sum(turns) < 100 * many:
                if not throttle.free:
                    await throttle.wait()
                throttle.under_way += 1
                turns[who] += 1
                await asyncio.sleep(0)
                throttle.leave()

        throttle.set(most)
        await asyncio.wait_for(asyncio.gather(*map(again, range(many))), 10)
        assert min(turns) > 90, turns
        assert throttle.under_way == 0 and throttle.free

    for many, most in ((4, 3), (2, 1), (50, 7)):
        asyncio.run(play(many, most))
