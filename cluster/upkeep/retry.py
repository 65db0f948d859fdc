"""Samples that were refused, and verdicts that say nothing or were cut off by a time limit, leave their stores, so that
the run makes them again."""

from __future__ import annotations

import uuid

import polars as pl

from cluster.planning.plan import RunPlan, StagePlan
from cluster.storage.ranges import KEYED, ranges_by_file, restrict
from cluster.storage.root import Root
from cluster.upkeep.repair import take_out
from cluster.upkeep.verify_file import Finding
from schemas.contract import Contract
from schemas.datasets import Sample, Verdict

STATUSES: dict[type[Contract], tuple[str, ...]] = {Sample: ("error",), Verdict: ("timeout", "error")}
"""What is made again. Answers that couldn't be read would be read no better."""


def forget_errors(root: Root, plan: RunPlan) -> list[str]:
    """Take the rows with such a status out of what a plan would read; return what was done, a sentence each.

    Raises:
        StoreBusy: a run is writing or reading one of the stores; nothing was done.
    """
    stages = [stage for stage in plan.stages.values() if stage.store is not None and stage.store.contract in STATUSES]
    found = [finding for stage in stages for finding in _errors(root, stage)]
    return take_out(root, found, f"retry-{uuid.uuid4().hex[:8]}") if found else []


def _errors(root: Root, stage: StagePlan) -> list[Finding]:
    """Return what is to be cut from the files of one store."""
    assert stage.store is not None
    store, name = stage.store, stage.stage.name
    uris = [root.uri(store.folder, file) for file in store.files.holding(stage.view.ranges)]
    if not uris:
        return []
    rows = pl.scan_parquet(uris, include_file_paths="file", storage_options=root.storage_options())
    rows = restrict(
        rows.filter(pl.col("status").is_in(STATUSES[store.contract])), store.numbering.keyed(stage.view.ranges)
    )
    keys = rows.select("file", "problem_key", "sample_index").sort("file", "problem_key", "sample_index")
    cuts = root.patiently(lambda: ranges_by_file(keys), f"stage {name}: reading the rows of")
    return [
        Finding(
            name, f"{store.folder}/{str(file).rsplit('/', 1)[-1]}", "is made again", "cut", keyed.select(list(KEYED))
        )
        for (file,), keyed in cuts.group_by("file", maintain_order=True)
    ]
