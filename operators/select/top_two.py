"""Top-two answers: the answer, its most confusing rival, and how probable the confusion is.

Jeong and Chung 2022, "Recovering Top-Two Answers and Confusion Probability in Multi-Choice Crowdsourcing". Task j has
the answer g and the confusing answer h; worker i gives g with probability p_i q_j, h with p_i (1 - q_j), and any of the
K labels alike with 1 - p_i. Stage 1 reads g, h, p and q off a spectral estimate of the workers' reliability; stage 2
maximises the likelihood over all pairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, cast

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field
from scipy import sparse as _sparse  # pyright: ignore[reportMissingTypeStubs]
from scipy.sparse import linalg as _linalg  # pyright: ignore[reportMissingTypeStubs]

from operators.base import Scope
from operators.select.classes import SAMPLE_KEY, answer_key, class_votes, classify, distinct_answers, one_verifier
from operators.select.selection import VERDICTS, Selection, as_answers, problems_of, rank
from schemas.datasets import Sample
from schemas.errors import BadInput

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
sparse: Any = _sparse  # they ship no types
linalg: Any = _linalg

SURE = (0.001, 0.999)
"""Range of a worker's reliability p."""
CONFUSED = (0.501, 0.999)
"""Range of q, the share of g among answers that aren't guesses."""


@dataclass(frozen=True)
class TopTwo:
    """The result for each task: ``first`` (g) and ``second`` (h) are labels 0..K-1, ``q`` is P(g | g or h)."""

    first: Ints
    second: Ints
    q: Floats


