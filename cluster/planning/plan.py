"""The plan: what a pipeline would reuse, top up or compute under a root, and why. Making it spends nothing.

The problems are read, identities are resolved and the stores' keys are looked up; no engine is started and nothing is
written. The driver executes exactly this plan.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
import polars as pl

from cluster.engines import resolve
from cluster.planning.problems import Problems, read_problems
from cluster.records.rules import Rules
from cluster.storage.delta import calls_folder, stored_identities
from cluster.storage.ranges import Ints, Ranges, RangeSet
from cluster.storage.root import Root
from cluster.storage.rows import NumberedRows
from cluster.storage.snapshot import Snapshot
from cluster.storage.store import Store
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
from pipelines.unjudged import refuse_unjudged
from schemas.contract import Contract
from schemas.datasets import SAMPLES_FOLDER, Problem
from schemas.episodes import Call
from schemas.identity import difference
from schemas.job import RunSettings

CHUNK_SAMPLES = 200_000
"""Problem-scope work is cut into chunks of about this many samples: one task, one part."""
AT_ONCE = 20_000
"""How many ranges are written out with their keys at a time."""

ALLOCATIONS = "allocations"
"""The input of operators that ask by what rule samples came about; a run's log gives it."""

Action = Literal["reuse", "top up", "compute"]


class View:
    """Which samples a store stage is about; stages that are about the same share one.

    Attributes:
        ranges: in the order in which they are worked on.
    """

    def __init__(self, ranges: Ranges) -> None:
        self.ranges = ranges
        self._hashed: ViewOfRanges | None = None

    @cached_property
    def all(self) -> RangeSet:
        """The same samples as a set."""
        return RangeSet(self.ranges)

    @cached_property
    def total(self) -> int:
        return self.ranges.total

    def id_in(self, folder: str, problems: Problems) -> str:
        """Return the id of the view of one store."""
        if self._hashed is None:
            ranges = self.ranges.sorted()
            some = (ranges[at : at + AT_ONCE] for at in range(0, len(ranges), AT_ONCE))
            self._hashed = ViewOfRanges(problems.view, map(problems.numbering.keyed, some))
        return self._hashed.id_in(folder)

    def tables(self, problems: Problems) -> Iterator[pl.DataFrame]:
        """Yield its keyed ranges, in order, some at a time."""
        for at in range(0, max(1, len(self.ranges)), AT_ONCE):
            yield problems.numbering.keyed(self.ranges[at : at + AT_ONCE])


@dataclass
class StagePlan:
    """What one stage has and lacks.

    Attributes:
        planned: rows (stores) or problems (snapshots) that the view asks for.
        held: how many of these are there.
        why: a sentence for people.
        view: of stores, which samples it is about.
    """

    stage: Stage
    view_id: str
    folder: str
    planned: int
    held: int
    why: str
    store: Store | None = None
    snapshot: Snapshot | None = None
    view: View = field(default_factory=lambda: View(Ranges.none()))
    rules: Rules | None = None
    """By what rule the samples came about, for a stage that asks (its input ``allocations``)."""
    calls: Store | None = None
    """Where the calls of episodes are kept, of a sampling stage with a strategy that lacks something."""
    extends: Store | None = None
    """A store with a smaller ``max_tokens`` whose truncated samples are continued."""

    @property
    def action(self) -> Action:
        if self.held >= self.planned:
            return "reuse"
        return "top up" if self.held else "compute"


@dataclass(repr=False)  # asyncio writes the results of its tasks out, and these have millions of ranges
class RunPlan:
    """The plans of all stages, in order, with what they share."""

    pipeline: Pipeline
    root: Root
    problems: Problems
    stages: dict[str, StagePlan]
    chunks: list[Ints]
    """The problems of each part of a problem-scope snapshot, in the order in which they are sampled."""
    notes: tuple[str, ...] = ()
    """What the source has to tell: rows without an answer, turns that aren't shown, copies that were left out."""

    @property
    def problem_view(self) -> str:
        return next(iter(self.stages.values())).view_id


def problems_of(pipeline: Pipeline, root: Root, settings: RunSettings) -> Problems:
    """Read the problems of a pipeline that a run takes.

    Raises:
        BadInput: a problem can't be used.
        NothingToDo: no problem is left for this run.
    """
    source, *others = pipeline.stages.values()
    return read_problems(source, root, settings, others)


