"""When requests are sent: servers with limits of several kinds, in a time of their own."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from cluster.engines.openai.gate import Gate
from tests.clock import run_in_no_time


@dataclass
class Windowed:
    """Takes ``most`` calls in each ``window`` seconds, and says after how many to come back; 0: it doesn't say."""

    most: int
    window: float
    told: float = 0.0
    latency: float = 0.5
    refused_count: bool = True
    fixed: bool = False
    """Whether windows follow each other; else each call begins one."""
    by_rate = True
    calls: deque[float] = field(default_factory=deque[float])

    async def ask(self) -> bool:
        now = asyncio.get_running_loop().time()
        begin = now // self.window * self.window if self.fixed else now - self.window
        while self.calls and self.calls[0] <= begin:
            self.calls.popleft()
        if len(self.calls) >= self.most:
            if self.refused_count:
                self.calls.append(now)
            return False
        self.calls.append(now)
        await asyncio.sleep(self.latency)
        return True


@dataclass
class Narrow:
    """Works on ``most`` at once; what is too much is refused after ``late`` seconds."""

    most: int
    latency: float = 0.3
    late: float = 0.3
    told = 0.0
    by_rate: bool = False
    now: int = 0

    async def ask(self) -> bool:
        self.now += 1
        try:
            much = self.now > self.most
            await asyncio.sleep(self.late if much else self.latency)
            return not much
        finally:
            self.now -= 1


@dataclass
class Away:
    """Isn't there in between."""

    begin: float
    end: float
    told = 0.0
    by_rate = False

    async def ask(self) -> bool:
        if self.begin <= asyncio.get_running_loop().time() < self.end:
            return False
        await asyncio.sleep(0.3)
        return True


def drive(server: Any, wanted: int, seconds: float, concurrency: int = 64, **gate: Any) -> tuple[list[float], int]:
    """Return when requests were served, and how many calls were refused, in so many seconds."""

    async def session() -> tuple[list[float], int]:
        loop, served, refused = asyncio.get_running_loop(), list[float](), 0
        entrance = Gate(concurrency, **gate)

        async def one() -> None:
            nonlocal refused
            place = entrance.place()
            while True:
                entered = await entrance.enter(place)
                try:
                    if await server.ask():
                        entrance.served(entered)
                        served.append(loop.time())
                        return
                    refused += 1
                    entrance.refused(entered, server.told, server.by_rate)
                finally:
                    entrance.leave()

        async def worker() -> None:
            while left:
                left.pop()
                await one()

        left = [None] * wanted
        tasks = [asyncio.create_task(worker()) for _ in range(concurrency)]
        await asyncio.wait(tasks, timeout=seconds)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return served, refused

    return run_in_no_time(session())


@pytest.mark.parametrize("concurrency", [64, 16, 7])
@pytest.mark.parametrize("seconds", [80.0, 300.0])
def test_five_hundred_a_minute_are_used_though_refused_calls_count(concurrency: int, seconds: float) -> None:
    served, refused = drive(Windowed(100, 12.0, told=1.0), 10_000, seconds, concurrency)
    assert len(served) >= 0.9 * seconds * 500 / 60
    assert refused < 0.1 * (len(served) + refused)


@pytest.mark.parametrize(
    ("server", "least", "most"),
    [
        (lambda: Windowed(20, 3.0, told=3.0, latency=0.0), 0.72, 0.12),
        (lambda: Windowed(20, 3.0, latency=0.0), 0.75, 0.12),
        (lambda: Windowed(20, 3.0, latency=0.0, refused_count=False, fixed=True), 0.85, 0.12),
        (lambda: Windowed(500, 60.0, told=20.0, latency=2.0), 0.8, 0.1),
        (lambda: Windowed(10, 1.0, latency=20.0, refused_count=False), 0.26, 0.2),  # 64 at once make .32
        (lambda: Windowed(1, 2.0, told=2.0, latency=0.1), 0.7, 0.35),
    ],
)
def test_limits_of_other_kinds_are_used_too(server: Callable[[], Windowed], least: float, most: float) -> None:
    found = server()
    served, refused = drive(found, 10_000, 240.0)
    granted = 240.0 * found.most / found.window
    assert len(served) >= least * granted, (len(served), granted, refused)
    assert refused <= most * (len(served) + refused), (len(served), refused)