class SelectTopTwo(Selection):
    """Pick each problem's answer and its most confusing rival; confidence is q, the rival's 1 - q.

    With ``worker`` all problems are seen at once: the column of that name (``sample_index``, or ``worker`` of the
    samples, which names a model or configuration) says who gave an answer, and workers differ in reliability. Labels
    are the answer classes. Of several answers of a worker to one problem the last counts.

    Without it all samples of a problem come from one configuration: p is common, and the likelihood only depends on how
    often each answer was given, so g and h are the two most frequent ones. p and q are then the problem's own maximum
    likelihood estimates: with e the mean share of the K - 2 other answers, p = 1 - K e and q = (share of g - e) / p.
    """

    version: ClassVar[int] = 1
    inputs = {"verdicts": VERDICTS, "samples": Sample.select("problem_key", "sample_index", "worker")}
    optional = frozenset({"samples"})

    worker: str = ""
    """``sample_index``, or ``worker``; empty: one configuration."""
    labels: int | None = Field(default=None, ge=2)
    """How many labels K there are to choose from, where some may never have been given."""

    @property
    def scope(self) -> Scope:  # pyright: ignore[reportIncompatibleVariableOverride]
        return "dataset" if self.worker else "problem"

    def run(
        self, verdicts: pl.DataFrame | pl.LazyFrame, samples: pl.DataFrame | pl.LazyFrame | None = None
    ) -> pl.DataFrame:
        """Return one row per problem of ``verdicts``.

        Raises:
            BadInput: a worker column that isn't there, labels beyond K.
        """
        table = one_verifier(verdicts.lazy()).collect(engine="streaming")
        if not self.worker:
            return self._by_counts(table)
        return self._by_workers(table, self._workers(samples))

    def _by_counts(self, verdicts: pl.DataFrame) -> pl.DataFrame:
        problems = problems_of(verdicts, pl.lit(1.0).alias("total"))
        classes = class_votes(verdicts)
        found = rank(problems, classes).join(
            classes.group_by("problem_key").agg(pl.col("votes").sum().alias("given"), pl.len().alias("classes")),
            on="problem_key",
            how="left",
        )
        k = pl.max_horizontal(pl.col("classes"), pl.lit(self.labels or 2))
        first, second = (pl.col(name).fill_null(0) / pl.col("given") for name in ("votes", "runner_up_votes"))
        guessed = pl.when(k > 2).then((1.0 - first - second) / (k - 2)).otherwise(0.0)
        q = ((first - guessed) / (1.0 - k * guessed)).fill_nan(0.5).clip(0.5, 1.0)
        return as_answers(found, self.method, q, 1.0 - q)

    def _workers(self, samples: pl.DataFrame | pl.LazyFrame | None) -> pl.DataFrame | None:
        """Return problem_key, sample_index and worker; None where the worker is the sample_index."""
        if self.worker == "sample_index":
            return None
        if self.worker != "worker" or samples is None:
            raise BadInput(
                f"select.top_two: worker = '{self.worker}' must be 'sample_index', or 'worker' with the samples "
                "connected that have this column"
            )
        return samples.lazy().collect(engine="streaming")

    def _by_workers(self, verdicts: pl.DataFrame, workers: pl.DataFrame | None) -> pl.DataFrame:
        problems = problems_of(verdicts, pl.lit(1.0).alias("total")).sort("problem_key")
        classed = classify(distinct_answers(verdicts))
        if classed.is_empty():
            empty = classed.with_columns(weight=pl.lit(0.0))
            return as_answers(rank(problems, empty), self.method, pl.lit(0.0), pl.lit(0.0))
        answers = (
            verdicts.select(*SAMPLE_KEY, answer_key(verdicts.columns))
            .join(
                classed.select("problem_key", "answer_key", "answer_class"),
                on=["problem_key", "answer_key"],
                maintain_order="left",
            )
            .sort("problem_key", "sample_index", maintain_order=True)
        )
        if workers is None:
            # one file of crowd labels may have the same worker twice; rows of one key keep the order they came in
            answers = answers.with_columns(who=pl.col("sample_index").cast(pl.String))
        else:
            answers = answers.join(workers, on=SAMPLE_KEY, how="left", maintain_order="left").rename({"worker": "who"})
        answers = answers.unique(["problem_key", "who"], keep="last", maintain_order=True)
        return self._rows(problems, classed, answers)

    def _rows(self, problems: pl.DataFrame, classed: pl.DataFrame, answers: pl.DataFrame) -> pl.DataFrame:
        """Number labels from 0, tasks and workers in order of their names; and give labels their own numbers back."""
        low, high = (int(cast(int, end)) for end in (classed["answer_class"].min(), classed["answer_class"].max()))
        shift = int(low > 0 and (self.labels is None or high == self.labels))
        k = self.labels or max(2, high - shift + 1)
        if high - shift >= k:
            raise BadInput(f"select.top_two: there is a label {high}, but labels = {k}; raise it, or leave it out")
        tasks = answers["problem_key"].unique().sort()
        task = answers.select(pl.col("problem_key").rank("dense"))["problem_key"].to_numpy().astype(np.int64) - 1
        who = answers.select(pl.col("who").fill_null("").rank("dense"))["who"].to_numpy().astype(np.int64) - 1
        label = answers["answer_class"].to_numpy().astype(np.int64) - shift
        found = top_two(who, task, label, k)
        chosen = pl.DataFrame(
            {
                "problem_key": tasks,
                "answer_class": found.first + shift,
                "second": found.second + shift,
                "q": found.q,
            }
        )
        names = classed.sort("votes", descending=True).unique(["problem_key", "answer_class"], keep="first")
        first = names.select("problem_key", "answer_class", "answer", "is_correct")
        second = names.select(
            "problem_key", pl.col("answer_class").alias("second"), pl.col("answer").alias("runner_up")
        )
        rows = (
            problems.join(chosen, on="problem_key", how="left")
            .join(first, on=["problem_key", "answer_class"], how="left")
            .join(second, on=["problem_key", "second"], how="left")
            .with_columns(
                pl.coalesce("answer", pl.col("answer_class").cast(pl.String)),
                pl.coalesce("runner_up", pl.col("second").cast(pl.String)),
                weighted=pl.col("answer_class").is_not_null(),
                is_correct=pl.when(pl.col("known")).then(pl.col("is_correct").fill_null(False)),
                weight=pl.lit(0.0),
                runner_up_weight=pl.lit(0.0),
            )
        )
        return as_answers(rows, self.method, pl.col("q"), 1.0 - pl.col("q"))


