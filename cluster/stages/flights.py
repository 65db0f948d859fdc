"""Work in the air: submitted, watched, tried again, and cut in two until the rows that kill their workers are found.

* A worker that died takes nothing with it: its work is done again, with nothing else in the air, so that it can only
  have itself to blame (a dying worker may take a bystander's work with it). A node that died is nobody's fault.
* Work that fails again, that raises, or that doesn't return in time is cut in two; what fails alone is *quarantined*:
  left out of the run and recorded with its traceback. Everything else goes on.
* An operator that fails on more than a handful of rows is broken itself; then the run ends with its error.
* Work that takes much longer than its like is started a second time where a worker is idle. It is cheap, and whichever
  copy comes first counts. Sampling never goes this way, nor does work that asks an engine: that would be paid twice.
"""

from __future__ import annotations

import statistics
import time
from collections import defaultdict, deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from cluster.records.run import Say
from cluster.stages.states import StageState, StoreState
from cluster.working.compaction import Merge
from cluster.working.work import Done, Task, Work
from schemas.errors import GristmillError, NodeLost, StageFailed, WorkerLost
from schemas.job import RunSettings

FEW = 10
"""So many rows may be quarantined before the operator itself is suspected (and one in a hundred beyond)."""
SHORTEST_LIMIT = 30.0
"""Seconds that any work may take, however little of it there is."""
DEATHS = 4
"""How many workers a single row must take with it to be quarantined (one of them in company)."""
STRAGGLER = 5.0
"""Seconds that work must have taken before it is started twice."""

Handle = Callable[[Future[Any], Callable[[Future[Any]], None]], None]


class Workers(Protocol):
    """Whoever does the work: a runner, or the workers of one stage that asks an engine."""

    @property
    def slots(self) -> int:
        """How many pieces may be worked on at once."""
        ...

    def submit(self, work: Any) -> Future[Done]: ...

    def submit_wide(self, task: Task) -> Future[Done]: ...

    def cancel(self, future: Future[Done]) -> None: ...


@dataclass(eq=False)
class Flight:
    """One piece of work on its way, in one or two copies."""

    state: StageState
    work: Work
    deaths: int = 0
    """How many times a worker died over it, or over what it was cut from."""
    hung: int = 0
    """How many times it didn't return in time."""
    copies: list[Future[Done]] = field(default_factory=list[Future[Done]])
    started: float | None = None
    """When a worker can have begun it: enough earlier work had come back."""

    @property
    def suspect(self) -> bool:
        return self.deaths > 0


