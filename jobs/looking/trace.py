"""``gristmill trace``: from a training row back to the samples it was made of, their verdicts and their problem."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
from rich.console import Console

from cluster.records.reader import find_run, open_stage
from cluster.storage.delta import stored_identity
from cluster.storage.root import Root
from cluster.storage.tables import read_table
from schemas.datasets import SAMPLES_FOLDER
from schemas.errors import BadInput
from schemas.manifest import RunManifest, StageRecord

ROLES = ("sample_index", "chosen", "rejected")
SAMPLE = (
    "problem_id",
    "sample_index",
    "completion",
    "reasoning",
    "finish_reason",
    "completion_tokens",
    "tokens_estimated",
    "seed",
    "run_id",
)


def trace(root: Root, row: str) -> dict[str, Any]:
    """Return a row's lineage, its problem, and each sample it was made of with its verdicts.

    Args:
        row: ``FILE:NUMBER`` (of a table with a column ``lineage``, rows counted from 0), or a lineage as JSON.

    Raises:
        BadInput: no such row, one that doesn't say where it is from, or a sample that isn't under this root.
    """
    lineage = _lineage(row)
    key = lineage["problem_key"]
    # samples that a run took over from an earlier problem with the same prompt (DRAWN@TAKEN) are in its view alone
    drawer = str(lineage.get("run_id") or "").rpartition("@")[2]
    seen = find_run(root, lineage.get("exported_from") or drawer)
    drawn = find_run(root, drawer or seen.run_id)
    # what a transformation wrote of its own accord was no sample
    found = {role: _sample(root, drawn, lineage, key, lineage[role]) for role in ROLES if lineage.get(role) is not None}
    return {
        "lineage": lineage,
        "problem": _problem(root, drawn, key),
        "samples": [
            {"role": "sample" if role == "sample_index" else role, **sample, "verdicts": _verdicts(root, seen, sample)}
            for role, sample in found.items()
        ],
    }


def _lineage(row: str) -> dict[str, Any]:
    if row.lstrip().startswith("{"):
        text = row
    else:
        path, _, number = row.rpartition(":")
        if not path or not number.isdigit():
            raise BadInput(f"'{row}' names no row: give FILE:NUMBER (rows are counted from 0), or a lineage as JSON")
        table = read_table(path)
        if "lineage" not in table.columns:
            raise BadInput(f"'{path}' has no column 'lineage'; it has {table.columns}")
        if int(number) >= len(table):
            raise BadInput(f"'{path}' has {len(table):,} rows, counted from 0; there is no row {number}")
        text = table["lineage"][int(number)]
    try:
        found = json.loads(text)
    except ValueError as error:
        raise BadInput(f"the lineage isn't JSON: {error}") from error
    known: set[str] = {name for name in found if found[name] is not None} if isinstance(found, dict) else set()
    if "problem_key" not in known or not {"run_id", "exported_from"} & known or not {*ROLES} & {*found}:
        raise BadInput("the lineage must have problem_key, run_id, and sample_index (or chosen and rejected)")
    return found


def _stages(manifest: RunManifest, dataset: str) -> list[StageRecord]:
    return [record for record in manifest.stages if record.dataset == dataset]


def _sample(root: Root, manifest: RunManifest, lineage: dict[str, Any], key: str, index: int) -> dict[str, Any]:
    """Return one sample with the model that drew it."""
    wanted = lineage.get("sampling_id")
    for record in _stages(manifest, "samples"):
        sampling_id = Path(record.path).name
        if wanted not in (None, sampling_id):
            continue
        rows = open_stage(root, manifest, record.name)
        mine = rows.filter(pl.col("problem_key") == key, pl.col("sample_index") == index).collect()
        if len(mine):
            engine = stored_identity(root, f"{SAMPLES_FOLDER}/{sampling_id}").get("engine", {})
            origin = {"model": engine.get("model"), "revision": engine.get("revision"), "sampling_id": sampling_id}
            return {"problem_key": key, **mine.select(SAMPLE).row(0, named=True), **origin}
    raise BadInput(
        f"sample {index} of problem {key} isn't in run {manifest.run_id} under {root.url}; is it another --root?"
    )


def _problem(root: Root, manifest: RunManifest, key: str) -> dict[str, Any]:
    rows = open_stage(root, manifest, _stages(manifest, "problems")[0].name).filter(pl.col("problem_key") == key)
    return rows.select("problem_key", "problem_id", "prompt", "answer").collect().row(0, named=True)


def _verdicts(root: Root, manifest: RunManifest, sample: dict[str, Any]) -> list[dict[str, Any]]:
    mine = (pl.col("problem_key") == sample["problem_key"]) & (pl.col("sample_index") == sample["sample_index"])
    columns = ("verifier", "is_correct", "credit", "predicted_answer", "status", "detail")
    tables = [open_stage(root, manifest, record.name) for record in _stages(manifest, "verdicts")]
    return [row for table in tables for row in table.filter(mine).select(columns).collect().to_dicts()]


def print_trace(console: Console, document: dict[str, Any]) -> None:
    """Print the way back, the texts as they are."""

    def say(text: str, **how: Any) -> None:
        console.print(text, soft_wrap=True, highlight=False, markup=False, **how)

    problem = document["problem"]
    say(f"problem {problem['problem_id']} ({problem['problem_key']})", style="bold")
    say(problem["prompt"])
    for entry in document["lineage"].get("transformations", []):
        told = ", ".join(f"{name} {value}" for name, value in entry.items() if name != "operator")
        say(f"transformed by {entry['operator']}{': ' if told else ''}{told}")
    for sample in document["samples"]:
        say(f"\n{sample['role']}: sample {sample['sample_index']}, drawn by run {sample['run_id']}", style="bold")
        say(f"  model {sample['model']}, revision {sample['revision']}, sampling identity {sample['sampling_id']}")
        how = " (estimated at the most they can be)" if sample["tokens_estimated"] else ""
        say(f"  {sample['completion_tokens']} tokens{how}, ended by {sample['finish_reason']}, seed {sample['seed']}")
        for verdict in sample["verdicts"]:
            right = {True: "right", False: "wrong", None: verdict["status"]}[verdict["is_correct"]]
            say(f"  {verdict['verifier']}: {right}, answer {verdict['predicted_answer']}, credit {verdict['credit']}")
        if sample["reasoning"]:
            say(sample["reasoning"], style="dim")
        say(sample["completion"])
