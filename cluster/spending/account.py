"""The account of a run's sampling: what is reserved, what was spent, what may still be sent.

Nothing is sent that isn't reserved at its worst case: the prompt and ``max_tokens``. When samples are written their
reservation gives way to what they really took. Requests that failed, that a dead engine took along or that a crash left
behind stay spent at their worst case, because nobody knows what the engine did for them. So what the engine counted can
never be more than what the account has, and a cap holds to the token.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cluster.storage.parts import Part
from cluster.storage.ranges import Ints, Ranges
from schemas.budget import Budget
from schemas.errors import BadInput
from schemas.prices import MICRO, Prices


@dataclass(frozen=True)
class Amount:
    """Something spent or reserved.

    Attributes:
        tokens: of prompts (cached or not) and completions.
        microdollars: millionths of a dollar; 0 where no price is asked for.
    """

    samples: int = 0
    tokens: int = 0
    microdollars: int = 0

    @property
    def parts(self) -> tuple[int, int, int]:
        return self.samples, self.tokens, self.microdollars

    def __add__(self, other: Amount) -> Amount:
        return Amount(self.samples + other.samples, self.tokens + other.tokens, self.microdollars + other.microdollars)

    def __sub__(self, other: Amount) -> Amount:
        return self + other * -1

    def __mul__(self, times: int) -> Amount:
        return Amount(self.samples * times, self.tokens * times, self.microdollars * times)


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
        self.dispatched = 0
        """Samples this run sent."""
        self.gate_open = budget.gate is None

    @property
    def caps(self) -> tuple[int | None, int | None, int | None]:
        """Samples, tokens and microdollars that may be spent; None where there is no cap."""
        dollars = None if self.budget.dollars is None else int(self.budget.dollars * MICRO)
        return self.budget.samples, self.budget.tokens, dollars

    def fits(self, worst: Amount, wanted: int) -> int:
        """Return how many of ``wanted`` samples may be sent now, if each takes the worst."""
        taken, limits = self.spent + self.reserved, [wanted]
        for cap, have, each in zip(self.caps, taken.parts, worst.parts, strict=True):
            if cap is not None:
                limits.append(max(0, cap - have) // max(1, each))
        if not self.gate_open and self.budget.gate is not None:
            limits.append(max(0, self.budget.gate.samples - self.dispatched))
        return min(limits)

    @property
    def share(self) -> float:
        """Share of the tightest hard cap that is spent."""
        pairs = zip(self.caps, self.spent.parts, strict=True)
        return max((have / cap for cap, have in pairs if cap is not None), default=0.0)


class Purse:
    """One sampling stage's access to the account, with the prices of its engine.

    Args:
        prices: None where no cap is in dollars.
        problems: how many there are.
    """

    def __init__(self, account: Account, prices: Prices | None, problems: int) -> None:
        self.account = account
        self.prices = prices if account.budget.dollars is not None else None
        self.reserved = 0
        """Samples of this stage that were sent and haven't come back."""
        self._tokens = np.zeros(problems, np.int64)
        self._micro = np.zeros(problems, np.int64)
        """What a sample of each problem may take at most."""

    @property
    def may_afford(self) -> bool:
        """Whether more may be affordable later: something is out, or the first samples are still being judged."""
        return self.reserved > 0 or not self.account.gate_open

    def learn_prompts(self, numbers: Ints, tokens: Ints, max_tokens: int) -> None:
        """Hear how many tokens the prompts of problems have at most."""
        self._tokens[numbers] = tokens + max_tokens
        if self.prices is not None:
            # rounded up: a worst case that is rounded down isn't one
            micro = [(self.prices.microdollars(prompt, 0, max_tokens, 0.0) or 0) + 1 for prompt in tokens.tolist()]
            self._micro[numbers] = micro

    def worst(self, numbers: Ints) -> tuple[Ints, Ints]:
        """Return the tokens and microdollars that a sample of each problem may take at most."""
        return self._tokens[numbers], self._micro[numbers]

    def affords(self, ranges: Ranges) -> NDArray[np.int32]:
        """Return how many samples of each range may be sent now, in turn, and set their worst case apart."""
        if self._fit(ranges):
            self._reserve(ranges)
            return ranges.sizes
        sizes = ranges.sizes.copy()
        for place in range(len(ranges)):
            one = ranges[place : place + 1]
            tokens, micro = (int(worst[0]) for worst in self.worst(one.numbers))
            sizes[place] = self.account.fits(Amount(1, tokens, micro), int(sizes[place]))
            self._reserve(Ranges(one.starts, sizes[place : place + 1]))
        return sizes

    def _fit(self, ranges: Ranges) -> bool:
        """Whether there is enough for all of it."""
        account = self.account
        taken = account.spent + account.reserved + self._worst_of(ranges)
        if any(cap is not None and have > cap for cap, have in zip(account.caps, taken.parts, strict=True)):
            return False
        gate = account.budget.gate
        return account.gate_open or gate is None or account.dispatched + ranges.total <= gate.samples

    def _worst_of(self, ranges: Ranges) -> Amount:
        tokens, micro = (int((worst * ranges.sizes).sum()) for worst in self.worst(ranges.numbers))
        return Amount(ranges.total, tokens, micro)

    def _reserve(self, ranges: Ranges) -> None:
        self.account.reserved += self._worst_of(ranges)
        self.account.dispatched += ranges.total
        self.reserved += ranges.total

    def settle(self, part: Part, ranges: Ranges) -> None:
        """Put what a written part really took in the place of what was set apart for its samples."""
        self._free(ranges)
        prompt, cached, completion = (
            int(part.tallies.get(name, 0)) for name in ("prompt_tokens", "cached_prompt_tokens", "completion_tokens")
        )
        micro = 0 if self.prices is None else self.prices.microdollars(prompt, cached, completion, 0.0) or 0
        self.account.spent += Amount(part.rows, prompt + completion, micro)

    def charge(self, ranges: Ranges) -> None:
        """Count requests that brought no sample as spent, at their worst case."""
        worst = self._free(ranges)
        self.account.spent += worst
        self.account.orphaned += worst

    def _free(self, ranges: Ranges) -> Amount:
        worst = self._worst_of(ranges)
        self.account.reserved -= worst
        self.reserved -= ranges.total
        return worst


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


def by_the_hour(budget: Budget, prices: Prices | None) -> Budget:
    """Return the budget with dollars turned into GPU hours, where GPUs are paid by the hour and not tokens."""
    if budget.dollars is None or prices is None or prices.per_token is not None or not prices.dollars_per_gpu_hour:
        return budget
    hours = min(budget.dollars / prices.dollars_per_gpu_hour, budget.gpu_hours or float("inf"))
    return budget.model_copy(update={"dollars": None, "gpu_hours": hours})
