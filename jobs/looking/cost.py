"""``gristmill cost``: what a run's results cost, and what each piece of them did.

Costs are of the samples that the run's results stand on, whoever paid for them; what this run paid is told apart, for
all that it asked engines: sampling, judging, scoring, rewriting. Where GPUs are paid by the hour, their cost is spread
over samples by their completion tokens.
"""

from __future__ import annotations

from typing import Any

import polars as pl
from rich.console import Console
from rich.table import Table

from cluster.records.reader import last_stage, open_stage
from cluster.records.refused import remarks
from cluster.spending.history import spent_by
from cluster.storage.root import Root
from schemas.manifest import RunManifest, StageRecord
from schemas.prices import MICRO, Prices, priced_as

TOKENS = ("prompt_tokens", "cached_prompt_tokens", "completion_tokens")
BINS = ("never solved", "rarely (below 10%)", "sometimes (10% to 50%)", "often (above 50%)")
KEY = ["problem_key", "sample_index"]


def costs(root: Root, manifest: RunManifest) -> dict[str, Any]:
    """Return what a run's samples cost: by stage, difficulty and outcome, and for each thing that came of them.

    Dollars are None where no price is known. Counts of samples and tokens are of the run's view.
    """
    stages = [record for record in manifest.stages if record.dataset == "samples"]
    tables = [_samples(root, manifest, record) for record in stages]
    samples = pl.concat(tables) if tables else pl.DataFrame()
    found = [_prices(manifest, record) for record in stages]
    priced = all(prices is not None and prices.known for prices in found)
    judged = _judged(root, manifest, samples)
    document: dict[str, Any] = {
        "run": manifest.run_id,
        "total": _sums(samples, priced),
        "estimated_samples": int(samples["tokens_estimated"].sum() or 0) if len(samples) else 0,
        "remarks": remarks(manifest),
        **_paid(root, manifest, samples, priced),
        "by_stage": _by(samples, "stage", priced),
    }
    if judged is None:
        return document
    document |= {"by_difficulty": _by(judged, "difficulty", priced), "by_outcome": _by(judged, "outcome", priced)}
    correct = int((judged["outcome"] == "right").sum())
    solved = judged.filter(pl.col("outcome") == "right")["problem_key"].n_unique()
    rows = [
        int(open_stage(root, manifest, record.name).select(pl.len()).collect().item())
        for record in manifest.stages
        if record.dataset == "sft" and record.complete
    ]
    percent = 100.0 * solved / manifest.n_problems if manifest.n_problems else 0.0
    document["per"] = {
        name: {"count": count, **_each(document["total"], count)}
        for name, count in (
            ("correct answer", correct),
            ("solved problem", solved),
            ("SFT row", sum(rows)),
            ("1% of coverage", percent),
        )
        if count
    }
    return document


def _prices(manifest: RunManifest, record: StageRecord) -> Prices | None:
    found = manifest.prices.get(record.name)
    return None if found is None else Prices.model_validate(found)


def _samples(root: Root, manifest: RunManifest, record: StageRecord) -> pl.DataFrame:
    """Return one row per draw of a stage: key, run_id, status, samples that it gave, tokens and microdollars."""
    rows = open_stage(root, manifest, record.name)
    plain = rows.filter(pl.col("episode").is_null()).with_columns(samples=pl.lit(1, pl.Int64))
    wanted = [*KEY, "run_id", "status", "samples", "tokens_estimated", *TOKENS]
    parts = [plain.select(wanted), _episodes(rows).select(wanted)]
    table = pl.concat(parts).collect(engine="streaming").with_columns(stage=pl.lit(record.name))
    return table.with_columns(microdollars=_microdollars(_prices(manifest, record), record, table))


