"""What every sampling stage's way to the account has: plain samples' (``Purse``), and episodes' (``Admission``)."""

from __future__ import annotations

from cluster.records.bill import Amount
from cluster.spending.account import Account
from cluster.spending.books import Books
from cluster.spending.loan import Keeping
from cluster.storage.ranges import Ints


class Access:
    """One sampling stage's access to the account.

    Args:
        keeping: for the stages that will ask about the samples.
    """

    def __init__(self, account: Account, books: Books, stage: str, keeping: tuple[Keeping, ...] = ()) -> None:
        self.account = account
        self.books = books
        self.stage = stage
        self.keeping = keeping
        self.reserved = 0
        """Samples of this stage that were sent and haven't come back."""

    @property
    def may_afford(self) -> bool:
        """Whether more may be affordable later: something is out, the first samples are still being judged, or money
        is kept for samples that wait for their verdicts."""
        waits = self.reserved > 0 or not self.account.gate_open
        return waits or any(keeping.loan.waits for keeping in self.keeping)

    def learn_prompts(self, numbers: Ints, tokens: Ints, max_tokens: int) -> None:
        """Hear how many tokens the prompts of problems have at most."""
        for keeping in self.keeping:
            keeping.learn_prompts(numbers, tokens)

    def judging(self, number: int) -> Amount:
        """Return what will be asked about one sample of a problem, at most."""
        return sum((keeping.each(number) for keeping in self.keeping), Amount())

    def _take(self, worst: Amount) -> None:
        """Set samples apart, with what they may take."""
        self.account.reserved += worst
        self.account.dispatched += worst.samples
        self.reserved += worst.samples

    def _free(self, worst: Amount) -> None:
        """Hear that samples aren't out any more."""
        self.account.reserved -= worst
        self.account.freed += 1
        self.reserved -= worst.samples
