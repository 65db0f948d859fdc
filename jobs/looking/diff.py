"""``gristmill diff``: what is different between two runs, in their settings, their problems and their results."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import polars as pl
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cluster.records.reader import open_stage
from cluster.records.rules import rules_of_store
from cluster.storage.root import Root
from cluster.storage.slices import scan_files
from jobs.running.summary import coverage
from operators.measure.counts import Drawn
from operators.measure.intervals import differences
from operators.measure.pass_at_k import PassAtK, of_each
from schemas.books import Allocation
from schemas.manifest import RunManifest, StageRecord

FIGURES = ("planned", "reused", "computed", "failed", "accepted", "truncated", "unparseable", "completion_tokens")


def diff(root: Root, first: RunManifest, second: RunManifest) -> dict[str, Any]:
    """Return what is different. Settings and figures that are the same are left out; null is what one lacks."""
    both = [first, second]
    return {
        "runs": [run.run_id for run in both],
        "settings": list(_settings(_flat(first.config), _flat(second.config))),
        "versions": list(_settings(first.versions, second.versions)),
        "problems": _problems(root, first, second),
        "stages": list(_stages(first, second)),
        "coverage": _coverage(root, first, second),
        "spent": [None if run.spending is None else run.spending.model_dump() for run in both],
    }


def _flat(config: Any, prefix: str = "") -> dict[str, Any]:
    """Return nested settings as dotted keys."""
    if not isinstance(config, Mapping) or not config:
        return {prefix: config}
    found: dict[str, Any] = {}
    for key, value in config.items():
        found |= _flat(value, f"{prefix}.{key}" if prefix else str(key))
    return found


def _settings(first: Mapping[str, Any], second: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for key in sorted(first.keys() | second.keys()):
        if first.get(key) != second.get(key):
            yield {"key": key, "values": [first.get(key), second.get(key)]}


def _problems(root: Root, first: RunManifest, second: RunManifest) -> dict[str, int]:
    keys: list[set[str]] = []
    for run in (first, second):
        rows = open_stage(root, run, run.stages[0].name) if run.stages else pl.LazyFrame({"problem_key": []})
        keys.append(set(rows.select("problem_key").collect()["problem_key"]))
    one, other = keys
    return {"both": len(one & other), "only_first": len(one - other), "only_second": len(other - one)}


def _stages(first: RunManifest, second: RunManifest) -> Iterator[dict[str, Any]]:
    records: list[dict[str, StageRecord]] = [{record.name: record for record in run.stages} for run in (first, second)]
    names = list(dict.fromkeys(name for known in records for name in known))
    for name in names:
        pair = [known.get(name) for known in records]
        figures = {
            figure: values
            for figure in FIGURES
            if len({*(values := [None if one is None else getattr(one, figure) for one in pair])}) > 1
        }
        same_rows = pair[0] is not None and pair[1] is not None and pair[0].view_id == pair[1].view_id
        if figures or not same_rows:
            yield {"stage": name, "same_rows": same_rows, "figures": figures}


def _coverage(root: Root, first: RunManifest, second: RunManifest) -> list[dict[str, Any]]:
    """Return pass@k of both, with intervals, at the k that both have, and the difference on the problems of both."""
    tables = [coverage(root, run) for run in (first, second)]
    if not all(tables):
        return []
    one, other = (pl.DataFrame(table).select("k", "coverage", "low", "high") for table in tables)
    rows = one.join(other, on="k", suffix="_second").sort("k").to_dicts()
    counts = [_counts(root, run) for run in (first, second)]
    return [{**row, **_difference(counts[0], counts[1], row["k"])} for row in rows]


def _counts(root: Root, run: RunManifest) -> pl.DataFrame | None:
    """Return what a run's coverage is made of: counts of each problem, with the rule by which it was sampled; None
    where it isn't made of verdicts."""
    records = {record.name: record for record in run.stages}
    measured = next(record for record in run.stages if record.dataset == "pass_at_k")
    if "verdicts" not in measured.inputs:
        return None
    judged = records[measured.inputs["verdicts"]]
    sampled = next(records[name] for name in judged.inputs.values() if records[name].dataset == "samples")
    names = PassAtK.inputs["verdicts"].names
    verdicts = root.patiently(open_stage(root, run, judged.name).select(names).collect, f"reading {judged.name}")
    rules = rules_of_store(root, sampled.path).uris if sampled.policy is not None else ()
    log = scan_files(root, rules, Allocation).select(PassAtK.inputs["allocations"].names)
    return PassAtK().partial(verdicts=verdicts, allocations=root.patiently(log.collect, "reading the rules"))


def _difference(first: pl.DataFrame | None, second: pl.DataFrame | None, k: int) -> dict[str, Any]:
    """Return the second run's coverage less the first's, paired by problem, with its interval; null where unknown."""
    nothing = {"difference": None, "difference_low": None, "difference_high": None, "paired": 0}
    if first is None or second is None:
        return nothing
    shared = first.select("problem_id").join(second, on="problem_id", how="semi").sort("problem_id")
    one, other = (
        of_each(Drawn.of(shared.join(table, on="problem_id", maintain_order="left"), None), k)
        for table in (first, second)
    )
    if one is None or other is None or not len(one):
        return nothing
    apart = (other - one)[:, None]
    low, high = differences(apart, draws=4_000, seed=0)
    ends = {"difference_low": float(low[0]), "difference_high": float(high[0])}
    return {"difference": float(apart.mean()), **ends, "paired": len(apart)}


def print_diff(console: Console, document: dict[str, Any]) -> None:
    """Print it for people."""
    first, second = document["runs"]
    console.print(f"[bold]{first}[/]  against  [bold]{second}[/]", highlight=False)
    changes = [*document["settings"], *document["versions"]]
    if changes:
        table = Table(box=None, padding=(0, 2, 0, 0))
        for heading in ("setting", "first", "second"):
            table.add_column(heading)
        for change in changes:
            table.add_row(change["key"], *(escape(str(value)) for value in change["values"]))
        console.print(table)
    else:
        console.print("the same settings and versions")
    problems = document["problems"]
    console.print(
        f"problems: {problems['both']:,} in both, {problems['only_first']:,} in the first alone, "
        f"{problems['only_second']:,} in the second alone",
        highlight=False,
    )
    for stage in document["stages"]:
        figures = ", ".join(f"{name} {a} -> {b}" for name, (a, b) in stage["figures"].items())
        rows = "the same rows" if stage["same_rows"] else "other rows"
        console.print(f"  {stage['stage']}: {rows}{f'; {figures}' if figures else ''}", highlight=False)
    for row in document["coverage"]:
        console.print(
            f"  pass@{row['k']:<5} {row['coverage']:.3f} [{row['low']:.3f}, {row['high']:.3f}]  ->  "
            f"{row['coverage_second']:.3f} [{row['low_second']:.3f}, {row['high_second']:.3f}]",
            highlight=False,
            markup=False,
        )
        if row["paired"]:
            ends = f"[{row['difference_low']:+.3f}, {row['difference_high']:+.3f}]"
            console.print(
                f"             {row['difference']:+.3f} {ends} problem by problem, on the {row['paired']:,} of both",
                highlight=False,
                markup=False,
            )
