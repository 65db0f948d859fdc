"""Samples of a run for people: completions with their verdicts."""

from __future__ import annotations

import polars as pl
from rich.console import Console
from rich.markup import escape

from cluster.records.reader import naming_damage, open_stage
from cluster.storage.root import Root
from schemas.manifest import RunManifest


def sample_rows(
    root: Root, manifest: RunManifest, problem: str | None, verdict: str | None, limit: int, index: int | None = None
) -> pl.DataFrame:
    """Return samples with their verdicts: problem_id, sample_index, is_correct, predicted_answer, completion; of those
    that were refused status and error say why.

    Args:
        verdict: ``right`` or ``wrong`` keeps only these, ``refused`` those without a completion.
        index: keeps only this sample of each problem.
    """
    stage = {record.dataset: record.name for record in reversed(manifest.stages)}
    rows = open_stage(root, manifest, stage["samples"]).select(
        "problem_key", "sample_index", "problem_id", "completion", "status", "error"
    )
    if "verdicts" in stage:
        verdicts = open_stage(root, manifest, stage["verdicts"])
        keys = ["problem_key", "sample_index"]
        rows = rows.join(verdicts.select(*keys, "is_correct", "predicted_answer"), on=keys, how="left")
        if verdict in ("right", "wrong"):
            rows = rows.filter(pl.col("is_correct") == (verdict == "right"))
    if verdict == "refused":
        rows = rows.filter(pl.col("status") == "error")
    if problem is not None:
        rows = rows.filter(pl.col("problem_id") == problem)
    if index is not None:
        rows = rows.filter(pl.col("sample_index") == index)
    with naming_damage(root, manifest, stage.get("verdicts", "")), naming_damage(root, manifest, stage["samples"]):
        return rows.sort("problem_id", "sample_index").head(limit).drop("problem_key").collect()


def print_samples(console: Console, rows: pl.DataFrame) -> None:
    """Print samples one after another, with a mark for right and wrong."""
    marks = {True: "[green]right[/]", False: "[red]wrong[/]", None: "[dim]no verdict[/]"}
    for row in rows.iter_rows(named=True):
        answer = row.get("predicted_answer")
        said = f"  answer {escape(str(answer))}" if answer is not None else ""
        console.print(
            f"[bold]{escape(row['problem_id'])}[/]/{row['sample_index']}  {marks[row.get('is_correct')]}{said}"
        )
        if row["status"] == "error":
            console.print(f"refused: {row['error']}", style="red", markup=False, highlight=False)
        console.print(f"{row['completion']}\n", markup=False, highlight=False)
    if rows.is_empty():
        console.print("No such samples.")
