"""The account of a run's sampling: what is reserved, what was spent, what may still be sent.

Nothing is sent that isn't reserved at its worst case: the prompt and ``max_tokens``. When samples are written their
reservation gives way to what they really took. Requests that failed, that a dead engine took along or that a crash left
behind stay spent at their worst case, because nobody knows what the engine did for them. So what the engine counted can
never be more than what the account has, and a cap holds to the token.
"""

from __future__ import annotations

from dataclasses import dataclass

from cluster.storage.parts import Part
from cluster.storage.ranges import Range
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
    """

    def __init__(self, account: Account, prices: Prices | None) -> None:
        self.account = account
        self.prices = prices if account.budget.dollars is not None else None
        self.reserved = 0
        """Samples of this stage that were sent and haven't come back."""
        self._worst: dict[str, Amount] = {}

    @property
    def may_afford(self) -> bool:
        """Whether more may be affordable later: something is out, or the first samples are still being judged."""
        return self.reserved > 0 or not self.account.gate_open

    def learn_prompts(self, tokens: dict[str, int], max_tokens: int) -> None:
        """Hear how long prompts are at most: problem -> tokens."""
        for key, prompt in tokens.items():
            # rounded up: a worst case that is rounded down isn't one
            micro = 0 if self.prices is None else (self.prices.microdollars(prompt, 0, max_tokens, 0.0) or 0) + 1
            self._worst[key] = Amount(1, prompt + max_tokens, micro)

    def worst(self, key: str) -> Amount:
        """Return what a sample of a problem may take at most."""
        return self._worst[key]

    def affords(self, key: str, wanted: int) -> int:
        """Return how many of ``wanted`` samples of a problem may be sent now."""
        return self.account.fits(self.worst(key), wanted)

    def reserve(self, item: Range) -> None:
        """Set the worst case of a range apart."""
        self.account.reserved += self.worst(item.problem_key) * item.size
        self.account.dispatched += item.size
        self.reserved += item.size

    def settle(self, part: Part) -> None:
        """Put what a committed part really took in the place of its reservation."""
        for item in part.ranges:
            self._free(item)
        prompt, cached, completion = (
            int(part.tallies.get(name, 0)) for name in ("prompt_tokens", "cached_prompt_tokens", "completion_tokens")
        )
        micro = 0 if self.prices is None else self.prices.microdollars(prompt, cached, completion, 0.0) or 0
        self.account.spent += Amount(part.rows, prompt + completion, micro)

    def charge(self, ranges: list[Range]) -> None:
        """Count requests that brought no sample as spent, at their worst case."""
        for item in ranges:
            worst = self._free(item)
            self.account.spent += worst
            self.account.orphaned += worst

    def _free(self, item: Range) -> Amount:
        worst = self.worst(item.problem_key) * item.size
        self.account.reserved -= worst
        self.reserved -= item.size
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
