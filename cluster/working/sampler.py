"""The sampling worker: one engine, kept busy, its completions written as parts.

The driver assigns index ranges and collects reports; it never sees a text. As many coroutines as the engine wants in
flight take the next index from a queue, so requests of different problems share the engine's batch and the tail of one
problem overlaps the next. Rows are flushed to a part when there are enough of them, or when the oldest has waited
``flush_seconds`` (the first ones sooner): that bounds what a crash can cost. When the storage is slow, drawing waits
for it: no more than ``BUFFERS`` parts' worth of rows are ever held.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import polars as pl

from cluster.engines import build_engine
from cluster.records.timeline import Activity, Timeline
from cluster.storage.parts import Part, write_part
from cluster.storage.ranges import Ints, Ranges
from cluster.storage.root import Root
from cluster.storage.rows import NumberedRows
from cluster.storage.slices import Slice
from cluster.working.assigned import AssignedProblems
from cluster.working.warm_up import WarmUps
from operators.engine import Engine, EngineError, EngineInfo
from operators.sample.lengths import TooLong, is_too_long
from operators.sample.sampling import BEGUN, Sampling
from schemas import datasets
from schemas.engine import EngineSpec

FIRST_FLUSH = 0.25
"""Seconds until the first part is written; each next one may wait twice as long, up to ``flush_seconds``."""
LOOK_SECONDS = 1.0
"""Between two looks for warm-ups that others drew (``sample.cut``)."""
BUFFERS = 3
"""How many parts' worth of rows a worker holds, being filled and being written, before it stops drawing."""


@dataclass(frozen=True)
class SamplingJob:
    """Everything a sampling worker needs to know; small and picklable."""

    stage: str
    operator: Sampling
    engine: EngineSpec
    root: str
    folder: str
    problems: NumberedRows
    run_id: str
    flush_rows: int
    flush_seconds: float
    begun: str | None = None
    """Folder of the store whose truncated samples are continued (``extend_truncated``)."""

    @property
    def worker(self) -> type[Sampler]:
        return Sampler


@dataclass(frozen=True)
class Ready:
    """What a worker says once its engine is loaded."""

    info: EngineInfo
    capacity: int


@dataclass
class Report:
    """What happened since the last report."""

    parts: list[Part] = field(default_factory=list[Part])
    failed: list[tuple[int, int, str]] = field(default_factory=list[tuple[int, int, str]])
    """(problem, sample index, message) of draws whose transient fault outlived the retries."""
    drawn: int = 0
    """Samples drawn since the worker started, flushed or not."""
    activity: Activity = field(default_factory=Activity)
    """What the engine did since the worker started."""


@dataclass(frozen=True)
class Prompts:
    """What was found of the prompts of some problems.

    Attributes:
        too_long: those that leave no room for ``max_tokens``, by number.
        tokens: how many each has at most, where that was asked for.
    """

    too_long: list[tuple[int, TooLong]]
    tokens: Ints


