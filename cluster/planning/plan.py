"""The plan: what a pipeline would reuse, top up or compute under a root, and why. Making it spends nothing.

The problems are read, identities are resolved and the stores' keys are looked up; no engine is started and nothing is
written. The driver executes exactly this plan.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from cluster.engines import resolve
from cluster.planning.order import ordered
from cluster.planning.problems import Problems, read_problems
from cluster.storage.ranges import Range, RangeMap, as_table
from cluster.storage.root import Root
from cluster.storage.rows import NumberedRows
from cluster.storage.snapshot import Snapshot
from cluster.storage.store import Store, stored_identities
from operators.sample.sampling import Sampling
from pipelines.graph import Pipeline, Stage
from pipelines.identity import (
    ViewOfRanges,
    sampling_fingerprint,
    sampling_stage,
    snapshot_view,
    store_fingerprint,
    store_folder,
)
from schemas.contract import Contract
from schemas.datasets import SAMPLES_FOLDER, Problem
from schemas.identity import difference
from schemas.job import RunSettings

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
    extends: Store | None = None
    """A store with a smaller ``max_tokens`` whose truncated samples are continued."""

    @cached_property
    def _by_problem(self) -> dict[str, list[Range]]:
        found: dict[str, list[Range]] = {}
        for item in self.ranges:
            found.setdefault(item.problem_key, []).append(item)
        return found

    def ranges_of(self, keys: Iterable[str]) -> list[Range]:
        """Return the view's ranges of some problems."""
        return [item for key in keys for item in self._by_problem.get(key, ())]

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
    problems: Problems
    stages: dict[str, StagePlan]
    chunks: list[list[str]]
    """Problem keys per part of a problem-scope snapshot, in the order in which they are sampled."""

    @property
    def problem_view(self) -> str:
        return next(iter(self.stages.values())).view_id


