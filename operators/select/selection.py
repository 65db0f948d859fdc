"""Selection: from all samples of a problem to one answer, with how sure the method is of it, and the runner-up.

Most methods are votes: every sample has a weight, and a class of equal answers the sum, or the largest, of its samples'
weights (``Voting``). They differ in the weights alone, so they see the same samples and the same classes, and their
answers can be compared row by row.

What all of them do:

* Ties go to the answer that was seen first.
* A sample without a readable answer is in n, and its weight in the total: the model spoke and voted for nothing, and
  leaving it out would make a model that seldom answers look sure of itself.
* A weight that is missing or not finite counts as 0. Where a problem has no weight above 0 at all, the plain vote
  decides.
* A problem without any answer gets a row with a null answer and confidence 0, wrong where a verdict shows that the
  right answer is known, so that accuracy is never taken over answered problems only.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from operators.base import Operator
from operators.select.classes import class_votes, in_n, one_verifier
from schemas.contract import polars_schema
from schemas.datasets import SAMPLE_KEY, Answer, Path, Sample, Score, Verdict
from schemas.errors import BadInput
from schemas.later import pl

VERDICTS = Verdict.select(
    "problem_key", "sample_index", "verifier", "problem_id", "predicted_answer", "answer_key", "is_correct", "status"
)
LOGPROBS = Sample.select("problem_key", "sample_index", "mean_logprob")
TEXTS = Sample.select("problem_key", "sample_index", "mean_logprob", "completion_hash")
SCORES = Score.select("problem_key", "sample_index", "scorer", "score")
PATHS = Path.select("problem_key", "sample_index", "weight", "kept")
UNITS = 2.0**44
"""Fine enough for 13 digits, and half a million weights add up below 2^63."""
LARGEST_LOG = 700.0
"""Beyond this exp() leaves the range of floats."""


class Selection(Operator):
    """Base of all selections."""

    scope = "problem"
    inputs = {"verdicts": VERDICTS}
    output = Answer

    name: str = ""
    """Name in the ``method`` column, to tell two configurations of one method apart; by default the method's own."""

    @property
    def method(self) -> str:
        """Name in the ``method`` column."""
        return self.name or self.public_name().removeprefix("select.")


