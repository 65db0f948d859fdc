"""``gristmill threshold``: from which value on a small model's answers can be taken without asking the large one.

Everything is by problems whose answers are known and that aren't held out, one answer of each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import polars as pl
from rich.console import Console
from rich.table import Table

from cluster.records.reader import find_run, last_stage, open_stage
from cluster.storage.root import Root
from cluster.storage.tables import SUFFIXES, read_table
from jobs.looking.holdout import held_share
from jobs.simulate.records import PROBLEM
from operators.draws import draws
from operators.load.held_out import part_of
from operators.measure.counts import DRAWN
from operators.select.classes import one_verifier
from operators.strategies.thresholds import least_answers, steps
from schemas.datasets import SAMPLE_KEY
from schemas.errors import BadInput
from schemas.manifest import RunManifest

VALUES = ("search_score", "score", "value")
"""Columns of a table that may say how sure the small model is."""
SHOWN = 20
"""Thresholds that are printed for people."""


def threshold(root: str, source: str, wanted: float, sure: float, holdout: float) -> dict[str, Any]:
    """Return the cheapest threshold that keeps an accuracy, and all that were tried.

    Args:
        source: a run whose sampling stage plays ``cascade``, or a table: a problem, a value, ``is_correct``, and,
            where the large model was asked about some, ``accepted``.
        holdout: the share of problems that is left out, for it is held out; a run says itself what is.

    Raises:
        BadInput: no such run or table, or one that doesn't say what is needed.
    """
    if source.endswith((*SUFFIXES, ".gz")) or Path(source).exists() or "://" in source:
        table = _of_table(read_table(source), source)
    else:
        place = Root.at(root)
        run = find_run(place, source)
        table, holdout = _of_run(place, run), holdout or held_share(run.config)
    kept = part_of(table, holdout, "tuning", "problem") if holdout else table
    known = kept.drop_nulls("right").sort("problem", "place").unique("problem", keep="first", maintain_order=True)
    own = known.filter("accepted")
    found = steps(own["value"].to_list(), own["right"].to_list(), wanted, sure)
    passed = [one for one in found if one.passed]
    best = passed[-1] if passed else None
    return {
        "source": source,
        "threshold": best.threshold if best else None,
        "wanted": wanted,
        "sure": sure,
        "problems": len(known),
        "held_out": table["problem"].n_unique() - kept["problem"].n_unique(),
        "by_large": len(known) - len(own),
        "least": least_answers(wanted, sure),
        "taken": best.accepted / len(known) if best else 0.0,
        "accuracy": best.right / best.accepted if best else None,
        "low": best.low if best else None,
        "tried": [asdict(one) for one in found],
    }


def _of_table(table: pl.DataFrame, source: str) -> pl.DataFrame:
    """Return problem, place, value, right, accepted."""
    problem = next((name for name in PROBLEM if name in table.columns), None)
    value = next((name for name in VALUES if name in table.columns), None)
    if problem is None or value is None or "is_correct" not in table.columns:
        raise BadInput(
            f"'{source}' must have a problem ({', '.join(PROBLEM)}), a value ({', '.join(VALUES)}) and is_correct; it "
            f"has {', '.join(table.columns)}"
        )
    if table[problem].null_count():
        raise BadInput(f"'{source}': {table[problem].null_count():,} rows name no problem ({problem} is empty)")
    accepted = pl.col("accepted").cast(pl.Boolean, strict=False) if "accepted" in table.columns else pl.lit(True)
    try:
        return table.select(
            problem=pl.col(problem).cast(pl.String),
            place=pl.int_range(pl.len()),
            value=pl.col(value).cast(pl.Float64).fill_null(float("nan")),
            right=pl.col("is_correct").cast(pl.Boolean),
            accepted=accepted.fill_null(True),
        ).with_columns(accepted=pl.col("accepted") & pl.col("value").is_finite())
    except pl.exceptions.PolarsError as error:
        raise BadInput(f"'{source}': {value} must be numbers, is_correct and accepted true or false") from error


def _of_run(root: Root, run: RunManifest) -> pl.DataFrame:
    samples, verdicts = last_stage(run, "samples"), last_stage(run, "verdicts")
    if samples is None or verdicts is None:
        raise BadInput(f"run {run.run_id} has no {'samples' if samples is None else 'verdicts'}")
    names = [*SAMPLE_KEY, "chosen", "search_score", "episode_facts"]
    rows = draws(open_stage(root, run, samples).select(names).collect()).filter(
        pl.col("search_score").is_not_null() & pl.col("search_score").is_finite()
    )
    if rows.is_empty():
        raise BadInput(
            f"run {run.run_id}: no sample has a value (search_score); sample with sample.strategy={{name: cascade, "
            "threshold: 0}}, where the small model's answers are all taken"
        )
    names = [*SAMPLE_KEY, "verifier", "is_correct", "status"]
    known = one_verifier(open_stage(root, run, verdicts).select(names).collect()).filter(pl.col("status").is_in(DRAWN))
    told = pl.col("episode_facts").str.json_path_match("$.note.accepted")
    return rows.join(known, on=SAMPLE_KEY, how="left").select(
        problem="problem_key",
        place="sample_index",
        value="search_score",
        right="is_correct",
        accepted=~told.is_in(["false", "0"]).fill_null(False),
    )


def print_threshold(console: Console, found: Mapping[str, Any]) -> None:
    """Print it for people."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("threshold", "taken", "right", "at least"):
        table.add_column(heading, justify="right")
    tried = found["tried"]
    for one in tried[:SHOWN]:
        style = None if one["passed"] else "dim"
        share = one["accepted"] / max(1, found["problems"])
        cells = (f"{one['threshold']:.4g}", f"{share:.1%}", f"{one['right'] / one['accepted']:.1%}")
        table.add_row(*cells, f"{one['low']:.1%}", style=style)
    if tried:
        console.print(table)
    if len(tried) > SHOWN:
        console.print(f"... and {len(tried) - SHOWN:,} more (--json has all)")
    console.print(said(found), highlight=False)


def said(found: Mapping[str, Any]) -> str:
    """Return the answer in words."""
    of = f"{found['problems']:,} problems"
    of += f" ({found['held_out']:,} more are held out)" if found["held_out"] else ""
    sure = f"{found['sure']:.0%}"
    if found["threshold"] is not None:
        return (
            f"threshold={found['threshold']!r}: {found['taken']:.1%} of {of} are taken from the small model, and with "
            f"{sure} confidence at least {found['wanted']:.1%} of those on problems like these are right"
        )
    if not found["tried"]:
        own = found["problems"] - found["by_large"]
        return (
            f"No threshold: {own:,} answers of the small model on {of} are known; that {found['wanted']:.1%} are right "
            f"takes {found['least']:,} that all are, to be {sure} sure"
        )
    best = max(found["tried"], key=lambda one: one["low"])
    return (
        f"No threshold keeps {found['wanted']:.1%} with {sure} confidence on {of}: the strictest one fails. The best "
        f"lower bound is {best['low']:.1%}, at {best['threshold']:g} with {best['accepted']:,} answers"
    )
