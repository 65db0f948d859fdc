"""Searches against plain sampling at an equal bill: the same problems, and as many samples as a search has paid for.

A search that takes forty times the tokens of a sample must be better than a vote of forty samples. N* is the mean bill
of an episode over that of a plain sample, each a mean over problems of their means: one number for all problems. An N
of each problem's own, or of each episode's, would tell which problems were easy (a search ends early where it finds
something), and be a leak.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field, field_validator

from operators.base import Operator
from operators.draws import draws
from operators.measure.counts import DRAWN
from operators.measure.intervals import BLOCK, ENDS
from operators.measure.pass_at_k import estimate
from operators.measure.subsets import Aligned, align, right_on
from operators.select.classes import one_verifier
from operators.select.majority import MajorityVote
from operators.select.models import check_names
from operators.select.perplexity import Rpc
from operators.select.scored import BestOfN
from operators.select.selection import SCORES, VERDICTS, Selection
from schemas.contract import Columns, polars_schema
from schemas.datasets import Episode, EqualBill, Sample, Verdict
from schemas.errors import BadInput

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
UNITS = ("completion_tokens", "tokens", "scorer_passes")
SIZES = 24
"""Sizes at which a curve is measured at most; between them it is interpolated."""


class MeasureEqualBill(Operator):
    """Compare each arm's episodes with plain samples that take as much, problem by problem.

    Plain sampling is voted on (majority; ``rpc`` where there are log-probs; ``best_of_n`` where there are ``scores``),
    or asked whether some sample is right (``coverage``, against some row of an episode). Accuracy at N* is between
    those at the whole numbers around it. Intervals of the difference resample problems, N* computed anew each time.

    Bills are in tokens written, in all tokens read and written, and in scorer passes. What ``best_of_n`` would read to
    score a sample counts in its bill.
    """

    version: ClassVar[int] = 1
    scope = "dataset"
    output = EqualBill

    arms: tuple[str, ...] = Field(default=("search",), min_length=1)
    """Names of the arms: each has inputs ``episodes_NAME`` and ``verdicts_NAME``."""
    subsets: int = Field(default=50, ge=5)
    """Random subsets of the plain samples at each size."""
    bootstrap: int = Field(default=1000, ge=100)
    seed: int = 0

    @field_validator("arms")
    @classmethod
    def _named(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return check_names(value)

    @property
    def inputs(self) -> dict[str, Columns]:  # pyright: ignore[reportIncompatibleVariableOverride]
        tokens = ("prompt_tokens", "completion_tokens")
        verdicts = Verdict.select(*VERDICTS.names, "episode", "chosen")
        found = {
            "samples": Sample.select(*Rpc.inputs["samples"].names, *tokens),
            "verdicts": verdicts,
            "scores": SCORES,
        }
        for arm in self.arms:
            found |= {f"episodes_{arm}": Episode.select(), f"verdicts_{arm}": verdicts}
        return found

    @property
    def optional(self) -> frozenset[str]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return frozenset({"scores"})

    def run(self, **inputs: pl.LazyFrame | None) -> pl.DataFrame:
        """Return one row per arm, unit of the bill and method of plain sampling.

        Raises:
            BadInput: no problem was sampled plainly and judged.
        """
        tables = {name: None if table is None else table.collect() for name, table in inputs.items()}
        plain = _Plain(tables, self.subsets, self.seed)
        rows: list[dict[str, Any]] = []
        for arm in self.arms:
            episodes, verdicts = tables[f"episodes_{arm}"], tables[f"verdicts_{arm}"]
            assert episodes is not None and verdicts is not None
            for row in self._compared(_arm(episodes, verdicts), plain):
                rows.append({"arm": arm, **row})
        return pl.DataFrame(rows, schema=polars_schema(EqualBill), orient="row")

    def _compared(self, arm: pl.DataFrame, plain: _Plain) -> Iterator[dict[str, Any]]:
        both = plain.table.join(arm, on="problem_key", how="inner", maintain_order="left")
        if both.is_empty():
            return
        some = both["place"].to_numpy()
        rng = np.random.default_rng(self.seed)
        replicates = min(self.bootstrap, max(100, BLOCK // len(both)))
        weights = rng.multinomial(len(both), [1.0 / len(both)] * len(both), size=replicates) / len(both)
        for unit in UNITS:
            for method in (*plain.methods, "coverage"):
                each = plain.bill(unit, method)
                if each is None:
                    continue
                paid, own = both[f"arm_{unit}"].to_numpy(), each[some]
                equal = float(paid.mean() / own.mean()) if own.mean() > 0 else math.inf
                values = both["any_right" if method == "coverage" else "accuracy"].to_numpy()
                row: dict[str, Any] = {"unit": unit, "method": method, "n_equal": equal, "accuracy": values.mean()}
                row |= {"baseline": None, "difference": None, "low": None, "high": None}
                row |= {"bill": paid.mean(), "n_problems": len(both), "note": ""}
                if equal > plain.total:
                    row["note"] = f"plain sampling has only {plain.total} samples of each problem; draw more"
                    yield {**row, "n_equal": equal if math.isfinite(equal) else None}
                    continue
                if equal < 1:
                    row["note"] = "less than one sample's bill; compared with one"
                spread = np.clip((weights @ paid) / (weights @ own), 1.0, plain.total)
                sizes = _sizes(max(1.0, equal), spread)
                curve = np.stack([plain.right(method, size)[some] for size in sizes])
                base = _at(curve, sizes, np.array([max(1.0, equal)]))[0]
                replicated = (weights * values).sum(axis=1) - np.array(
                    [
                        float(one @ _at(curve, sizes, np.array([size]))[0])
                        for one, size in zip(weights, spread, strict=True)
                    ]
                )
                found = float(values.mean() - base.mean())
                low, high = (float(end) for end in np.quantile(replicated, ENDS))
                row |= {"baseline": base.mean(), "difference": found, "low": min(low, found), "high": max(high, found)}
                yield row


class _Plain:
    """What is known of plain sampling: bills of a sample, and how often votes of n samples are right."""

    def __init__(self, tables: Mapping[str, pl.DataFrame | None], subsets: int, seed: int) -> None:
        samples, verdicts, scores = tables["samples"], tables["verdicts"], tables.get("scores")
        assert samples is not None and verdicts is not None
        verdicts = draws(one_verifier(verdicts))
        known = verdicts.group_by("problem_key").agg(pl.col("is_correct").is_not_null().any())
        verdicts = verdicts.join(known.filter("is_correct"), on="problem_key", how="semi")
        if verdicts.is_empty():
            raise BadInput(
                "measure.equal_bill: no problem was sampled plainly and judged, so there is nothing to compare"
            )
        sizes = verdicts.filter(~pl.col("status").is_in(["error", "skipped"])).group_by("problem_key").len()
        self.total = int(sizes["len"].min() or 0)  # pyright: ignore[reportArgumentType]
        others = {"samples": samples.select(Rpc.inputs["samples"].names)}
        if scores is not None:  # of several scorers the one whose name sorts first
            others["scores"] = scores.filter(pl.col("scorer") == pl.col("scorer").min())
        self._data: Aligned = align(
            {"verdicts": verdicts.drop("episode", "chosen", strict=False), **others}, self.total
        )
        self._orders = [np.random.default_rng((seed, one)).permutation(self.total) for one in range(subsets)]
        logprobs = samples["mean_logprob"].null_count() < len(samples)
        self.methods: dict[str, Selection] = {"majority": MajorityVote()}
        self.methods |= {"rpc": Rpc()} if logprobs else {}
        self.methods |= {"best_of_n": BestOfN()} if scores is not None else {}
        bills = samples.filter(pl.col("status") != "error").group_by("problem_key").agg(
            completion_tokens=pl.col("completion_tokens").mean(),
            tokens=(pl.col("completion_tokens") + pl.col("prompt_tokens")).mean(),
        )  # fmt: skip
        keys = pl.DataFrame({"problem_key": self._data.keys}).with_row_index("place")
        self.table = keys.join(bills, on="problem_key", how="left", maintain_order="left")
        self._known: dict[tuple[str, int], Floats] = {}

    def bill(self, unit: str, method: str) -> Floats | None:
        """Return what a sample of each problem takes; None where this method takes nothing in the unit."""
        if unit == "scorer_passes":
            return np.ones(len(self.table)) if method == "best_of_n" else None
        return self.table[unit].to_numpy() * (2.0 if method == "best_of_n" and unit == "tokens" else 1.0)

    def right(self, method: str, size: int) -> Floats:
        """Return how often the method is right with so many samples of each problem."""
        if (method, size) not in self._known:
            self._known[method, size] = self._covered(size) if method == "coverage" else self._voted(method, size)
        return self._known[method, size]

    def _voted(self, method: str, size: int) -> Floats:
        orders: Sequence[Ints] = [np.arange(self.total)] if size == self.total else self._orders
        [found] = right_on(self.methods[method], self._data, orders, size).values()
        return found.mean(axis=0)

    def _covered(self, size: int) -> Floats:
        right = self._data.verdicts.group_by("problem_key", maintain_order=True).agg(
            n=pl.len(), c=pl.col("is_correct").fill_null(False).sum()
        )
        n, c = (right[name].to_numpy().astype(np.int64) for name in ("n", "c"))
        return estimate(n, c, np.array([size]))[:, 0]


def _arm(episodes: pl.DataFrame, verdicts: pl.DataFrame) -> pl.DataFrame:
    """Return, of each problem, accuracy and any_right of its episodes and what they took on average."""
    key = ["problem_key", "episode"]
    drawn = pl.col("status").is_in(DRAWN) & pl.col("is_correct").is_not_null()
    own = drawn & pl.col("chosen").fill_null(False)
    judged = one_verifier(verdicts).group_by(key).agg(
        accuracy=pl.col("is_correct").filter(own).first().cast(pl.Float64),
        any_right=pl.col("is_correct").filter(drawn).any().cast(pl.Float64),
    )  # fmt: skip
    took = episodes.select(
        *key,
        arm_completion_tokens="completion_tokens",
        arm_tokens=pl.col("prompt_tokens") + pl.col("completion_tokens") + pl.col("scorer_tokens"),
        arm_scorer_passes="scorer_passes",
    )
    rows = took.join(judged, on=key).drop_nulls("accuracy")
    return rows.group_by("problem_key", maintain_order=True).agg(pl.exclude("problem_key", "episode").mean())


def _sizes(equal: float, spread: Floats) -> list[int]:
    """Return the sizes at which a curve is measured: those around N*, and some around its replicates."""
    low, high = math.floor(spread.min()), math.ceil(spread.max())
    step = max(1, (high - low) // SIZES)
    return sorted({math.floor(equal), math.ceil(equal), high, *range(low, high + 1, step)})


def _at(curve: Floats, sizes: Sequence[int], wanted: Floats) -> Floats:
    """Return a curve, [sizes, problems], at numbers between its sizes: [wanted, problems]."""
    after = np.clip(np.searchsorted(sizes, wanted), 1, max(1, len(sizes) - 1))
    if len(sizes) == 1:
        return np.repeat(curve, len(wanted), axis=0)
    left, right = np.asarray(sizes)[after - 1], np.asarray(sizes)[after]
    share = np.clip((wanted - left) / (right - left), 0.0, 1.0)[:, None]
    return curve[after - 1] * (1.0 - share) + curve[after] * share
