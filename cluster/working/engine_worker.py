"""The engine worker: one engine, kept busy with the samples of a stage, or with the tasks of one that asks it.

The driver assigns ranges of samples, or sends tasks, and collects reports; it never sees a text. Rows of samples are
flushed to a part when there are enough of them, or when the oldest has waited ``flush_seconds`` (the first ones
sooner): that bounds what a crash can cost. When the storage is slow, drawing waits for it: no more than ``BUFFERS``
parts' worth of rows are ever held. Of tasks a few are under way at once, so while one reads or writes, the engine works
on another.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from dataclasses import dataclass, field, replace

from cluster.engines import build_engine
from cluster.records.bill import Amount, Bill
from cluster.records.timeline import Activity, Timeline
from cluster.storage.parts import Part
from cluster.storage.ranges import Ints, Ranges
from cluster.storage.root import Root
from cluster.storage.rows import NumberedRows
from cluster.storage.slices import Slice
from cluster.working.credit import Credit
from cluster.working.desk import Desk, Meter
from cluster.working.drawing import Drawing, Failed, Row
from cluster.working.journal import Answers, Journal
from cluster.working.overrun import Overrun
from cluster.working.unproven import Unproven
from cluster.working.work import Done, Task
from cluster.working.writing import write_samples
from operators.asking import AskingOperator
from operators.base import Operator
from operators.engine import Engine, EngineInfo
from operators.sample.lengths import TooLong
from operators.sample.sampling import Sampling
from schemas.engine import EngineSpec
from schemas.prices import Prices

FIRST_FLUSH = 0.25
"""Seconds until the first part is written; each next one may wait twice as long, up to ``flush_seconds``."""
BUFFERS = 3
"""How many parts' worth of rows a worker holds, being filled and being written, before it stops drawing."""


@dataclass(frozen=True)
class EngineJob:
    """Everything an engine worker needs to know; small and picklable.

    Attributes:
        folder: of the stage's store, or snapshots.
        problems: where a sampling stage's problems are.
        paid: whether the stage's tasks are paid for by credit that the driver lends.
        each_try: whether each try of a sample is paid for by the driver, so that none is made here.
        prices: of the engine's tokens, where something is capped in dollars.
    """

    stage: str
    operator: Operator
    engine: EngineSpec
    root: str
    folder: str
    run_id: str
    flush_rows: int
    flush_seconds: float
    problems: NumberedRows | None = None
    paid: bool = False
    each_try: bool = False
    prices: Prices | None = None

    @property
    def worker(self) -> type[EngineWorker]:
        return EngineWorker


@dataclass(frozen=True)
class Ready:
    """What a worker says once its engine is loaded."""

    info: EngineInfo
    capacity: int


@dataclass
class Report:
    """What happened since the last report, and how things stand.

    Attributes:
        failed: draws whose transient fault outlived the retries.
        unsent: what was assigned, and won't be begun here.
        unwritten: (problem_key, sample index, why) of rows that no table takes.
        drawn: samples drawn since the worker started, flushed or not.
        activity: what the engine did since the worker started.
        bill: what calls took.
        estimated: calls whose tokens aren't the engine's own count.
        overrun: what the engine takes beyond what was asked of it, at most so far.
        paid, lost: what that cost of the worker's credit, and how much of it brought nothing.
        returned: credit that the worker doesn't need any more.
        wants, first: credit that would keep calls from waiting, and that the first which waits needs.
        in_flight: calls that were paid and aren't answered.
    """

    parts: list[Part] = field(default_factory=list[Part])
    failed: list[Failed] = field(default_factory=list[Failed])
    unsent: Ranges = field(default_factory=Ranges.none)
    unwritten: list[tuple[str, int, str]] = field(default_factory=list[tuple[str, int, str]])
    drawn: int = 0
    activity: Activity = field(default_factory=Activity)
    bill: Bill = field(default_factory=Bill)
    estimated: int = 0
    overrun: Overrun = field(default_factory=Overrun)
    paid: Amount = field(default_factory=Amount)
    lost: Amount = field(default_factory=Amount)
    returned: Amount = field(default_factory=Amount)
    wants: Amount = field(default_factory=Amount)
    first: Amount = field(default_factory=Amount)
    in_flight: int = 0


@dataclass(frozen=True)
class Prompts:
    """What was found of the prompts of some problems.

    Attributes:
        too_long: those that leave no room for ``max_tokens``, by number.
        tokens: how many each has at most, where that was asked for.
    """

    too_long: list[tuple[int, TooLong]]
    tokens: Ints