def top_two(worker: Ints, task: Ints, label: Ints, k: int) -> TopTwo:
    """Recover the top-two answers of every task (Jeong and Chung 2022, Algorithm 1).

    Args:
        worker, task, label: one answer each, shape [answers]; numbered from 0 without gaps, labels below ``k``; at most
            one answer of a worker to a task.
    """
    workers, tasks = int(worker.max()) + 1, int(task.max()) + 1
    u, d = _spectral(worker, task, label, (workers, tasks), k)
    order = np.argsort(d, axis=1, kind="stable")
    first, second = order[:, 0], order[:, 1]
    in_pair = (label == first[task]) | (label == second[task])
    share = np.bincount(worker, weights=in_pair, minlength=workers) / np.bincount(worker, minlength=workers)
    # with two labels every answer is one of both and says nothing of p: the spectral estimate does
    p = np.clip((share - 2 / k) / (1 - 2 / k) if k > 2 else u, *SURE)
    q = np.clip(1 / k - d[np.arange(tasks), first] / np.linalg.norm(p), *CONFUSED)
    r = p / (1 - p)
    as_first = _per_label(np.log(k * q[task] * r[worker] + 1), task, label, (tasks, k))
    as_second = _per_label(np.log(k * (1 - q[task]) * r[worker] + 1), task, label, (tasks, k))
    return TopTwo(*_best_pairs(as_first, as_second), q)


def _per_label(values: Floats, task: Ints, label: Ints, shape: tuple[int, int]) -> Floats:
    sums = np.bincount(task * shape[1] + label, weights=values, minlength=shape[0] * shape[1])
    return sums.astype(np.float64).reshape(shape)


def _spectral(worker: Ints, task: Ints, label: Ints, shape: tuple[int, int], k: int) -> tuple[Floats, Floats]:
    """Return the workers' reliabilities up to scale, shape [workers], and D, shape [tasks, k]."""
    observed = len(worker) / (shape[0] * shape[1])
    vectors: list[Floats] = []
    signed: list[tuple[Any, float]] = []
    for split in range(1, k):
        signs = sparse.csr_array((np.where(label < split, -1.0, 1.0), (worker, task)), shape=shape)
        lift = observed * (k - 2 * split) / k
        vectors.append(_leading(signs, lift))
        signed.append((signs, lift))
    u = np.clip(np.mean(vectors, axis=0), 0.0, 1.0)
    w: list[Floats] = [np.zeros(shape[1]), *((signs.T @ u - lift * u.sum()) / (2 * observed) for signs, lift in signed)]
    return u, np.diff(np.stack([*w, np.zeros(shape[1])], axis=1), axis=1)


def _leading(signs: Any, lift: float) -> Floats:
    """Return the leading left singular vector of ``signs - lift`` (on all entries), with a positive sum."""
    u: Floats
    if min(signs.shape) <= 2:
        u = np.linalg.svd(signs.toarray() - lift, full_matrices=False)[0][:, 0]
    else:
        transposed = signs.T

        def forward(v: Floats) -> Floats:
            return signs @ v - lift * v.sum()

        def backward(v: Floats) -> Floats:
            return transposed @ v - lift * v.sum()

        operator = linalg.LinearOperator(signs.shape, matvec=forward, rmatvec=backward, dtype=np.float64)
        u = linalg.svds(operator, k=1, v0=np.ones(min(signs.shape)), return_singular_vectors="u")[0][:, 0]
    return u if u.sum() > 0 else -u


def _best_pairs(first: Floats, second: Floats) -> tuple[Ints, Ints]:
    """Return argmax over a != b of first[a] + second[b], for each row."""
    rows = np.arange(len(first))

    def without(values: Floats, taken: Ints) -> Ints:
        rest = values.copy()
        rest[rows, taken] = -np.inf
        return rest.argmax(axis=1).astype(np.int64)

    a1 = first.argmax(axis=1).astype(np.int64)
    b1 = without(second, a1)
    b2 = second.argmax(axis=1).astype(np.int64)
    a2 = without(first, b2)
    better = first[rows, a2] + second[rows, b2] > first[rows, a1] + second[rows, b1]
    return np.where(better, a2, a1), np.where(better, b2, b1)
