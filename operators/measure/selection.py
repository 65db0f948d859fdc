"""Accuracy of a vote as a function of how many samples it sees.

The majority's accuracy with n of a problem's N samples is a mean over subsets of size n, of which 100 random ones are
drawn. A vote only needs the classes' counts in the subset, so samples become integers (which class) in one matrix,
subsets become prefixes of a random order, and a curve is a running count along that order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from operators.base import Operator
from operators.measure.pass_at_k import powers_of_two
from operators.select.classes import answer_key, classify, distinct_answers, in_n, one_verifier
from schemas.datasets import SelectionAccuracy, Verdict
from schemas.errors import BadInput

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

BLOCK = 4_000_000
"""Votes counted at once (two arrays of 32 MB)."""


@dataclass(frozen=True)
class Votes:
    """The votes of all problems that can be right or wrong.

    Attributes:
        votes: shape [N, problems], in the order of sample_index: a class's position in ``correct``, or ``len(correct)``
            for a sample that voted for nothing.
        correct: shape [classes], 1.0 where the class is right; problem by problem, by first sample_index within one.
        offsets: shape [problems]: where each problem's classes begin. Every problem has at least one.
    """

    votes: NDArray[np.int32]
    correct: Floats
    offsets: Ints


class MeasureSelection(Operator):
    """Accuracy of the majority vote against n, with 95% intervals (prediction@n).

    ``accuracy`` at n < N is the mean over ``subsets`` random subsets of size n, the same positions for every problem.
    Within a subset a tie counts as the share of the tied classes that is right: the mean of "first seen wins" over the
    orders of the subset. At n = N there is one subset and ties go to the answer seen first: where all problems have N
    samples, the number is exactly that of ``select.majority``. N is the smallest n of any problem; of others the first
    N by sample_index are used, because a longer curve for some would compare different problems at different n.

    ``low`` and ``high`` are the 2.5% and 97.5% quantiles of ``bootstrap`` replicates, each the mean over problems drawn
    with replacement of how right a random subset of each is: the spread of a single run with n samples on as many
    problems. Each drawn problem gets a subset of its own; one for all would count the noise within problems twice. As n
    nears N subsets overlap, and at N only the spread over problems is left.

    Problems without a known answer are left out. Samples count in n as they do in ``select.majority``.
    """

    version: ClassVar[int] = 1
    scope = "dataset"
    inputs = {
        "verdicts": Verdict.select(
            "problem_key", "sample_index", "verifier", "predicted_answer", "answer_key", "is_correct", "status"
        )
    }
    output = SelectionAccuracy

    subsets: int = Field(default=100, ge=10)
    """Random subsets per n."""
    bootstrap: int = Field(default=1000, ge=100)
    """Bootstrap replicates."""
    seed: int = 0

    def run(self, verdicts: pl.LazyFrame) -> pl.DataFrame:
        """Return one row per n: powers of two up to the smallest number of samples N, and N.

        Raises:
            BadInput: no problem has both samples and a known answer.
        """
        data = read_votes(verdicts.lazy())
        rng = np.random.default_rng(self.seed)
        sizes = powers_of_two(len(data.votes))
        right = subset_accuracy(data, sizes, self.subsets, rng)
        low, high = _interval(right, self.bootstrap, rng)
        accuracy = right.mean(axis=(1, 2))
        columns = {
            "n": sizes,
            "accuracy": accuracy,
            "low": np.minimum(low, accuracy),
            "high": np.maximum(high, accuracy),
        }
        return pl.DataFrame(columns).select("n", pl.lit("majority").alias("method"), "accuracy", "low", "high")


def read_votes(verdicts: pl.LazyFrame) -> Votes:
    """Reduce verdicts to votes; texts are read in a stream, and only distinct answers are held.

    Raises:
        BadInput: no problem has both samples and a known answer.
    """
    verdicts = one_verifier(verdicts)
    known = pl.col("is_correct").is_not_null().any()
    problems = verdicts.group_by("problem_key").agg(in_n().sum().cast(pl.Int64).alias("n"), known.alias("known"))
    problems = problems.filter("known", pl.col("n") > 0).sort("problem_key").with_row_index("problem")
    measured = problems.select("problem_key", pl.col("problem").cast(pl.Int64), "n").collect(engine="streaming")
    if measured.is_empty():
        raise BadInput(
            "measure.selection: no problem has both samples and a known answer, so there is nothing to measure"
        )
    key = ["problem_key", "answer_key"]
    members = pl.col("sample_index").alias("members")
    distinct = distinct_answers(verdicts, members).join(measured.select("problem_key", "problem"), on="problem_key")
    classes = _positions(classify(distinct.drop("members")), len(measured))
    voted = distinct.select(*key, "problem", "members").join(classes.select(*key, "position"), on=key, how="left")
    mute = answer_key(verdicts.collect_schema()).is_null()
    silent = verdicts.filter(in_n(), mute).group_by("problem_key").agg(members).collect(engine="streaming")
    silent = silent.join(measured.select("problem_key", "problem"), on="problem_key")
    samples = pl.concat([voted, silent], how="diagonal").select("problem", "position", "members").explode("members")
    correct = classes.group_by("position").agg(pl.col("problem", "is_correct").first()).sort("position")
    return Votes(
        votes=_matrix(samples, int(measured["n"].to_numpy().min()), len(measured), nothing=len(correct)),
        correct=correct["is_correct"].fill_null(False).cast(pl.Float64).to_numpy(),
        offsets=np.searchsorted(correct["problem"].to_numpy(), np.arange(len(measured))).astype(np.int64),
    )


def _positions(classed: pl.DataFrame, problems: int) -> pl.DataFrame:
    """Number classes over all problems, by problem and first sample; a problem without any gets one without votes."""
    rows = classed.select("problem_key", "answer_key", "problem", "answer_class", "is_correct", "first_index")
    all_problems = pl.DataFrame({"problem": np.arange(problems, dtype=np.int64)})
    rows = pl.concat([rows, all_problems.join(rows, on="problem", how="anti")], how="diagonal")
    first = pl.col("first_index").min().over("problem", "answer_class").fill_null(0)
    return rows.with_columns(position=pl.struct("problem", first).rank("dense").cast(pl.Int64) - 1)


def _matrix(samples: pl.DataFrame, rows: int, problems: int, nothing: int) -> NDArray[np.int32]:
    """Return the first ``rows`` votes of each problem by sample_index, as columns; null positions voted for nothing."""
    problem, index = samples["problem"].to_numpy(), samples["members"].to_numpy()
    width = int(index.max()) + 1
    cell = problem * width + index
    order = np.argsort(cell)
    first = np.searchsorted(cell[order], np.arange(problems) * width)
    taken = order[first[None, :] + np.arange(rows)[:, None]]
    return samples["position"].fill_null(nothing).to_numpy().astype(np.int32)[taken]


def subset_accuracy(data: Votes, sizes: list[int], subsets: int, rng: np.random.Generator) -> Floats:
    """Return how right the vote is: shape [sizes, subsets, problems], shares in [0, 1].

    One random order of the samples serves all sizes of a subset (prefixes) and all problems, whose samples are
    independent of each other's.
    """
    total, problems = data.votes.shape
    right = np.empty((len(sizes), subsets, problems))
    for subset in range(subsets):
        order = rng.permutation(total)
        counts = np.zeros(data.correct.size + 1, dtype=np.int64)
        done = 0
        for row, size in enumerate(sizes):
            if size < total:
                counts += _count(data.votes, order[done:size], counts.size)
                right[row, subset] = _ties_shared(counts[:-1], data)
                done = size
    if sizes[-1] == total:
        right[-1] = _first_wins(_count(data.votes, np.arange(total, dtype=np.int64), data.correct.size + 1)[:-1], data)
    return right


def _count(votes: NDArray[np.int32], order: Ints, classes: int) -> Ints:
    step = max(1, BLOCK // votes.shape[1])
    counts = np.zeros(classes, dtype=np.int64)
    for start in range(0, order.size, step):
        counts += np.bincount(votes[order[start : start + step]].ravel(), minlength=classes)
    return counts


def _leading(counts: Ints, offsets: Ints) -> NDArray[np.bool_]:
    """Return which classes have the most votes of their problem, at least one: shape [classes]."""
    most = np.maximum.reduceat(counts, offsets)
    lengths = np.diff(offsets, append=counts.size)
    return (counts == np.repeat(most, lengths)) & (counts > 0)


def _ties_shared(counts: Ints, data: Votes) -> Floats:
    leading = _leading(counts, data.offsets).astype(np.float64)
    tied = np.add.reduceat(leading, data.offsets)
    return np.add.reduceat(leading * data.correct, data.offsets) / np.maximum(tied, 1.0)


def _first_wins(counts: Ints, data: Votes) -> Floats:
    leading = np.flatnonzero(_leading(counts, data.offsets))
    problem = np.searchsorted(data.offsets, leading, side="right") - 1
    answered, first = np.unique(problem, return_index=True)
    right = np.zeros(data.offsets.size)
    right[answered] = data.correct[leading[first]]
    return right


def _interval(right: Floats, replicates: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Return the 2.5% and 97.5% quantiles over problems and subsets drawn anew: two arrays of shape [sizes]."""
    sizes, subsets, problems = right.shape
    means = np.empty((sizes, replicates))
    step = max(1, BLOCK // problems)
    for start in range(0, replicates, step):
        shape = (min(step, replicates - start), problems)
        subset, problem = rng.integers(0, subsets, size=shape), rng.integers(0, problems, size=shape)
        for row in range(sizes):
            means[row, start : start + shape[0]] = right[row][subset, problem].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975], axis=1)
    return np.clip(low, 0.0, 1.0), np.clip(high, 0.0, 1.0)
