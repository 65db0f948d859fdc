"""The engine worker: one engine, kept busy with the samples of a stage, with the tasks of one that asks it, or with the
calls of other workers to which it plays a role.

The driver assigns ranges of samples, or sends tasks, and collects reports; it never sees a text. When the storage is
slow, drawing waits for it (``cluster.working.outgoing``). Of tasks a few are under way at once, so while one reads or
writes, the engine works on another.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from cluster.engines import build_engine
from cluster.records.bill import Amount
from cluster.storage.ranges import Ints, Ranges
from cluster.storage.root import Root
from cluster.storage.rows import NumberedRows
from cluster.storage.slices import Slice
from cluster.working.drawing import Drawing, Row
from cluster.working.far_engine import FarEngine
from cluster.working.journal import Answers, Journal
from cluster.working.outgoing import Outgoing
from cluster.working.playing import Playing
from cluster.working.reports import Failed, Prompts, Ready, Report
from cluster.working.roles import Role
from cluster.working.serving import Address, Asked, Serving, Told
from cluster.working.work import Done, Task
from operators.asking import AskingOperator
from operators.base import Operator
from operators.engine import Engine, EngineDied
from operators.sample.sampling import Sampling
from operators.strategies.words import POLICY
from schemas.engine import EngineSpec
from schemas.prices import Prices

SCORER = "scorer"
"""The role of the engine of a stage that asks."""
QUIET_LOOKS = 3
"""So many looks in a row at engines that have nothing of ours show that what is under way waits for somebody else."""


@dataclass(frozen=True)
class EngineJob:
    """Everything an engine worker needs to know; small and picklable.

    Attributes:
        folder: of the stage's store, or snapshots.
        problems: where a sampling stage's problems are.
        paid: whether calls are paid for by credit that the driver lends (plain samples are paid before they are sent).
        each_try: whether each try of a sample is paid for by the driver, so that none is made here.
        prices: of the engine's tokens, where something is capped in dollars; of each role's.
        roles: the engines that play other roles for a strategy: here, or in workers of their own.
        serves: the role that this worker's engine plays for others; empty where it is the stage's own.
        unsafe: whether it may run generated programs without a sandbox.
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
    prices: Mapping[str, Prices | None] = field(default_factory=dict[str, "Prices | None"])
    roles: Mapping[str, EngineSpec] = field(default_factory=dict[str, EngineSpec])
    unsafe: bool = False
    serves: str = ""

    @property
    def own(self) -> str:
        """The role of the worker's own engine."""
        return self.serves or (POLICY if isinstance(self.operator, Sampling) else SCORER)

    @property
    def worker(self) -> type[EngineWorker]:
        return EngineWorker


