"""Contracts of what measures say: one row a figure, with its interval and what it is about."""

from __future__ import annotations

import dataframely as dy

from schemas import columns
from schemas.contract import Contract


class PassAtK(Contract):
    """Coverage at k with 95% intervals (measure.pass_at_k)."""

    added = frozenset({"same_low", "same_high", "least", "most"})

    k = columns.key(minimum=1)
    coverage = dy.Float64(nullable=False, min=0.0, max=1.0)
    low = dy.Float64(nullable=False, min=0.0, max=1.0)
    """``low`` to ``high``: what the mean over many problems like these may be."""
    high = dy.Float64(nullable=False, min=0.0, max=1.0)
    same_low = columns.share(nullable=True)
    """``same_low`` to ``same_high``: what endless sampling of these very problems may find. Narrower, since the choice
    of problems isn't in it."""
    same_high = columns.share(nullable=True)
    least = columns.share(nullable=True)
    """Where some problem has fewer than k samples: coverage if all samples that weren't drawn had failed."""
    most = columns.share(nullable=True)
    """The same if all of them were right."""
    n_problems = columns.count()
    note = columns.text()


class Forecast(Contract):
    """Coverage to be expected at k samples, by several methods (measure.forecast)."""

    model = dy.String(primary_key=True)
    """Which model the row is about; empty where there is only one."""
    k = columns.key(minimum=1)
    method = dy.String(primary_key=True)
    coverage = columns.share()
    low = columns.share()
    high = columns.share()
    saturation = dy.Int64(nullable=True, min=0)
    """``ttspm``: samples from which one more adds next to nothing."""
    n_problems = columns.count()
    note = columns.text()


class SelectionAccuracy(Contract):
    """Accuracy of a selection method when it sees n samples a problem (measure.selection).

    `accuracy` is the mean over `subsets` random subsets, `first_n` that of the first n samples.
    """

    added = frozenset({"first_n", "subsets", "n_problems"})

    n = columns.key(minimum=1)
    method = dy.String(primary_key=True)
    accuracy = dy.Float64(nullable=False, min=0.0, max=1.0)
    low = dy.Float64(nullable=False, min=0.0, max=1.0)
    """``low`` to ``high``: what the accuracy over many problems like these may be."""
    high = dy.Float64(nullable=False, min=0.0, max=1.0)
    first_n = dy.Float64(nullable=True, min=0.0, max=1.0)
    subsets = dy.Int64(nullable=True, min=1)
    n_problems = dy.Int64(nullable=True, min=1)


class Calibration(Contract):
    """How well a selection method's confidence predicts that it is right (measure.calibration)."""

    added = frozenset({"rmsce", "rmsce_low", "rmsce_high"})

    method = dy.String(primary_key=True)
    n = columns.count()
    confidence = columns.share()
    accuracy = columns.share()
    accuracy_low = columns.share()
    accuracy_high = columns.share()
    ece = columns.share()
    """The mean absolute gap of the bins; chance makes it too large, so it has no interval."""
    ece_low = dy.Float64(nullable=True, min=0.0, max=1.0)
    ece_high = dy.Float64(nullable=True, min=0.0, max=1.0)
    """Null but in results of versions before 2, whose interval didn't hold."""
    brier = columns.share()
    brier_low = columns.share()
    brier_high = columns.share()
    bins = dy.List(
        dy.Struct(
            {
                "low": dy.Float64(nullable=False),
                "high": dy.Float64(nullable=False),
                "n": dy.Int64(nullable=False),
                "confidence": dy.Float64(nullable=True),
                "accuracy": dy.Float64(nullable=True),
            },
            nullable=False,
        ),
        nullable=False,
    )
    """The reliability table: one entry for each bin of confidence (low, high]."""
    rmsce = dy.Float64(nullable=True, min=0.0, max=1.0)
    rmsce_low = dy.Float64(nullable=True, min=0.0, max=1.0)
    rmsce_high = dy.Float64(nullable=True, min=0.0, max=1.0)
    """The root of the bins' mean squared gap, less what chance adds to it, with its 95% interval."""


class Multiplicity(Contract):
    """How many answers hang on the choice among nearly equal methods, in long form (measure.multiplicity)."""

    metric = dy.String(primary_key=True)
    method = dy.String(primary_key=True)
    value = dy.Float64(nullable=True)
    low = dy.Float64(nullable=True)
    high = dy.Float64(nullable=True)
    n = columns.count()
    """Problems it is about."""
    note = columns.text()


class VerifierAudit(Contract):
    """How far a verifier can be trusted, in long form: one row a measure (measure.verifier_audit)."""

    metric = dy.String(primary_key=True)
    k = columns.key(minimum=0)
    """Tries, for ``metric = "value"``; else 0."""
    prior = dy.String(primary_key=True)
    """Beta prior of completeness and soundness, where one was used; else ""."""
    value = dy.Float64(nullable=True)
    low = dy.Float64(nullable=True)
    high = dy.Float64(nullable=True)
    n = columns.count()
    """Samples it is about."""
    note = columns.text()


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
    "pass_at_k": PassAtK,
    "forecast": Forecast,
    "selection_accuracy": SelectionAccuracy,
    "calibration": Calibration,
    "multiplicity": Multiplicity,
    "verifier_audit": VerifierAudit,
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
