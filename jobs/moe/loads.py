"""How a run's tokens fell on its model's experts, and how even that made its GPUs, from what its engine counted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cluster.moe.eplb import eplb, linear
from cluster.moe.measure import balancedness, gpu_shares
from cluster.moe.placement import Placement, read_placement
from cluster.moe.routing import counted
from jobs.moe.outlook import experts_of
from jobs.moe.replan import plan_file, shape_of
from schemas.engine import VllmSpec
from schemas.errors import BadInput
from schemas.experts import ExpertCount
from schemas.manifest import RunManifest

Counts = NDArray[np.float64]


def counted_stages(manifest: RunManifest) -> Iterator[tuple[str, VllmSpec, Counts]]:
    """Yield each sampling stage whose engine counted tokens per expert (``engine.expert_counts``) on the run's dates.

    Yields:
        the stage's name, its engine, and tokens [layers, experts].
    """
    for record in manifest.stages:
        engine: dict[str, Any] = manifest.config.get(record.name, {}).get("engine") or {}
        if record.dataset != "samples" or engine.get("kind") != "vllm" or not engine.get("expert_counts"):
            continue
        spec = VllmSpec.model_validate(engine)
        counts = _counts(manifest, spec)
        if counts is not None:
            yield record.name, spec, counts


def _counts(manifest: RunManifest, spec: VllmSpec) -> Counts | None:
    folder = Path(spec.expert_counts or "").expanduser()
    files = sorted(folder.glob("*.parquet")) if folder.is_dir() else []
    if not files:
        return None
    first, last = manifest.started.date(), (manifest.finished or manifest.started).date()
    rows = pl.scan_parquet(files).select(ExpertCount.column_names())
    rows = rows.filter(pl.col("night").is_between(first, last), pl.col("job_class") == spec.job_class).collect()
    try:
        return counted(rows) if len(rows) else None
    except BadInput:  # of several models: nobody knows which were this run's
        return None


def in_means(counts: Counts) -> Counts:
    """Return the load of each expert, in means of its layer."""
    return counts / np.maximum(counts.mean(axis=1, keepdims=True), 1e-12)


def evenness(spec: VllmSpec, counts: Counts) -> tuple[int, dict[str, list[float]]] | None:
    """Return the number of GPUs, and by placement the balancedness of each layer (mean load of the GPUs over the
    fullest one's): as it was ("measured") and was planned ("predicted"), and as other placements would have been.

    None where the model or the engine's shape isn't known, or doesn't fit the counts.
    """
    found, shape = experts_of(spec), shape_of(spec)
    if found is None or shape is None or counts.shape != (found["layers"], found["experts"]):
        return None
    layers, number = counts.shape
    place = plan_file(spec)
    plan = read_placement(str(place)) if place is not None and place.exists() else None
    lines: dict[str, list[float]] = {}
    if plan is not None and plan.shape == shape and plan.experts == number:
        lines["measured"] = _by_layer(plan, counts)
        if plan.counts is not None and plan.counts.shape == counts.shape:
            lines["predicted"] = _by_layer(plan, plan.counts)
        lines["EPLB"] = _by_layer(Placement(shape, number, eplb(counts, 1, shape.gpus, shape.slots)), counts)
    lines["linear"] = _by_layer(Placement(shape, number, linear(layers, number, shape.slots)), counts)
    return shape.gpus, lines


def _by_layer(plan: Placement, counts: Counts) -> list[float]:
    return [
        balancedness(counts[layer] @ gpu_shares(row, plan.shares(layer), plan.shape, plan.experts))
        for layer, row in enumerate(plan.physical_to_logical)
    ]
