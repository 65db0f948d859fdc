"""``gristmill diff --paired``: two runs on the same problems, task by task, with what either costs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cluster.records.reader import last_stage, open_stage
from cluster.storage.root import Root
from operators.measure.paired import MeasurePaired
from schemas.errors import BadInput
from schemas.manifest import RunManifest
from schemas.prices import Prices


def paired(root: Root, first: RunManifest, second: RunManifest, by: str) -> dict[str, Any]:
    """Return what ``measure.paired`` says of two runs.

    Args:
        by: what a task is: ``task_type`` or a field of the problems' metadata.

    Raises:
        BadInput: a run without verdicts, or no problem that both have.
    """
    tables: dict[str, pl.LazyFrame] = {}
    prices: dict[str, Prices] = {}
    for name, run in (("first", first), ("second", second)):
        verdicts, samples = last_stage(run, "verdicts"), last_stage(run, "samples")
        if verdicts is None:
            raise BadInput(f"run {run.run_id} has no verdicts, so there is nothing to pair")
        tables[name] = open_stage(root, run, verdicts)
        if samples is not None:
            tables[f"{name}_samples"] = open_stage(root, run, samples)
            prices[f"{name}_prices"] = Prices.model_validate(run.prices.get(samples) or {})
    problems = last_stage(first, "problems")
    if problems is not None:
        tables["problems"] = open_stage(root, first, problems)
    operator = MeasurePaired.model_validate({"by": by, **prices})
    read = {name: table.select(operator.inputs[name].names) for name, table in tables.items()}
    rows = operator.run(**read)
    return {"runs": [first.run_id, second.run_id], "by": by, "tasks": rows.to_dicts()}


def print_paired(console: Console, document: Mapping[str, Any]) -> None:
    """Print it for people."""
    first, second = document["runs"]
    console.print(f"[bold]{second}[/]  less  [bold]{first}[/], problem by problem", highlight=False)
    table = Table(box=None, padding=(0, 2, 0, 0))
    headings = ("task", "problems", "first", "second", "difference", "95%", "lost", "won", "p", "tokens", "dollars", "")
    for heading in headings:
        table.add_column(heading, justify="left" if heading in ("task", "") else "right")
    for row in document["tasks"]:
        ratios = ("" if ratio is None else f"x {ratio:.2f}" for ratio in (row["tokens_ratio"], row["dollars_ratio"]))
        table.add_row(
            escape(row["task"]),
            f"{row['n_problems']:,}",
            f"{row['first']:.3f}",
            f"{row['second']:.3f}",
            f"{row['difference']:+.3f}",
            f"{row['low']:+.3f} to {row['high']:+.3f}",
            str(row["lost"]),
            str(row["won"]),
            f"{row['p_value']:.3g}",
            *ratios,
            "worse" if row["worse"] else "",
        )
    console.print(table)