def make_plan(
    pipeline: Pipeline,
    root: Root,
    settings: RunSettings | None = None,
    *,
    only_read: Collection[str] = (),
    stores: dict[str, Store] | None = None,
    views: Mapping[str, Ranges] | None = None,
    rules: Mapping[str, Rules] | None = None,
    problems: Problems | None = None,
) -> RunPlan:
    """Read the problems and look up what is there.

    Args:
        settings: of the run; they say which problems it takes.
        only_read: store stages that another run is writing: their view is what is there, nothing is added.
        stores: open stores by folder; those that are there are used, others are opened and put in.
        views: sampling stage -> what there is to read of it, where a policy has decided that.
        rules: sampling stage -> by what rule its samples came about, where a policy has decided that.
        problems: those of the run, where they were read before.

    Raises:
        BadInput: problems or a model can't be used.
        NothingToDo: no problem is left for this run.
    """
    settings = settings or RunSettings()
    source, *others = pipeline.stages.values()
    if problems is None:
        problems = problems_of(pipeline, root, settings)
    if not problems.answered and settings.shard is None:  # other shards' problems may have answers
        refuse_unjudged(pipeline.stages.values())
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
    order = problems.in_order(settings.order)
    planner = _StorePlanner(root, plans, problems, order, only_read, {} if stores is None else stores, views or {})
    for stage in others:
        if stage.is_store:
            plans[stage.name] = planner.plan(stage)
        else:
            plans[stage.name] = _plan_snapshot(stage, plans, root, len(order), rules or {})
    largest = max((s.operator.per_problem for s in others if isinstance(s.operator, Sampling)), default=1)
    size = max(1, min(4096, CHUNK_SAMPLES // largest))
    chunks = [order[at : at + size] for at in range(0, len(order), size)]
    notes = (*problems.notes, *_cautions(others))
    return RunPlan(pipeline, root, problems, plans, chunks, notes)


def _cautions(stages: Iterable[Stage]) -> Iterator[str]:
    """Yield what people should know of the strategies before they pay for them."""
    for stage in stages:
        if isinstance(stage.operator, Sampling) and stage.operator.strategy is not None:
            yield from (f"stage {stage.name}: {caution}" for caution in stage.operator.strategy.cautions)


@dataclass
class _StorePlanner:
    """Plans the store stages of one pipeline; sampling identities are looked up once."""

    root: Root
    plans: dict[str, StagePlan]
    problems: Problems
    order: Ints
    only_read: Collection[str]
    stores: dict[str, Store]
    views: Mapping[str, Ranges]
    samplings: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    whole: dict[int, View] = field(default_factory=dict[int, View])
    """Samples of each problem -> the view of so many of all."""

    def plan(self, stage: Stage) -> StagePlan:
        fingerprint = self._sampling(stage)
        folder = store_folder(stage, fingerprint, resolve)
        store = self._open(folder, stage.operator.output, store_fingerprint(stage, fingerprint, resolve))
        view = self._wanted(stage)
        if stage.name in self.only_read:
            view = View(store.held.present(view.ranges))
        held = store.held.present(view.ranges).total
        plan = StagePlan(stage, view.id_in(folder, self.problems), folder, view.total, held, "", store=store, view=view)
        if held < plan.planned and isinstance(stage.operator, Sampling) and stage.operator.extend_truncated:
            plan.extends = self._shorter(stage.operator, store)
        if held < plan.planned and isinstance(stage.operator, Sampling) and stage.operator.strategy is not None:
            plan.calls = self._open(calls_folder(folder), Call, store.fingerprint)
        plan.why = self._why(plan)
        return plan

    def _sampling(self, stage: Stage) -> dict[str, Any]:
        sampling = sampling_stage(stage)
        if sampling.name not in self.samplings:
            self.samplings[sampling.name] = sampling_fingerprint(sampling, resolve)
        return self.samplings[sampling.name]

    def _open(self, folder: str, contract: type[Contract], fingerprint: dict[str, Any]) -> Store:
        if folder not in self.stores:
            self.stores[folder] = Store(self.root, folder, contract, fingerprint, self.problems.numbering)
        return self.stores[folder]

    def _wanted(self, stage: Stage) -> View:
        """Return the view of a sampling stage, or what all the stores that a stage reads have in theirs."""
        if stage.name in self.views:
            return View(self.views[stage.name])
        if isinstance(stage.operator, Sampling):
            n = stage.operator.per_problem
            if n not in self.whole:
                self.whole[n] = View(Ranges.of(self.order, 0, n))
            return self.whole[n]
        view, *others = [self.plans[upstream.name].view for upstream in stage.inputs.values() if upstream.is_store]
        for other in others:
            if other is not view:
                view = View(other.all.present(view.ranges))
        return view

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
            gaps = store.held.missing(plan.view.ranges)
            problems, row = np.unique(gaps.numbers, return_inverse=True)
            lacking = np.bincount(row, weights=gaps.sizes).astype(np.int64)
            least, most = int(lacking.min()), int(lacking.max())
            each = f"{least}" if least == most else f"{least} to {most}"
            return f"{len(problems):,} of {len(np.unique(plan.view.ranges.numbers)):,} problems lack {each} each"
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


def _plan_snapshot(
    stage: Stage, plans: dict[str, StagePlan], root: Root, problems: int, rules: Mapping[str, Rules]
) -> StagePlan:
    views = {name: plans[upstream.name].view_id for name, upstream in stage.inputs.items()}
    rule = _rule_of(stage, rules)
    if rule is not None:
        views[ALLOCATIONS] = rule.identity
    view = snapshot_view(stage, views, resolve)
    snapshot = Snapshot(root, stage.name, view, stage.operator.output)
    complete = snapshot.manifest() is not None
    why = "this view was computed before" if complete else "a new view"
    held = problems if complete else 0
    return StagePlan(stage, view, snapshot.folder, problems, held, why, snapshot=snapshot, rules=rule)


def _rule_of(stage: Stage, rules: Mapping[str, Rules]) -> Rules | None:
    """Return by what rule the samples that a stage is about came about, if it asks and there is one."""
    if ALLOCATIONS not in stage.operator.inputs or ALLOCATIONS in stage.inputs:
        return None
    sampled = {sampling_stage(upstream).name for upstream in stage.inputs.values() if upstream.is_store}
    return next((rules[name] for name in sorted(sampled) if name in rules), None)


def missing_ranges(plan: StagePlan) -> Ranges:
    """Return the ranges of a store's view that aren't committed, in the order of the problems."""
    assert plan.store is not None
    return plan.store.held.missing(plan.view.ranges)
