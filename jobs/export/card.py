"""The dataset card: what a set is made of and how to make it again, in the form the dataset hub reads.

All numbers come from the run's own data. The YAML header names the licence, the task and the files of each split.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import polars as pl
import yaml

from cluster.records.reader import open_stage
from cluster.storage.root import Root
from jobs.export.ask import Ask
from jobs.export.formats import Layout
from jobs.looking.cost import costs
from operators.draws import draws
from schemas.datasets import SAMPLE_KEY
from schemas.manifest import RunManifest, StageRecord
from schemas.redaction import redact

BINS = 10
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


@dataclass(frozen=True)
class Counts:
    """What was written and what was left out.

    Attributes:
        files: rows by file name.
        dropped: a row with its ``reason`` for each that was left out; None where no stage decided that.
    """

    files: dict[str, int]
    held_out: int
    dropped: pl.DataFrame | None

    def rows(self, split: str) -> int:
        """Return a split's rows."""
        return sum(rows for name, rows in self.files.items() if name.startswith(f"{split}-"))


def write_card(
    root: Root,
    manifest: RunManifest,
    ask: Ask,
    layout: Layout,
    counts: Counts,
    place: Root,
    origin: dict[str, Any],
) -> None:
    """Write ``README.md``; ``origin`` is the model, its revision and the sampling identity of the rows."""
    sections = [
        f"# {manifest.pipeline}: {ask.format}",
        f"{counts.rows('train'):,} training rows and {counts.rows('validation'):,} validation rows of "
        f"{counts.held_out:,} held-out problems (split by problem, seed {ask.seed}), made by Gristmill run "
        f"`{manifest.run_id}`. Licence: {ask.licence}.",
        _section("How it was made", _made(manifest, origin)),
        _section("Rows through the stages", _stages(root, manifest)),
        _section("Left out", _left_out(root, manifest, counts)),
        _section("Pass rate of the problems", _pass_rates(root, manifest)),
        _section("Cost", _cost(root, manifest)),
        _section("Make it again", _again(manifest, ask)),
    ]
    text = f"---\n{_header(ask, layout, counts)}---\n\n" + "\n\n".join(part for part in sections if part) + "\n"
    place.write_bytes(redact(text).encode(), "README.md")


def _section(title: str, text: str) -> str:
    return f"## {title}\n\n{text}" if text else ""


def _header(ask: Ask, layout: Layout, counts: Counts) -> str:
    total = counts.rows("train") + counts.rows("validation")
    splits = [split for split in ("train", "validation") if counts.rows(split)]
    files = [{"split": split, "path": f"{split}-*.parquet"} for split in splits]
    header: dict[str, Any] = {
        "license": ask.licence,
        "task_categories": [layout.task],
        "tags": ["synthetic", "gristmill", ask.format],
        "size_categories": [next((name for limit, name in SIZES if total < limit), "n>1M")],
        "configs": [{"config_name": "default", "data_files": files}],
    }
    return yaml.safe_dump(header, sort_keys=False)