class Sampler:
    """Runs in one event loop: the local runner's thread or a Ray actor."""

    def __init__(self, job: SamplingJob) -> None:
        self.job = job
        self.root = Root(job.root)
        self.rows: list[dict[str, Any]] = []
        self.report = Report()
        self._oldest = 0.0
        self._flush_after = min(FIRST_FLUSH, job.flush_seconds)
        self._outstanding = 0
        self._timeline = Timeline(socket.gethostname())
        self._problems = AssignedProblems(self.root, job.problems)
        self._prompts: dict[int, asyncio.Task[str]] = {}
        self._ending = False
        self._tasks: list[asyncio.Task[None]] = []
        self._writes: set[asyncio.Task[None]] = set()
        self._unwritten = 0
        self._room = asyncio.Event()
        self._room.set()
        self._begun: dict[tuple[str, int], dict[str, Any]] = {}
        self._hungry = False
        self._crash: Exception | None = None
        cut = job.operator.cut
        self._warm_ups = None if cut is None else WarmUps(cut, self.root, job.folder)

    async def start(self) -> Ready:
        """Load the engine and start drawing whatever is assigned."""
        self.engine: Engine = await asyncio.to_thread(build_engine, self.job.engine)
        self.queue: asyncio.Queue[tuple[int, int]] = asyncio.Queue()
        self.news = asyncio.Event()
        self._tasks = [asyncio.create_task(self._draw_forever()) for _ in range(self.engine.capacity)]
        self._tasks.append(asyncio.create_task(self._flush_forever()))
        if self._warm_ups is not None:
            self._tasks.append(asyncio.create_task(self._look_for_warm_ups(self._warm_ups)))
        return Ready(self.engine.info, self.engine.capacity)

    async def measure(self, numbers: Ints, exactly: bool) -> Prompts:
        """Measure the prompts of problems, given by number and sorted.

        Args:
            exactly: tell how many tokens each has at most.
        """
        found: list[tuple[int, TooLong]] = []
        tokens: list[int] = []
        for block in self._problems.blocks(numbers):
            rows = await asyncio.to_thread(self._problems.read, block)
            for number, problem in zip(block.tolist(), rows.iter_rows(named=True), strict=True):
                prompt = await self._whole_prompt(problem)
                if exactly:
                    tokens.append(await self.engine.most_tokens(prompt))
                if (too_long := await is_too_long(self.job.operator, self.engine, problem, prompt)) is not None:
                    found.append((number, too_long))
        return Prompts(found, np.array(tokens, np.int64))

    async def _whole_prompt(self, problem: dict[str, Any]) -> str:
        """Return all that the engine reads before it writes: the prompt, and the beginning of the completion."""
        return await self.job.operator.prompt(problem, self.engine) + self.job.operator.lead(problem)

    async def assign(self, ranges: Ranges, begun: Slice | None = None) -> None:
        """Queue ranges to draw; of those in ``begun``, truncated samples are continued."""
        try:
            if begun is not None:
                await self._read_begun(begun)
            await self._problems.fetch(ranges)
        except Exception as error:
            self._crash = self._crash or error
            self.news.set()
            return
        if self._ending:
            return
        for number, first, count in ranges:
            for index in range(first, first + count):
                self.queue.put_nowait((number, index))
            self._outstanding += count

    async def _read_begun(self, begun: Slice) -> None:
        columns = datasets.Sample.select("problem_key", "sample_index", "finish_reason", "status", *BEGUN)
        rows = await asyncio.to_thread(begun.read, self.root, columns)
        rows = rows.filter(is_truncated())
        for row in rows.iter_rows(named=True):
            self._begun[row["problem_key"], row["sample_index"]] = row

    async def collect(self, seconds: float = 0.5) -> Report:
        """Return a report when there is news (a part, a failure, a queue running low), or after ``seconds``.

        Raises:
            Exception: whatever ended a drawing coroutine; the engine is to be considered dead.
        """
        if not (self.report.parts or self.report.failed or self._hungry):
            self.news.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.news.wait(), seconds)
        if self._crash is not None:
            raise self._crash
        return self._take_report()

    async def sleep(self) -> None:
        """Give the GPUs to the engine whose turn it is; nothing is assigned meanwhile."""
        await self.engine.sleep()

    async def wake(self) -> None:
        await self.engine.wake()

    async def stop(self) -> Report:
        """Drop what is queued or in flight, flush what was drawn, free the engine; return the last report."""
        await self.abandon()
        self._flush()
        await asyncio.gather(*self._writes)
        await self.engine.close()
        if self._crash is not None and not self.report.parts:
            raise self._crash
        return self._take_report()

    async def drain(self, seconds: float) -> Report:
        """Take nothing new, give what is in flight up to ``seconds`` to finish, then ``stop``."""
        self._ending = True
        while not self.queue.empty():
            self.queue.get_nowait()
        until = time.monotonic() + seconds
        while self._timeline.in_flight and time.monotonic() < until and self._crash is None:
            await asyncio.sleep(0.02)
        return await self.stop()

    async def abandon(self) -> None:
        """Stop drawing and drop what isn't written."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _take_report(self) -> Report:
        self._hungry = False
        taken = self.report
        taken.activity = replace(self._timeline.activity(), trouble=self.engine.trouble)
        self.report = Report(drawn=taken.drawn)
        return taken

    async def _prompt(self, number: int, problem: dict[str, Any]) -> str:
        """Render a problem's prompt once for all its samples (the last few thousand problems are remembered)."""
        if number not in self._prompts:
            if len(self._prompts) >= 4096:
                del self._prompts[next(iter(self._prompts))]
            self._prompts[number] = asyncio.create_task(self.job.operator.prompt(problem, self.engine))
        return await self._prompts[number]

    async def _draw_forever(self) -> None:
        while True:
            await self._room.wait()
            number, index = await self.queue.get()
            if self.queue.qsize() == self.engine.capacity - 1:
                self._hungry = True
                self.news.set()
            key = self._problems[number]["problem_key"]
            if self._warm_ups is not None and not self._warm_ups.ready(number, index, key):
                continue
            try:
                await self._draw(number, index)
            except Exception as error:  # not one request's failure: the engine, or the operator, is broken
                self._crash = self._crash or error
                self.news.set()
                return

    async def _draw(self, number: int, index: int) -> None:
        problem, tokens = self._problems[number], 0
        begun = self._begun.pop((problem["problem_key"], index), None)
        self._timeline.enter()
        try:
            prompt = await self._prompt(number, problem)
            cut_below = None if self._warm_ups is None else self._warm_ups.threshold(number, index)
            row = await self.job.operator.draw(problem, prompt, index, self.engine, self.job.run_id, begun, cut_below)
            self._warmed_up(number, index, row["lowest_group_confidence"])
            if not self.rows:
                self._oldest = time.monotonic()
            self.rows.append(row)
            self._count_unwritten(1)
            tokens = row["completion_tokens"]
        except EngineError as error:
            self.report.failed.append((number, index, str(error)))
            self._warmed_up(number, index, None)
            self.news.set()
        finally:
            self._timeline.leave(tokens)
        self._problems.let_go(number)
        self.report.drawn += 1
        self._outstanding -= 1
        if len(self.rows) >= self.job.flush_rows:
            self._flush()

    def _warmed_up(self, number: int, index: int, lowest: float | None) -> None:
        """Queue what waited for this sample."""
        if self._warm_ups is not None:
            for free in self._warm_ups.on_drawn(number, index, lowest):
                self.queue.put_nowait(free)

    async def _look_for_warm_ups(self, warm_ups: WarmUps) -> None:
        """Queue what waits for samples that others drew."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            for free in await warm_ups.look():
                self.queue.put_nowait(free)

    def _count_unwritten(self, rows: int) -> None:
        self._unwritten += rows
        if self._unwritten >= BUFFERS * self.job.flush_rows:
            self._room.clear()
        else:
            self._room.set()

    async def _flush_forever(self) -> None:
        while True:
            await asyncio.sleep(min(0.1, self.job.flush_seconds / 4))
            waited = time.monotonic() - self._oldest
            if self.rows and (waited >= self._flush_after or (waited >= 0.1 and not self._outstanding)):
                self._flush_after = min(2 * self._flush_after, self.job.flush_seconds)
                self._flush()

    def _flush(self) -> None:
        """Start writing the rows drawn so far; drawing goes on meanwhile, and a cancelled draw can't lose the part."""
        if self.rows:
            rows, self.rows = self.rows, []
            write = asyncio.create_task(self._write(rows))
            self._writes.add(write)
            write.add_done_callback(self._writes.discard)

    async def _write(self, rows: list[dict[str, Any]]) -> None:
        try:
            table = Sampling.table(rows)
            arguments = (self.root, self.job.folder, table, datasets.Sample, self.job.stage)
            part = await asyncio.to_thread(write_part, *arguments)
            self.report.parts.append(part)  # to the report that is open now, not the one that was when writing began
        except Exception as error:
            self._crash = self._crash or error
        finally:
            self._count_unwritten(-len(rows))
            self.news.set()


def is_truncated() -> pl.Expr:
    """Whether a sample was cut at ``max_tokens`` and can be continued."""
    return (pl.col("finish_reason") == "length") & (pl.col("status") == "ok")
