"""Top-two answers: the answer, its most confusing rival, and how probable the confusion is.

Jeong and Chung 2022, "Recovering Top-Two Answers and Confusion Probability in Multi-Choice Crowdsourcing". Task j has
the answer g and the confusing answer h; worker i gives g with probability p_i q_j, h with p_i (1 - q_j), and any of the
K labels alike with 1 - p_i. Stage 1 reads g, h, p and q off a spectral estimate of the workers' reliability; stage 2
maximises the likelihood over all pairs. Where that would do worse than a plain vote (two labels, workers with habits,
workers who never meet, workers who are all alike) this departs from the paper: see ``top_two``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, cast

from pydantic import Field, field_validator

from operators.base import Scope
from operators.select.calibrated import Fitted, calibrated
from operators.select.classes import answer_key, class_votes, classify, distinct_answers, one_verifier
from operators.select.models import check_models, inputs_of_models, of_models
from operators.select.selection import VERDICTS, as_answers, plain_vote, problems_of, rank
from schemas.contract import Columns
from schemas.datasets import SAMPLE_KEY, Sample
from schemas.errors import BadInput
from schemas.identity import Added
from schemas.later import Bools, Floats, Ints, linalg, np, pl, sparse

SURE = (0.001, 0.999)
"""Range of a worker's reliability p."""
CONFUSED = (0.501, 0.999)
"""Range of q, the share of g among answers that aren't guesses."""
ROUNDS = 2
LEAST_ROOM = 0.05
"""Least of what is left beyond guessing, where a worker's labels are in nearly all pairs."""
ALL_EQUAL = 1e9
TIE = 1e-9
"""What is less apart is a tie. Chance decides it, or the label that was seen first, not the label's number."""


@dataclass(frozen=True)
class TopTwo:
    """The result for each task: ``first`` (g) and ``second`` (h) are labels 0..K-1, ``q`` is P(g | g or h)."""

    first: Ints
    second: Ints
    q: Floats


