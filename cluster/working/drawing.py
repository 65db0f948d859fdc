"""Drawing: what a sampling worker does with the ranges it is given, one sample after the other.

As many coroutines as the engine wants in flight take the next index from a queue, so requests of different problems
share the engine's batch and the tail of one problem overlaps the next.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
import polars as pl

from cluster.engines.never_sent import NeverSent
from cluster.storage.ranges import Ints, Ranges
from cluster.storage.root import Root
from cluster.storage.rows import NumberedRows
from cluster.storage.slices import Slice
from cluster.working.assigned import AssignedProblems
from cluster.working.desk import Desk
from cluster.working.reports import Failed
from cluster.working.tries import Waiting
from operators.engine import EngineError
from operators.sample.lengths import TooLong, is_too_long
from operators.sample.sampling import BEGUN, Sampling
from schemas import datasets
from schemas.errors import BadInput

Row = dict[str, Any]


class Drawing:
    """The samples that one worker has still to draw.

    Args:
        on_drawn: called with the rows of each draw, or with what is known of one that failed.
        on_hungry: called when the queue runs low.
        room: set while rows may be added.
    """

    def __init__(
        self,
        operator: Sampling,
        desk: Desk,
        root: Root,
        problems: NumberedRows,
        run_id: str,
        on_drawn: Callable[[list[Row] | Failed], None],
        on_hungry: Callable[[], None],
        room: asyncio.Event,
    ) -> None:
        self.operator = operator
        self.desk = desk
        self.under_way = 0
        """Samples that are being drawn."""
        self.outstanding = 0
        """Those, and what waits in the queue."""
        self._root = root
        self._run_id = run_id
        self._on_drawn = on_drawn
        self._on_hungry = on_hungry
        self._room = room
        self._queue: asyncio.Queue[tuple[int, int]] = asyncio.Queue()
        self._problems = AssignedProblems(root, problems, operator.reads)
        self._prompts: dict[int, asyncio.Task[str]] = {}
        self._begun: dict[tuple[str, int], Row] = {}
        self._waiting = Waiting(desk.patience)
        self._thresholds: dict[int, float | None] = {}
        """Number of a problem -> below which confidence its samples are cut (``sample.cut``)."""

    async def measure(self, numbers: Ints, exactly: bool) -> tuple[list[tuple[int, TooLong]], Ints]:
        """Return which prompts are too long, and how many tokens each has at most, where that is asked for."""
        found: list[tuple[int, TooLong]] = []
        tokens: list[int] = []
        for block in self._problems.blocks(numbers):
            rows = await asyncio.to_thread(self._problems.read, block)
            for number, problem in zip(block.tolist(), rows.iter_rows(named=True), strict=True):
                prompt = await self.operator.prompt(problem, self.desk) + self.operator.lead(problem)
                if exactly:
                    tokens.append(await self.desk.most_tokens(prompt))
                if (too_long := await is_too_long(self.operator, self.desk, problem, prompt)) is not None:
                    found.append((number, too_long))
        return found, np.array(tokens, np.int64)

    async def add(self, ranges: Ranges, begun: Slice | None, warm_ups: Slice | None = None) -> None:
        """Queue ranges to draw.

        Args:
            begun: samples of which the truncated ones are continued; or the calls of episodes that go on.
            warm_ups: the problems' first samples, which set the thresholds of those in ``ranges`` that come after them.
        """
        if begun is not None:
            await self._read_begun(begun)
        await self._problems.fetch(ranges)
        if warm_ups is not None and (news := set(ranges.numbers.tolist()) - self._thresholds.keys()):
            await self._learn_thresholds(news, warm_ups)
        for number, first, count in ranges:
            for index in range(first, first + count):
                self._queue.put_nowait((number, index))
            self.outstanding += count

    def drop(self) -> list[tuple[int, int]]:
        """Empty the queue; return what was in it and isn't begun, as (problem, sample index)."""
        dropped: list[tuple[int, int]] = []
        with contextlib.suppress(asyncio.QueueEmpty):
            while True:
                dropped.append(self._queue.get_nowait())
        self.outstanding -= len(dropped)
        for number, _ in dropped:
            self._problems.let_go(number)
        return dropped

    async def _read_begun(self, begun: Slice) -> None:
        columns = datasets.Sample.select("problem_key", "sample_index", "finish_reason", "status", *BEGUN)
        rows = await asyncio.to_thread(begun.read, self._root, columns)
        rows = rows.filter(is_truncated())
        for row in rows.iter_rows(named=True):
            self._begun[row["problem_key"], row["sample_index"]] = row

    async def _learn_thresholds(self, numbers: set[int], warm_ups: Slice) -> None:
        cut = self.operator.cut
        assert cut is not None
        columns = datasets.Sample.select("problem_key", "sample_index", "lowest_group_confidence")
        rows = await asyncio.to_thread(warm_ups.read, self._root, columns)
        lowest = dict(rows.group_by("problem_key").agg("lowest_group_confidence").iter_rows())
        for number in numbers:
            if (found := lowest.get(self._problems[number]["problem_key"])) is not None:
                self._thresholds[number] = cut.threshold(found)

    @property
    def waiting(self) -> int:
        """Draws that nobody has begun."""
        return self._queue.qsize()

    @property
    def draws(self) -> int:
        """How many draws keep the engine busy."""
        return self.desk.capacity

    def loops(self) -> list[Coroutine[Any, Any, None]]:
        """Return what has to run; each ends only with whatever is wrong with the engine, or with the operator."""
        return [self.draw_forever() for _ in range(self.draws)]

    async def draw_forever(self) -> None:
        """Draw one after the other; ends with whatever is wrong with the engine, or with the operator."""
        low = self.desk.capacity - 1
        while True:
            await self._room.wait()
            number, index = await self._queue.get()
            if self._queue.qsize() == low:
                self._on_hungry()
            await self._draw(number, index)

    async def _draw(self, number: int, index: int) -> None:
        problem = self._problems[number]
        begun = self._begun.pop((problem["problem_key"], index), None)
        self.under_way += 1
        try:
            prompt = await self._prompt(number, problem)
            cut = self.operator.cut
            cut_below = None if cut is None or index < cut.warm_up else self._thresholds.get(number)
            row = await self.operator.draw(problem, prompt, index, self.desk, self._run_id, begun, cut_below)
            self._waiting.over((number, index))
            self._on_drawn([row])
        except EngineError as error:
            again = self.desk.pays_elsewhere and self._waiting.goes_on((number, index), error)
            self._on_drawn(Failed(number, index, str(error), error.served, again))
        except (BadInput, NeverSent) as error:
            self._on_drawn(Failed(number, index, str(error), served=False, again=True))
            raise
        finally:
            self.under_way -= 1
        self._problems.let_go(number)
        self.outstanding -= 1

    async def _prompt(self, number: int, problem: Row) -> str:
        """Render a problem's prompt once for all its samples (the last few thousand problems are remembered)."""
        if number not in self._prompts:
            if len(self._prompts) >= 4096:
                del self._prompts[next(iter(self._prompts))]
            self._prompts[number] = asyncio.create_task(self.operator.prompt(problem, self.desk))
        try:
            return await self._prompts[number]
        except EngineError:
            self._prompts.pop(number, None)  # the next try renders it anew
            raise


def is_truncated() -> pl.Expr:
    """Whether a sample was cut at ``max_tokens`` and can be continued."""
    return (pl.col("finish_reason") == "length") & (pl.col("status") == "ok")
