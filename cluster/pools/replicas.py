"""Replicas: all engine workers of a run; kept fed, heard, paid, replaced when they die, and drained at the end.

What they are given is their stage's own business: ranges of samples (``cluster.pools.sampling``), or tasks and credit
(``cluster.pools.asking``).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import Any

from cluster.pools.asking import AskingFeed
from cluster.pools.feed import Feed
from cluster.pools.replica import Replica
from cluster.records.run import Say
from cluster.records.timeline import Activity
from cluster.runners.runner import Runner
from cluster.spending.books import Books
from cluster.stages.flights import Handle
from cluster.stages.sample_state import SampleState
from cluster.stages.states import StageState
from cluster.storage.ranges import Ranges
from cluster.working.engine_worker import EngineWorker
from cluster.working.reports import Ready, Report
from operators.engine import EngineDied
from schemas.errors import EngineFailed, GristmillError, NodeLost, WorkerLost
from schemas.job import RunSettings
from schemas.manifest import EngineRecord, ReplicaRecord

Pool = tuple[StageState, str]
"""A stage, and the role that a pool's engines play for it (``Replica.pool``)."""
CALL_BACK_SECONDS = 0.5
"""Between two times that lent credit is called back, while somebody lacks it."""


class Replicas:
    """All engine workers of a run; the driver's loop calls it.

    Args:
        handle: queues a callback for a future's end into the driver's loop.
        awake: whether a stage's engines have the GPUs now (``cluster.pools.turns``).
        on_short: called with a stage whose calls wait for money that nobody will bring.
    """

    def __init__(
        self,
        runner: Runner,
        settings: RunSettings,
        run_id: str,
        books: Books,
        handle: Handle,
        awake: Callable[[StageState], bool],
        on_short: Callable[[StageState], None],
        say: Say,
    ) -> None:
        self.runner = runner
        self.settings = settings
        self.run_id = run_id
        self._books = books
        self._handle = handle
        self._awake = awake
        self._on_short = on_short
        self._say = say
        self._all: list[Replica] = []
        self._feeds: dict[Pool, Feed] = {}
        self._deaths: dict[Pool, int] = {}
        """How many replicas of a pool died in a row without doing anything in between."""
        self._allowed: dict[Pool, int] = {}
        """How many deaths in a row there may be: restarts, and what it takes to find two problems that kill."""
        self._records: dict[tuple[str, str, int], ReplicaRecord] = {}
        self.most: int | None = None
        """How many calls each worker may have under way at once, where people say so."""
        self.priority = 0
        self._called_back = 0.0
        self._calls_back = 0
        """How often credit was called back since money moved."""

    def add(self, feed: Feed) -> None:
        """Take the pool of a stage's engine on, or that of one of its roles."""
        self._feeds[feed.state, feed.role] = feed

    def asking(self, state: StageState) -> AskingFeed:
        """Return the feed of a stage that asks; to be made into its flights' workers."""
        feed = AskingFeed(state, self._books, self._handle, self.on_died, lambda: self._start_all(feed))
        self.add(feed)
        return feed

    @property
    def holding(self) -> bool:
        """Whether the run can't end yet, because of what replicas may still be given."""
        return any(self._feeds[replica.pool].holds or replica.busy for replica in self._all)

    def start_where_needed(self, state: StageState) -> None:
        """Start a stage's replicas once it has something to do; in a pause, for what is under way."""
        for pool, feed in self._feeds.items():
            waits = feed.needed or (feed.waiting and not state.paused)
            mine = feed.state is state and self._awake(state)
            if waits and mine and not any(replica.pool == pool for replica in self._all):
                self._start_all(feed)

    def steer(self, most: int | None, priority: int) -> None:
        """Let each worker have so many calls under way at once from now on, of such a priority at its server."""
        self.most, self.priority = most, priority
        for replica in self._all:
            if replica.ready is not None:
                replica.handle.call(EngineWorker.steer, most, priority)

    @property
    def capacity(self) -> int | None:
        """How many calls the workers that are there take at once at most; None before any is."""
        return max((one.ready.capacity for one in self._all if one.ready is not None), default=None)

    def _start_all(self, feed: Feed) -> None:
        """Start those replicas of a pool that aren't there."""
        there = {replica.number for replica in self._all if replica.pool == (feed.state, feed.role)}
        for number in sorted(set(range(feed.spec.replicas)) - there):
            self._start(feed, number)

    def drawn(self) -> dict[str, int]:
        """Return stage -> samples drawn by living replicas, committed or not."""
        counts: dict[str, int] = {}
        for replica in self._all:
            counts[replica.state.name] = counts.get(replica.state.name, 0) + replica.drawn * replica.state.rows
        return counts

    def on_committed(self, state: StageState, ranges: Ranges) -> None:
        """Hear what became a fact: it is no longer at stake."""
        for replica in self._all:
            if replica.state is state:
                replica.assigned.remove(ranges.over(state.rows))

    def _start(self, feed: Feed, number: int) -> None:
        """Start a replica; the loop goes on while its engine loads."""
        job = feed.job(self.run_id, self.settings.flush_rows, self.settings.flush_seconds)
        replica = Replica(number, feed.state, feed.role, self.runner.engine_worker(job, number))
        replica.earlier = self._records.get((feed.state.name, feed.role, number))
        self._all.append(replica)

        def loaded(future: Future[Any]) -> None:
            if replica not in self._all:
                return
            error = future.exception()
            if isinstance(error, WorkerLost | EngineDied):
                self.on_died(replica, error)
            elif error is not None and not isinstance(error, GristmillError):
                raise EngineFailed(f"{replica.who}: the engine could not be started: {error}") from error
            else:
                self._on_loaded(replica, future.result())

        self._handle(replica.handle.call(EngineWorker.start), loaded)
        feed.on_started(replica)

    def _on_loaded(self, replica: Replica, ready: Ready) -> None:
        replica.ready = ready
        record = replica.state.record
        record.role(replica.role).engine = EngineRecord(**vars(ready.info))
        for role, info in ready.roles.items():
            record.role(role).engine = EngineRecord(**vars(info))
        if self.most is not None or self.priority:
            replica.handle.call(EngineWorker.steer, self.most, self.priority)
        self._feeds[replica.pool].on_loaded(replica)
        self._ask(replica)

    def _ask(self, replica: Replica) -> None:
        """Ask a replica for its next report; it answers when it has news."""

        def answered(future: Future[Any]) -> None:
            if replica not in self._all:
                return  # it was ended meanwhile, and this report was taken there
            replica.collecting = None
            error = future.exception()
            if error is None:
                self._on_report(replica, future.result())
            elif isinstance(error, WorkerLost) or not isinstance(error, GristmillError):
                self.on_died(replica, error)
            else:
                raise error

        replica.collecting = replica.handle.call(EngineWorker.collect)
        self._handle(replica.collecting, answered)

    def _on_report(self, replica: Replica, report: Report) -> None:
        feed = self._feeds[replica.pool]
        if self._take(replica, report):
            self._deaths[replica.pool] = self._allowed[replica.pool] = 0
            replica.state.touch()
        state = replica.state
        if isinstance(state, SampleState) and state.unproven and not replica.role:
            those = [one for one in self._all if one.pool == replica.pool and one.assigned]
            state.judge_refusals(sum(len(one.assigned) for one in those), [one.refusal for one in those])
        if not feed.finished_with(replica):
            self._ask(replica)
        else:
            self._retire(replica)

    def _take(self, replica: Replica, report: Report) -> bool:
        self._record(replica, report.activity)
        self._tell(replica.state, report)
        replica.trouble, replica.refusal = report.activity.trouble, report.refusal
        if any(dues.paid or dues.returned for dues in report.dues.values()):
            self._calls_back = 0
        return self._feeds[replica.pool].on_report(replica, report)

    def _tell(self, state: StageState, report: Report) -> None:
        """Say what the engine's counts are worth, once; and how much more it takes than it is asked to."""
        record = state.record
        if report.estimated and not record.estimated:
            self._say(
                "the engine doesn't say what its answers take, or says what can't be: their tokens are estimated at "
                "the most they can be (tokens_estimated of the samples)",
                state.name,
            )
        record.estimated += report.estimated
        if report.overrun:
            over = report.overrun
            record.overrun = (
                f"THE ENGINE TAKES MORE THAN IT IS ASKED TO: {over.prompt:,} tokens more of a prompt than it can have, "
                f"{over.completion:,} more of a completion than was asked for. From now on so much more is set apart "
                "for each request; what was in flight can pass a cap by that"
            )
            self._say(record.overrun, state.name)

    def _record(self, replica: Replica, now: Activity) -> None:
        """Keep a replica's timeline, the engines that died in its place included."""
        before = replica.earlier or ReplicaRecord(number=replica.number)
        stage, role = replica.state.name, replica.role
        self._records[stage, role, replica.number] = now.after(before)
        record = replica.state.record.role(role)
        record.replicas = [found for of, found in sorted(self._records.items()) if of[:2] == (stage, role)]
        record.busy_seconds = sum(found.busy_seconds for found in record.replicas)

    def top_up(self) -> None:
        """Feed all that run low; what is logged is written once for all before anything goes out."""
        orders = [order for replica in self._all for order in self._feeds[replica.pool].plan(replica)]
        orders += self._help_the_short()
        if orders:
            for state, _ in self._feeds:
                state.flush_log()
            self._books.flush()
        for send in orders:
            send()

    def _help_the_short(self) -> Iterable[Callable[[], None]]:
        """Where calls wait for money and none is left: call back what others were lent and don't need; then lend what
        was kept for others; then say that there is none."""
        short = [replica for replica in self._all if replica.first]
        for state, _ in self._feeds:
            state.short = any(replica.state is state for replica in short)
        now = time.monotonic()
        if not short or now - self._called_back < CALL_BACK_SECONDS:
            return
        self._called_back = now
        self._calls_back += 1
        waits = any(one.in_flight or (one.outstanding and not one.state.loans) for one in self._all)
        if self._calls_back <= 2 or waits:
            for replica in self._all:
                if replica.lent and replica.ready is not None:
                    replica.handle.call(EngineWorker.call_back)
            return
        asking = [replica for replica in short if not isinstance(replica.state, SampleState)]
        for replica in asking:
            if orders := self._feeds[replica.pool].lending.plan(replica, at_any_rate=True):
                yield from orders
                return
        for replica in [*asking, *short]:
            if not isinstance(replica.state, SampleState) or not replica.state.money_may_come:
                self._on_short(replica.state)
                return

    def _retire(self, replica: Replica) -> None:
        self._all.remove(replica)
        self._end(replica, replica.handle.call_last(EngineWorker.stop), 60)

    def _end(self, replica: Replica, future: Future[Report], seconds: float) -> None:
        """Take the last reports, and let go of it."""
        ended = True
        try:
            if replica.collecting is not None:
                report, replica.collecting = replica.collecting.result(timeout=seconds), None
                self._take(replica, report)
            self._take(replica, future.result(timeout=seconds))
        except Exception as error:  # it is going away either way; what it had and didn't write is done again
            self._say(f"a replica ended without its last report: {error}", replica.state.name)
            ended = False
        replica.handle.kill()
        self._feeds[replica.pool].on_ended(replica, ended)

    def on_died(self, replica: Replica, error: BaseException) -> None:
        """Take its unfinished work back and start another, a bounded number of times in a row."""
        if replica not in self._all:
            return
        self._all.remove(replica)
        replica.handle.kill()
        state = replica.state
        if isinstance(error, GristmillError) and not isinstance(error, WorkerLost):
            raise error
        fault = not isinstance(error, NodeLost)  # of what it was doing, or of its engine
        pool, feed = replica.pool, self._feeds[replica.pool]
        deaths = self._deaths[pool] = self._deaths.get(pool, 0) + fault
        search = feed.on_died(replica, error)
        allowed = self._allowed[pool] = max(self._allowed.get(pool, 0), self.settings.engine_restarts + search)
        role = f" of role {replica.role}" if replica.role else ""
        if deaths > allowed:
            raise EngineFailed(
                f"stage {state.name}: the engine{role} died {deaths} times without finishing anything in between; "
                f"last: {error}"
            ) from error
        number = replica.number
        record = self._records.setdefault((state.name, replica.role, number), ReplicaRecord(number=number))
        record.deaths += 1
        self._say(f"replica {number}{role} died ({error}); starting another", state.name)
        if self._awake(state) or feed.needed:  # it may be needed to come to the end of a turn
            self._start(feed, number)

    @property
    def penniless(self) -> bool:
        """Whether all work that asks waits for money, as far as its workers told."""
        return all(one.first and not one.in_flight for one in self._all if one.under_way)

    def progress(self) -> object:
        """Return what changes whenever an engine gets on."""
        done = [(id(one), one.drawn, one.lent.tokens, one.ready is None) for one in self._all]
        return tuple(done), tuple(self._deaths.values())

    def known_waits(self) -> list[str]:
        """Return what is in the way of replicas, where somebody says so: a model is being loaded, a server refuses."""
        return [f"{replica.who}: {why}" for replica in self._all if (why := self._known(replica))]

    @staticmethod
    def _known(replica: Replica) -> str:
        if replica.ready is None:
            return replica.handle.waits_for() or "the model is being loaded"
        return replica.trouble if replica.busy else ""

    def waits_for(self) -> list[str]:
        """Return what keeps replicas from answering."""
        found: list[str] = []
        for replica in self._all:
            if why := self._known(replica):
                found.append(f"{replica.who}: {why}")
            elif replica.first:
                found.append(f"{replica.who}: the budget: its calls wait for {replica.first.tokens:,} tokens")
            elif replica.outstanding:
                found.append(f"{replica.who}: its engine has {replica.outstanding:,} requests and answers none")
        return found

    def outstanding(self, state: StageState) -> int:
        """Return how many samples a stage's replicas have still to draw."""
        return sum(replica.outstanding for replica in self._all if replica.state is state)

    def sleep(self, state: StageState) -> list[Future[None]]:
        """Put all engines of a stage to sleep (nothing is under way)."""
        return [one.handle.call(EngineWorker.sleep) for one in self._all if one.state is state]

    def wake(self, state: StageState) -> list[Future[None]]:
        """Wake all engines of a stage."""
        return [one.handle.call(EngineWorker.wake) for one in self._all if one.state is state]

    def drain(self, seconds: float) -> None:
        """Let sampling finish what is in flight, for up to ``seconds``, and take what was drawn."""
        self._drain([replica for replica in self._all if self._feeds[replica.pool].holds], seconds)

    def stop(self) -> None:
        """End all now; what is in flight is dropped, what was drawn is kept."""
        self._drain(list(self._all), 0.0)

    def _drain(self, replicas: list[Replica], seconds: float) -> None:
        self._all = [replica for replica in self._all if replica not in replicas]
        ending = [(replica, replica.handle.call_last(EngineWorker.drain, seconds)) for replica in replicas]
        try:
            while ending:
                self._end(*ending[0], seconds + 60)
                del ending[0]
        except KeyboardInterrupt:  # the second signal: they have no more time, and what they know is heard all the same
            for replica, _ in ending:
                replica.handle.call(EngineWorker.hurry)
            for replica, future in ending:
                self._end(replica, future, 60)
            raise
