"""Contracts of what measures say: one row a figure, with its interval and what it is about."""

from __future__ import annotations

import dataframely as dy

from schemas.contract import Contract


def _number(nullable: bool = True) -> dy.Float64:
    return dy.Float64(nullable=nullable)


def _count() -> dy.Int64:
    return dy.Int64(nullable=False, min=0)


def _note() -> dy.String:
    return dy.String(nullable=False)


class HoldoutAnswer(Contract):
    """A question to held-out problems and its answer (measure.holdout)."""

    number = dy.Int64(primary_key=True, min=1)
    question = dy.String(nullable=False)
    """A hash of what was asked: asked again, it has the same answer and costs nothing."""
    name = dy.String(nullable=False)
    """The method or verifier whose mean is asked for; "A - B" for a difference."""
    tuning = _number(False)
    """The mean on the problems that were tuned on."""
    answer = _number()
    """The mean to go by; null where the budget is spent."""
    status = dy.String(nullable=False, regex="^(holds|differs|budget spent)$")
    left = _count()
    """How many more answers that differ there may be."""
    n_tuning = _count()
    n_holdout = _count()
    bound = _number(False)
    """How far all answers together are off at most, but for the risk."""
    note = _note()


MEASURES: dict[str, type[Contract]] = {
    "holdout_answers": HoldoutAnswer,
}
"""Dataset names."""
