"""Searches against plain sampling at an equal bill: the same problems, and as many samples as a search has paid for.

A search that takes forty times the tokens of a sample must be better than a vote of forty samples. N* is the mean bill
of an episode over that of a plain sample, each a mean over problems of their means: one number for all problems. An N
of each problem's own, or of each episode's, would tell which problems were easy (a search ends early where it finds
something), and be a leak.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from pydantic import Field, field_validator

from operators.base import Operator
from operators.measure.counts import DRAWN
from operators.measure.intervals import BLOCK, ENDS
from operators.measure.plain import PLAIN_INPUTS, SIZES, STOPPING, UNITS, Plain
from operators.select.classes import one_verifier
from operators.select.models import check_names
from schemas.contract import Columns, polars_schema
from schemas.episodes import Episode, EqualBill
from schemas.later import Floats, Ints, np, pl
from schemas.prices import Prices, dollars_by_role, priced_as


class MeasureEqualBill(Operator):
    """Compare each arm's episodes with plain samples that take as much, problem by problem.

    Plain sampling is voted on (majority; ``rpc`` where there are log-probs; ``best_of_n`` where there are ``scores``),
    or asked whether some sample is right (``coverage``, against some row of an episode). Accuracy at N* is between
    those at the whole numbers around it. Intervals of the difference resample problems, N* computed anew each time.

    Bills are in tokens written, in all tokens read and written, in scorer passes, and in dollars where ``prices`` are
    given. What ``best_of_n`` would read to score a sample counts in its bill.

    Arms that stop by what came out (some of their episodes ended ``first_right`` or ``agreed``) are also compared with
    plain sampling that stops likewise, at the first right sample or at the first answer that comes again, with as many
    samples at most as make its mean bill the arm's.
    """

    version: ClassVar[int] = 2
    scope = "dataset"
    output = EqualBill

    arms: tuple[str, ...] = Field(default=("search",), min_length=1)
    """Names of the arms: each has inputs ``episodes_NAME`` and ``verdicts_NAME``."""
    prices: dict[str, Prices] = {}
    """What tokens cost, by role (``policy``, ``scorer``, ...), or by arm and role (``beam/policy``). Plain samples pay
    ``policy``, and ``scorer`` where they are scored; a role whose engine isn't its own is the policy's."""
    subsets: int = Field(default=50, ge=5)
    """Random subsets of the plain samples at each size."""
    bootstrap: int = Field(default=1000, ge=100)
    """How many times problems are drawn anew for the intervals."""
    seed: int = 0
    """Of the random draws: the same seed, the same intervals."""

    @field_validator("arms")
    @classmethod
    def _named(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return check_names(value)

    @field_validator("prices")
    @classmethod
    def _of_tokens(cls, value: dict[str, Prices]) -> dict[str, Prices]:
        if lacking := [role for role, prices in value.items() if prices.rates is None]:
            raise ValueError(f"prices of tokens read and written are needed for {', '.join(lacking)}")
        if value and "policy" not in value:
            raise ValueError("the price of plain sampling is that of the role 'policy'")
        return value

    @property
    def inputs(self) -> dict[str, Columns]:  # pyright: ignore[reportIncompatibleVariableOverride]
        found = dict(PLAIN_INPUTS)
        for arm in self.arms:
            found |= {f"episodes_{arm}": Episode.select(), f"verdicts_{arm}": PLAIN_INPUTS["verdicts"]}
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
        plain = Plain(tables, self.subsets, self.seed, self.prices)
        rows: list[dict[str, Any]] = []
        for arm in self.arms:
            episodes, verdicts = tables[f"episodes_{arm}"], tables[f"verdicts_{arm}"]
            assert episodes is not None and verdicts is not None
            prices = {role: self.prices.get(priced_as(arm, role)) or self.prices.get(role) for role in _roles(episodes)}
            stops = [rule for ended, rule in STOPPING.items() if ended in episodes["ended_by"]]
            for row in self._compared(_arm(episodes, verdicts, prices), plain, stops):
                rows.append({"arm": arm, **row})
        return pl.DataFrame(rows, schema=polars_schema(EqualBill), orient="row")

    def _compared(self, arm: pl.DataFrame, plain: Plain, stops: list[str]) -> Iterator[dict[str, Any]]:
        both = plain.table.join(arm, on="problem_key", how="inner", maintain_order="left")
        if both.is_empty():
            return
        some = both["place"].to_numpy()
        rng = np.random.default_rng(self.seed)
        replicates = min(self.bootstrap, max(100, BLOCK // len(both)))
        weights = rng.multinomial(len(both), [1.0 / len(both)] * len(both), size=replicates) / len(both)
        for unit in UNITS:
            for method in (*plain.methods, "coverage", *stops):
                each = plain.bill(unit, method)
                if each is None:
                    continue
                right = both["any_right" if method == "coverage" else "accuracy"].to_numpy()
                row: dict[str, Any] = {"unit": unit, "method": method, "n_equal": None, "accuracy": right.mean()}
                row |= dict.fromkeys(("baseline", "difference", "low", "high", "bill"))
                row |= {"n_problems": len(both), "note": ""}
                if both[f"arm_{unit}"].null_count():
                    yield {**row, "note": "the price of a role that it asks isn't known"}
                    continue
                yield row | self._at_equal(
                    both[f"arm_{unit}"].to_numpy(), right, each[some], weights, plain, method, some
                )

    def _at_equal(
        self, paid: Floats, right: Floats, own: Floats, weights: Floats, plain: Plain, method: str, some: Ints
    ) -> dict[str, Any]:
        """Return what is found where plain sampling of some problems takes as much, on average, as an arm was paid."""
        row: dict[str, Any] = {"bill": paid.mean(), "note": ""}
        equal = float(paid.mean() / own.mean()) if own.mean() > 0 else math.inf
        if method in STOPPING.values():
            sizes = plain.sizes(method)
            taken = np.array([float((own * plain.drawn(method, size)[some]).mean()) for size in sizes])
            if paid.mean() > taken[-1] and len(sizes) > 1 and taken[-1] - taken[-2] < STOPPED * own.mean():
                row["note"] = "plain sampling stops before it has taken as much; compared with all of it"
                equal = float(plain.total)
            else:
                first = float(paid.mean() / taken[0])
                equal = _along(taken, np.array(sizes, dtype=np.float64), float(paid.mean())) if first >= 1 else first
                equal = math.inf if paid.mean() > taken[-1] else equal
        else:
            spread = np.clip((weights @ paid) / (weights @ own), 1.0, plain.total) if own.mean() > 0 else np.ones(1)
            sizes = _sizes(min(max(1.0, equal), plain.total), spread)
        if equal > plain.total:
            row["note"] = f"plain sampling has only {plain.total} samples of each problem; draw more"
            return {**row, "n_equal": equal if math.isfinite(equal) else None}
        if equal < 1:
            row["note"] = "less than one sample's bill; compared with one"
        curve = np.stack([plain.right(method, size)[some] for size in sizes])
        bills = np.stack([own * plain.drawn(method, size)[some] for size in sizes])
        baseline = _along(bills.mean(axis=1), curve.mean(axis=1), float(paid.mean()))
        found = float(right.mean() - baseline)
        all_bills, all_right = weights @ bills.T, weights @ curve.T
        replicated = weights @ right - np.array(
            [_along(*one) for one in zip(all_bills, all_right, weights @ paid, strict=True)]
        )
        low, high = (float(end) for end in np.quantile(replicated, ENDS))
        row |= {"n_equal": equal, "baseline": baseline, "difference": found}
        return row | {"low": min(low, found), "high": max(high, found)}


STOPPED = 0.01
"""Plain sampling has stopped by itself where fewer problems than this share would get one sample more."""


def _roles(episodes: pl.DataFrame) -> list[str]:
    """Return the roles that were paid."""
    return sorted({role for told in episodes["roles"].drop_nulls() for role in json.loads(told)})


def _arm(episodes: pl.DataFrame, verdicts: pl.DataFrame, prices: Mapping[str, Prices | None]) -> pl.DataFrame:
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
        arm_dollars=pl.Series([dollars_by_role(told, prices) for told in episodes["roles"]], dtype=pl.Float64),
    )
    rows = took.join(judged, on=key).drop_nulls("accuracy")
    unknown = pl.when(pl.col("arm_dollars").null_count() == 0).then(pl.col("arm_dollars").mean()).alias("arm_dollars")
    means = pl.exclude("problem_key", "episode", "arm_dollars").mean()
    return rows.group_by("problem_key", maintain_order=True).agg(means, unknown)


def _sizes(equal: float, spread: Floats) -> list[int]:
    """Return the sizes at which a curve is measured: those around N*, and some around its replicates."""
    low, high = math.floor(spread.min()), math.ceil(spread.max())
    step = max(1, (high - low) // SIZES)
    return sorted({math.floor(equal), math.ceil(equal), high, *range(low, high + 1, step)})


def _along(bills: Floats, curve: Floats, paid: float) -> float:
    """Return a curve, [sizes], where its bill is so much; at its ends where it never is."""
    return float(np.interp(paid, bills, curve))
