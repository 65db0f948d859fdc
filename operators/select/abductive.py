"""An ensemble by abduction: believe as many predictions of several models as can be believed together."""

from __future__ import annotations

from itertools import combinations
from typing import Annotated, Any, ClassVar

from pydantic import Field, field_validator

from operators.select.classes import answer_key, class_votes, classify, distinct_answers, in_n, one_verifier
from operators.select.models import check_models, inputs_of_models, of_models
from operators.select.selection import VERDICTS, Selection, as_answers, problems_of, rank
from schemas.contract import Columns
from schemas.datasets import SAMPLE_KEY, Sample
from schemas.errors import StageFailed
from schemas.identity import Added
from schemas.later import Bools, Ints, np, optimize, pl, sparse


class SelectAbductive(Selection):
    """Combine several models' samples: most predictions at bounded inconsistency, as an integer programme (HiGHS).

    After Leiva et al. 2025, "Consistency-based Abductive Reasoning over Perceptual Errors of Multiple Pre-trained
    Models". A model's prediction for a problem is its most frequent answer, with its share of the model's samples. For
    each model there is a rule that detects its errors: predictions with a share below a threshold (in ``bins`` steps)
    aren't believed. Abduction chooses all thresholds together, such that most predictions are believed and of the
    problems with a believed one at most the share ``inconsistency`` has two that contradict each other. No right answer
    is looked at.

    A problem's answer is the one with the largest sum of shares over the models that are believed there. Confidence is
    that sum over the number of models. Where none is believed all are heard or, with ``abstain``, there is no answer.
    """

    version: ClassVar[int] = 1
    scope = "dataset"

    models: Annotated[tuple[str, ...], Added] = ()
    """Names of the models, each with its own ``verdicts_NAME``; empty: ``worker`` of the samples names them."""
    inconsistency: float = Field(default=0.1, ge=0.0, le=1.0)
    """The largest share of problems whose believed answers may contradict each other."""
    bins: int = Field(default=20, ge=1)
    """Thresholds that are tried for each model."""
    abstain: bool = False
    """Give no answer where none is believed, instead of the most frequent one."""
    seconds: float = Field(default=60.0, gt=0.0)
    """Time limit of the solver; the best thresholds found by then are used."""

    @field_validator("models")
    @classmethod
    def _are_named(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return check_models(value)

    @property
    def inputs(self) -> dict[str, Columns]:  # pyright: ignore[reportIncompatibleVariableOverride]
        samples = Sample.select("problem_key", "sample_index", "worker")
        return inputs_of_models(self.models) or {"verdicts": VERDICTS, "samples": samples}

    def run(self, **inputs: pl.LazyFrame) -> pl.DataFrame:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return one row per problem of the verdicts.

        Raises:
            StageFailed: the solver found nothing in its time.
        """
        if self.models:
            table = of_models(self.models, inputs)
        else:
            table = one_verifier(inputs["verdicts"].lazy()).collect(engine="streaming")
            workers = inputs["samples"].lazy().select(*SAMPLE_KEY, pl.col("worker").fill_null(""))
            workers = workers.collect(engine="streaming")
            table = table.join(workers, on=SAMPLE_KEY, how="left").with_columns(pl.col("worker").fill_null(""))
        shares = _shares(table)
        predictions = shares.unique(["problem_key", "worker"], keep="first", maintain_order=True).with_columns(
            bin=(pl.col("share") * self.bins).floor().cast(pl.Int64).clip(0, self.bins - 1)
        )
        models = table["worker"].n_unique()
        believed = self._believe(predictions) if len(predictions) else np.zeros(0, dtype=np.bool_)
        predictions = predictions.with_columns(believed=pl.Series(believed))
        if not self.abstain:
            none = ~pl.col("believed").any().over("problem_key")
            predictions = predictions.with_columns(believed=pl.col("believed") | none)
        heard = predictions.filter("believed").select("problem_key", "worker")
        sums = (
            shares.join(heard, on=["problem_key", "worker"], how="semi", maintain_order="left")
            .group_by("problem_key", "answer_class", maintain_order=True)
            .agg(pl.col("share").sum().alias("weight"))
        )
        how = "inner" if self.abstain else "left"
        classes = class_votes(table).drop("weight").join(sums, on=["problem_key", "answer_class"], how=how)
        found = rank(problems_of(table, pl.lit(float(models)).alias("total")), classes)
        share = pl.col("weight") / models, pl.col("runner_up_weight") / models
        return as_answers(found, self.method, *share)

    def _believe(self, predictions: pl.DataFrame) -> Bools:
        """Solve the integer programme.

        Variables: believe[model, bin]; for each kind of problem (which bins its predictions are in, and which of them
        contradict each other) whether it is covered, and whether it is inconsistent.
        """
        models = predictions["worker"].unique().sort()
        rule = (
            predictions["worker"].replace_strict(models, range(len(models)), return_dtype=pl.Int64).to_numpy()
            * self.bins
            + predictions["bin"].to_numpy()
        ).astype(np.int64)
        kinds: dict[tuple[tuple[int, int], ...], int] = {}
        for _, one in predictions.select("problem_key", "answer_class", rule=pl.Series(rule)).group_by("problem_key"):
            told: dict[int, int] = {}
            pairs = sorted(zip(one["rule"].to_list(), one["answer_class"].to_list(), strict=True))
            kind = tuple((rule_, told.setdefault(class_, len(told))) for rule_, class_ in pairs)
            kinds[kind] = kinds.get(kind, 0) + 1
        n_rules = len(models) * self.bins
        believe = _solve(np.bincount(rule, minlength=n_rules), kinds, self.bins, self.inconsistency, self.seconds)
        return believe[rule]


def _shares(verdicts: pl.DataFrame) -> pl.DataFrame:
    """Return problem_key, worker, answer_class, share of the worker's samples: the largest first of each worker."""
    classed = classify(distinct_answers(verdicts)).select("problem_key", "answer_key", "answer_class")
    drawn = verdicts.filter(in_n()).with_columns(answer_key(verdicts.columns))
    drawn = drawn.with_columns(n=pl.len().over("problem_key", "worker"))
    return (
        drawn.join(classed, on=["problem_key", "answer_key"])
        .group_by("problem_key", "worker", "answer_class")
        .agg(share=pl.len() / pl.col("n").first(), first=pl.col("sample_index").min())
        .sort("problem_key", "worker", "share", "first", descending=[False, False, True, False])
    )


def _solve(
    worth: Ints, kinds: dict[tuple[tuple[int, int], ...], int], bins: int, inconsistency: float, seconds: float
) -> Bools:
    """Return which rules' predictions are believed, shape [models * bins].

    Args:
        worth: predictions that each rule is about.
        kinds: ((rule, answer), ...) of a problem's predictions -> how many such problems there are.
    """
    n, total = len(worth), len(worth) + 2 * len(kinds)
    rows: list[list[tuple[int, float]]] = []
    least: list[float] = []

    def at_least(bound: float, *terms: tuple[int, float]) -> None:
        rows.append(list(terms))
        least.append(bound)

    for rule in range(n):
        if (rule + 1) % bins:  # a model that is believed at one share of votes is believed at every larger one
            at_least(0.0, (rule + 1, 1.0), (rule, -1.0))
    budget: list[tuple[int, float]] = []
    for number, (kind, count) in enumerate(kinds.items()):
        covered, inconsistent = n + 2 * number, n + 2 * number + 1
        at_least(0.0, *[(rule, 1.0) for rule, _ in kind], (covered, -1.0))
        for (a, first), (b, second) in combinations(kind, 2):
            if first != second:
                at_least(-1.0, (inconsistent, 1.0), (a, -1.0), (b, -1.0))
        budget += [(covered, inconsistency * count), (inconsistent, -float(count))]
    at_least(0.0, *budget)
    entries = [(row, column, value) for row, terms in enumerate(rows) for column, value in terms]
    row, column, value = (np.array(part) for part in zip(*entries, strict=True))
    matrix: Any = sparse.coo_array((value, (row, column)), shape=(len(rows), total)).tocsr()
    # between equally many predictions, those with larger shares: far too little to give up a whole one
    surer = np.tile(np.arange(bins) / bins, n // bins) * worth / (worth.sum() + 1.0)
    result: Any = optimize.milp(
        -np.concatenate([worth + 0.5 * surer, np.zeros(total - n)]),
        constraints=optimize.LinearConstraint(matrix, np.array(least), np.inf),
        integrality=np.ones(total),
        bounds=optimize.Bounds(0.0, 1.0),
        options={"time_limit": seconds},
    )
    if result.x is None:
        raise StageFailed(f"select.abductive: HiGHS found no thresholds in {seconds:g} s: {result.message}")
    return result.x[:n] > 0.5