@pytest.mark.parametrize("by_rate", [False, True])
@pytest.mark.parametrize("late", [0.0, 0.3, 1.0])
def test_who_takes_eight_at_once_gets_no_more(by_rate: bool, late: float) -> None:
    served, refused = drive(Narrow(8, late=late, by_rate=by_rate), 200, 60.0)
    assert len(served) == 200
    assert refused < 300


def test_a_server_that_is_away_is_asked_by_one_at_a_time_and_found_again() -> None:
    served, refused = drive(Away(5.0, 25.0), 3_000, 120.0)
    assert len(served) == 3_000
    assert refused < 64 + 10
    assert min(at for at in served if at > 25.0) < 25.0 + 12.0


def test_rates_that_are_set_are_never_passed() -> None:
    served, refused = drive(Windowed(10**9, 60.0, latency=0.1), 10_000, 60.0, per_second=5.0)
    assert 290 <= len(served) <= 305
    assert refused == 0
    for at in range(0, 50, 10):
        assert sum(at <= one < at + 10 for one in served) <= 54


def test_tokens_are_counted_as_they_were_taken_in_the_end() -> None:
    async def session() -> float:
        gate, loop = Gate(64, tokens_per_second=100.0), asyncio.get_running_loop()
        for _ in range(40):
            gate.served(await gate.enter(gate.place(), 50), 50, 10)  # it said fifty and took ten
            gate.leave()
        return loop.time()

    assert 3.0 <= run_in_no_time(session()) <= 5.0


def test_all_wait_together_until_the_time_that_was_told() -> None:
    async def session() -> list[float]:
        gate, loop, sent = Gate(8), asyncio.get_running_loop(), list[float]()

        async def one() -> None:
            place = gate.place()
            while True:
                entered, at = await gate.enter(place), loop.time()
                sent.append(at)
                if at < 60.0:
                    gate.refused(entered, 60.0 - at, True)
                else:
                    gate.served(entered)
                gate.leave()
                if at >= 60.0:
                    return
                assert gate.waits == pytest.approx(60.0 - loop.time())

        await asyncio.gather(*[one() for _ in range(8)])
        return sent

    sent = run_in_no_time(session())
    assert [at for at in sent if 0 < at < 60] == []
    assert len(sent) == 2 * 8 or sent.count(0.0) == 1


def test_whoever_waits_may_leave_and_takes_nobodys_turn() -> None:
    async def session() -> None:
        gate = Gate(1)
        await gate.enter(gate.place())
        waiting = [asyncio.create_task(gate.enter(gate.place())) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        gate.leave()
        await asyncio.wait_for(waiting[1], 1)
        gate.leave()
        waiting[2].cancel()  # its turn is given in the same moment
        await asyncio.sleep(0)
        await asyncio.wait_for(gate.enter(gate.place()), 1)
        assert gate.in_flight == 1

    run_in_no_time(session())


def test_the_limit_halves_once_a_pause_and_grows_back() -> None:
    async def session() -> None:
        gate = Gate(64)
        entered = [await gate.enter(gate.place()) for _ in range(8)]
        for one in entered:
            gate.refused(one)
            gate.leave()
        assert gate.limit == 32
        for _ in range(33):
            gate.served(await gate.enter(gate.place()))
            gate.leave()
        assert 32.9 < gate.limit < 34
        for _ in range(5000):
            gate.served(await gate.enter(gate.place()))
            gate.leave()
        assert gate.limit == 64

    run_in_no_time(session())
