"""Loans: how calls are paid that no range of samples pays for: judges', reward models', transformations', episodes'.

How much a call takes is known in the worker alone, so the driver lends each worker credit, and the worker's desk sets
every call's worst case apart from it (``cluster.working.credit``). Beside that, money is *kept*: for each sample that
is sent, the worst case of all that will be asked about it, until it is judged. So nothing that was drawn stays unjudged
for want of money.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from cluster.records.bill import Amount, Bill
from cluster.spending.account import Account
from cluster.spending.books import Books
from cluster.storage.ranges import Ints, Ranges
from operators.asking import AskingOperator
from schemas.prices import Prices


class Loan:
    """One role's access to the account, with the prices of its engine's tokens.

    Args:
        role: what the engine is to the stage.
        prices: None where no cap is in dollars, or where the engine is paid by the hour.
    """

    def __init__(self, account: Account, books: Books, stage: str, role: str, prices: Prices | None) -> None:
        self.account = account
        self.books = books
        self.stage = stage
        self.role = role
        self.prices = prices
        self.out = Amount()
        """Credit that workers have."""
        self.paid = Amount()
        """What calls took in this run."""
        self._unfinished = Amount()
        """What was paid for work that isn't committed: it is taken from what is kept."""
        self._coming = Amount()
        """Kept for samples that are being drawn."""
        self._due = Amount()
        self._due_samples = 0
        """Kept for samples that are there and wait for this stage, and how many they are."""
        self._one = (Amount(), Amount())
        """The least and the most that is kept for one of them."""
        self._share = Amount()
        """Kept for the stage as a whole, until it is complete."""
        self.most: Amount | None = None
        """More isn't kept, whatever the samples say."""
        account.keepers.append(self.kept)

    def kept(self) -> Amount:
        """Return what nobody else may take, beyond what is lent already."""
        kept = self._coming + self._due + self._share - self.out - self._unfinished
        kept = kept if self.most is None else kept.at_most(self.most)
        return kept.at_least(Amount())

    def release(self) -> None:
        """Keep nothing any more: the stage is complete."""
        if self._coming or self._due or self._share:
            self.account.freed += 1
        self._coming = self._due = self._share = Amount()
        self._due_samples = 0

    @property
    def waits(self) -> bool:
        """Whether money that is kept or lent may come back."""
        return self._due_samples > 0 or bool(self.out)

    # -- what is kept ----------------------------------------------------------------------------------------------

    def keep(self, share: Amount) -> None:
        """Keep so much for the stage as a whole, until it is complete."""
        self._share = share

    def on_sent(self, worst: Amount) -> None:
        """Hear of samples that are drawn, and what this stage will take for them at most."""
        self._coming += worst

    def on_lost(self, worst: Amount) -> None:
        """Hear that some of them will not come."""
        self._coming -= worst

    def on_drawn(self, worst: Amount, least: Amount, samples: int) -> None:
        """Hear that samples came, and what this stage takes at most now that their lengths are known."""
        self._coming -= worst
        self.on_due(least, samples)

    def know_one(self, least: Amount, most: Amount) -> None:
        """Hear what this stage takes for a sample: for an empty one, and at most."""
        known = self._one[1]
        self._one = (self._one[0].at_most(least) if known else least, known.at_least(most))

    def on_due(self, worst: Amount, samples: int) -> None:
        """Hear of samples that wait for this stage."""
        self._due += worst
        self._due_samples += samples

    def on_done(self, samples: int, complete: bool) -> None:
        """Hear that the stage is done with some samples."""
        self.account.freed += 1
        self._unfinished = Amount()
        if self._due_samples:  # which they were isn't known: those that are left may be the longest ones
            done = min(samples, self._due_samples)
            self._due_samples -= done
            least, most = self._one
            self._due = (self._due - least * done).at_most(most * self._due_samples)
        if complete:
            self._due, self._due_samples = Amount(), 0

    # -- credit ----------------------------------------------------------------------------------------------------

    def lend(self, wanted: Amount, first: Amount, at_any_rate: bool = False) -> Amount:
        """Return the credit that a worker gets now; it stands in the books once they are written.

        Args:
            wanted: what would keep its calls from waiting.
            first: what the call needs that waits longest; less is of no use.
            at_any_rate: out of what is kept for others, too.
        """
        _, tokens, micro = self.account.left(self.kept)
        if at_any_rate:
            kept = sum((keeper() for keeper in self.account.keepers if keeper != self.kept), Amount())
            tokens = None if tokens is None else tokens + kept.tokens
            micro = None if micro is None else micro + kept.microdollars
        room = Amount(
            0,
            wanted.tokens if tokens is None else max(0, min(tokens, wanted.tokens)),
            wanted.microdollars if micro is None else max(0, min(micro, wanted.microdollars)),
        )
        if not room.covers(first) or not room:
            return Amount()
        self.out += room
        self.account.reserved += room
        self.books.add("credit", self.stage, self.role, room)
        return room

    def on_report(self, bill: Bill, paid: Amount, lost: Amount, returned: Amount) -> None:
        """Hear what a worker's calls took, and what it gives back."""
        account = self.account
        if bill.calls or paid != lost:
            self.books.add("bill", self.stage, self.role, paid - lost, bill)
        if lost:
            self.books.add("lost", self.stage, self.role, lost)
            account.orphaned += lost
        if returned:
            self.books.add("return", self.stage, self.role, returned)
        account.spent += paid
        self.paid += paid
        self._unfinished += paid - lost
        self._close(paid + returned)

    def on_worker_lost(self, out: Amount) -> None:
        """Hear that a worker died with so much credit: nobody knows what it did with it."""
        if out:
            self.books.add("lost", self.stage, self.role, out)
            self.account.spent += out
            self.account.orphaned += out
            self._unfinished = Amount()
            self._close(out)

    def _close(self, amount: Amount) -> None:
        if amount:
            self.account.freed += 1
        self.out -= amount
        self.account.reserved -= amount


