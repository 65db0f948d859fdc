"""What became of right samples: training rows, or the reason why not."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from jobs.report.collect import JOINED_ROWS, SAMPLE_KEY, Source, collect
from operators.piecewise import key_ranges

REST = "beyond what a problem may give, or left out by the stage's settings"
SAME = "the same text as another"


@dataclass(frozen=True)
class Training:
    """Right samples, rows that came of them, and why others gave none: (reason, samples), the most frequent first."""

    right: int
    rows: int
    reasons: list[tuple[str, int]]


def training(source: Source) -> Training | None:
    """Return what became of a run's right samples; None where it makes no training rows, or nobody judged."""
    makers = [stage for stage in source.manifest.stages if stage.dataset == "sft"]
    verdicts = source.scan("verdicts", *SAMPLE_KEY, "is_correct")
    if not makers or verdicts is None:
        return None
    rows, right = source.height("sft"), 0
    counts: dict[str, int] = {}
    accepted = verdicts.filter(pl.col("is_correct")).select(SAMPLE_KEY)
    for low, high in key_ranges([accepted], JOINED_ROWS):
        some = pl.col("problem_key").is_between(pl.lit(low), pl.lit(high))
        found = collect(accepted.filter(some).unique())
        right += found.height
        if makers[0].complete:
            for reason, count in _reasons(source, found, some).iter_rows():
                counts[reason] = counts.get(reason, 0) + count
    if not right:
        return Training(0, rows, [("no sample was found right", 0)])
    if not makers[0].complete:
        counts = {f"stage {makers[0].name} isn't complete": right - rows}
    return Training(right, rows, sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _reasons(source: Source, right: pl.DataFrame, some: pl.Expr) -> pl.DataFrame:
    """Return reason and number of right samples of some problems that gave no row.

    The reason is what the stage that chose wrote down, where the run has one, else what samples themselves show.
    """
    key = list(SAMPLE_KEY)
    kept = source.scan("sft", *key)
    left = right if kept is None else right.join(collect(kept.filter(some)), on=key, how="anti")
    paths = source.scan("paths", *key, "kept", "reason")
    told = pl.lit(None, dtype=pl.String)
    if paths is not None:
        dropped = collect(paths.filter(some & ~pl.col("kept")).select(*key, "reason"))
        left, told = left.join(dropped, on=key, how="left"), pl.col("reason")
    samples = source.scan("samples", *key, "status", "finish_reason", "completion_hash")
    if samples is not None:
        drawn = collect(samples.filter(some)).join(right, on=key, how="semi")
        first = pl.int_range(pl.len()).over("problem_key", "completion_hash") > 0
        drawn = drawn.sort(key).with_columns(copy=first).drop("completion_hash")
        left = left.join(drawn, on=key, how="left")
        shown = (
            pl.when(pl.col("status") != "ok")
            .then(pl.lit("the sample failed"))
            .when(pl.col("finish_reason") == "length")
            .then(pl.lit("truncated"))
            .when("copy")
            .then(pl.lit(SAME))
        )
        told = pl.coalesce(told, shown)
    return left.group_by(pl.coalesce(told, pl.lit(REST)).alias("reason")).agg(pl.len().alias("n"))
