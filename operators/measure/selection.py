"""Accuracy of a vote as a function of how many samples it sees.

The majority's accuracy with n of a problem's N samples is a mean over subsets of size n, of which 100 random ones are
drawn. A vote only needs the classes' counts in the subset, so samples become integers (which class) in one matrix,
subsets become prefixes of a random order, and a curve is a running count along that order. Reducing samples to integers
goes piece by piece; of ten million samples the integers are 40 MB.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from operators.measure.pass_at_k import powers_of_two
from operators.piecewise import PiecewiseOperator
from operators.select.classes import SAMPLE_KEY, answer_key, classify, distinct_answers, in_n, one_verifier
from schemas.datasets import SelectionAccuracy, Verdict
from schemas.errors import BadInput

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

BLOCK = 4_000_000
"""Numbers held at once while bootstrapping (two arrays of 32 MB)."""
COUNTED = 1_000_000
"""Votes counted at once (arrays of 8 and 4 MB). With a quarter of that, malloc gives memory back to the system at every
step and faults it in again, which takes longer than counting; with more, they leave the cache."""


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


class MeasureSelection(PiecewiseOperator):
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

    def partial(self, verdicts: pl.DataFrame) -> pl.DataFrame:
        """Return the votes of each problem that has both samples and a known answer.

        Returns:
            problem_key; ``correct``, a list of whether each class is right, in the order in which classes were first
            seen, and [false] if there are none; ``votes``, a list of each sample's class as its position in
            ``correct``, or -1 for a sample that voted for nothing, in the order of sample_index (int32).
        """
        verdicts = one_verifier(verdicts)
        known = verdicts.lazy().group_by("problem_key").agg(pl.col("is_correct").is_not_null().any().alias("known"))
        first = pl.col("first_index").min().over("problem_key", "answer_class")
        vote = (first.rank("dense").over("problem_key").cast(pl.Int32) - 1).alias("vote")
        keys = classify(distinct_answers(verdicts)).lazy().select("problem_key", "answer_key", "is_correct", vote)
        correct = (
            keys.group_by("problem_key", "vote")
            .agg(pl.col("is_correct").first().fill_null(False).alias("correct"))
            .group_by("problem_key")
            .agg(pl.col("correct").sort_by("vote"))
        )
        votes = (
            verdicts.lazy()
            .filter(in_n())
            .select(*SAMPLE_KEY, answer_key(verdicts.columns))
            .join(keys, on=["problem_key", "answer_key"], how="left")
            .group_by("problem_key")
            .agg(pl.col("vote").sort_by("sample_index").fill_null(-1).alias("votes"))
        )
        table = (
            known.filter("known")
            .join(votes, on="problem_key")
            .join(correct, on="problem_key", how="left")
            .select("problem_key", pl.col("correct").fill_null([False]), "votes")
        )
        return table.collect(engine="streaming")

    def merge(self, partials: pl.DataFrame) -> pl.DataFrame:
        """Return one row per n: powers of two up to the smallest number of samples N, and N.

        Raises:
            BadInput: no problem has both samples and a known answer.
        """
        if partials.is_empty():
            raise BadInput(
                "measure.selection: no problem has both samples and a known answer, so there is nothing to measure"
            )
        data = _arrange(partials)
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


def _arrange(partials: pl.DataFrame) -> Votes:
    """Bring the problems into the order of their keys, and the first N votes of each into one matrix."""
    table = partials.sort("problem_key")
    classes = table["correct"].list.len().to_numpy().astype(np.int64)
    offsets = np.cumsum(classes) - classes
    total = int(table["votes"].list.len().to_numpy().min())
    votes = np.empty((total, len(table)), dtype=np.int32)
    for problem, offset in enumerate(offsets):
        column = table["votes"][problem].head(total).to_numpy()
        votes[:, problem] = np.where(column < 0, classes.sum(), column + offset)
    correct = table["correct"].explode().cast(pl.Float64).to_numpy()
    return Votes(votes, correct, offsets)


def subset_accuracy(data: Votes, sizes: list[int], subsets: int, rng: np.random.Generator) -> Floats:
    """Return how right the vote is: shape [sizes, subsets, problems], shares in [0, 1].

    One random order of the samples serves all sizes of a subset (prefixes) and all problems, whose samples are
    independent of each other's.
    """
    total, problems = data.votes.shape
    right = np.empty((len(sizes), subsets, problems))
    every = _count(data, np.arange(total, dtype=np.int64))
    for subset in range(subsets):
        order = rng.permutation(total)
        counts = np.zeros_like(every)
        done = 0
        for row, size in enumerate(sizes):
            if size < total:
                shorter = total - size < size - done  # to count what isn't in the subset
                counts = every - _count(data, order[size:]) if shorter else counts + _count(data, order[done:size])
                right[row, subset] = _ties_shared(counts, data)
                done = size
    if sizes[-1] == total:
        right[-1] = _first_wins(every, data)
    return right


def _count(data: Votes, order: Ints) -> Ints:
    """Return how often the samples at the positions ``order`` voted for each class: shape [classes]."""
    step = max(1, COUNTED // data.votes.shape[1])
    counts = np.zeros(data.correct.size + 1, dtype=np.int64)
    for start in range(0, order.size, step):
        counts += np.bincount(data.votes[order[start : start + step]].ravel(), minlength=counts.size)
    return counts[:-1]


def _leading(counts: Ints, data: Votes) -> tuple[Ints, Ints]:
    """Return which classes have the most votes of their problem, at least one, and the problem of each: ascending."""
    most = np.maximum(np.maximum.reduceat(counts, data.offsets), 1)
    lengths = np.diff(data.offsets, append=counts.size)
    leading = np.flatnonzero(counts == np.repeat(most, lengths))
    return leading, np.searchsorted(data.offsets, leading, side="right") - 1


def _ties_shared(counts: Ints, data: Votes) -> Floats:
    leading, problem = _leading(counts, data)
    tied = np.bincount(problem, minlength=data.offsets.size)
    return np.bincount(problem, weights=data.correct[leading], minlength=data.offsets.size) / np.maximum(tied, 1)


def _first_wins(counts: Ints, data: Votes) -> Floats:
    leading, problem = _leading(counts, data)
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
