"""What a report needs of a run's tables: aggregates, never rows. Every query is lazy and streamed.

A run may have ten million samples, be unfinished, or have no verifier at all: each question answers ``None`` where the
run can't tell, and the section that would show it is left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import polars as pl

from operators.draws import draws
from operators.piecewise import key_ranges
from schemas.contract import polars_schema
from schemas.manifest import RunManifest
from schemas.measures import Calibration

SAMPLE_KEY = ("problem_key", "sample_index")
LENGTH_BINS = 32
RATE_BINS = 10
JOINED_ROWS = 1_000_000
"""Samples that are joined to their verdicts at once."""


def collect(rows: pl.LazyFrame) -> pl.DataFrame:
    """Run a query with the streaming engine."""
    return rows.collect(engine="streaming")


@dataclass(frozen=True)
class Lengths:
    """Completion lengths by verdict: ``bins`` has is_correct, bin (its lower edge), len; ``groups`` has is_correct,
    n, median."""

    bins: pl.DataFrame
    groups: pl.DataFrame
    width: int
    above: int
    """Samples longer than the last bin (the longest 0.5% at most)."""


class Source:
    """A run's manifest and tables, asked by dataset; the first stage of a dataset speaks for it."""

    def __init__(
        self,
        manifest: RunManifest,
        tables: Mapping[str, pl.LazyFrame],
        calls: Mapping[str, pl.LazyFrame] | None = None,
    ) -> None:
        self.manifest = manifest
        self.tables = tables
        self.calls = next(iter((calls or {}).values()), None)
        """The calls of the first stage that plays a strategy."""

    def scan(self, dataset: str, *columns: str) -> pl.LazyFrame | None:
        """Return these columns of the dataset's first stage; None where there is no such stage or column."""
        name = next((s.name for s in self.manifest.stages if s.dataset == dataset and s.name in self.tables), None)
        if name is None or not set(columns) <= set(self.tables[name].collect_schema().names()):
            return None
        return self.tables[name].select(columns)

    def rows(self, dataset: str, *columns: str) -> pl.DataFrame | None:
        """Collect a small dataset; None where it is absent or empty."""
        found = self.scan(dataset, *columns)
        frame = None if found is None else collect(found)
        return None if frame is None or frame.is_empty() else frame

    def height(self, dataset: str) -> int:
        """Return the number of rows in all stages of a dataset."""
        names = [s.name for s in self.manifest.stages if s.dataset == dataset and s.name in self.tables]
        return sum(int(collect(self.tables[name].select(pl.len())).item()) for name in names)

    @cached_property
    def samples(self) -> dict[str, Any] | None:
        """Samples, failed, and tokens of all samples of the run, reused ones included."""
        found = self.scan("samples", "problem_key", "status", "prompt_tokens", "completion_tokens", "tokens_estimated")
        if found is None:
            return None
        totals = found.select(
            pl.len().alias("samples"),
            (pl.col("status") == "error").sum().alias("failed"),
            pl.col("prompt_tokens").sum(),
            pl.col("completion_tokens").sum(),
            (pl.col("prompt_tokens") + pl.col("completion_tokens"))
            .filter(pl.col("tokens_estimated"))
            .sum()
            .alias("estimated_tokens"),
            pl.col("problem_key").n_unique().alias("problems"),
        )
        row = collect(totals).row(0, named=True)
        return row if row["samples"] else None

    @cached_property
    def coverage(self) -> pl.DataFrame | None:
        """The pass_at_k rows by k."""
        rows = self.rows("pass_at_k", "k", "coverage", "low", "high", "n_problems", "note")
        return None if rows is None else rows.sort("k")

    @cached_property
    def selection(self) -> pl.DataFrame | None:
        """The selection_accuracy rows by method and n, majority first."""
        rows = self.rows("selection_accuracy", "n", "method", "accuracy", "low", "high")
        return None if rows is None else rows.sort(pl.col("method") != "majority", "method", "n")

    @cached_property
    def plain_curve(self) -> pl.DataFrame | None:
        """The plain_curve rows."""
        return self.rows("plain_curve", "unit", "method", "n", "bill", "accuracy")

    @cached_property
    def equal_bill(self) -> pl.DataFrame | None:
        """The equal_bill rows."""
        names = ("arm", "unit", "method", "n_equal", "bill", "accuracy", "baseline", "difference", "low", "high")
        return self.rows("equal_bill", *names, "note")

    @cached_property
    def calibration(self) -> pl.DataFrame | None:
        """The calibration rows, the majority first."""
        added = Calibration.added
        rows = self.rows("calibration", *(name for name in polars_schema(Calibration) if name not in added))
        newer = self.rows("calibration", "method", *sorted(added))
        if rows is not None:
            absent = [pl.lit(None, pl.Float64).alias(name) for name in sorted(added)]
            rows = rows.with_columns(absent) if newer is None else rows.join(newer, on="method")
        return None if rows is None else rows.sort(pl.col("method") != "majority", "method")

    @cached_property
    def uncalibrated(self) -> list[str]:
        """The selection methods whose confidences nothing was there to check."""
        rows = self.rows("answers", "method", "calibration")
        if rows is None:
            return []
        return rows.filter(pl.col("calibration") == "uncalibrated")["method"].unique().sort().to_list()

    @cached_property
    def forecast(self) -> pl.DataFrame | None:
        """The forecast rows."""
        return self.rows("forecast", "model", "k", "method", "coverage", "low", "high", "note")

    @cached_property
    def audit(self) -> pl.DataFrame | None:
        """The verifier_audit rows."""
        return self.rows("verifier_audit", "metric", "k", "prior", "value", "low", "high", "n", "note")

    @cached_property
    def verdicts(self) -> pl.DataFrame | None:
        """Counts of verdicts by status and is_correct, most frequent first."""
        found = self.scan("verdicts", "status", "is_correct")
        if found is None:
            return None
        counts = collect(found.group_by("status", "is_correct").agg(pl.len().alias("n")))
        return None if counts.is_empty() else counts.sort("n", "status", descending=[True, False])

    @cached_property
    def rates(self) -> pl.DataFrame | None:
        """problem_key, right, judged and rate of each problem with a verdict, hardest first.

        A verdict without ``is_correct`` (skipped, timed out) isn't judged; the verdict counts show how many there are.
        """
        found = self.scan("verdicts", "problem_key", "is_correct", "chosen")
        if found is None:
            return None
        by_problem = (
            draws(found)
            .group_by("problem_key")
            .agg(
                pl.col("is_correct").sum().cast(pl.Int64).alias("right"),
                pl.col("is_correct").count().cast(pl.Int64).alias("judged"),
            )
        )
        judged = by_problem.filter(pl.col("judged") > 0).with_columns(
            (pl.col("right") / pl.col("judged")).alias("rate")
        )
        rates = collect(judged).sort("rate", "problem_key")
        return None if rates.is_empty() else rates

    @cached_property
    def rate_bins(self) -> pl.DataFrame | None:
        """Problems per tenth of pass rate: bin (0-9) and n; a rate of exactly 1 is in the last."""
        if self.rates is None:
            return None
        # In integers, so that 7 right of 10 falls where it belongs.
        bins = (pl.col("right") * RATE_BINS // pl.col("judged")).clip(0, RATE_BINS - 1).alias("bin")
        counts = self.rates.group_by(bins).agg(pl.len().alias("n"))
        all_bins = pl.DataFrame({"bin": range(RATE_BINS)}, schema={"bin": pl.Int64})
        return all_bins.join(counts, on="bin", how="left").with_columns(pl.col("n").fill_null(0)).sort("bin")

    @cached_property
    def lengths(self) -> Lengths | None:
        """Completion tokens of right and wrong samples."""
        samples = self.scan("samples", *SAMPLE_KEY, "status", "completion_tokens")
        verdicts = self.scan("verdicts", *SAMPLE_KEY, "is_correct")
        if samples is None or verdicts is None:
            return None
        tokens = pl.col("completion_tokens")
        counts = _counts_by_length(samples.filter(pl.col("status") == "ok"), verdicts)
        if counts.is_empty():
            return None
        counts = counts.sort("is_correct", "completion_tokens", descending=[True, False]).with_columns(
            pl.col("n").cum_sum().over("is_correct").alias("through"),
            pl.col("n").sum().over("is_correct").alias("total"),
        )
        groups = counts.group_by("is_correct", maintain_order=True).agg(
            pl.col("total").first().alias("n"),
            tokens.filter(pl.col("through") * 2 >= pl.col("total")).first().alias("median"),
        )
        by_length = counts.group_by("completion_tokens").agg(pl.col("n").sum()).sort("completion_tokens")
        reached = by_length["n"].cum_sum() / by_length["n"].sum()
        top = int(by_length["completion_tokens"].gather([(reached >= 0.995).arg_max() or 0]).item())
        width = max(1, math.ceil((top + 1) / LENGTH_BINS))
        inside = counts.filter(tokens <= top).group_by("is_correct", (tokens // width * width).alias("bin"))
        bins = inside.agg(pl.col("n").sum()).sort("is_correct", "bin")
        return Lengths(bins, groups, width, int(counts["n"].sum()) - int(bins["n"].sum()))


def _counts_by_length(samples: pl.LazyFrame, verdicts: pl.LazyFrame) -> pl.DataFrame:
    """Return is_correct, completion_tokens and n of judged samples, joined a few problems at a time."""
    judged = verdicts.filter(pl.col("is_correct").is_not_null())
    pieces: list[pl.DataFrame] = []
    for low, high in key_ranges([judged], JOINED_ROWS):
        some = pl.col("problem_key").is_between(pl.lit(low), pl.lit(high))
        joined = samples.filter(some).join(judged.filter(some), on=SAMPLE_KEY)
        pieces.append(collect(joined.group_by("is_correct", "completion_tokens").agg(pl.len().alias("n"))))
    if not pieces:
        return pl.DataFrame()
    return pl.concat(pieces).group_by("is_correct", "completion_tokens").agg(pl.col("n").sum())