class SelectTopTwo(Fitted):
    """Pick each problem's answer and its most confusing rival; confidence is q, the rival's 1 - q.

    With ``worker`` all problems are seen at once: the column of that name (``sample_index``, or ``worker`` of the
    samples, which names a model or configuration) says who gave an answer, and workers differ in reliability. Labels
    are the answer classes. Of several answers of a worker to one problem the last counts. Of two labels q is the
    probability that the answer is the true one. Where 50 answers or more are known to be right or wrong, confidences
    are fitted to them; with fewer they are marked as ``uncalibrated`` (``operators.select.calibrated``).

    Without it all samples of a problem come from one configuration: p is common, and the likelihood only depends on how
    often each answer was given, so g and h are the two most frequent ones. p and q are then the problem's own maximum
    likelihood estimates: with e the mean share of the K - 2 other answers, p = 1 - K e and q = (share of g - e) / p.
    """

    version: ClassVar[int] = 2
    optional = frozenset({"samples"})

    models: Annotated[tuple[str, ...], Added] = ()
    """Names of the models that are the workers, each with its own ``verdicts_NAME``. A model's label is its most
    frequent answer."""
    worker: str = ""
    """``sample_index``, or ``worker``; empty: one configuration."""
    labels: int | None = Field(default=None, ge=2)
    """How many labels K there are to choose from, where some may never have been given."""

    @field_validator("models")
    @classmethod
    def _are_named(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return check_models(value)

    @property
    def scope(self) -> Scope:  # pyright: ignore[reportIncompatibleVariableOverride]
        return "dataset" if self.worker or self.models else "problem"

    @property
    def inputs(self) -> dict[str, Columns]:  # pyright: ignore[reportIncompatibleVariableOverride]
        samples = Sample.select("problem_key", "sample_index", "worker")
        return inputs_of_models(self.models) or {"verdicts": VERDICTS, "samples": samples}

    def run(
        self,
        verdicts: pl.DataFrame | pl.LazyFrame | None = None,
        samples: pl.DataFrame | pl.LazyFrame | None = None,
        **of_each: pl.DataFrame | pl.LazyFrame,
    ) -> pl.DataFrame:
        """Return one row per problem of the verdicts.

        Raises:
            BadInput: a worker column that isn't there, labels beyond K.
        """
        if self.models:
            table = of_models(self.models, of_each)
            workers = table.select(*SAMPLE_KEY, "worker")
        else:
            assert verdicts is not None
            table = one_verifier(verdicts.lazy()).collect(engine="streaming")
            if not self.worker:
                return self._by_counts(table)
            workers = self._workers(samples)
        return calibrated(self._by_workers(table, workers), plain_vote(table, self.method), self.holdout)

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
        if self.models:  # a model answers many times: what it says most often, first of equals, is what it says
            often = pl.len().over("problem_key", "who", "answer_class")
            first = pl.col("sample_index").min().over("problem_key", "who", "answer_class")
            answers = answers.with_columns(often=often, first=first).sort(
                "often", -pl.col("first"), maintain_order=True
            )
        answers = answers.unique(["problem_key", "who"], keep="last", maintain_order=True).sort(SAMPLE_KEY)
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
    """Recover the top-two answers of every task.

    With three labels or more this is Algorithm 1 of Jeong and Chung (2022), but for how far workers are believed: there
    p is the share of a worker's labels in the pairs of stage 1, less what guessing gives; here it is learnt from the
    pairs that *others* make likely (``_reliability``). With two labels every label is in the pair, and the algorithm
    has nothing to learn p from: ``operators.numeric.two_labels`` says which is the likelier one.

    Args:
        worker, task, label: one answer each, shape [answers]; numbered from 0 without gaps, labels below ``k``; at most
            one answer of a worker to a task.
    """
    if k == 2:
        from operators.numeric.two_labels import Labels, chances  # settings do without its numerics

        chance = chances(Labels(worker, task, label))
        seen = label[np.unique(task, return_index=True)[1]]
        first = np.where(np.abs(chance - 0.5) < TIE, seen, chance > 0.5).astype(np.int64)
        return TopTwo(first, 1 - first, np.maximum(chance, 1.0 - chance))
    workers, tasks = int(worker.max()) + 1, int(task.max()) + 1
    d = _spectral(worker, task, label, (workers, tasks), k)
    pair = np.argsort(d, axis=1, kind="stable")[:, :2]
    in_pair = (label[:, None] == pair[task]).any(axis=1)
    p = _beyond_guessing(_shrunk(worker, in_pair, workers), np.full(workers, 2 / k))
    q = np.clip(1 / k - d[np.arange(tasks), pair[:, 0]] / np.linalg.norm(p), *CONFUSED)
    p = _reliability(worker, task, label, k, p, q)
    return TopTwo(*_best_pairs(*_likelihoods(worker, task, label, k, p, q)[1]), q)


def _likelihoods(
    worker: Ints, task: Ints, label: Ints, k: int, p: Floats, q: Floats
) -> tuple[tuple[Floats, Floats], tuple[Floats, Floats]]:
    """Return what each answer adds if its label is g, and if it is h, shape [answers]; and their sums, [tasks, k]."""
    r = p / (1 - p)
    each = np.log(k * q[task] * r[worker] + 1), np.log(k * (1 - q[task]) * r[worker] + 1)
    as_first, as_second = (_per_label(values, task, label, (len(q), k)) for values in each)
    return each, (as_first, as_second)


def _reliability(worker: Ints, task: Ints, label: Ints, k: int, p: Floats, q: Floats) -> Floats:
    """Return how far each worker can be believed, shape [workers].

    A worker's label counts as good if it is in the pair that all *other* labels of its task make likeliest: a worker
    who has a say in the pair agrees with itself, the more so the more it is believed. And what counts is agreement
    beyond what the worker's own labels would have by chance: one who always gives the same label agrees as often as
    that label is in a pair, which says nothing of the task. Shares are drawn towards the mean of all workers, the more
    the less they differ beyond chance, so equal workers get equal weights.
    """
    workers, rows = len(p), np.arange(len(label))
    shared = np.bincount(task)[task] > 1
    ties = np.random.default_rng(0).random((len(label), k)) * TIE
    for _ in range(ROUNDS):
        each, sums = _likelihoods(worker, task, label, k, p, q)
        pairs = _best_pairs(*sums)
        usual = np.bincount(np.concatenate(pairs), minlength=k) / len(q)
        without = [total[task] for total in sums]
        for part, own in zip(without, each, strict=True):
            part[rows, label] -= own
        first, second = _best_pairs(without[0] + ties, without[1])
        agrees = (label == first) | (label == second)
        share = _shrunk(worker[shared], agrees[shared], workers)
        labels = np.maximum(np.bincount(worker, minlength=workers), 1)
        by_chance = np.bincount(worker, weights=usual[label], minlength=workers) / labels
        p = _beyond_guessing(share, np.maximum(by_chance, 2 / k))
    return p


def _beyond_guessing(share: Floats, guessing: Floats) -> Floats:
    return np.clip((share - guessing) / np.maximum(1.0 - guessing, LEAST_ROOM), *SURE)


def _shrunk(worker: Ints, hit: Bools, workers: int) -> Floats:
    """Return each worker's share of hits, drawn towards the mean by a beta prior fitted to all (method of moments)."""
    n = np.bincount(worker, minlength=workers).astype(np.float64)
    hits = np.bincount(worker, weights=hit, minlength=workers)
    total = max(float(n.sum()), 1.0)
    mean = float(hits.sum()) / total
    chance = mean * (1.0 - mean)
    off = float((n * (hits / np.maximum(n, 1.0) - mean) ** 2).sum())
    apart = (off - (np.count_nonzero(n) - 1) * chance) / max(total - float((n * n).sum()) / total, 1e-9)
    strength = max(chance / apart - 1.0, 0.0) if apart > 0 else ALL_EQUAL
    return (hits + strength * mean) / np.maximum(n + strength, 1e-9)


def _per_label(values: Floats, task: Ints, label: Ints, shape: tuple[int, int]) -> Floats:
    sums = np.bincount(task * shape[1] + label, weights=values, minlength=shape[0] * shape[1])
    return sums.astype(np.float64).reshape(shape)


def _spectral(worker: Ints, task: Ints, label: Ints, shape: tuple[int, int], k: int) -> Floats:
    """Return D, shape [tasks, k]: a task's likeliest labels have the smallest (stage 1)."""
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
    return np.diff(np.stack([*w, np.zeros(shape[1])], axis=1), axis=1)


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
        # where all labels are given alike, ones alone are mapped to zero, which can't be begun with
        start: Floats = np.random.default_rng(0).uniform(0.9, 1.1, int(min(signs.shape)))
        u = linalg.svds(operator, k=1, v0=start, return_singular_vectors="u")[0][:, 0]
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