def _episodes(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Return one row per episode of a strategy: the one that it chose, with what all its calls took."""
    of_episode = ["problem_key", "episode"]
    facts = pl.Struct(dict.fromkeys((*TOKENS, "scorer_tokens"), pl.Int64()))
    took = pl.col("episode_facts").str.json_decode(facts).struct
    bills = rows.filter(pl.col("episode_facts").is_not_null()).select(
        *of_episode,
        (took.field("prompt_tokens") + took.field("scorer_tokens")).alias("prompt_tokens"),
        *[took.field(name).alias(name) for name in TOKENS[1:]],
    )
    counts = rows.group_by(of_episode).agg(samples=pl.len().cast(pl.Int64))
    chosen = rows.filter(pl.col("chosen")).drop(TOKENS)
    return chosen.join(bills, on=of_episode).join(counts, on=of_episode)


def _microdollars(prices: Prices | None, record: StageRecord, table: pl.DataFrame) -> pl.Expr:
    prompt, cached, completion = (pl.col(name) for name in TOKENS)
    if prices is None or not prices.known:
        return pl.lit(None, pl.Float64)
    if prices.rates is not None:
        fresh, again, made = prices.rates
        return (prompt - cached) * fresh + cached * again + completion * made
    seconds = record.gpu_seconds
    total = MICRO * seconds / 3600 * (prices.dollars_per_gpu_hour or 0.0)
    tokens = int(table.filter(pl.col("run_id").is_not_null())["completion_tokens"].sum() or 0)
    return completion * (total / max(1, tokens))


def _judged(root: Root, manifest: RunManifest, samples: pl.DataFrame) -> pl.DataFrame | None:
    """Add each sample's outcome, and how hard its problem is."""
    stage = last_stage(manifest, "verdicts")
    if stage is None or samples.is_empty():
        return None
    verdicts = open_stage(root, manifest, stage).select(*KEY, "is_correct", pl.col("status").alias("verdict")).collect()
    outcome = (
        pl.when(pl.col("status") == "error")
        .then(pl.lit("failed"))
        .when(pl.col("is_correct"))
        .then(pl.lit("right"))
        .when(pl.col("verdict") == "unparseable")
        .then(pl.lit("no answer"))
        .when(pl.col("is_correct").is_not_null())
        .then(pl.lit("wrong"))
        .otherwise(pl.lit("not judged"))
    )
    joined = samples.join(verdicts.unique(KEY, keep="first"), on=KEY, how="left").with_columns(outcome=outcome)
    rate = (pl.col("outcome") == "right").mean().over("problem_key")
    bins = pl.when(rate == 0).then(0).when(rate < 0.1).then(1).when(rate <= 0.5).then(2).otherwise(3)
    return joined.with_columns(difficulty=bins.replace_strict(dict(enumerate(BINS)), return_dtype=pl.String))


def _sums(table: pl.DataFrame, priced: bool) -> dict[str, Any]:
    sums = {name: int(table[name].sum() or 0) if len(table) else 0 for name in TOKENS}
    dollars = float(table["microdollars"].sum() or 0.0) / MICRO if priced and len(table) else None
    samples = int(table["samples"].sum() or 0) if len(table) else 0
    read_and_written = pl.col("prompt_tokens") + pl.col("completion_tokens")
    estimated = table.filter("tokens_estimated").select(read_and_written.sum()).item() if len(table) else 0
    dollars = 0.0 if priced and not len(table) else dollars
    return {"samples": samples, **sums, "estimated_tokens": int(estimated or 0), "dollars": dollars}


def _by(table: pl.DataFrame, column: str, priced: bool) -> dict[str, Any]:
    parts = table.partition_by(column, as_dict=True)
    order = BINS if column == "difficulty" else sorted(str(key[0]) for key in parts)
    return {name: _sums(parts[(name,)], priced) for name in order if (name,) in parts}


def _each(total: dict[str, Any], count: float) -> dict[str, Any]:
    tokens = total["prompt_tokens"] + total["completion_tokens"]
    dollars = total["dollars"]
    return {
        "samples": total["samples"] / count,
        "tokens": tokens / count,
        "dollars": None if dollars is None else dollars / count,
    }


def _paid(root: Root, manifest: RunManifest, samples: pl.DataFrame, priced: bool) -> dict[str, Any]:
    """Return what this run paid, whatever for: altogether, by what the engines were asked for, and in vain."""
    entries = spent_by(root, manifest)
    paid, lost = (entries.filter(pl.col("kind") == kind) for kind in ("settle", "orphan"))
    document: dict[str, Any] = {
        "paid_by_this_run": _sums(samples.filter(pl.col("run_id") == manifest.run_id), priced),
        "lost": {"samples": int(lost["samples"].sum()), "tokens_at_most": int(lost["completion_tokens"].sum())},
    }
    if paid["role"].null_count() == len(paid):  # a run of a version that kept no books
        return document
    asked: dict[str, Any] = {}
    for row in paid.filter(pl.col("role").is_not_null()).iter_rows(named=True):
        named = priced_as(row["stage"], row["role"])
        prices = manifest.prices.get(named if named in manifest.prices else row["stage"])
        known = prices is not None and Prices.model_validate(prices).known
        asked[f"{row['stage']} ({row['role']})"] = {
            **{name: row[name] for name in ("samples", "calls", "passes", *TOKENS)},
            "estimated_tokens": row["estimated_tokens"] or 0,
            "gpu_hours": row["gpu_seconds"] / 3600,
            "dollars": row["microdollars"] / MICRO if known else None,
        }
    totals = {name: sum(one[name] for one in asked.values()) for name in ("samples", *TOKENS, "estimated_tokens")}
    dollars = [one["dollars"] for one in asked.values()]
    document["paid_by_this_run"] = {**totals, "dollars": None if None in dollars else sum(dollars)}
    document["asked"] = asked
    return document


def print_costs(console: Console, document: dict[str, Any]) -> None:
    """Print tables: totals, by difficulty and outcome, and what each thing cost."""
    for title, rows in (
        ("", {"all samples": document["total"], "paid by this run": document["paid_by_this_run"]}),
        ("paid for", document.get("asked", {})),
        ("stage", document["by_stage"]),
        ("problems", document.get("by_difficulty", {})),
        ("outcome", document.get("by_outcome", {})),
    ):
        if rows:
            console.print(_table(title, rows))
    if estimated := document["estimated_samples"]:
        said = f"estimated: the tokens of {estimated:,} samples, at the most they can be; the engine doesn't say"
        console.print(said, style="red", highlight=False, soft_wrap=True)
    for remark in document["remarks"]:
        console.print(remark, style="red", highlight=False, soft_wrap=True, markup=False)
    if lost := document["lost"]["tokens_at_most"]:
        console.print(f"lost: {lost:,} tokens at most, of requests that brought nothing", highlight=False)
    for name, each in document.get("per", {}).items():
        dollars = "no price known" if each["dollars"] is None else _dollars(each["dollars"])
        console.print(
            f"one {name}: {each['samples']:,.1f} samples, {each['tokens']:,.0f} tokens, {dollars}", highlight=False
        )


def _table(title: str, rows: dict[str, dict[str, Any]]) -> Table:
    columns = {"samples": "samples", "prompt tokens": TOKENS[0], "cached": TOKENS[1], "completion tokens": TOKENS[2]}
    if any(found["estimated_tokens"] for found in rows.values()):
        columns["estimated tokens"] = "estimated_tokens"
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in (title, *columns, "dollars"):
        table.add_column(heading, justify="left" if heading == title else "right")
    for name, found in rows.items():
        dollars = "unknown" if found["dollars"] is None else _dollars(found["dollars"])
        table.add_row(name, *[f"{found[column]:,}" for column in columns.values()], dollars)
    return table


def _dollars(value: float) -> str:
    return f"${value:,.2f}" if value >= 1 else f"${value:.4g}"
