"""The purse of a sampling stage: ranges of samples are paid for, each at its worst case until it is there."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cluster.records.bill import Amount, Bill
from cluster.spending.access import Access
from cluster.spending.account import Account
from cluster.spending.books import Books
from cluster.spending.loan import Keeping
from cluster.storage.parts import Part
from cluster.storage.ranges import Ints, Ranges
from cluster.working.overrun import Overrun
from operators.strategies.words import POLICY
from schemas.prices import Prices


class Purse(Access):
    """One sampling stage's access to the account.

    Args:
        prices: of the engine's tokens; None where no cap is in dollars, or where the engine is paid by the hour.
        problems: how many there are.
        keeping: for the stages that will ask about the samples.
    """

    def __init__(
        self,
        account: Account,
        books: Books,
        stage: str,
        prices: Prices | None,
        problems: int,
        keeping: tuple[Keeping, ...] = (),
    ) -> None:
        super().__init__(account, books, stage, keeping)
        self.prices = prices
        self._tokens = np.zeros(problems, np.int64)
        self._micro = np.zeros(problems, np.int64)
        """What a sample of each problem may take at most."""
        self._over = Overrun()
        """What the engine takes beyond that."""

    def learn_prompts(self, numbers: Ints, tokens: Ints, max_tokens: int) -> None:
        self._tokens[numbers] = tokens + max_tokens
        if self.prices is not None:
            # rounded up: a worst case that is rounded down isn't one
            micro = [(self.prices.microdollars(prompt, 0, max_tokens, 0.0) or 0) + 1 for prompt in tokens.tolist()]
            self._micro[numbers] = micro
        super().learn_prompts(numbers, tokens, max_tokens)

    def worst(self, numbers: Ints) -> tuple[Ints, Ints]:
        """Return the tokens and microdollars that a sample of each problem may take at most."""
        over = self._beyond(self._over)
        return self._tokens[numbers] + over.tokens, self._micro[numbers] + over.microdollars

    def _beyond(self, over: Overrun) -> Amount:
        """Return what an overrun costs with each sample."""
        if not over:
            return Amount()
        micro = 0
        if self.prices is not None:
            micro = (self.prices.microdollars(over.prompt, 0, over.completion, 0.0) or 0) + 1
        return Amount(0, over.prompt + over.completion, micro)

    def on_overrun(self, over: Overrun) -> bool:
        """Hear what the engine takes beyond the worst case; return whether that is news. All that is out is raised."""
        over = self._over.with_(over)
        if over is self._over:
            return False
        more = (self._beyond(over) - self._beyond(self._over)) * self.reserved
        self._over = over
        self.account.reserved += more
        self.books.add("credit", self.stage, POLICY, more)
        return True

    def affords(self, ranges: Ranges) -> NDArray[np.int32]:
        """Return how many samples of each range may be sent now, in turn, and set their worst case apart."""
        if self._fit(ranges):
            self._reserve(ranges)
            return ranges.sizes
        sizes = ranges.sizes.copy()
        for place in range(len(ranges)):
            one = ranges[place : place + 1]
            number = int(one.numbers[0])
            tokens, micro = self.worst(one.numbers)
            worst = Amount(1, int(tokens[0]), int(micro[0]))
            sizes[place] = self.account.fits(worst + self.judging(number), int(sizes[place]))
            self._reserve(Ranges(one.starts, sizes[place : place + 1]))
        return sizes

    def _fit(self, ranges: Ranges) -> bool:
        """Whether there is enough for all of it."""
        judging = sum((keeping.worst(ranges) for keeping in self.keeping), Amount())
        if not self.account.covers(self._worst_of(ranges) + judging):
            return False
        gate = self.account.budget.gate
        return self.account.gate_open or gate is None or self.account.dispatched + ranges.total <= gate.samples

    def _worst_of(self, ranges: Ranges) -> Amount:
        tokens, micro = (int((worst * ranges.sizes).sum()) for worst in self.worst(ranges.numbers))
        return Amount(ranges.total, tokens, micro)

    def _reserve(self, ranges: Ranges) -> None:
        self._take(self._worst_of(ranges))
        for keeping in self.keeping:
            keeping.loan.on_sent(keeping.worst(ranges))

    def settle(self, part: Part, ranges: Ranges) -> None:
        """Put what a written part really took in the place of what was set apart for its samples."""
        worst = self._closed(ranges)
        bill = bill_of(part)
        micro = 0 if self.prices is None else self.prices.microdollars(*_tokens(bill), 0.0) or 0
        self.account.spent += Amount(part.rows, bill.tokens, micro)
        self.books.add("bill", self.stage, POLICY, worst, bill, part.rows)
        for keeping in self.keeping:
            keeping.on_drawn(ranges, bill.completion_tokens)

    def charge(self, ranges: Ranges) -> None:
        """Count requests that brought no sample as spent, at their worst case."""
        worst = self._closed(ranges)
        self.account.spent += worst
        self.account.orphaned += worst
        self.books.add("lost", self.stage, POLICY, worst)
        for keeping in self.keeping:
            keeping.loan.on_lost(keeping.worst(ranges))

    def give_back(self, ranges: Ranges) -> None:
        """Take back what was set apart for samples that nobody served: they cost nothing."""
        self.books.add("return", self.stage, POLICY, self._closed(ranges))
        self.account.dispatched -= ranges.total
        for keeping in self.keeping:
            keeping.loan.on_lost(keeping.worst(ranges))

    def _closed(self, ranges: Ranges) -> Amount:
        """Free what was set apart for samples, and return how much that is."""
        worst = self._worst_of(ranges)
        self._free(worst)
        return worst


def bill_of(part: Part) -> Bill:
    """Return what the samples of a part took."""
    names = ("prompt_tokens", "cached_prompt_tokens", "completion_tokens")
    tokens = {name: int(part.tallies.get(name, 0)) for name in (*names, "estimated_tokens")}
    return Bill(part.rows, **tokens)


def _tokens(bill: Bill) -> tuple[int, int, int]:
    return bill.prompt_tokens, bill.cached_prompt_tokens, bill.completion_tokens
