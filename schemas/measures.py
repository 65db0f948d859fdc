"""Contracts of what measures say: one row a figure, with its interval and what it is about."""

from __future__ import annotations

from schemas import columns as col
from schemas.contract import Contract


def _number(nullable: bool = True, primary_key: bool = False) -> col.Column:
    return col.Float64(nullable=nullable, primary_key=primary_key)


def _count() -> col.Column:
    return col.Int64(nullable=False, min=0)


def _note() -> col.Column:
    return col.String(nullable=False)


class HoldoutAnswer(Contract):
    """A question to held-out problems and its answer (measure.holdout)."""

    number = col.Int64(primary_key=True, min=1)
    """The number of the question in its root."""
    question = col.String(nullable=False)
    """A hash of what was asked: asked again, it has the same answer and costs nothing."""
    name = col.String(nullable=False)
    """The method or verifier whose mean is asked for; "A - B" for a difference."""
    tuning = _number(False)
    """The mean on the problems that were tuned on."""
    answer = _number()
    """The mean to go by; null where the budget is spent."""
    status = col.String(nullable=False, regex="^(holds|differs|budget spent)$")
    """``holds``, ``differs``, or ``budget spent``."""
    left = _count()
    """How many more answers that differ there may be."""
    n_tuning = _count()
    """Problems that were tuned on."""
    n_holdout = _count()
    """Problems that are held out."""
    bound = _number(False)
    """How far all answers together are off at most, but for the risk."""
    note = _note()


class Label(Contract):
    """A sample whose label is asked for, or was given (measure.next_labels, measure.verifier_audit, measure.estimate).

    Whoever labels writes true or false to ``is_correct`` and leaves the rest as it is. Within a stratum samples are
    chosen by lot, so each label stands for ``stratum_size`` over the labels that there are of the stratum.
    """

    problem_key = col.String(primary_key=True)
    sample_index = col.Int64(primary_key=True, min=0)
    problem_id = col.String(nullable=True)
    prompt = col.String(nullable=True)
    """What was asked."""
    answer = col.String(nullable=True)
    """The known answer, where there is one."""
    completion = col.String(nullable=True)
    """What is to be judged."""
    predicted_answer = col.String(nullable=True)
    """The answer that the verifier found in it."""
    accepted = col.Bool(nullable=True)
    """What the verifier says."""
    stratum = col.String(nullable=False)
    """The samples it was drawn from."""
    stratum_size = col.Int64(nullable=False, min=1)
    """How many there are of those."""
    is_correct = col.Bool(nullable=True)
    """What whoever labels writes: true or false."""


class Estimate(Contract):
    """Means of expensive verdicts, with what cheap scores say about them taken out (measure.estimate)."""

    expectation = col.String(primary_key=True)
    """``all``, or a group: ``length=short``, ``level=3``."""
    value = _number(False)
    """The estimate."""
    low = _number(False)
    """``low`` to ``high``: 95% interval for problems like these."""
    high = _number(False)
    same_low = _number(False)
    """``same_low`` to ``same_high``: what the mean of these very samples would be, had all been judged."""
    same_high = _number(False)
    plain = _number(False)
    """The mean of the judged samples alone, with its intervals."""
    plain_low = _number(False)
    """Lower end of the 95% interval without cheap scores."""
    plain_high = _number(False)
    """Upper end of that."""
    gain = _number(False)
    """Variance of ``plain`` over that of ``value``, for problems like these."""
    same_gain = _number(False)
    """The same for these samples: as many times the labels would do without cheap scores."""
    effective = _number(False)
    """Judged samples times ``same_gain``."""
    n_judged = _count()
    """Samples with a verdict."""
    n_samples = _count()
    """All samples."""
    note = _note()


class Reliability(Contract):
    """How surely a problem is solved again (measure.reliability)."""

    metric = col.String(primary_key=True, regex="^(pass_hat_k|g_pass|mg_pass)$")
    k = col.Int64(primary_key=True, min=1)
    tau = _number(False, primary_key=True)
    """The share of k that must be right; 1 for pass^k, .5 for mG-Pass (where its mean begins)."""
    value = _number(False)
    low = _number(False)
    """``low`` to ``high``: 95% interval for problems like these."""
    high = _number(False)
    n_problems = _count()
    note = _note()