class Keeping:
    """What one asking stage takes at most for a sample of each problem of one sampling stage.

    Args:
        completion: the most tokens of a completion.
        waiting: tells which samples are there and wait for the asking stage; None where it waits for all of them, and
            what is kept stays until it is complete.
    """

    def __init__(
        self, loan: Loan, operator: AskingOperator, completion: int, problems: int, waiting: Callable[[], Ranges] | None
    ) -> None:
        self.loan = loan
        self._waiting = waiting
        self.operator = operator
        self.completion = completion
        self._tokens = np.zeros(problems, np.int64)
        self._micro = np.zeros(problems, np.int64)

    def learn_prompts(self, numbers: Ints, tokens: Ints) -> None:
        """Hear how many tokens the prompts of problems have at most."""
        self._tokens[numbers], self._micro[numbers] = self._cost(tokens, np.full_like(tokens, self.completion))
        nothing = np.zeros(1, np.int64)
        tokens_least, micro_least = (int(cost[0]) for cost in self._cost(nothing, nothing))
        least = Amount(0, tokens_least, max(0, micro_least - 2))  # sums of many are rounded once
        self.loan.know_one(least, Amount(0, int(self._tokens.max()), int(self._micro.max())))
        if self._waiting is not None:
            waiting = self._waiting()
            self.loan.on_due(self.worst(waiting), waiting.total)

    def _cost(self, prompt: Ints, completion: Ints) -> tuple[Ints, Ints]:
        read, written = self.operator.most_tokens(prompt, completion)
        rates = None if self.loan.prices is None else self.loan.prices.rates
        if rates is None:
            return read + written, np.zeros_like(read)
        return read + written, np.ceil(read * rates[0] + written * rates[2]).astype(np.int64) + 1

    def each(self, number: int) -> Amount:
        """Return what a sample of a problem takes at most."""
        return Amount(0, int(self._tokens[number]), int(self._micro[number]))

    def worst(self, ranges: Ranges) -> Amount:
        """Return what samples take at most."""
        return Amount(0, _total(self._tokens, ranges), _total(self._micro, ranges))

    def on_drawn(self, ranges: Ranges, completion_tokens: int) -> None:
        """Hear that samples came, and how many tokens their completions have together."""
        worst = self.worst(ranges)
        nothing = np.zeros(1, np.int64)
        whole = self._cost(nothing, nothing + self.completion * ranges.total)
        real = self._cost(nothing, nothing + completion_tokens)
        saved = Amount(0, int(whole[0][0] - real[0][0]), int(whole[1][0] - real[1][0]))
        self.loan.on_drawn(worst, (worst - saved).at_least(Amount()), 0 if self._waiting is None else ranges.total)


def _total(each: NDArray[np.int64], ranges: Ranges) -> int:
    return int((each[ranges.numbers] * ranges.sizes).sum())