class Flights:
    """All work in the air. The driver's loop calls it; nothing here runs in another thread.

    Args:
        handle: queues a callback for a future's end into the driver's loop.
        on_landed: called with what became of each piece of work that succeeded.
        on_quarantined: called with the work on rows that have to be left out, and why.
    """

    def __init__(
        self,
        workers: Workers,
        settings: RunSettings,
        handle: Handle,
        on_landed: Callable[[Flight, Done], None],
        on_quarantined: Callable[[Flight, BaseException], None],
        say: Say,
    ) -> None:
        self.workers = workers
        self.settings = settings
        self._handle = handle
        self._on_landed = on_landed
        self._on_quarantined = on_quarantined
        self._say = say
        self._flying: dict[int, Flight] = {}
        self._waiting: deque[Flight] = deque()
        self._pace: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=32))
        """Stage -> seconds per row of its latest work."""

    @property
    def room(self) -> int:
        """How many more pieces may be submitted: twice the slots, so that a free worker never waits for us."""
        if any(flight.suspect for flight in [*self._waiting, *self._flying.values()]):
            return 0
        return 2 * self.workers.slots - len(self._flying)

    @property
    def any(self) -> bool:
        return bool(self._flying or self._waiting)

    def submit(self, state: StageState, work: Work) -> None:
        """Send work off."""
        state.on_submitted()
        self._launch(Flight(state, work))

    def submit_waiting(self) -> None:
        """Send halves off, the latest cut first: the guilty row is found by going down, not by going wide."""
        while self._waiting:
            alone = self._waiting[-1].suspect or any(flight.suspect for flight in self._flying.values())
            if len(self._flying) >= (1 if alone else 2 * self.workers.slots):
                return
            self._launch(self._waiting.pop())

    def _launch(self, flight: Flight) -> None:
        self._flying[flight.work.number] = flight
        flight.started = None
        self._copy(flight)

    def _copy(self, flight: Flight) -> None:
        work = flight.work
        wide = isinstance(work, Task) and work.pieces and work.reads > self.settings.wide_samples
        future = self.workers.submit_wide(work) if wide else self.workers.submit(work)  # pyright: ignore[reportArgumentType]
        flight.copies.append(future)
        self._handle(future, lambda done: self._came_back(flight, done))

    def _came_back(self, flight: Flight, future: Future[Done]) -> None:
        if self._flying.get(flight.work.number) is not flight or future not in flight.copies:
            return  # another copy was first
        flight.copies.remove(future)
        error = future.exception()
        if error is None:
            self._land(flight)
            done = future.result()
            if isinstance(flight.work, Task) and flight.work.rows:
                self._pace[flight.work.stage].append(done.seconds / flight.work.rows)
            self._on_landed(flight, done)
        elif not flight.copies:
            self._land(flight)
            self._on_failed(flight, error)

    def _land(self, flight: Flight) -> None:
        del self._flying[flight.work.number]
        flight.state.on_landed()
        for copy in flight.copies:
            self.workers.cancel(copy)

    def _on_failed(self, flight: Flight, error: BaseException) -> None:
        if isinstance(flight.work, Merge):
            assert isinstance(flight.state, StoreState)
            self._say(f"small files could not be merged, which does no harm: {error}", flight.state.name)
            flight.state.on_merged(flight.work, None)
            return
        if isinstance(error, NodeLost):
            self._say(f"a node was lost ({_brief(error)}); its work is done again", flight.state.name)
            self._again(flight)
            return
        if isinstance(error, WorkerLost):
            flight.deaths += 1
            alone = flight.work.rows == 1
            if flight.deaths < (DEATHS if alone else 2) and flight.hung < (2 if alone else 1):
                self._say(f"a worker was lost ({_brief(error)}); its work is done again", flight.state.name)
                self._again(flight)
                return
        elif not isinstance(error, StageFailed):
            if isinstance(error, GristmillError):
                raise error
            raise StageFailed(f"stage {flight.state.name}: a worker could not do its work: {error!r}") from error
        self._cut(flight, error)

    def _again(self, flight: Flight) -> None:
        if isinstance(flight.work, Task):
            flight.work = replace(flight.work, again=True)
        flight.state.on_submitted()
        self._waiting.append(flight)

    def _cut(self, flight: Flight, error: BaseException) -> None:
        work = flight.work
        halves = list(work.halves()) if isinstance(work, Task) else []
        for half in halves:
            # one more death is enough for a half that isn't a single row: its whole has died before
            self._again(Flight(flight.state, half, 1 if isinstance(error, WorkerLost) else 0))
        if halves:
            return
        state = flight.state
        if not isinstance(state, StoreState):
            raise self._explained(flight, error) from error
        guilty = state.record.quarantined + work.rows
        if guilty > FEW + 0.01 * state.record.computed:
            raise self._explained(flight, error) from error
        self._on_quarantined(flight, error)

    def _explained(self, flight: Flight, error: BaseException) -> BaseException:
        if isinstance(error, StageFailed):
            return error
        return StageFailed(
            f"stage {flight.state.name}: workers keep dying over its work ({error}). Too little memory for it, or a "
            "crash in the operator"
        )

    def rows_of(self, state: StageState) -> int:
        """Return how many rows of a stage are in the air."""
        flights = [*self._flying.values(), *self._waiting]
        return sum(flight.work.rows for flight in flights if flight.state is state)

    def waits_for(self) -> list[str]:
        """Return which work doesn't come back."""
        now = time.monotonic()
        since: dict[str, float] = {}
        for flight in self._flying.values():
            if flight.started is not None:
                name = flight.state.name
                since[name] = max(since.get(name, 0.0), now - flight.started)
        return [f"stage {name}: work that was begun {seconds:.0f} s ago" for name, seconds in since.items()]

    def look_after(self) -> None:
        """Kill what takes too long, and start what takes much longer than its like a second time."""
        now = time.monotonic()
        for position, flight in enumerate(list(self._flying.values())):
            if flight.started is None and position < self.workers.slots:
                flight.started = now
            if flight.started is None or not isinstance(flight.work, Task):
                continue
            if flight.state.short:  # it waits for money, which may take as long as it takes
                flight.started = now
            elapsed, usual = now - flight.started, self._usual(flight.work)
            if elapsed > self._limit(flight.work, usual):
                self._say(f"work on {flight.work.rows:,} rows took over {elapsed:.0f} s", flight.state.name)
                flight.hung, flight.started = flight.hung + 1, now
                for copy in list(flight.copies):
                    self.workers.cancel(copy)
            elif flight.state.asks or not usual or len(flight.copies) > 1:
                continue
            elif elapsed > max(STRAGGLER, 4 * usual) and self._idle_worker():
                self._copy(flight)

    def _usual(self, work: Task) -> float:
        """Return how many seconds work like this takes; 0 where nobody knows."""
        pace = self._pace[work.stage]
        return statistics.median(pace) * max(1, work.rows) if len(pace) >= 3 else 0.0

    def _limit(self, work: Task, usual: float) -> float:
        if work.pieces:  # one task over everything: there is nothing to compare it with
            return float("inf")
        return min(self.settings.task_seconds, max(SHORTEST_LIMIT, 20 * usual) if usual else float("inf"))

    def _idle_worker(self) -> bool:
        return not self._waiting and sum(len(flight.copies) for flight in self._flying.values()) < self.workers.slots

    def abandon(self) -> None:
        """Give everything up (the run is ending)."""
        for flight in self._flying.values():
            for copy in flight.copies:
                self.workers.cancel(copy)
        self._flying.clear()
        self._waiting.clear()


def _brief(error: BaseException) -> str:
    return str(error).strip().splitlines()[0][:200]
