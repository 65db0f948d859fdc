"""Credit: what a worker may spend on calls to its engine, lent by the driver.

A call is sent once its worst case is set apart; what it really took is put in the place of that when the answer comes.
So the engine's own count can't pass what was lent, and a worker that dies takes no more along than its credit.
"""

from __future__ import annotations

import asyncio
from bisect import insort
from itertools import count

from cluster.records.bill import Amount
from schemas.prices import Prices


class Credit:
    """The credit of one worker; it lives in the worker's event loop.

    Args:
        prices: of the engine's tokens; None where nothing is capped in dollars.
        ahead: how many calls' worth is asked for before it is needed.
    """

    def __init__(self, prices: Prices | None, ahead: int) -> None:
        self._prices = prices
        self._ahead = ahead
        self._free = Amount()
        self._waiting: list[tuple[int, int, Amount, asyncio.Future[None]]] = []
        self._numbers = count()
        self._largest = Amount()
        """The worst case of the largest call so far."""
        self.out = 0
        """Calls that were paid and aren't answered."""
        self.wanted = asyncio.Event()
        """Set while calls wait for credit, or soon will."""

    def price(self, prompt_tokens: int, cached_prompt_tokens: int, completion_tokens: int) -> Amount:
        """Return what tokens cost."""
        micro = 0
        if self._prices is not None:
            micro = self._prices.microdollars(prompt_tokens, cached_prompt_tokens, completion_tokens, 0.0) or 0
        return Amount(0, prompt_tokens + completion_tokens, micro)

    def worst(self, prompt_tokens: int, completion_tokens: int) -> Amount:
        """Return the most that a call may cost, rounded up."""
        found = self.price(prompt_tokens, 0, completion_tokens)
        return found if self._prices is None else found + Amount(0, 0, 1)

    async def take(self, worst: Amount, rank: int = 0) -> None:
        """Set a call's worst case apart; those of a smaller rank are served first, then those that came first."""
        self._largest = self._largest.at_least(worst)
        if self._waiting or not self._free.covers(worst):
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            entry = (rank, next(self._numbers), worst, future)
            insort(self._waiting, entry)
            self._look()
            try:
                await future
            except asyncio.CancelledError:
                if future.done() and not future.cancelled():
                    self._put_back(worst)
                else:
                    self._waiting.remove(entry)
                    self._serve()
                raise
        else:
            self._free -= worst
            self.out += 1
            self._look()

    def settle(self, worst: Amount, used: Amount) -> None:
        """Put what a call took in the place of its worst case."""
        self._put_back(worst - used)

    def _put_back(self, amount: Amount) -> None:
        self.out -= 1
        self._free += amount
        self._serve()

    def lend(self, amount: Amount) -> None:
        """Hear that there is more."""
        self._free += amount
        self._serve()

    def give_back(self) -> Amount:
        """Return what nothing is set apart from; it is the driver's again."""
        freed = self._free.at_least(Amount())
        self._free -= freed
        return freed

    def _serve(self) -> None:
        while self._waiting and self._free.covers(self._waiting[0][2]):
            _, _, worst, future = self._waiting.pop(0)
            self._free -= worst
            self.out += 1
            future.set_result(None)
        self._look()

    def _look(self) -> None:
        if self.wants:
            self.wanted.set()
        else:
            self.wanted.clear()

    @property
    def idle(self) -> bool:
        """Whether no call is out and none waits."""
        return not (self.out or self._waiting)

    @property
    def first(self) -> Amount:
        """What the first call that waits lacks; nothing where none does."""
        return (self._waiting[0][2] - self._free).at_least(Amount()) if self._waiting else Amount()

    @property
    def wants(self) -> Amount:
        """What would keep calls from waiting; nothing where there is enough for now."""
        if self.idle or (not self._waiting and self._free.covers(self._largest * (self._ahead // 2))):
            return Amount()
        waiting = sum((worst for _, _, worst, _ in self._waiting), Amount())
        return (waiting + self._largest * self._ahead - self._free).at_least(Amount())
