"""Accuracy of selection as a function of how many samples it sees.

The majority's accuracy with n of a problem's N samples is a mean over subsets of size n, of which 100 random ones are
drawn. A vote only needs the classes' counts in the subset, so samples become integers (which class) in one matrix,
subsets become prefixes of a random order, and a curve is a running count along that order. Reducing samples to integers
goes piece by piece; of ten million samples the integers are 40 MB.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import ClassVar

from pydantic import Field, field_validator

from operators.base import AnyOperator
from operators.draws import draws
from operators.measure.intervals import new_problems
from operators.measure.pass_at_k import powers_of_two
from operators.measure.subsets import Aligned, align, pack, right_on, unpack
from operators.piecewise import PiecewiseOperator
from operators.select.classes import answer_key, classify, distinct_answers, in_n, one_verifier
from operators.select.majority import MajorityVote
from operators.select.selection import Selection
from operators.select.union import inputs_of, optional_of, selections
from schemas.contract import Columns
from schemas.datasets import SAMPLE_KEY
from schemas.errors import BadInput
from schemas.later import Floats, Ints, NDArray, np, pl
from schemas.measures import SelectionAccuracy

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
    """Accuracy of selection methods against n, with 95% intervals (prediction@n).

    ``accuracy`` at n < N is the mean over ``subsets`` random subsets of size n, the same positions for every problem
    and method. Within a subset a tie of the majority counts as the share of the tied classes that is right: the mean of
    "first seen wins" over the orders of the subset. Other methods see the subset in a random order. At n = N there is
    one subset and ties go to the answer seen first: where all problems have N samples, the number is exactly that of
    the method itself. N is the smallest n of any problem; of others the first N by sample_index are used, because a
    longer curve for some would compare different problems at different n. ``first_n`` is the accuracy with the first n
    samples by sample_index.

    Each sample comes first in as many subsets as any other, so that at n = 1 accuracy is the pass rate. ``low`` and
    ``high`` are the ends of the 95% interval for problems like these (``operators.measure.intervals``): of how right
    the subsets of each problem are on average, with ``bootstrap`` draws. Where nothing is right it doesn't end at 0.

    An episode counts as one sample, of what it chose. Problems without a known answer are left out. Samples count in n
    as they do in ``select.majority``. A majority costs the counting of votes; of other methods a size is measured on
    fewer subsets where all would have more than ``rows`` rows together (``subsets`` tells on how many).
    """

    version: ClassVar[int] = 3
    output = SelectionAccuracy

    methods: tuple[AnyOperator, ...] = (MajorityVote(),)
    """Selections that see one problem at a time and ask no engine."""
    subsets: int = Field(default=100, ge=10)
    """Random subsets per n."""
    rows: int = Field(default=2_000_000, ge=1)
    """Most rows of samples that are held in memory at once."""
    bootstrap: int = Field(default=1000, ge=100)
    """Draws that intervals are made of."""
    seed: int = 0
    """Of the random subsets: the same seed, the same numbers."""

    @field_validator("methods")
    @classmethod
    def _can_be_cut(cls, value: tuple[AnyOperator, ...]) -> tuple[AnyOperator, ...]:
        for method in selections(value):
            if method.scope != "problem" or "engine" in method.tools:
                why = "asks an engine" if "engine" in method.tools else "sees all problems at once"
                raise ValueError(f"{method.public_name()} can't be measured on subsets of the samples: it {why}")
        return value

    @property
    def inputs(self) -> dict[str, Columns]:  # pyright: ignore[reportIncompatibleVariableOverride]
        found = inputs_of((MajorityVote(), *self.methods))
        verdicts = found["verdicts"]
        return found | {"verdicts": Columns(verdicts.contract, (*verdicts.names, "chosen"))}

    @property
    def optional(self) -> frozenset[str]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return optional_of((MajorityVote(), *self.methods))

    def partial(self, verdicts: pl.DataFrame | None = None, **others: pl.DataFrame | None) -> pl.DataFrame:
        """Return the votes of each problem that has both samples and a known answer, and what other methods read.

        Returns:
            problem_key; ``correct``, a list of whether each class is right, in the order in which classes were first
            seen, and [false] if there are none; ``votes``, a list of each sample's class as its position in
            ``correct``, or -1 for a sample that voted for nothing, in the order of sample_index (int32); ``tables``,
            all rows that other methods than the majority need of all these problems, packed, in the first row.
        """
        assert verdicts is not None
        verdicts = draws(one_verifier(verdicts))
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
        rows = table.collect(engine="streaming")
        packed = None
        if not all(type(method) is MajorityVote for method in self.methods):
            some = rows.select("problem_key")
            tables = {"verdicts": verdicts, **others}
            packed = pack(
                {name: t if t is None else t.join(some, on="problem_key", how="semi") for name, t in tables.items()}
            )
        here = pl.int_range(pl.len()) == 0
        return rows.with_columns(tables=pl.when(here).then(pl.lit(packed, dtype=pl.Binary)))

    def merge(self, partials: pl.DataFrame) -> pl.DataFrame:
        """Return one row per n and method: powers of two up to the smallest number of samples N, and N.

        Raises:
            BadInput: no problem has both samples and a known answer.
        """
        if partials.is_empty():
            raise BadInput(
                "measure.selection: no problem has both samples and a known answer, so there is nothing to measure"
            )
        partials = partials.sort("problem_key")
        data = _arrange(partials)
        total, problems = data.votes.shape
        orders = Orders(total, self.subsets, self.seed)
        sizes = powers_of_two(total)
        pieces = [align(unpack(packed), total) for packed in partials["tables"].drop_nulls()]
        found: list[pl.DataFrame] = []
        for method in selections(self.methods):
            if type(method) is MajorityVote:
                curves = {method.method: (subset_accuracy(data, sizes, orders), first_accuracy(data, sizes))}
            else:
                curves = self._stacked(method, pieces, sizes, orders, problems)
            found += [self._summary(name, sizes, *curve) for name, curve in sorted(curves.items())]
        return pl.concat(found)

    def _stacked(
        self, method: Selection, pieces: list[Aligned], sizes: list[int], orders: Orders, problems: int
    ) -> dict[str, tuple[list[Floats], Floats]]:
        """Return name -> (for each size how right the method is [subsets, problems], and with the first ones)."""
        drawn: dict[str, list[Floats]] = {}
        first: dict[str, list[float]] = {}
        for size in sizes:
            few = max(1, min(len(orders), self.rows // (size * problems))) if size < orders.total else 0
            asked = [np.arange(size, dtype=np.int64), *(order[:size].copy() for order in islice(orders, few))]
            of_pieces = [right_on(method, piece, asked, size) for piece in pieces]
            for name in sorted({name for piece in of_pieces for name in piece}):
                nothing = [np.zeros((len(asked), len(piece.keys))) for piece in pieces]
                parts = [got.get(name, none) for got, none in zip(of_pieces, nothing, strict=True)]
                right = np.concatenate(parts, axis=1)
                drawn.setdefault(name, []).append(right[1:] if few else right[:1])
                first.setdefault(name, []).append(float(right[0].mean()))
        return {name: (curve, np.array(first[name])) for name, curve in drawn.items()}

    def _summary(self, name: str, sizes: list[int], right: list[Floats], first: Floats) -> pl.DataFrame:
        of_each = np.stack([one.mean(axis=0) for one in right], axis=1)
        low, high = new_problems(of_each, of_each, self.bootstrap, self.seed)
        accuracy = of_each.mean(axis=0)
        columns = {
            "n": sizes,
            "method": [name] * len(sizes),
            "accuracy": accuracy,
            "low": np.minimum(low, accuracy),
            "high": np.maximum(high, accuracy),
            "first_n": first,
            "subsets": [len(one) for one in right],
            "n_problems": [right[0].shape[1]] * len(sizes),
        }
        return pl.DataFrame(columns)


class Orders:
    """Random orders of ``total`` samples, in which each comes first as often as any other, or once more or less.

    They are made whenever they are gone through, the same ones each time: a hundred orders of a hundred thousand
    samples would be 80 MB.
    """

    def __init__(self, total: int, count: int, seed: int) -> None:
        self.total = total
        rng = np.random.default_rng(seed)
        self._first = np.concatenate([rng.permutation(total) for _ in range(-(-count // total))])[:count].copy()
        self._state = rng.bit_generator.state

    def __len__(self) -> int:
        return len(self._first)

    def __iter__(self) -> Iterator[Ints]:
        rng = np.random.default_rng()
        rng.bit_generator.state = self._state
        for one in self._first:
            order = rng.permutation(self.total)
            place = int(np.flatnonzero(order == one)[0])
            order[1 : place + 1] = order[:place].copy()
            order[0] = one
            yield order


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


def subset_accuracy(data: Votes, sizes: list[int], orders: Orders) -> list[Floats]:
    """Return for each size how right the vote is: shape [subsets, problems], shares in [0, 1]; one subset at N.

    One random order of the samples serves all sizes of a subset (prefixes) and all problems, whose samples are
    independent of each other's.
    """
    total, problems = data.votes.shape
    right = [np.empty((len(orders) if size < total else 1, problems)) for size in sizes]
    every = _count(data, np.arange(total, dtype=np.int64))
    for subset, order in enumerate(orders):
        counts = np.zeros_like(every)
        done = 0
        for row, size in enumerate(sizes):
            if size < total:
                shorter = total - size < size - done  # to count what isn't in the subset
                counts = every - _count(data, order[size:]) if shorter else counts + _count(data, order[done:size])
                right[row][subset] = _ties_shared(counts, data)
                done = size
    if sizes[-1] == total:
        right[-1][:] = _first_wins(every, data)
    return right


def first_accuracy(data: Votes, sizes: list[int]) -> Floats:
    """Return the accuracy of the vote among the first samples of each problem, shape [sizes]."""
    found, done = np.empty(len(sizes)), 0
    counts = np.zeros(data.correct.size, dtype=np.int64)
    for row, size in enumerate(sizes):
        counts += _count(data, np.arange(done, size, dtype=np.int64))
        found[row] = _first_wins(counts, data).mean()
        done = size
    return found


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