class Bounds(Contract):
    """What n samples are worth at best and at worst, with their tokens (measure.bounds)."""

    metric = col.String(primary_key=True, regex="^(average|best|worst|majority|short|long)$")
    n = col.Int64(primary_key=True, min=1)
    """Samples of a problem."""
    problem_key = col.String(primary_key=True)
    """Empty: the mean over problems."""
    value = _number(False)
    low = _number()
    """``low`` to ``high``: 95% interval for problems like these; null for one problem."""
    high = _number()
    tokens = _number()
    """Completion tokens that a problem takes, on average."""
    n_problems = _count()


class Paired(Contract):
    """Two runs on the same problems, task by task (measure.paired)."""

    rank = col.Int64(primary_key=True, min=0)
    """1 is the task on which the second loses most; 0 is all problems together."""
    task = col.String(nullable=False)
    """The task; empty: all of them."""
    n_problems = _count()
    first = _number(False)
    """The first run's accuracy."""
    second = _number(False)
    """Accuracy: the mean over problems of the share of right samples."""
    difference = _number(False)
    """The second run's accuracy less the first's."""
    low = _number(False)
    """``low`` to ``high``: 95% interval of the difference, by drawing problems with replacement."""
    high = _number(False)
    lost = _count()
    """Problems whose majority answer is right in the first run alone."""
    won = _count()
    """The same in the second run alone."""
    p_value = _number(False)
    """Exact McNemar test that the two are alike."""
    tokens_ratio = _number()
    """Completion tokens of a sample in the second run over those in the first."""
    dollars_ratio = _number()
    """The second's dollars a sample over the first's."""
    worse = col.Bool(nullable=False)
    """Whether the whole interval is below 0."""


class StressCurve(Contract):
    """Accuracy by how many problems one prompt asks, and by their place (measure.stress).

    ``tokens`` at a position are those from its heading to the next. ``spread`` is how far models are apart in accuracy:
    the standard deviation over them.
    """

    metric = col.String(primary_key=True, regex="^(accuracy|missing|tokens|stress_score|spread)$")
    level = col.Int64(primary_key=True, min=0)
    """How many problems a prompt asks; 0: all levels above 1."""
    position = col.Int64(primary_key=True, min=0)
    """Place of the problem in its prompt, from 1; 0: all places."""
    value = _number(False)
    low = _number()
    high = _number()
    n = _count()
    """Judgements that it is about."""


class StepCurve(Contract):
    """How far procedures are followed, by the number of their steps (measure.by_steps)."""

    metric = col.String(primary_key=True, regex="^(prefix|sequence|final)$")
    steps = col.String(primary_key=True)
    """A number of steps, or ``short`` (2 to 6), ``medium`` (7 to 16), ``long`` (17 to 25), ``all``."""
    value = _number(False)
    low = _number(False)
    high = _number(False)
    n_problems = _count()
    n_samples = _count()


class PairCalibration(Contract):
    """How much a model learns of its second answer from its first one (measure.pairs)."""

    metric = col.String(primary_key=True, regex="^(doubt|repeat|collision|auc)$")
    name = col.String(primary_key=True)
    """Of ``auc``: what predicts errors (``doubt``, ``entropy``, ``agreement``); else a problem, or empty: the mean."""
    value = _number(False)
    low = _number()
    high = _number()
    n_problems = _count()
    n = _count()
    """Second answers that it is about."""


class McqConfidence(Contract):
    """How sure of its letter a model is when it answers at once and when it reasons first (measure.mcq_confidence)."""

    subject = col.String(primary_key=True)
    """Empty: all questions."""
    metric = col.String(primary_key=True, regex="^(accuracy|confidence|confidence_right|confidence_wrong|brier|ece)$")
    arm = col.String(primary_key=True, regex="^(direct|reasoned|difference)$")
    """``difference``: reasoned less direct, question by question."""
    value = _number()
    low = _number()
    high = _number()
    n_problems = _count()


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
