"""Thresholds of a cascade: the cheapest one that keeps a wanted accuracy, by what is known of a calibration set."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import polars as pl
from scipy import special as _special  # pyright: ignore[reportMissingTypeStubs]

from operators.load.held_out import held_out
from schemas.errors import BadInput

special: Any = _special  # it ships no types


def cheapest(
    values: Sequence[float],
    right: Sequence[bool],
    problems: Sequence[str],
    wanted: float,
    sure: float = 0.95,
    holdout: float = 0.0,
) -> float | None:
    """Return the lowest threshold at which accepted answers are right with probability ``wanted``, or None.

    Thresholds are tried from the strictest that could pass at all down to the first that fails (Bauer 1991;
    Angelopoulos et al. 2021, fixed sequence testing), each by the exact lower bound of Clopper and Pearson. So with
    probability ``sure`` the accuracy of what is accepted later, on problems like these, is ``wanted`` or more.

    Args:
        values: of the small model's answers (``search_score`` of a run of ``cascade`` with ``threshold=0``).
        right: whether each of them is right.
        problems: the ``problem_key`` of each.
        holdout: the share of problems that is held out (``load.holdout``): what they say is left out, so that they can
            be asked whether the threshold keeps what it promises (``gristmill holdout``).
    """
    if not len(values) == len(right) == len(problems):
        raise BadInput(f"cheapest: {len(values)} values, {len(right)} verdicts and {len(problems)} problems")
    tuning = ~held_out(pl.Series(problems, dtype=pl.String), holdout)
    values, right = (pl.Series(some).filter(tuning).to_list() for some in (values, right))
    if not 0.0 < wanted < 1.0:
        raise BadInput("cheapest: the wanted accuracy is between 0 and 1")
    least = math.ceil(math.log(1.0 - sure) / math.log(wanted))  # fewer can't pass, even if all are right
    found = None
    for threshold in sorted(set(values), reverse=True):
        accepted = [one for value, one in zip(values, right, strict=True) if value >= threshold]
        if len(accepted) < least:
            continue
        if lower_bound(sum(accepted), len(accepted), sure) < wanted:
            break
        found = threshold
    return found


def lower_bound(successes: int, count: int, sure: float = 0.95) -> float:
    """Return the exact one-sided lower bound of a share (Clopper and Pearson 1934)."""
    if successes == 0:
        return 0.0
    return float(special.betaincinv(successes, count - successes + 1, 1.0 - sure))