class EngineWorker:
    """Runs in one event loop: the local runner's thread or a Ray actor."""

    def __init__(self, job: EngineJob) -> None:
        self.job = job
        self.root = Root(job.root)
        self.rows: list[Row] = []
        self._unproven = Unproven()
        self.report = Report()
        self._oldest = 0.0
        self._flush_after = min(FIRST_FLUSH, job.flush_seconds)
        self._timeline = Timeline(socket.gethostname())
        self._ending = False
        self._tasks: list[asyncio.Task[None]] = []
        self._running: dict[int, asyncio.Task[Done]] = {}
        self._writes: set[asyncio.Task[None]] = set()
        self._unwritten = 0
        self._room = asyncio.Event()
        self._room.set()
        self._hungry = False
        self._crash: BaseException | None = None
        self._crash_told = False
        self._drawing: Drawing | None = None
        self._answers = Answers(self.root, job.folder)

    async def start(self) -> Ready:
        """Load the engine; a sampling worker begins to draw whatever is assigned."""
        job = self.job
        self.engine: Engine = await asyncio.to_thread(build_engine, job.engine)
        self.news = asyncio.Event()
        capacity = self.engine.capacity
        credit = Credit(job.prices, capacity) if job.paid else None
        self.meter = Meter(self._timeline, credit, job.paid or job.each_try)
        self.meter.on_overrun = self._on_overrun
        if isinstance(job.operator, Sampling):
            assert job.problems is not None
            desk = self._desk(None if job.each_try else job.operator.retries)
            drawing = self._drawing = Drawing(
                job.operator, desk, self.root, job.folder, job.problems, job.run_id, self._on_drawn, self._on_hungry,
                self._room,
            )  # fmt: skip
            loops = [drawing.draw_forever() for _ in range(capacity)]
            loops += [self._flush_forever(), *([drawing.look_forever()] if job.operator.cut is not None else [])]
            self._tasks = [asyncio.create_task(loop) for loop in loops]
            for task in self._tasks:
                task.add_done_callback(self._on_ended)
        elif job.paid:
            self._tasks = [asyncio.create_task(self._tell_when_credit_is_wanted())]
        return Ready(self.engine.info, capacity)

    def _desk(self, retries: int | None, journal: Journal | None = None) -> Desk:
        return Desk(self.engine, self.meter, retries, journal, self.job.engine.most_completion)

    # -- sampling --------------------------------------------------------------------------------------------------

    async def measure(self, numbers: Ints, exactly: bool) -> Prompts:
        """Measure the prompts of problems, given by number and sorted.

        Args:
            exactly: tell how many tokens each has at most.
        """
        assert self._drawing is not None
        return Prompts(*await self._drawing.measure(numbers, exactly))

    async def assign(self, ranges: Ranges, begun: Slice | None = None) -> None:
        """Queue ranges to draw; of those in ``begun``, truncated samples are continued."""
        assert self._drawing is not None
        try:
            if not self._ending:
                await self._drawing.add(ranges, begun)
        except Exception as error:
            self._fail(error)

    def _on_drawn(self, drawn: Row | Failed) -> None:
        self.report.drawn += 1
        if isinstance(drawn, Failed):
            self.report.failed.append(drawn)
            self.news.set()
            return
        self._keep(self._unproven.proven(drawn))

    def _keep(self, rows: list[Row]) -> None:
        """Take rows to be written."""
        if rows and not self.rows:
            self._oldest = time.monotonic()
        self.rows += rows
        self._count_unwritten(len(rows))
        if len(self.rows) >= self.job.flush_rows:
            self._flush()

    def _on_overrun(self) -> None:
        """The engine takes more than was set apart for each sample: what isn't sent is handed out anew."""
        self.report.overrun = self.meter.overrun
        if self.job.each_try:
            self._drop()
        self.news.set()

    def _drop(self) -> None:
        """Give back what isn't begun."""
        if self._drawing is not None and (dropped := self._drawing.drop()):
            numbers, indices = zip(*dropped, strict=True)
            self.report.unsent = Ranges.joined([self.report.unsent, Ranges.of(numbers, indices, 1)])

    def _on_hungry(self) -> None:
        self._hungry = True
        self.news.set()

    def _on_ended(self, task: asyncio.Task[None]) -> None:
        """A loop has no end: the engine, or the operator, is broken."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        self._crash = self._crash or error
        self.news.set()

    # -- tasks -----------------------------------------------------------------------------------------------------

    async def run(self, work: Task) -> Done:
        """Do one task, of a stage that asks.

        Raises:
            StageFailed, ContractViolation, DamagedFile: as ``Task.run``.
            EngineDied: the engine is gone.
        """
        task = asyncio.create_task(self._ask(work))
        self._running[work.number] = task
        try:
            return await task
        finally:
            del self._running[work.number]
            self.news.set()

    async def _ask(self, work: Task) -> Done:
        assert isinstance(work.operator, AskingOperator)
        if work.again:
            await asyncio.to_thread(self._answers.read)
        journal = Journal(self._answers)
        try:
            done = await work.ask(self._desk(work.operator.retries, journal))
        except BaseException:
            await asyncio.shield(journal.flush())
            raise
        return replace(done, answers=tuple(journal.files))

    async def cancel(self, number: int) -> None:
        """End a task that takes too long."""
        if number in self._running:
            self._running[number].cancel()

    async def lend(self, amount: Amount) -> None:
        """Hear that more may be spent on calls."""
        assert self.meter.credit is not None
        self.meter.credit.lend(amount)

    async def call_back(self) -> None:
        """Give back what credit no call needs now; the next report says how much that is."""
        assert self.meter.credit is not None
        self.report.returned += self.meter.credit.give_back()
        self.news.set()

    async def _tell_when_credit_is_wanted(self) -> None:
        credit = self.meter.credit
        assert credit is not None
        while True:
            await credit.wanted.wait()
            self.news.set()
            await asyncio.sleep(0.05)

    # -- both ------------------------------------------------------------------------------------------------------

    async def collect(self, seconds: float = 0.5) -> Report:
        """Return a report when there is news (a part, a failure, a queue running low), or after ``seconds``.

        Raises:
            Exception: whatever ended a drawing coroutine; the engine is to be considered dead.
        """
        if not (self.report.parts or self.report.failed or self.report.unsent or self._hungry):
            self.news.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.news.wait(), seconds)
        if self._crash is not None:
            self._crash_told = True
            raise self._crash
        return self._take_report()

    async def sleep(self) -> None:
        """Give the GPUs to the engine whose turn it is; nothing is under way meanwhile."""
        await self.engine.sleep()

    async def wake(self) -> None:
        await self.engine.wake()

    async def stop(self) -> Report:
        """Drop what is queued or in flight, flush what was drawn, free the engine; return the last report."""
        self._drop()
        await self.abandon()
        if self._crash is None:
            self._keep(self._unproven.rest())
        self._flush()
        await asyncio.gather(*self._writes)
        await self.engine.close()
        if self._crash is not None and not self._crash_told and not self.report.parts:
            raise self._crash
        return self._take_report()

    async def drain(self, seconds: float) -> Report:
        """Take nothing new, give what is in flight up to ``seconds`` to finish, then ``stop``."""
        self._ending = True
        until = time.monotonic() + seconds
        if self._drawing is not None:
            self._drop()
            while self._drawing.under_way and time.monotonic() < until and self._crash is None:
                await asyncio.sleep(0.02)
        return await self.stop()

    async def abandon(self) -> None:
        """Stop drawing and asking, and drop what isn't written."""
        tasks = [*self._tasks, *self._running.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _take_report(self) -> Report:
        self._hungry = False
        taken, meter = self.report, self.meter
        taken.activity = replace(self._timeline.activity(), trouble=self.engine.trouble)
        taken.bill, meter.bill = meter.bill, Bill()
        taken.estimated, meter.estimated = meter.estimated, 0
        if (credit := meter.credit) is not None:
            taken.paid, taken.lost, meter.paid, meter.lost = meter.paid, meter.lost, Amount(), Amount()
            taken.wants, taken.first, taken.in_flight = credit.wants, credit.first, credit.out
            if credit.idle and all(task.done() for task in self._running.values()):
                taken.returned += credit.give_back()
        self.report = Report(drawn=taken.drawn)
        return taken

    def _count_unwritten(self, rows: int) -> None:
        self._unwritten += rows
        if self._unwritten >= BUFFERS * self.job.flush_rows:
            self._room.clear()
        else:
            self._room.set()

    async def _flush_forever(self) -> None:
        assert self._drawing is not None
        while True:
            await asyncio.sleep(min(0.1, self.job.flush_seconds / 4))
            if not self._drawing.outstanding:
                self._keep(self._unproven.rest())
            waited = time.monotonic() - self._oldest
            if self.rows and (waited >= self._flush_after or (waited >= 0.1 and not self._drawing.outstanding)):
                self._flush_after = min(2 * self._flush_after, self.job.flush_seconds)
                self._flush()

    def _flush(self) -> None:
        """Start writing the rows drawn so far; drawing goes on meanwhile, and a cancelled draw can't lose the part."""
        if self.rows:
            rows, self.rows = self.rows, []
            write = asyncio.create_task(self._write(rows))
            self._writes.add(write)
            write.add_done_callback(self._writes.discard)

    async def _write(self, rows: list[Row]) -> None:
        try:
            part, bad = await asyncio.to_thread(write_samples, self.root, self.job.folder, rows, self.job.stage)
            if part is not None:
                self.report.parts.append(part)  # to the report that is open now, not the one that was when it began
            self.report.unwritten += [(row["problem_key"], row["sample_index"], why) for row, why in bad]
        except Exception as error:
            self._fail(error)
        finally:
            self._count_unwritten(-len(rows))
            self.news.set()