class Voting(Selection):
    """Base of selections in which every sample has a weight; define ``weigh``.

    Class attributes:
        largest: a class has the largest weight of its samples, not the sum. Confidence then is that weight itself (up
            to 1), otherwise the class's share of all weights.
        exact: weights are whole numbers.
        distinct: of equal completions of a problem only the first has a weight.
    """

    largest: ClassVar[bool] = False
    exact: ClassVar[bool] = False
    distinct: ClassVar[bool] = False

    def weigh(self, ballots: pl.DataFrame) -> pl.Expr:
        """Return each sample's weight, at least 0; null or NaN where it has none.

        Args:
            ballots: the verdicts, with ``mean_logprob``, ``score``, ``weight`` and ``kept`` of the inputs that the
                method reads (null where there is no row for a sample); in order of their keys, where it reads any.
        """
        raise TypeError(f"{type(self).__name__} doesn't define weigh()")

    def run(
        self,
        verdicts: pl.DataFrame,
        samples: pl.DataFrame | None = None,
        scores: pl.DataFrame | None = None,
        paths: pl.DataFrame | None = None,
    ) -> pl.DataFrame:
        """Return one row per problem of ``verdicts`` (and scorer, where there are several: ``method/SCORER``).

        Several verifiers of a sample: the one whose name sorts first is used (``one_verifier``).
        """
        verdicts = one_verifier(verdicts)
        if samples is not None or scores is not None or paths is not None:
            verdicts = verdicts.sort(SAMPLE_KEY)
        for table in (samples, paths):
            if table is not None:
                verdicts = beside(verdicts, table)
        found = [self._elect(ballots, method) for ballots, method in self._each_scorer(verdicts, scores)]
        return pl.concat(found).sort("problem_key", "method")

    def _each_scorer(self, ballots: pl.DataFrame, scores: pl.DataFrame | None) -> Iterator[tuple[pl.DataFrame, str]]:
        """Yield the ballots with each scorer's scores, and what the method is called with them."""
        if scores is None:
            yield ballots, self.method
            return
        scorers: list[str] = scores["scorer"].unique().sort().to_list()
        for scorer in scorers or [""]:
            one = scores.filter(pl.col("scorer") == scorer).drop("scorer")
            name = self.method if len(scorers) < 2 else f"{self.method}/{scorer}"
            yield beside(ballots, one), name

    def _elect(self, ballots: pl.DataFrame, method: str) -> pl.DataFrame:
        weight = self.weigh(ballots)
        ballots = ballots.with_columns(weight=pl.when(weight.is_finite() & in_n()).then(weight).cast(pl.Float64))
        if self.distinct:
            weighs = pl.col("weight").fill_null(0.0) > 0
            path = pl.struct(pl.col("problem_key").rle_id(), "completion_hash", weighs.alias("weighs"))
            ballots = ballots.with_columns(weight=pl.when(weighs & path.is_first_distinct()).then("weight"))
        if not (self.exact or self.largest):
            ballots = ballots.with_columns(weight=units(pl.col("weight")))
        reduced = pl.col("weight").max() if self.largest else pl.col("weight").sum()
        classes = class_votes(ballots, reduced.alias("weight"), largest=self.largest)
        found = rank(problems_of(ballots, pl.col("weight").sum().alias("total")), classes)
        if self.largest:
            return as_answers(found, method, pl.col("weight"), pl.col("runner_up_weight"))
        return as_answers(found, method, pl.col("weight") / pl.col("total"), _share("runner_up_weight"))


def beside(rows: pl.DataFrame, table: pl.DataFrame) -> pl.DataFrame:
    """Join ``table``, with a row per sample at most, to ``rows``, which are in order of their keys and stay so.

    Where both are of the same samples, as mostly, nothing has to be looked up: that takes seven times the table.
    """
    table = table.sort(SAMPLE_KEY)
    if len(table) == len(rows) and table.select(SAMPLE_KEY).equals(rows.select(SAMPLE_KEY)):
        return rows.hstack(table.drop(SAMPLE_KEY))
    return rows.join(table, on=SAMPLE_KEY, how="left", maintain_order="left")


def _share(name: str) -> pl.Expr:
    return pl.col(name) / pl.col("total")


def units(weight: pl.Expr) -> pl.Expr:
    """Return weights as whole numbers of units, of which the largest weight of a problem is ``UNITS``.

    Sums of whole numbers don't depend on their order, so neither do answers: sums of floats differ in their last digits
    from run to run, and would break ties by chance.
    """
    largest = weight.max().over("problem_key")
    return pl.when(largest > 0).then((weight / largest * UNITS).round()).cast(pl.Int64)


def problems_of(verdicts: pl.DataFrame, *extra: pl.Expr) -> pl.DataFrame:
    """Return problem_key, problem_id, n_samples, known (whether a verdict shows the right answer) and ``extra``."""
    return (
        verdicts.lazy()
        .group_by("problem_key")
        .agg(
            pl.col("problem_id").first(),
            in_n().sum().cast(pl.Int64).alias("n_samples"),
            pl.col("is_correct").is_not_null().any().alias("known"),
            *extra,
        )
        .collect(engine="streaming")
    )


