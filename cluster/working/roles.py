"""The engines of a worker: what each is to the stage, what its calls took, and what they wait for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from functools import cache

from cluster.records.bill import Amount, Bill
from cluster.records.timeline import Activity, Timeline
from cluster.working.credit import Credit
from cluster.working.desk import Desk, Meter
from cluster.working.journal import Journal
from cluster.working.overrun import Overrun
from cluster.working.reports import Dues
from cluster.working.serving import Serving
from cluster.working.turnstile import Turnstile
from operators.engine import Engine
from schemas.prices import Prices


class Role:
    """One engine of a worker.

    Args:
        paid: whether its calls are paid from credit that the driver lends.
        prices: of its tokens, where something is capped in dollars.
        in_turn: whether calls wait for their turn by the rank of their work.
        capped: whether what it takes is capped, by credit or by whoever pays for each try.
        most_completion: the most tokens that a completion may have, of those that a request asks for.
    """

    def __init__(
        self, name: str, engine: Engine, node: str, paid: bool = False, prices: Prices | None = None,
        in_turn: bool = False, capped: bool = False, most_completion: Callable[[int], int] = int,
    ) -> None:  # fmt: skip
        self.name = name
        self.engine = engine
        self.turnstile = Turnstile(engine.capacity) if in_turn else None
        self._timeline = Timeline(node)
        self._meter = Meter(self._timeline, Credit(prices, engine.capacity) if paid else None, capped or paid)
        self._most_completion = cache(most_completion)
        self._returned = Amount()

    def desk(self, retries: int | None, journal: Journal | None = None, rank: int = 0) -> Desk:
        """Return what a piece of work asks instead of the engine; see ``Desk`` for the arguments."""
        return Desk(self.engine, self._meter, retries, journal, self._most_completion, self.turnstile, rank)

    def steer(self, most: int | None, priority: int) -> None:
        """Hear how many calls may be under way at once (None: as many as the engine takes), and how urgent they are."""
        self._meter.throttle.set(most)
        self.engine.priority = priority

    def serving(self) -> Serving:
        """Return what other workers ask instead of the engine, whose desks have metered it."""
        return Serving(self.engine, self._timeline)

    def watch_overrun(self, hear: Callable[[], None]) -> None:
        """Have ``hear`` called whenever the engine takes more than it was thought to."""
        self._meter.on_overrun = hear

    @property
    def overrun(self) -> Overrun:
        return self._meter.overrun

    def take_estimated(self) -> int:
        """Return how many calls since the last time had tokens that aren't the engine's own count."""
        taken, self._meter.estimated = self._meter.estimated, 0
        return taken

    def activity(self) -> Activity:
        return replace(self._timeline.activity(), trouble=self.engine.trouble)

    @property
    def asks(self) -> bool:
        """Whether the engine has calls of ours now."""
        return self._timeline.in_flight > 0 and self.engine.there

    @property
    def seconds_a_call(self) -> float:
        """How long a call takes on average; 0 before any was answered."""
        return self._timeline.seconds_a_call

    # -- money -----------------------------------------------------------------------------------------------------

    def lend(self, amount: Amount) -> None:
        """Hear that more may be spent on calls."""
        assert self._meter.credit is not None
        self._meter.credit.lend(amount)

    def call_back(self) -> None:
        """Put what no call needs now aside, to be given back with the next report."""
        if self._meter.credit is not None:
            self._returned += self._meter.credit.give_back()

    async def wanted(self) -> None:
        """Wait until calls want more credit."""
        credit = self._meter.credit
        await (asyncio.Event().wait() if credit is None else credit.wanted.wait())

    def dues(self, over: bool) -> Dues:
        """Return what happened since the last time.

        Args:
            over: nothing that could ask is under way, so credit isn't needed.
        """
        meter, credit = self._meter, self._meter.credit
        found = Dues(bill=meter.bill)
        meter.bill = Bill()
        if credit is not None:
            found.paid, found.lost, meter.paid, meter.lost = meter.paid, meter.lost, Amount(), Amount()
            found.wants, found.first, found.in_flight = credit.wants, credit.first, credit.out
            if over and credit.idle:
                self.call_back()
            found.returned, self._returned = self._returned, Amount()
        return found
