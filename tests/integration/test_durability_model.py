"""A model-based test: random sequences of runs, top-ups, changes, kills, merges, sleepers and rivals, on real storage.

The model is small (``tests.model``): what every committed row says, what every finished run's view showed, and what
the engine was asked for. After every step the tables must agree: no key lost, none twice, no text replaced under its
verdict, no view changed after it was read, nothing paid for that was there. ``HYPOTHESIS_PROFILE=long``
(``make test-long`` sets it) looks longer, at other sequences each time.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import polars as pl
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from cluster.driving.driver import run_pipeline
from cluster.planning.plan import RunPlan, make_plan
from cluster.records.run import RunResult
from cluster.runners.local import LocalRunner
from cluster.storage.root import Root
from cluster.storage.store import Store
from cluster.upkeep.garbage import collect
from cluster.upkeep.verify_data import verify
from cluster.working.compaction import next_merge
from operators.load import Load
from operators.sample.sampling import Sampling
from operators.select.majority import MajorityVote
from operators.verify.exact import VerifyExact
from pipelines.graph import Pipeline
from schemas import datasets
from schemas.engine import ScriptedSpec
from schemas.errors import DamagedFile, LeaseLost, StoreBusy
from schemas.job import RunSettings
from tests.model import KEY, TARGET, Fate, Key, Kind, Process, World, watched_writes
from tests.support import facts as facts_of
from tests.support import merge_of

LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"
LEASE = 1.0
HASTY = RunSettings(flush_rows=3, flush_seconds=0.02, commit_seconds=0.0, lease_seconds=LEASE)
ANSWERS = ("{seed}", "{seed}: the answer is {seed}", "{seed} is a guess that nobody ever looked at twice")
SHORT, ENOUGH = 3, 50
"""Values of ``max_tokens``: the first cuts two of three answers."""


@dataclass(frozen=True)
class Config:
    """What a user may change from one run to the next."""

    n: int
    problems: int
    changed: bool
    """Another text of the first problem."""
    strict: bool
    tokens: int
    extend: bool
    read: bool
    """Take what is there where another run is writing."""


CONFIGS = st.builds(
    Config,
    n=st.integers(1, 12),
    problems=st.integers(1, 3),
    changed=st.booleans(),
    strict=st.booleans(),
    tokens=st.sampled_from([SHORT, ENOUGH]),
    extend=st.booleans(),
    read=st.booleans(),
)
RUNS: dict[Kind, int] = {"any": 35, "take": 2, "commit": 6, "lease": 4, "part": 8, "file": 8, "table": 2, "remove": 3}
"""Kind of write -> about how many of them a run makes."""
MERGES: dict[Kind, int] = {"take": 1, "lease": 2, "part": 1, "commit": 1}
COLLECTS: dict[Kind, int] = {"take": 2, "lease": 4, "remove": 4, "vacuum": 2}


def fates(kill: bool, counts: dict[Kind, int]) -> st.SearchStrategy[Fate]:
    """Return any write of any kind, before or after it took effect."""
    return st.sampled_from(sorted(counts)).flatmap(
        lambda kind: st.builds(Fate, st.just(kill), st.just(kind), st.integers(1, counts[kind]), st.booleans())
    )


@dataclass(frozen=True)
class Sleep:
    """How somebody sleeps: past the lease or not, what others do meanwhile, whether it wakes right after."""

    lapsed: bool
    meanwhile: list[tuple[Literal["the same", "more", "merge", "gc"], int]]
    woken: bool


SLEEP = st.builds(
    Sleep,
    lapsed=st.sampled_from([True, True, False]),
    meanwhile=st.lists(
        st.tuples(st.sampled_from(["the same", "more", "merge", "gc"]), st.integers(0, 5)), min_size=1, max_size=2
    ),
    woken=st.sampled_from([True, True, False]),
)
Check = Callable[[Process], None]


class Durability(RuleBasedStateMachine):
    """See the module."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.sleeping: list[tuple[Process, Check]] = []
        self.finished: dict[str, RunResult] = {}
        self.seen: dict[str, frozenset[Any]] = {}
        self.views: dict[tuple[str, str], tuple[RunResult, str, pl.DataFrame]] = {}

    def teardown(self) -> None:
        try:
            for process, _ in self.sleeping:
                process.die()
            for result in list(self.finished.values())[-3:]:
                findings = verify(self.world.root, result.manifest).findings
                assert not findings, findings
        finally:
            self.world.close()

    # -- processes -----------------------------------------------------------------------------------------------

    def begin(self, name: str, work: Callable[[Root], Any], check: Check, fate: Fate | None) -> None:
        """Start a process; it ends, dies or falls asleep."""
        process = Process(self.world, name, work, fate if len(self.sleeping) < 2 else None)
        process.start()
        if process.ended:
            self.conclude(process, check)
        else:
            self.sleeping.append((process, check))
            self.world.change_leases(process, expires=2.0**40, seconds=2.0**40)

    def conclude(self, process: Process, check: Check) -> None:
        """Look at what a process left."""
        self.world.change_leases(process, born=1)  # its number is another's by now
        check(process)

    @rule(config=CONFIGS, fate=fates(False, RUNS), sleep=SLEEP)
    def run_that_sleeps(self, config: Config, fate: Fate, sleep: Sleep) -> None:
        self.run(config, fate)
        self.others(config, sleep)

    @precondition(lambda self: self.world.stores())
    @rule(pick=st.integers(0, 5), fate=fates(False, MERGES), config=CONFIGS, sleep=SLEEP)
    def merge_that_sleeps(self, pick: int, fate: Fate, config: Config, sleep: Sleep) -> None:
        self.merge(pick, fate)
        self.others(config, sleep)

    def others(self, config: Config, sleep: Sleep) -> None:
        """Do what others do while somebody sleeps, and wake the one who has slept longest."""
        if sleep.lapsed:
            for process, _ in self.sleeping:
                self.world.change_leases(process, expires=0.0, seconds=0.0)
        for what, number in sleep.meanwhile:
            if what == "merge" and self.world.stores():
                self.merge(number, None)
            elif what == "gc":
                self.collect_garbage(None)
            else:
                self.run(replace(config, n=config.n + number * (what == "more")), None)
        if sleep.woken and self.sleeping:
            self.wake(False)

    @precondition(lambda self: self.sleeping)
    @rule(killed=st.sampled_from([False, False, False, True]))
    def wake(self, killed: bool) -> None:
        process, check = self.sleeping.pop(0)
        if killed:
            process.die()
        else:
            process.wake()
        self.conclude(process, check)

    def may_have_ended(self, process: Process) -> bool:
        """Return whether a process that ended with an error had a reason to."""
        if process.killed:
            return True
        error, epochs = process.error, self.world.epochs
        if isinstance(error, LeaseLost):
            return process.slept and any(epochs[folder] > mine for folder, mine in process.epochs.items())
        if isinstance(error, DamagedFile):  # it slept past its heartbeat, and gc removed what merges had replaced
            return process.slept
        return isinstance(error, StoreBusy) and process.slept and bool(self.sleeping)

    # -- runs ----------------------------------------------------------------------------------------------------

    def pipeline(self, config: Config, number: int) -> Pipeline:
        rows = [f"p{i},What is {i}{' now' if config.changed and not i else ''}?,{i}" for i in range(config.problems)]
        source = self.world.folder / f"problems-{number}.csv"
        source.write_text("id,prompt,answer\n" + "\n".join(rows) + "\n")
        made = Pipeline("model")
        loaded = made.stage("load", Load(source=str(source)))
        engine = ScriptedSpec(answers=ANSWERS, call_log=str(self.calls(number)), slots=4)
        sampling = Sampling(n=config.n, max_tokens=config.tokens, extend_truncated=config.extend)
        drawn = made.stage("sample", sampling, engine=engine, problems=loaded)
        verifier = VerifyExact() if config.strict else VerifyExact(pattern=r"(\d+)")
        verdicts = made.stage("verify", verifier, problems=loaded, samples=drawn)
        made.stage("select", MajorityVote(), verdicts=verdicts)
        return made

    def calls(self, number: int) -> Any:
        return self.world.folder / f"calls-{number}"

    @rule(config=CONFIGS, fate=st.none() | fates(True, RUNS))
    def run(self, config: Config, fate: Fate | None) -> None:
        number = len(self.world.processes)
        made = self.pipeline(config, number)
        how = HASTY.model_copy(update={"if_busy": "read"}) if config.read else HASTY

        def work(root: Root) -> RunResult:
            runner = LocalRunner(slots=2)
            try:
                return run_pipeline(made, runner, root.url, how)
            finally:
                runner.close()

        self.begin("run", work, self.expectation(make_plan(made, self.world.root), config, number), fate)

    def expectation(self, plan: RunPlan, config: Config, number: int) -> Check:
        """Return what must be true of a run, given what is there before it."""
        drawing, facts = plan.stages["sample"], self.world.facts
        adding = [stage for stage in plan.stages.values() if stage.store is not None and stage.action != "reuse"]
        busy = [stage.stage.name for stage in adding if self.world.holder(stage.folder)]
        keys = plan.problems.numbering.keys(drawing.view.ranges.numbers)
        wanted = {(key, index) for key in keys for index in range(config.n)}
        there = dict(facts.get(drawing.folder, {}))
        begun = dict(facts.get(drawing.extends.folder, {})) if drawing.extends is not None else {}
        begun = {key: begun[key] for key in (wanted & begun.keys()) - there.keys()}
        carried = {key: text for key, (text, finish) in begun.items() if finish != "length"}
        before = {folder: dict(rows) for folder, rows in facts.items()}

        def check(process: Process) -> None:
            asked = self.asked(number)
            assert not asked & there.keys()
            if process.error is not None:
                if not self.may_have_ended(process):
                    assert busy and not config.read and isinstance(process.error, StoreBusy), process.error
                    assert not asked
                    assert {folder: rows for folder, rows in facts.items() if rows} == {
                        k: v for k, v in before.items() if v
                    }
                return
            result: RunResult = process.result
            assert result.manifest.state == "done"
            self.finished[result.manifest.run_id] = result
            keys = set(result.dataset("sample").select(KEY).collect().rows())
            if process.slept:
                assert keys == wanted or (config.read and keys < wanted)
            elif "sample" in busy:
                assert not asked
                assert keys == wanted & there.keys()
            else:
                assert not busy or config.read
                assert keys == wanted
                assert asked == wanted - there.keys() - carried.keys()
                now = facts[drawing.folder]
                assert all(now[key][0] == text for key, text in carried.items())
                assert all(now[key][0].startswith(begun[key][0]) for key in begun)
            self.remember(result)

        return check

    def asked(self, number: int) -> set[Key]:
        """Return the samples that a run's engine was asked for, each of them once."""
        log = self.calls(number)
        names = log.read_text().split() if log.exists() else []
        assert len(names) == len(set(names))
        return {(key, int(index)) for key, _, index in (name.partition("/") for name in names)}

    def remember(self, result: RunResult) -> None:
        """Read a run's views; whoever has the same view has the same rows."""
        for record in result.manifest.stages:
            rows = _sorted(result.dataset(record.name).collect())
            _, _, known = self.views.setdefault((record.path, record.view_id), (result, record.name, rows))
            assert known.equals(rows)

    # -- what goes on meanwhile ----------------------------------------------------------------------------------

    @precondition(lambda self: self.world.stores())
    @rule(pick=st.integers(0, 5), fate=st.none() | fates(True, MERGES))
    def merge(self, pick: int, fate: Fate | None) -> None:
        folder = self.world.stores()[pick % len(self.world.stores())]
        busy = self.world.holder(folder)
        number = len(self.world.processes)

        def work(root: Root) -> None:
            store = self.open(root, folder)
            store.acquire(f"merger {number}", LEASE)
            names = next_merge(store.sizes, 2, TARGET)
            if names:
                done = merge_of(store, names).run()
                assert store.replace(names, done.part)
                assert not set(names) & set(store.files)
            store.release()

        def check(process: Process) -> None:
            assert (
                process.error is None or self.may_have_ended(process) or (busy and isinstance(process.error, StoreBusy))
            )

        self.begin("merge", work, check, fate)

    @rule(fate=st.none() | fates(True, COLLECTS))
    def collect_garbage(self, fate: Fate | None) -> None:
        def check(process: Process) -> None:
            assert process.error is None or self.may_have_ended(process)

        self.begin("gc", lambda root: collect(root, older_than=0.0), check, fate)

    # -- what must be true ---------------------------------------------------------------------------------------

    def open(self, root: Root, folder: str) -> Store:
        return Store(root, folder, datasets.Sample if folder.startswith("samples/") else datasets.Verdict, {})

    @invariant()
    def tables_and_views_agree_with_the_model(self) -> None:
        """What has not been touched since it was last looked at is as it was."""
        assert not self.world.wrong, self.world.wrong
        touched = {folder for folder in self.folders() if self.seen.get(folder) != self.world.state(folder)}
        for folder in touched.intersection(self.world.stores()):
            known = self.world.facts.get(folder, {})
            assert self.world.rows(folder) == known
            assert facts_of(self.open(self.world.root, folder)) == set(known)
        for (folder, _), (result, stage, rows) in self.views.items():
            if folder in touched:
                assert _sorted(result.dataset(stage).collect()).equals(rows)
        assert not self.world.wrong, self.world.wrong
        self.seen |= {folder: self.world.state(folder) for folder in touched}

    def folders(self) -> set[str]:
        return {*self.world.stores(), *(folder for folder, _ in self.views)}


def _sorted(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.sort([name for name in ("problem_key", "sample_index", "method") if name in rows.columns])


def test_durability() -> None:
    examples, steps = (40, 40) if LONG else (12, 14)
    how = settings(
        max_examples=int(os.environ.get("GRISTMILL_EXAMPLES", examples)),
        stateful_step_count=steps,
        deadline=None,
        derandomize=not LONG,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate] if LONG else [Phase.generate, Phase.shrink],
        print_blob=True,
    )
    with watched_writes():
        run_state_machine_as_test(Durability, settings=how)
