"""Contracts of what measures say: one row a figure, with its interval and what it is about."""

from __future__ import annotations

import dataframely as dy

from schemas import columns
from schemas.contract import Contract


class HoldoutAnswer(Contract):
    """A question to held-out problems and its answer (measure.holdout)."""

    number = dy.Int64(primary_key=True, min=1)
    question = dy.String(nullable=False)
    """A hash of what was asked: asked again, it has the same answer and costs nothing."""
    name = dy.String(nullable=False)
    """The method or verifier whose mean is asked for; "A - B" for a difference."""
    tuning = columns.number(False)
    """The mean on the problems that were tuned on."""
    answer = columns.number()
    """The mean to go by; null where the budget is spent."""
    status = dy.String(nullable=False, regex="^(holds|differs|budget spent)$")
    left = columns.count()
    """How many more answers that differ there may be."""
    n_tuning = columns.count()
    n_holdout = columns.count()
    bound = columns.number(False)
    """How far all answers together are off at most, but for the risk."""
    note = columns.text()


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
    value = columns.number(False)
    low = columns.number(False)
    """``low`` to ``high``: 95% interval for problems like these."""
    high = columns.number(False)
    same_low = columns.number(False)
    """``same_low`` to ``same_high``: what the mean of these very samples would be, had all been judged."""
    same_high = columns.number(False)
    plain = columns.number(False)
    """The mean of the judged samples alone, with its intervals."""
    plain_low = columns.number(False)
    plain_high = columns.number(False)
    gain = columns.number(False)
    """Variance of ``plain`` over that of ``value``, for problems like these."""
    same_gain = columns.number(False)
    """The same for these samples: as many times the labels would do without cheap scores."""
    effective = columns.number(False)
    """Judged samples times ``same_gain``."""
    n_judged = columns.count()
    n_samples = columns.count()
    note = columns.text()


class Reliability(Contract):
    """How surely a problem is solved again (measure.reliability)."""

    metric = dy.String(primary_key=True, regex="^(pass_hat_k|g_pass|mg_pass)$")
    k = dy.Int64(primary_key=True, min=1)
    tau = columns.number(False, primary_key=True)
    """The share of k that must be right; 1 for pass^k, .5 for mG-Pass (where its mean begins)."""
    value = columns.number(False)
    low = columns.number(False)
    """``low`` to ``high``: 95% interval for problems like these."""
    high = columns.number(False)
    n_problems = columns.count()
    note = columns.text()


class Bounds(Contract):
    """What n samples are worth at best and at worst, with their tokens (measure.bounds)."""

    metric = dy.String(primary_key=True, regex="^(average|best|worst|majority|short|long)$")
    n = dy.Int64(primary_key=True, min=1)
    """Samples of a problem."""
    problem_key = dy.String(primary_key=True)
    """Empty: the mean over problems."""
    value = columns.number(False)
    low = columns.number()
    """``low`` to ``high``: 95% interval for problems like these; null for one problem."""
    high = columns.number()
    tokens = columns.number()
    """Completion tokens that a problem takes, on average."""
    n_problems = columns.count()


class Paired(Contract):
    """Two runs on the same problems, task by task (measure.paired)."""

    rank = dy.Int64(primary_key=True, min=0)
    """1 is the task on which the second loses most; 0 is all problems together."""
    task = dy.String(nullable=False)
    n_problems = columns.count()
    first = columns.number(False)
    second = columns.number(False)
    """Accuracy: the mean over problems of the share of right samples."""
    difference = columns.number(False)
    low = columns.number(False)
    """``low`` to ``high``: 95% interval of the difference, by drawing problems with replacement."""
    high = columns.number(False)
    lost = columns.count()
    """Problems whose majority answer is right in the first run alone."""
    won = columns.count()
    """The same in the second run alone."""
    p_value = columns.number(False)
    """Exact McNemar test that the two are alike."""
    tokens_ratio = columns.number()
    """Completion tokens of a sample in the second run over those in the first."""
    dollars_ratio = columns.number()
    worse = dy.Bool(nullable=False)
    """Whether the whole interval is below 0."""


class StressCurve(Contract):
    """Accuracy by how many problems one prompt asks, and by their place (measure.stress).

    ``tokens`` at a position are those from its heading to the next. ``spread`` is how far models are apart in accuracy:
    the standard deviation over them.
    """

    metric = dy.String(primary_key=True, regex="^(accuracy|missing|tokens|stress_score|spread)$")
    level = dy.Int64(primary_key=True, min=0)
    """How many problems a prompt asks; 0: all levels above 1."""
    position = dy.Int64(primary_key=True, min=0)
    """Place of the problem in its prompt, from 1; 0: all places."""
    value = columns.number(False)
    low = columns.number()
    high = columns.number()
    n = columns.count()
    """Judgements that it is about."""


class StepCurve(Contract):
    """How far procedures are followed, by the number of their steps (measure.by_steps)."""

    metric = dy.String(primary_key=True, regex="^(prefix|sequence|final)$")
    steps = dy.String(primary_key=True)
    """A number of steps, or ``short`` (2 to 6), ``medium`` (7 to 16), ``long`` (17 to 25), ``all``."""
    value = columns.number(False)
    low = columns.number(False)
    high = columns.number(False)
    n_problems = columns.count()
    n_samples = columns.count()


class PairCalibration(Contract):
    """How much a model learns of its second answer from its first one (measure.pairs)."""

    metric = dy.String(primary_key=True, regex="^(doubt|repeat|collision|auc)$")
    name = dy.String(primary_key=True)
    """Of ``auc``: what predicts errors (``doubt``, ``entropy``, ``agreement``); else a problem, or empty: the mean."""
    value = columns.number(False)
    low = columns.number()
    high = columns.number()
    n_problems = columns.count()
    n = columns.count()
    """Second answers that it is about."""


class McqConfidence(Contract):
    """How sure of its letter a model is when it answers at once and when it reasons first (measure.mcq_confidence)."""

    subject = dy.String(primary_key=True)
    """Empty: all questions."""
    metric = dy.String(primary_key=True, regex="^(accuracy|confidence|confidence_right|confidence_wrong|brier|ece)$")
    arm = dy.String(primary_key=True, regex="^(direct|reasoned|difference)$")
    """``difference``: reasoned less direct, question by question."""
    value = columns.number()
    low = columns.number()
    high = columns.number()
    n_problems = columns.count()


MEASURES: dict[str, type[Contract]] = {
    "holdout_answers": HoldoutAnswer,
    "labels": Label,
    "estimates": Estimate,
    "reliability": Reliability,
    "bounds": Bounds,
    "paired": Paired,
    "stress_curve": StressCurve,
    "step_curve": StepCurve,
    "pair_calibration": PairCalibration,
    "mcq_confidence": McqConfidence,
}
"""Dataset names."""