def rank(problems: pl.DataFrame, classes: pl.DataFrame) -> pl.DataFrame:
    """Join each problem with its two best classes.

    Args:
        problems: as ``problems_of`` has them, and ``total``: all weight of a problem.
        classes: problem_key, answer, answer_class, is_correct, votes, first_index, weight.

    Returns:
        ``problems``, with answer, answer_class, is_correct, votes, weight of the best class and runner_up,
        runner_up_votes, runner_up_weight of the second; nulls where there is none. Where no class has a weight above 0,
        weights are votes and the total is n.
    """
    heaviest = classes.group_by("problem_key").agg((pl.col("weight").max().fill_null(0.0) > 0).alias("weighted"))
    problems = problems.join(heaviest, on="problem_key", how="left").with_columns(
        total=pl.when(pl.col("weighted")).then("total").otherwise("n_samples")
    )
    classes = (
        classes.join(heaviest, on="problem_key")
        .with_columns(weight=pl.when("weighted").then("weight").otherwise("votes"))
        .sort("problem_key", "weight", "first_index", descending=[False, True, False], nulls_last=True)
        .with_columns(rank=pl.int_range(pl.len()).over("problem_key"))
    )
    names = ["answer", "answer_class", "is_correct", "votes", "weight"]
    first = classes.filter(pl.col("rank") == 0).select("problem_key", *names)
    second = classes.filter((pl.col("rank") == 1) & pl.col("weight").is_not_null()).select(
        "problem_key",
        pl.col("answer").alias("runner_up"),
        pl.col("votes").alias("runner_up_votes"),
        pl.col("weight").alias("runner_up_weight"),
    )
    return problems.join(first, on="problem_key", how="left").join(second, on="problem_key", how="left")


def as_answers(found: pl.DataFrame, method: str, confidence: pl.Expr, runner_up_confidence: pl.Expr) -> pl.DataFrame:
    """Return ``Answer`` rows of what ``rank`` found: confidences cut to [0, 1], shares of n where nothing weighed."""
    plain = ~pl.col("weighted").fill_null(False)
    confidence = pl.when(plain).then(_share("weight")).otherwise(confidence)
    runner_up = pl.when(plain).then(_share("runner_up_weight")).otherwise(runner_up_confidence)
    answers = found.with_columns(
        method=pl.lit(method),
        confidence=confidence.clip(0.0, 1.0).fill_null(0.0).fill_nan(0.0),
        runner_up_confidence=pl.when(pl.col("runner_up").is_not_null()).then(runner_up.clip(0.0, 1.0)),
        is_correct=pl.when(pl.col("answer").is_null() & pl.col("known")).then(False).otherwise("is_correct"),
        confidence_low=None,
        confidence_high=None,
        calibration=None,
    )
    return answers.select(list(polars_schema(Answer))).cast(polars_schema(Answer)).sort("problem_key")  # pyright: ignore[reportArgumentType]


def plain_vote(verdicts: pl.DataFrame, method: str) -> pl.DataFrame:
    """Return the answers of the majority, under a method's name; ``verdicts`` have one row per sample."""
    found = rank(problems_of(verdicts, in_n().sum().cast(pl.Float64).alias("total")), class_votes(verdicts))
    return as_answers(found, method, _share("weight"), _share("runner_up_weight"))


def probability() -> pl.Expr:
    """Return p = exp(mean_logprob), a completion's probability per token; null where there are no log-probs."""
    logs = pl.col("mean_logprob")
    return pl.when(logs.is_finite()).then(logs.clip(-LARGEST_LOG, LARGEST_LOG).exp())


def refuse_negative(ballots: pl.DataFrame, weight: pl.Expr, method: str, remedy: str) -> None:
    """Refuse weights below 0: a vote that counts against itself.

    Raises:
        BadInput: naming the sample and the remedy.
    """
    wrong = ballots.with_columns(weight=weight).filter(pl.col("weight").is_finite() & (pl.col("weight") < 0))
    if len(wrong):
        row = wrong.sort("problem_key", "sample_index").row(0, named=True)
        raise BadInput(
            f"{method}: the score of problem '{row['problem_id']}', sample {row['sample_index']} is {row['weight']:g}, "
            f"and a negative weight would make more votes weigh less ({len(wrong):,} such row(s)). {remedy}"
        )