def _table(headings: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    names = list(headings)
    lines = [names, ["---"] * len(names), *([_cell(value) for value in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: object) -> str:
    text = f"{value:,}" if isinstance(value, int) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")


def _made(manifest: RunManifest, origin: dict[str, Any]) -> str:
    """Return the sources, the model and all settings."""
    facts = [("model", origin.get("model")), ("revision", origin.get("revision"))]
    facts.append(("sampling identity", origin.get("sampling_id")))
    rows: list[tuple[str, str, str]] = [("", name, f"`{value}`") for name, value in facts if value]
    for record in manifest.stages:
        config = manifest.config.get(record.name, {})
        settings = {key: value for key, value in config.items() if key not in ("operator", "engine")}
        told = ", ".join(
            f"{key}={json.dumps(value, ensure_ascii=False)}"
            for key, value in settings.items()
            if value is not None and value not in ("", [], {})
        )
        rows.append((record.name, record.operator, f"`{told}`" if told else ""))
    versions = ", ".join(f"{name} {version}" for name, version in manifest.versions.items())
    whole = yaml.safe_dump(json.loads(json.dumps(manifest.config)), sort_keys=False, allow_unicode=True)
    return (
        f"{_table(('stage', 'what', 'settings'), rows)}\n\nVersions: {versions}.\n\n"
        f"<details><summary>All settings, defaults included</summary>\n\n```yaml\n{whole}```\n\n</details>"
    )


def _stages(root: Root, manifest: RunManifest) -> str:
    rows: list[tuple[object, ...]] = []
    for record in manifest.stages:
        if not record.complete and record.kind == "snapshot":
            continue
        table = open_stage(root, manifest, record.name)
        count = int(table.select(pl.len()).collect(engine="streaming").item())
        rows.append((record.name, record.dataset, count, _notes(table, record)))
    return _table(("stage", "gives", "rows", "of them"), rows)


def _notes(table: pl.LazyFrame, record: StageRecord) -> str:
    """Return what a count alone doesn't tell."""
    if record.dataset == "samples":
        found = table.group_by("finish_reason", "status").len().collect(engine="streaming")
        ends = found.filter(pl.col("status") == "ok").sort("finish_reason").select("finish_reason", "len").rows()
        failed = found.filter(pl.col("status") == "error")["len"].sum()
        return ", ".join([*(f"{count:,} {name}" for name, count in ends), *([f"{failed:,} failed"] if failed else [])])
    if record.dataset == "verdicts":
        found = table.group_by(
            pl.when("is_correct").then(pl.lit("right")).when(~pl.col("is_correct")).then(pl.lit("wrong"))
            .otherwise(pl.lit("not judged")).alias("verdict")
        ).len()  # fmt: skip
        return ", ".join(f"{count:,} {name}" for name, count in found.sort("verdict").collect().rows())
    if record.dataset == "paths":
        return f"{int(table.select(pl.col('kept').sum()).collect(engine='streaming').item() or 0):,} kept"
    return ""


def _left_out(root: Root, manifest: RunManifest, counts: Counts) -> str:
    """Return how many rows were left out for which reason, by the stage that decided it."""
    rows: list[tuple[object, ...]] = []
    for record in manifest.stages:
        if record.dataset != "paths" or not record.complete:
            continue
        table = open_stage(root, manifest, record.name).filter(~pl.col("kept"))
        if "paths" in record.inputs:  # decisions add up: these were made before
            before = open_stage(root, manifest, record.inputs["paths"]).filter(~pl.col("kept")).select(SAMPLE_KEY)
            table = table.join(before, on=SAMPLE_KEY, how="anti")
        kind = kind_of(pl.col("reason").fill_null("dropped"))
        found = table.group_by(kind.alias("kind")).len().sort("len", "kind", descending=[True, False]).collect()
        rows += [(record.name, kind, count) for kind, count in found.rows()]
    text = _table(("stage", "reason", "rows"), rows) if rows else ""
    if counts.dropped is None:
        return text
    blamed = counts.dropped.filter(pl.col("reason").str.starts_with("contaminated"))
    if blamed.is_empty():
        return text
    examples = "\n".join(f"* {row}" for row in blamed.sort("problem_id")["reason"].unique(maintain_order=True).head(5))
    return f"{text}\n\nContaminated, for example:\n\n{examples}"


def kind_of(reason: pl.Expr) -> pl.Expr:
    """Return a reason without what it says of a single row: its first words, up to a colon, a quotation or an id."""
    return reason.str.replace(r"(?s)(:| of \S+/\d+| \().*$", "").str.strip_chars()


def _pass_rates(root: Root, manifest: RunManifest) -> str:
    """Return a histogram of the share of right samples of each problem."""
    record = next((record for record in manifest.stages if record.dataset == "verdicts"), None)
    if record is None:
        return ""
    verdicts = draws(open_stage(root, manifest, record.name)).filter(~pl.col("status").is_in(["error", "skipped"]))
    rate = pl.col("is_correct").fill_null(False).mean()
    rates = verdicts.group_by("problem_key").agg(rate=rate).collect(engine="streaming")["rate"]
    if rates.is_empty():
        return ""
    edges = [(f"{low / BINS:.1f} to {(low + 1) / BINS:.1f}", low) for low in range(BINS)]
    place = (rates * BINS - 1e-9).floor().clip(0, BINS - 1).cast(pl.Int64)
    counted = [("0 (never solved)", int((rates == 0).sum()))]
    counted += [(name, int(((place == low) & (rates > 0) & (rates < 1)).sum())) for name, low in edges]
    counted.append(("1 (always solved)", int((rates == 1).sum())))
    widest = max(count for _, count in counted)
    rows = [(name, count, "█" * round(20 * count / widest)) for name, count in counted]
    return f"{_table(('pass rate', 'problems', ''), rows)}\n\nn = {len(rates):,} problems, mean {rates.mean():.3f}."


def _cost(root: Root, manifest: RunManifest) -> str:
    total = costs(root, manifest)["total"]
    dollars = "no price is known" if total["dollars"] is None else f"{total['dollars']:,.2f} dollars"
    estimated = f" ({total['estimated_tokens']:,} of all estimated)" if total["estimated_tokens"] else ""
    return (
        f"{total['samples']:,} samples, {total['prompt_tokens']:,} prompt tokens ({total['cached_prompt_tokens']:,} of "
        f"them cached), {total['completion_tokens']:,} completion tokens{estimated}; {dollars}."
    )


def _again(manifest: RunManifest, ask: Ask) -> str:
    return f"```\n{manifest.command or f'gristmill run {manifest.pipeline}'}\n{ask.command}\n```"
