"""The account of a run: what is reserved, what was spent, what is kept for judging, what may still be sent.

Nothing is sent that isn't reserved at its worst case: the prompt and ``max_tokens``. When samples are written their
reservation gives way to what they really took, and so does the credit of those who ask about samples. Requests that
failed, that a dead engine took along or that a crash left behind stay spent at their worst case, because nobody knows
what the engine did for them. So what the engines counted can never be more than what the account has, and a cap holds
to the token.
"""

from __future__ import annotations

from collections.abc import Callable

from cluster.records.bill import Amount
from schemas.budget import Budget
from schemas.errors import BadInput
from schemas.prices import MICRO, Prices


class Account:
    """What one run may spend, beside what was spent on the same account before.

    Args:
        before: what earlier runs spent, their orphans included.
    """

    def __init__(self, budget: Budget, before: Amount) -> None:
        self.budget = budget
        self.spent = before
        self.orphaned = Amount()
        """Of what this run spent: charged at the worst case, because nothing came back."""
        self.reserved = Amount()
        """Ranges of samples that are out, and credit that is lent, at their worst case."""
        self.dispatched = 0
        """Samples this run sent."""
        self.freed = 0
        """Counts how often money came back: whoever could not afford something may ask again."""
        self.gate_open = budget.gate is None
        self.gpu_time = Amount()
        """What the time of engines costs that are paid by the hour."""
        self.keepers: list[Callable[[], Amount]] = []
        """Each tells what is kept for a stage that asks about samples, beyond what it was lent."""

    @property
    def caps(self) -> tuple[int | None, int | None, int | None]:
        """Samples, tokens and microdollars that may be spent; None where there is no cap."""
        dollars = None if self.budget.dollars is None else int(self.budget.dollars * MICRO)
        return self.budget.samples, self.budget.tokens, dollars

    def left(self, but: Callable[[], Amount] | None = None) -> tuple[int | None, int | None, int | None]:
        """Return what of each cap is neither spent, reserved nor kept; None where there is no cap.

        Args:
            but: the keeper whose own share isn't counted, since it asks.
        """
        kept = sum((keeper() for keeper in self.keepers if keeper != but), Amount())
        taken = self.spent + self.reserved + self.gpu_time + kept
        samples, tokens, micro = (
            None if cap is None else cap - have for cap, have in zip(self.caps, taken.parts, strict=True)
        )
        return samples, tokens, micro

    def covers(self, amount: Amount, but: Callable[[], Amount] | None = None) -> bool:
        """Whether so much more may be sent."""
        return all(left is None or left >= part for left, part in zip(self.left(but), amount.parts, strict=True))

    def fits(self, worst: Amount, wanted: int) -> int:
        """Return how many of ``wanted`` samples may be sent now, if each takes the worst."""
        limits = [wanted]
        for left, each in zip(self.left(), worst.parts, strict=True):
            if left is not None:
                limits.append(max(0, left) // max(1, each))
        if not self.gate_open and self.budget.gate is not None:
            limits.append(max(0, self.budget.gate.samples - self.dispatched))
        return min(limits)

    @property
    def share(self) -> float:
        """Share of the tightest hard cap that is spent."""
        pairs = zip(self.caps, (self.spent + self.gpu_time).parts, strict=True)
        return max((have / cap for cap, have in pairs if cap is not None), default=0.0)


def check_prices(budget: Budget, prices: Prices | None, model: str) -> None:
    """Refuse a cap in dollars where nobody knows a price.

    Raises:
        BadInput: naming the model and where prices are given.
    """
    if budget.dollars is not None and (prices is None or not prices.known):
        raise BadInput(
            f"run.budget.dollars = {budget.dollars:g}, but no price of '{model}' is known: name it in run.prices (a "
            "mapping, or the path of a YAML table), or measure it with gristmill bench-engine --price-..."
        )
