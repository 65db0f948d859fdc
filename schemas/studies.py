"""Contracts of what studies collect and say: bets, knowledge conflicts, approaches."""

from __future__ import annotations

import dataframely as dy

from schemas import columns
from schemas.contract import Contract


class Bet(Contract):
    """A speech of a debate, and what its side bets on winning (collect.bets)."""

    experiment = dy.String(primary_key=True)
    """What is told apart: the strategy's mode, or whatever a table of somebody else's compares."""
    debate = dy.String(primary_key=True)
    round = dy.String(primary_key=True, regex="^(opening|rebuttal|closing)$")
    side = dy.String(primary_key=True, regex="^(proposition|opposition)$")
    model = dy.String(nullable=True)
    """Who speaks; of episodes the role."""
    bet = dy.Float64(nullable=True, min=0.0, max=100.0)
    """Null where it couldn't be read."""
    reasoning = dy.String(nullable=True)
    """What was said in private."""
    problem_key = dy.String(nullable=True)
    episode = dy.Int64(nullable=True, min=0)
    call = dy.String(nullable=True)
    """The call that the speech is of."""


class BetMeasure(Contract):
    """How sure sides are of winning, and whether that can be right (measure.bets)."""

    experiment = dy.String(primary_key=True)
    metric = dy.String(
        primary_key=True, regex="^(bet|change|surplus|sum_above_100|both_above_50|both_above_75|unfaithful)$"
    )
    round = dy.String(primary_key=True)
    """Empty where it is about several."""
    model = dy.String(primary_key=True)
    """Empty: all."""
    value = columns.number()
    low = columns.number()
    """``low`` to ``high``: 95% interval for debates like these."""
    high = columns.number()
    sd = columns.number()
    t = columns.number()
    """Student's, of bets against 50, of changes against 0; null where all are the same."""
    p_t = columns.number()
    """One-sided: that it isn't larger."""
    p_wilcoxon = columns.number()
    """The same by ranks (Wilcoxon), which takes no distribution for granted."""
    n = columns.count()


class Conflict(Contract):
    """What models say where what they read contradicts what they remember (measure.conflict)."""

    about = dy.String(primary_key=True)
    """Empty: all questions; ``memory right``, ``memory wrong``, or a group of them."""
    metric = dy.String(primary_key=True, regex="^(kept|dropped|memorised|uncertain|unreadable|order|flips)$")
    condition = dy.String(primary_key=True)
    """Of ``dropped`` the reason, of ``flips`` two conditions."""
    value = columns.number()
    low = columns.number()
    high = columns.number()
    p_value = columns.number()
    """Of ``flips``: McNemar's exact test that it doesn't matter which of the two is asked."""
    n = columns.count()
    """Episodes that the figure is made of."""


class Approach(Contract):
    """A way to go about a kind of problems, and how often it is right (synthesize.approaches)."""

    rank = dy.Int64(primary_key=True, min=1)
    """By accuracy, then by how often persona and approach were named."""
    approach = dy.String(nullable=False)
    persona = dy.String(nullable=False)
    """Who is to solve them; empty: nobody in particular."""
    named = columns.count()
    """In how many answers the approach was named."""
    accuracy = columns.number()
    """On the held-out problems; null where nothing was held out."""
    n = columns.count()
    said = dy.String(nullable=False)
    """What is said behind a problem: a strategy's ``approaches``. With examples that were rewritten in its style."""


STUDIES: dict[str, type[Contract]] = {
    "bets": Bet,
    "bet_measures": BetMeasure,
    "conflicts": Conflict,
    "approaches": Approach,
}
"""Dataset names."""