def make_plan(
    pipeline: Pipeline,
    root: Root,
    settings: RunSettings | None = None,
    *,
    only_read: Collection[str] = (),
    stores: dict[str, Store] | None = None,
    views: Mapping[str, list[Range]] | None = None,
    problems: Problems | None = None,
) -> RunPlan:
    """Read the problems and look up what is there.

    Args:
        settings: of the run; they say which problems it takes.
        only_read: store stages that another run is writing: their view is what is there, nothing is added.
        stores: open stores by folder; those that are there are used, others are opened and put in.
        views: sampling stage -> what there is to read of it, where a policy has decided that.
        problems: those of the run, where they were read before.

    Raises:
        BadInput: problems or a model can't be used.
        NothingToDo: no problem is left for this run.
    """
    settings = settings or RunSettings()
    source, *others = pipeline.stages.values()
    if problems is None:
        problems = read_problems(source, root, settings, [stage.operator for stage in others])
    problem_view = problems.view
    snapshot = Snapshot(root, source.name, problem_view, Problem)
    held = 0
    if snapshot.manifest():
        held = len(problems)
        problems.kept_in(NumberedRows.of(snapshot))
    first = StagePlan(
        source, problem_view, snapshot.folder, len(problems), held, f"{len(problems):,} problems", snapshot=snapshot
    )
    plans = {source.name: first}
    keys = problems.numbering.keys(ordered(problems.classes, settings.order)).to_list()
    planner = _StorePlanner(root, plans, keys, problem_view, only_read, {} if stores is None else stores, views or {})
    for stage in others:
        if stage.is_store:
            plans[stage.name] = planner.plan(stage)
        else:
            plans[stage.name] = _plan_snapshot(stage, plans, root, len(keys))
    largest = max((s.operator.n for s in others if isinstance(s.operator, Sampling)), default=1)
    size = max(1, min(4096, CHUNK_SAMPLES // largest))
    chunks = [keys[at : at + size] for at in range(0, len(keys), size)]
    return RunPlan(pipeline, root, problems, plans, chunks)


@dataclass
class _StorePlanner:
    """Plans the store stages of one pipeline; sampling identities are looked up once."""

    root: Root
    plans: dict[str, StagePlan]
    keys: list[str]
    problem_view: str
    only_read: Collection[str]
    stores: dict[str, Store]
    views: Mapping[str, list[Range]]
    samplings: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])

    def plan(self, stage: Stage) -> StagePlan:
        fingerprint = self._sampling(stage)
        folder = store_folder(stage, fingerprint, resolve)
        store = self._open(folder, stage.operator.output, store_fingerprint(stage, fingerprint, resolve))
        ranges = self._wanted(stage)
        if stage.name in self.only_read:
            ranges = [piece for item in ranges for piece in store.held.present(item)]
        planned = sum(item.size for item in ranges)
        held = sum(item.size for wanted in ranges for item in store.held.present(wanted))
        view = ViewOfRanges(self.problem_view, [as_table(sorted(ranges))]).id_in(folder)
        plan = StagePlan(stage, view, folder, planned, held, "", store=store, ranges=ranges)
        if held < planned and isinstance(stage.operator, Sampling) and stage.operator.extend_truncated:
            plan.extends = self._shorter(stage.operator, store)
        plan.why = self._why(plan)
        return plan

    def _sampling(self, stage: Stage) -> dict[str, Any]:
        sampling = sampling_stage(stage)
        if sampling.name not in self.samplings:
            self.samplings[sampling.name] = sampling_fingerprint(sampling, resolve)
        return self.samplings[sampling.name]

    def _open(self, folder: str, contract: type[Contract], fingerprint: dict[str, Any]) -> Store:
        if folder not in self.stores:
            self.stores[folder] = Store(self.root, folder, contract, fingerprint)
        return self.stores[folder]

    def _wanted(self, stage: Stage) -> list[Range]:
        """Return the view of a sampling stage, or what all the stores that a stage reads have in theirs."""
        if stage.name in self.views:
            return self.views[stage.name]
        if isinstance(stage.operator, Sampling):
            return [Range(key, 0, stage.operator.n) for key in self.keys]
        first, *others = [self.plans[name.name].ranges for name in stage.inputs.values() if name.is_store]
        for other in others:
            known = RangeMap(other)
            first = [piece for item in first for piece in known.present(item)]
        return list(first)

    def _shorter(self, operator: Sampling, store: Store) -> Store | None:
        """Return the store that differs by a smaller ``max_tokens`` alone, the largest such."""
        found: list[tuple[int, str, dict[str, Any]]] = []
        for name, known in stored_identities(self.root, SAMPLES_FOLDER).items():
            tokens = int(known.get("sample", {}).get("max_tokens", 0))
            same = {**known, "sample": {**known.get("sample", {}), "max_tokens": operator.max_tokens}}
            if 0 < tokens < operator.max_tokens and not difference(same, store.fingerprint):
                found.append((tokens, name, known))
        if not found:
            return None
        _, name, known = max(found, key=lambda item: item[0])
        return self._open(f"{SAMPLES_FOLDER}/{name}", store.contract, known)

    def _why(self, plan: StagePlan) -> str:
        stage, store = plan.stage, plan.store
        assert store is not None
        if stage.name in self.only_read:
            return "another run is writing it: what is there is read"
        if plan.held >= plan.planned:
            return "everything is there"
        if plan.extends is not None:
            old = plan.extends.fingerprint["sample"]["max_tokens"]
            new = store.fingerprint["sample"]["max_tokens"]
            return f"sample.max_tokens {old} -> {new}: finished samples are taken over, truncated ones continued"
        if plan.held:
            short = [sum(gap.size for gap in store.held.missing(item)) for item in plan.ranges]
            lacking = [count for count in short if count]
            each = f"{lacking[0]}" if len(set(lacking)) == 1 else f"{min(lacking)} to {max(lacking)}"
            return f"{len(lacking):,} of {len(plan.ranges):,} problems lack {each} each"
        if not stage.samples:
            return "nothing of this stage is there yet"
        known = stored_identities(self.root, SAMPLES_FOLDER).values()
        nearest = min((difference(old, store.fingerprint) for old in known), key=len, default=None)
        if nearest is None:
            return "first samples under this root"
        if not nearest:
            return "no problem of these was sampled with these settings"
        hint = ""
        if len(nearest) == 1 and nearest[0].startswith("sample.max_tokens"):
            hint = " (sample.extend_truncated=true continues the truncated ones instead)"
        return f"{', '.join(nearest[:3])}{' and more' if len(nearest) > 3 else ''}: new samples{hint}"


def _plan_snapshot(stage: Stage, plans: dict[str, StagePlan], root: Root, problems: int) -> StagePlan:
    views = {name: plans[upstream.name].view_id for name, upstream in stage.inputs.items()}
    view = snapshot_view(stage, views, resolve)
    snapshot = Snapshot(root, stage.name, view, stage.operator.output)
    complete = snapshot.manifest() is not None
    why = "this view was computed before" if complete else "a new view"
    return StagePlan(stage, view, snapshot.folder, problems, problems if complete else 0, why, snapshot=snapshot)


def missing_ranges(plan: StagePlan) -> list[Range]:
    """Return the ranges of a store's view that aren't committed, in the order of the problems."""
    assert plan.store is not None
    held: RangeMap = plan.store.held
    return [gap for wanted in plan.ranges for gap in held.missing(wanted)]