class EngineWorker:
    """Runs in one event loop: the local runner's thread or a Ray actor."""

    def __init__(self, job: EngineJob) -> None:
        self.job = job
        self.root = Root(job.root)
        self.report = Report()
        self._ending = False
        self._grace_until = math.inf
        self._tasks: list[asyncio.Task[None]] = []
        self._running: dict[int, asyncio.Task[Done]] = {}
        self._hungry = False
        self._crash: BaseException | None = None
        self._crash_told = False
        self._drawing: Drawing | None = None
        self._serving: Serving | None = None
        self._answers = Answers(self.root, job.folder)
        self.roles: dict[str, Role] = {}
        self._plays = not job.serves and isinstance(job.operator, Sampling) and job.operator.strategy is not None
        about = self.root, job.folder, job.stage, job.flush_rows, job.flush_seconds, self._plays
        self._outgoing = Outgoing(*about, lambda: self.report, self._on_written)
        self._far = {name: FarEngine(name, spec.replicas) for name, spec in job.roles.items() if spec.needs_pool}

    async def start(self) -> Ready:
        """Load the engines; a sampling worker begins to draw whatever is assigned."""
        job = self.job
        self.news = asyncio.Event()
        for name, spec in {job.own: job.engine, **job.roles}.items():
            engine = self._far.get(name)
            if engine is None:
                engine = await asyncio.to_thread(build_engine, spec)
            else:
                await engine.until_there()
            node = socket.gethostname()
            money = job.paid, job.prices.get(name)
            role = Role(name, engine, node, *money, self._plays, job.each_try, spec.most_completion)
            role.watch_overrun(self._on_overrun)
            self.roles[name] = role
        self.role = self.roles[job.own]
        self.engine = self.role.engine
        self._serving = self.role.serving() if job.serves else None
        if isinstance(job.operator, Sampling) and not job.serves:
            drawing = self._drawing = self._make_drawing(job.operator)
            flushing = self._outgoing.flush_forever(lambda: not drawing.outstanding)
            self._tasks = [asyncio.create_task(loop) for loop in [*drawing.loops(), flushing]]
            for task in self._tasks:
                task.add_done_callback(self._on_ended)
        if job.paid:
            self._tasks += [asyncio.create_task(self._tell_when_credit_is_wanted(role)) for role in self.roles.values()]
        others = {name: role.engine.info for name, role in self.roles.items() if name != job.own}
        engine = self.engine
        draws = engine.capacity if self._drawing is None else self._drawing.draws
        return Ready(engine.info, engine.capacity, draws, others, engine.counts, engine.patience)

    def _make_drawing(self, operator: Sampling) -> Drawing:
        job = self.job
        assert job.problems is not None
        desk = self.role.desk(None if job.each_try else operator.retries)
        others = (
            *(operator, desk, self.root, job.problems, job.run_id),
            *(self._on_drawn, self._on_hungry, self._outgoing.room),
        )
        if operator.strategy is None:
            return Drawing(*others)
        return Playing(self.roles, self._outgoing.add_calls, job.unsafe, *others)

    # -- sampling --------------------------------------------------------------------------------------------------

    async def measure(self, numbers: Ints, exactly: bool) -> Prompts:
        """Measure the prompts of problems, given by number and sorted.

        Args:
            exactly: tell how many tokens each has at most.
        """
        return Prompts(*await self.drawing.measure(numbers, exactly))

    async def assign(self, ranges: Ranges, begun: Slice | None = None, warm_ups: Slice | None = None) -> None:
        """Queue ranges to draw (``Drawing.add``)."""
        try:
            if not self._ending:
                await self.drawing.add(ranges, begun, warm_ups)
        except Exception as error:
            self._fail(error)

    def _on_drawn(self, drawn: list[Row] | Failed) -> None:
        self.report.drawn += 1
        if isinstance(drawn, Failed):
            self._on_failed(drawn)
            return
        self._outgoing.add(drawn)

    def _on_written(self, fault: BaseException | None) -> None:
        if fault is not None:
            self._fail(fault)
        self.news.set()

    def _on_overrun(self) -> None:
        """An engine takes more than was set apart: samples that aren't sent are handed out anew."""
        for role in self.roles.values():
            self.report.overrun = self.report.overrun.with_(role.overrun)
        if self.job.each_try:
            self._drop()
        self.news.set()

    def _drop(self) -> None:
        """Give back what isn't begun."""
        if self._drawing is not None and (dropped := self._drawing.drop()):
            numbers, indices = zip(*dropped, strict=True)
            self.report.unsent = Ranges.joined([self.report.unsent, Ranges.of(numbers, indices, 1)])

    def _on_failed(self, failed: Failed) -> None:
        """Tell of a draw that failed once its calls are written, so that whoever draws it again finds them."""

        def tell() -> None:
            self.report.failed.append(failed)
            self.news.set()

        self._outgoing.then(tell)

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
            done = await work.ask(self.role.desk(work.operator.retries, journal))
        except BaseException:
            await asyncio.shield(journal.flush())
            raise
        return replace(done, answers=tuple(journal.files))

    async def cancel(self, number: int) -> None:
        """End a task that takes too long."""
        if number in self._running:
            self._running[number].cancel()

    # -- other workers' calls --------------------------------------------------------------------------------------

    async def connect(self, role: str, addresses: list[Address], ready: Ready) -> None:
        """Hear where the engines of a role are now."""
        self._far[role].connect(addresses, ready)

    async def answer(self, calls: list[Asked], hold: int = 0) -> list[Told] | None:
        """See ``Serving.answer``.

        Raises:
            EngineDied: the engine is gone.
        """
        assert self._serving is not None
        try:
            return await self._serving.answer(calls, hold)
        except Exception as error:
            self._fail(error)
            raise EngineDied(str(error)) from error

    async def hold(self) -> int:
        """See ``Serving.hold``.

        Raises:
            EngineDied: the engine is gone.
        """
        assert self._serving is not None
        return await self._serving.hold()

    # -- money -----------------------------------------------------------------------------------------------------

    async def lend(self, role: str, amount: Amount) -> None:
        """Hear that more may be spent on calls to one role's engine."""
        self.roles[role].lend(amount)

    async def call_back(self) -> None:
        """Give back what credit no call needs now; the next report says how much that is."""
        for role in self.roles.values():
            role.call_back()
        self.news.set()

    async def _tell_when_credit_is_wanted(self, role: Role) -> None:
        while True:
            await role.wanted()
            self.news.set()
            await asyncio.sleep(0.05)

    async def steer(self, most: int | None, priority: int) -> None:
        """See ``Role.steer``."""
        for role in self.roles.values():
            role.steer(most, priority)

    # -- both ------------------------------------------------------------------------------------------------------

    async def collect(self, seconds: float = 0.5) -> Report:
        """Return a report when there is news (a part, a failure, a queue running low), or after ``seconds``.

        Raises:
            Exception: whatever ended a drawing coroutine; the engine is to be considered dead.
        """
        report = self.report
        if not (report.parts or report.calls or report.failed or report.unsent or self._hungry):
            self.news.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.news.wait(), seconds)
        if self._crash is not None:
            self._crash_told = True
            raise self._crash
        return self._take_report()

    async def sleep(self) -> None:
        """Give the GPUs to the engines whose turn it is; nothing is under way meanwhile."""
        for engine in self._taking_turns:
            await engine.sleep()

    async def wake(self) -> None:
        for engine in self._taking_turns:
            await engine.wake()

    @property
    def _taking_turns(self) -> list[Engine]:
        specs = {self.job.own: self.job.engine, **self.job.roles}
        here = [name for name in self.roles if name not in self._far]
        return [self.roles[name].engine for name in here if specs[name].takes_turns is not None]

    async def stop(self) -> Report:
        """Drop what is queued or in flight, flush what was drawn, free the engine; return the last report."""
        self._drop()
        await self.abandon()
        if self._crash is None:
            self._outgoing.release()
        await self._outgoing.end()
        for role in self.roles.values():
            await role.engine.close()
        if self._crash is not None and not self._crash_told and not self.report.parts:
            raise self._crash
        return self._take_report()

    async def drain(self, seconds: float) -> Report:
        """Take nothing new, give what engines work on up to ``seconds`` to finish, then ``stop``.

        What waits for money, for an engine that isn't there or for a server to come back isn't waited for: the driver
        is ending, so nobody brings these any more, and nothing of it is paid.
        """
        self._ending = True
        self._grace_until = min(self._grace_until, time.monotonic() + seconds)
        if self._drawing is not None:
            self._drop()
            quiet = 0
            while self._drawing.under_way and quiet < QUIET_LOOKS and self._crash is None:
                if time.monotonic() >= self._grace_until:
                    break
                await asyncio.sleep(0.02)
                quiet = 0 if any(role.asks for role in self.roles.values()) else quiet + 1
        return await self.stop()

    async def hurry(self) -> None:
        """Give what is in flight no more time; whoever waits for ``drain`` has the last report soon."""
        self._grace_until = 0.0

    async def abandon(self) -> None:
        """Stop drawing and asking, and drop what isn't written."""
        tasks = [*self._tasks, *self._running.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _take_report(self) -> Report:
        self._hungry = False
        taken = self.report
        taken.activity = self.role.activity()
        taken.refusal = self.engine.refusal
        over = self._over
        taken.dues = {name: role.dues(over) for name, role in self.roles.items()}
        taken.estimated = sum(role.take_estimated() for role in self.roles.values())
        self.report = Report(drawn=taken.drawn)
        return taken

    @property
    def drawing(self) -> Drawing:
        """What a sampling worker has still to draw."""
        assert self._drawing is not None
        return self._drawing

    @property
    def _over(self) -> bool:
        """Whether nothing is under way that could ask an engine."""
        drawing = self._drawing
        return all(task.done() for task in self._running.values()) and (drawing is None or not drawing.outstanding)
