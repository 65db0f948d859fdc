"""Admission: how many episodes of a strategy are let in, where there is a budget.

Their calls are paid from credit, each at its worst case. What a whole episode may take at most is many times what it
usually takes, so episodes are let in by what those that ended took on average: while the account covers what the live
ones are still expected to take, and one more. Before enough have ended, as many as it covers at their worst, and one at
least. An episode that the money doesn't reach is suspended: its calls stay, and a later run goes on with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from cluster.records.bill import Amount, Bill
from cluster.spending.access import Access
from cluster.spending.account import Account
from cluster.spending.books import Books
from cluster.spending.loan import Keeping, Loan
from cluster.storage.parts import Part
from cluster.storage.ranges import Ints, Ranges
from cluster.working.overrun import Overrun
from operators.strategies.words import POLICY

KNOWN = 8
"""Episodes that have to end before their mean is gone by."""


class Admission(Access):
    """One strategy's access to the account; it stands where plain sampling has its purse.

    Ranges are of draws: episodes.

    Args:
        rows: samples of an episode.
        loans: by role.
        worst: returns the most that an episode takes, given the tokens of a problem's prompt.
        keeping: for the stages that will ask about the samples.
    """

    def __init__(
        self,
        account: Account,
        books: Books,
        stage: str,
        rows: int,
        loans: Mapping[str, Loan],
        worst: Callable[[int], Amount],
        problems: int,
        keeping: tuple[Keeping, ...] = (),
    ) -> None:
        super().__init__(account, books, stage, keeping)
        self.rows = rows
        self.loans = loans
        self._worst_of = worst
        self._worst = np.zeros((problems, 2), np.int64)
        self._ended = 0

    def learn_prompts(self, numbers: Ints, tokens: Ints, max_tokens: int) -> None:
        for length in np.unique(tokens).tolist():
            self._worst[numbers[tokens == length]] = self._worst_of(length).parts[1:]
        super().learn_prompts(numbers, tokens, max_tokens)

    def worst(self, numbers: Ints) -> tuple[Ints, Ints]:
        """Return what a range of samples sets apart by itself: nothing, since their calls are paid one by one."""
        nothing = np.zeros(len(numbers), np.int64)
        return nothing, nothing

    def affords(self, ranges: Ranges) -> NDArray[np.int32]:
        """Return how many episodes of each range are let in now, in turn."""
        sizes = np.zeros_like(ranges.sizes)
        for place, (number, _, wanted) in enumerate(ranges):
            sizes[place] = self._let_in(number, wanted)
            if sizes[place] < wanted:
                break
        return sizes

    def _let_in(self, number: int, wanted: int) -> int:
        live = self.reserved // self.rows
        judging = self.judging(number) * self.rows
        one = self._expected(number) + judging
        lent = sum((loan.out for loan in self.loans.values()), Amount())
        fits = self.account.fits(Amount(self.rows) + judging, wanted)
        _, tokens, micro = self.account.left()
        for left, out, each in ((tokens, lent.tokens, one.tokens), (micro, lent.microdollars, one.microdollars)):
            if left is not None:  # what is lent is the live ones' already
                fits = min(fits, (left + out) // max(1, each) - live)
        if fits < 1 and live == 0 and self.account.fits(Amount(self.rows) + judging, 1):
            fits = 1  # it goes as far as the money does
        fits = max(0, fits)
        self._send(number, fits)
        return fits

    def _expected(self, number: int) -> Amount:
        if self._ended < KNOWN:
            return Amount(0, *self._worst[number].tolist())
        paid = sum((loan.paid for loan in self.loans.values()), Amount())
        return Amount(0, -(-paid.tokens // self._ended), -(-paid.microdollars // self._ended))

    def _send(self, number: int, episodes: int) -> None:
        samples = episodes * self.rows
        self._take(Amount(samples))
        for keeping in self.keeping:
            keeping.loan.on_sent(keeping.each(number) * samples)

    def settle(self, part: Part, ranges: Ranges) -> None:
        """Take the samples of episodes that ended; what they took stands in the bills of their calls."""
        self._free(Amount(ranges.total * self.rows))
        self._ended += ranges.total
        self.account.spent += Amount(part.rows)
        self.books.add("bill", self.stage, POLICY, Amount(part.rows), Bill(), part.rows)
        for keeping in self.keeping:
            keeping.on_drawn(ranges.times(self.rows), int(part.tallies.get("completion_tokens", 0)))

    def charge(self, ranges: Ranges) -> None:
        """Hear of episodes that weren't played to their end: their calls are paid, and wait for the next try."""
        self._free(Amount(ranges.total * self.rows))
        self.books.add("return", self.stage, POLICY, Amount(ranges.total * self.rows))
        for keeping in self.keeping:
            keeping.loan.on_lost(keeping.worst(ranges.times(self.rows)))

    def give_back(self, ranges: Ranges) -> None:
        """Hear of episodes that weren't begun, or whose calls nobody served."""
        self.charge(ranges)
        self.account.dispatched -= ranges.total * self.rows

    def on_overrun(self, over: Overrun) -> bool:
        """Nothing is set apart here that an overrun could pass: the desks of the calls heed it."""
        return False
