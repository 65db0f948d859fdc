"""The plan: what a pipeline would reuse, top up or compute under a root, and why. Making it spends nothing.

The problems are read, identities are resolved and the stores' keys are looked up; no engine is started and nothing is
written. The driver executes exactly this plan.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import polars as pl

from cluster.engines import resolve
from cluster.storage.ranges import Range, RangeMap
from cluster.storage.root import Root
from cluster.storage.snapshot import Snapshot
from cluster.storage.store import Store, stored_identities
from operators.sample.sample import Sample
from pipelines.graph import Pipeline, Stage
from pipelines.identity import (
    sampling_fingerprint,
    sampling_stage,
    snapshot_view,
    store_fingerprint,
    store_folder,
    store_view,
)
from schemas.contract import validate
from schemas.datasets import SAMPLES_FOLDER, Problem
from schemas.errors import BadInput
from schemas.identity import difference, table_digest

CHUNK_SAMPLES = 200_000
"""Problem-scope work is cut into chunks of about this many samples: one task, one part."""

Action = Literal["reuse", "top up", "compute"]


@dataclass
class StagePlan:
    """What one stage has and lacks.

    Attributes:
        planned: rows (stores) or problems (snapshots) that the view asks for.
        held: how many of these are there.
        why: a sentence for people.
        ranges: the view, for stores.
    """

    stage: Stage
    view_id: str
    folder: str
    planned: int
    held: int
    why: str
    store: Store | None = None
    snapshot: Snapshot | None = None
    ranges: list[Range] = field(default_factory=list[Range])

    @property
    def action(self) -> Action:
        if self.held >= self.planned:
            return "reuse"
        return "top up" if self.held else "compute"


@dataclass
class RunPlan:
    """The plans of all stages, in order, with what they share."""

    pipeline: Pipeline
    root: Root
    problems: pl.DataFrame
    stages: dict[str, StagePlan]
    chunks: list[list[str]]
    """Problem keys per part of a problem-scope snapshot, in the order of the problems."""

    @property
    def problem_view(self) -> str:
        return next(iter(self.stages.values())).view_id


def make_plan(pipeline: Pipeline, root: Root, limit: int | None = None) -> RunPlan:
    """Read the problems and look up what is there.

    Args:
        limit: take only the first so many problems.

    Raises:
        BadInput: problems or a model can't be used.
    """
    source, *others = pipeline.stages.values()
    problems = _read_problems(source, limit)
    problem_view = table_digest(problems)
    snapshot = Snapshot(root, source.name, problem_view, Problem)
    held = len(problems) if snapshot.manifest() else 0
    first = StagePlan(
        source, problem_view, snapshot.folder, len(problems), held, f"{len(problems):,} problems", snapshot=snapshot
    )
    plans = {source.name: first}
    keys = problems["problem_key"].to_list()
    samplings: dict[str, dict[str, Any]] = {}
    for stage in others:
        if stage.is_store:
            plans[stage.name] = _plan_store(stage, plans, root, keys, problem_view, samplings)
        else:
            plans[stage.name] = _plan_snapshot(stage, plans, root, len(keys))
    largest = max((s.operator.n for s in others if isinstance(s.operator, Sample)), default=1)
    size = max(1, min(4096, CHUNK_SAMPLES // largest))
    chunks = [keys[at : at + size] for at in range(0, len(keys), size)]
    return RunPlan(pipeline, root, problems, plans, chunks)


def _read_problems(source: Stage, limit: int | None) -> pl.DataFrame:
    problems = source.operator.run()
    problems = validate(problems if limit is None else problems.head(limit), Problem, source.name)
    if not len(problems):
        raise BadInput(f"stage {source.name}: there are no problems; check the source and --limit")
    return problems


def _plan_store(
    stage: Stage,
    plans: dict[str, StagePlan],
    root: Root,
    keys: list[str],
    problem_view: str,
    samplings: dict[str, dict[str, Any]],
) -> StagePlan:
    sampling = sampling_stage(stage)
    operator = sampling.operator
    assert isinstance(operator, Sample) and sampling.engine is not None
    if sampling.name not in samplings:
        samplings[sampling.name] = sampling_fingerprint(sampling, *resolve(sampling.engine))
    fingerprint = samplings[sampling.name]
    folder = store_folder(stage, fingerprint)
    store = Store(root, folder, stage.operator.output, store_fingerprint(stage, fingerprint))
    ranges = [Range(key, 0, operator.n) for key in keys]
    held = sum(item.size for wanted in ranges for item in store.held.present(wanted))
    planned = operator.n * len(keys)
    why = _why_store(stage, root, store, planned, held, ranges)
    view = store_view(folder, problem_view, [(key, first, size) for key, first, size in ranges])
    return StagePlan(stage, view, folder, planned, held, why, store=store, ranges=ranges)


def _why_store(stage: Stage, root: Root, store: Store, planned: int, held: int, ranges: list[Range]) -> str:
    if held >= planned:
        return "everything is there"
    if held:
        short = [sum(gap.size for gap in store.held.missing(item)) for item in ranges]
        lacking = [count for count in short if count]
        each = f"{lacking[0]}" if len(set(lacking)) == 1 else f"{min(lacking)} to {max(lacking)}"
        return f"{len(lacking):,} of {len(ranges):,} problems lack {each} each"
    if not stage.samples:
        return "nothing of this stage is there yet"
    nearest = min(
        (difference(known, store.fingerprint) for known in stored_identities(root, SAMPLES_FOLDER).values()),
        key=len,
        default=None,
    )
    if not nearest:
        return (
            "no problem of these was sampled with these settings" if nearest == [] else "first samples under this root"
        )
    return f"{', '.join(nearest[:3])}{' and more' if len(nearest) > 3 else ''}: new samples"


def _plan_snapshot(stage: Stage, plans: dict[str, StagePlan], root: Root, problems: int) -> StagePlan:
    view = snapshot_view(stage, {name: plans[upstream.name].view_id for name, upstream in stage.inputs.items()})
    snapshot = Snapshot(root, stage.name, view, stage.operator.output)
    complete = snapshot.manifest() is not None
    why = "this view was computed before" if complete else "a new view"
    return StagePlan(stage, view, snapshot.folder, problems, problems if complete else 0, why, snapshot=snapshot)


def missing_ranges(plan: StagePlan) -> list[Range]:
    """Return the ranges of a store's view that aren't committed, in the order of the problems."""
    assert plan.store is not None
    held: RangeMap = plan.store.held
    return [gap for wanted in plan.ranges for gap in held.missing(wanted)]
