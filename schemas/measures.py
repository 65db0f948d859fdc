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


class Label(Contract):
    """A sample whose label is asked for, or was given (measure.next_labels, measure.verifier_audit, measure.estimate).

    Whoever labels writes true or false to ``is_correct`` and leaves the rest as it is. Within a stratum samples are
    chosen by lot, so each label stands for ``stratum_size`` over the labels that there are of the stratum.
    """

    problem_key = dy.String(primary_key=True)
    sample_index = dy.Int64(primary_key=True, min=0)
    problem_id = dy.String(nullable=True)
    prompt = dy.String(nullable=True)
    answer = dy.String(nullable=True)
    """The known answer, where there is one."""
    completion = dy.String(nullable=True)
    predicted_answer = dy.String(nullable=True)
    accepted = dy.Bool(nullable=True)
    """What the verifier says."""
    stratum = dy.String(nullable=False)
    stratum_size = dy.Int64(nullable=False, min=1)
    is_correct = dy.Bool(nullable=True)


class Estimate(Contract):
    """Means of expensive verdicts, with what cheap scores say about them taken out (measure.estimate)."""

    expectation = dy.String(primary_key=True)
    """``all``, or a group: ``length=short``, ``level=3``."""
    value = _number(False)
    low = _number(False)
    """``low`` to ``high``: 95% interval for problems like these."""
    high = _number(False)
    same_low = _number(False)
    """``same_low`` to ``same_high``: what the mean of these very samples would be, had all been judged."""
    same_high = _number(False)
    plain = _number(False)
    """The mean of the judged samples alone, with its intervals."""
    plain_low = _number(False)
    plain_high = _number(False)
    gain = _number(False)
    """Variance of ``plain`` over that of ``value``, for problems like these."""
    same_gain = _number(False)
    """The same for these samples: as many times the labels would do without cheap scores."""
    effective = _number(False)
    """Judged samples times ``same_gain``."""
    n_judged = _count()
    n_samples = _count()
    note = _note()


MEASURES: dict[str, type[Contract]] = {
    "holdout_answers": HoldoutAnswer,
    "labels": Label,
    "estimates": Estimate,
}
"""Dataset names."""
