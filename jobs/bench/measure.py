"""Measuring an engine: tokens a second against the number of requests in flight, in the steady state.

At each level so many workers draw one sample after the other, all with different seeds, and problem after problem as a
run does, so that prefix caches are worth here what they are worth there.
Counting begins when every worker has had its first answer and ends after a set time; what is under way then isn't
counted, as what was under way at the beginning was. Levels are measured in turn, several rounds of them, so that a
machine that drifts drifts for all.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count

from operators.engine import Completion, Engine, Request
from schemas.engine import SamplingParams
from schemas.throughput import Level

LONGEST_WARM_UP = 120.0
"""Seconds until counting begins, answers or not."""


@dataclass
class Window:
    """What was answered while counting, at one level in one round."""

    concurrency: int
    seconds: float = 0.0
    answers: list[Completion] = field(default_factory=list[Completion])
    latencies: list[float] = field(default_factory=list[float])

    @property
    def rate(self) -> float:
        return sum(answer.completion_tokens for answer in self.answers) / self.seconds if self.seconds else 0.0


class Meter:
    """One engine, its prompts (each for ``samples`` samples in a row), and the seeds not used yet."""

    def __init__(self, engine: Engine, prompts: Sequence[str], samples: int, params: SamplingParams) -> None:
        self.engine = engine
        self.prompts = prompts
        self.samples = samples
        self.params = params
        self._numbers = count()

    async def window(self, concurrency: int, seconds: float) -> Window:
        """Measure one level for ``seconds``.

        Raises:
            EngineError: a request failed; a benchmark has no use for an engine that refuses.
        """
        window = Window(concurrency)
        warm = [asyncio.Event() for _ in range(concurrency)]
        counting = asyncio.Event()

        async def worker(first: asyncio.Event) -> None:
            while True:
                number = next(self._numbers)
                prompt = self.prompts[number // self.samples % len(self.prompts)]
                began = time.perf_counter()
                [answer] = await self.engine.generate(
                    Request(prompt, self.params, number, request_id=f"bench/{number}")
                )
                if counting.is_set():
                    window.answers.append(answer)
                    window.latencies.append(time.perf_counter() - began)
                first.set()

        workers = [asyncio.create_task(worker(first)) for first in warm]
        try:
            await self._warm_up(workers, warm)
            began = time.perf_counter()
            counting.set()
            await asyncio.wait(workers, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
            counting.clear()
            window.seconds = time.perf_counter() - began
            _raise_first(workers)
        finally:
            for task in workers:
                task.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
        return window

    async def _warm_up(self, workers: Sequence[asyncio.Task[None]], warm: Sequence[asyncio.Event]) -> None:
        answered = asyncio.gather(*[first.wait() for first in warm])
        await asyncio.wait(
            [answered, *workers], timeout=LONGEST_WARM_UP, return_when=asyncio.FIRST_COMPLETED
        )  # a worker only ends by failing
        answered.cancel()
        _raise_first(workers)


def _raise_first(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        if task.done() and not task.cancelled():
            task.result()


async def measure(
    meter: Meter, levels: Sequence[int], rounds: int, seconds: float, heard: Callable[[Window], None]
) -> list[Window]:
    """Measure all levels in turn; ``heard`` is told of each window as it ends."""
    windows: list[Window] = []
    for number in range(rounds):
        order = levels if number % 2 == 0 else levels[::-1]
        for concurrency in order:
            windows.append(await meter.window(concurrency, seconds))
            heard(windows[-1])
    return windows


def summarise(windows: Sequence[Window]) -> list[Level]:
    """Return one level for each concurrency, of the windows that had answers."""
    levels: list[Level] = []
    for concurrency in sorted({window.concurrency for window in windows}):
        mine = [window for window in windows if window.concurrency == concurrency and window.answers]
        if not mine:
            continue
        rates = [window.rate for window in mine]
        latencies = sorted(latency for window in mine for latency in window.latencies)
        seconds = sum(window.seconds for window in mine)
        answers = [answer for window in mine for answer in window.answers]
        levels.append(
            Level(
                concurrency=concurrency,
                rounds=len(mine),
                requests=len(answers),
                completion_tokens_per_second=statistics.median(rates),
                low=min(rates),
                high=max(rates),
                prompt_tokens_per_second=sum(answer.prompt_tokens for answer in answers) / seconds,
                samples_per_second=len(answers) / seconds,
                latency_seconds=statistics.median(latencies),
                latency_p95_seconds=latencies[min(len(latencies) - 1, int(0.95 * len(latencies)))],
            )
        )
    return levels
