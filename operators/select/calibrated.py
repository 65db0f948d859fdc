"""Confidences of methods that have a model of who errs: fitted to known labels, or marked as not.

Such a model takes its workers or judges for independent. They aren't: what is hard for one is hard for the others, so
it is too sure. With ``LABELS`` known answers or more that can be seen and put right. With fewer it can't, and the rows
say so: their ``calibration`` is ``uncalibrated``.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from operators.base import Operator
from operators.load.held_out import held_out
from operators.select.selection import Selection
from schemas.identity import Added
from schemas.later import Floats, np, pl, special

LABELS = 50
"""Known answers from which confidences are fitted to them."""
FOLDS = 5
SURE = (0.0005, 0.9995)
"""Range of confidences before they become log odds."""
CENTRE, SPREAD = (0.0, 0.5), (2.5, 1.0)
"""Normal prior of the log odds at the mean, and of the slope."""
STEPS, CLOSE = 50, 1e-8
Z95, Z90 = 1.959964, 1.281552


class Fitted(Selection):
    """Base of methods whose confidences are fitted to known answers."""

    holdout: Annotated[float | None, Added] = Field(default=None, ge=0.0, lt=1.0)
    """Share of the problems that are held out, by whose known answers nothing is fitted or chosen. None: what
    ``load.holdout`` says; outside of pipelines none are."""

    def with_holdout(self, share: float) -> Operator:
        return self if self.holdout is not None else self.model_copy(update={"holdout": share})


def usable(answers: pl.DataFrame, holdout: float | None) -> pl.Series:
    """Return which answers are known to be right or wrong and not held out, shape [problems]."""
    known = answers["is_correct"].is_not_null()
    return known & ~held_out(answers["problem_key"], holdout) if holdout else known


def calibrated(answers: pl.DataFrame, vote: pl.DataFrame, holdout: float | None = None) -> pl.DataFrame:
    """Return answers with confidences that say how often they are right, each with a 95% interval.

    log odds of right = a + b (log odds of the confidence), fitted to the answers that are known to be right or wrong.
    A known answer has no say in its own confidence: there are ``FOLDS`` fits, each without a part of them. Where the
    known answers show that the plain vote is right more often (a sign test, one-sided at 10%), it is taken instead.

    Args:
        answers: of the method, as ``as_answers`` returns them; ``is_correct`` only where a reference says it.
        vote: the plain vote's, of the same problems.
        holdout: share of the problems whose known answers aren't looked at.
    """
    known = usable(answers, holdout).to_numpy()
    if known.sum() < LABELS:
        return answers.with_columns(calibration=pl.lit("uncalibrated"))
    if _is_better(vote["is_correct"].to_numpy()[known], answers["is_correct"].to_numpy()[known]):
        answers = vote.with_columns(method=answers["method"])
    right = answers["is_correct"].fill_null(False).to_numpy().astype(np.float64)
    said = answers["confidence"].to_numpy()
    odds = special.logit(np.clip(said, *SURE))
    odds = odds - odds[known].mean()
    number = np.where(known, np.cumsum(known) % FOLDS, -1)
    centre, spread = np.zeros(len(odds)), np.zeros(len(odds))
    for fold in np.unique(number):
        here = number == fold
        centre[here], spread[here] = _curve(odds[known & ~here], right[known & ~here], odds[here])
    sure = special.expit(centre)
    left = np.where(said < 1.0, (1.0 - sure) / np.maximum(1.0 - said, 1e-12), 0.0)
    return answers.with_columns(
        confidence=pl.Series(sure),
        runner_up_confidence=(pl.col("runner_up_confidence") * pl.Series(left)).clip(0.0, 1.0),
        confidence_low=pl.Series(special.expit(centre - Z95 * spread)),
        confidence_high=pl.Series(special.expit(centre + Z95 * spread)),
        calibration=pl.lit("calibrated"),
    )


def _is_better(vote: Any, method: Any) -> bool:
    """Whether the vote was right where the method wasn't clearly more often than the other way round (a sign test)."""
    both = [(bool(a), bool(b)) for a, b in zip(vote, method, strict=True) if a is not None and b is not None]
    won = sum(a and not b for a, b in both)
    lost = sum(b and not a for a, b in both)
    return won - lost > Z90 * np.sqrt(won + lost)


def _curve(odds: Floats, right: Floats, at: Floats) -> tuple[Floats, Floats]:
    """Fit the curve and return the log odds of being right ``at`` some places, and their standard errors."""
    design, places = (np.stack([np.ones_like(x), x], axis=1) for x in (odds, at))
    centre: Floats = np.array(CENTRE)
    stiff: Floats = np.diag(1.0 / np.square(SPREAD))

    def loss(at_: Floats) -> float:
        seen: Floats = design @ at_
        return float(np.logaddexp(0.0, seen).sum() - right @ seen + 0.5 * (at_ - centre) @ stiff @ (at_ - centre))

    weights: Floats = np.zeros(2)
    bend = stiff
    for _ in range(STEPS):
        chance: Floats = special.expit(design @ weights)
        slope: Floats = design.T @ (right - chance) - stiff @ (weights - centre)
        bend = (design * (chance * (1.0 - chance))[:, None]).T @ design + stiff
        step = np.linalg.solve(bend, slope).astype(np.float64)
        while loss(weights + step) > loss(weights) and np.abs(step).max() > CLOSE:  # Newton's step may go too far
            step = step / 2
        weights = weights + step
        if np.abs(step).max() < CLOSE:
            break
    centre: Floats = places @ weights
    variance: Floats = np.einsum("ij,jk,ik->i", places, np.linalg.inv(bend), places)
    return centre, np.sqrt(variance)
