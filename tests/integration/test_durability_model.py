"""A model-based test: random sequences of runs, top-ups, changes, kills, merges and rival drivers, on real storage.

The model is small: which text every committed sample had, what every finished run's view showed, and what the engine
was asked for. After every step the tables must agree: no key lost, none twice, no text replaced under its verdict, no
view changed after it was read, nothing paid for that was there. ``GRISTMILL_MODEL=long`` looks for longer.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import polars as pl
import pytest
from deltalake import DeltaTable
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from cluster.compaction import Merge, next_merge
from cluster.local import LocalRunner
from cluster.plan import make_plan
from cluster.run import RunResult
from cluster.storage import parts
from cluster.storage.lease import read_lease, write_lease
from cluster.storage.parts import write_part
from cluster.storage.ranges import Range, RangeMap
from cluster.storage.root import Root
from cluster.storage.store import Store
from operators.load import Load
from operators.sample.sample import Sample
from operators.select.majority import MajorityVote
from operators.verify.exact import VerifyExact
from pipelines.graph import Pipeline
from schemas import datasets
from schemas.engine import ScriptedSpec
from schemas.errors import LeaseLost, StoreBusy
from schemas.job import RunSettings

LONG = os.environ.get("GRISTMILL_MODEL") == "long"
HASTY = RunSettings(flush_rows=3, flush_seconds=0.02, commit_seconds=0.0, lease_seconds=30.0)
ANSWERS = ("{seed}", "the answer is {seed}", "one two three four five six seven {seed}")
KEY = ["problem_key", "sample_index"]


class Killed(BaseException):
    """The process is dead: raised at a write, and at everything it tries to write after."""


class Writes:
    """Counts what goes to the storage, at its outermost edge, and kills the process at the n-th write."""

    def __init__(self) -> None:
        self.left = -1
        self.after = False
        self.dead = False

    def wrap(self, write: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            if self.dead:
                raise Killed
            self.left -= 1
            if self.left == 0 and not self.after:
                self.dead = True
                raise Killed
            result = write(*args, **kwargs)
            if self.left == 0:
                self.dead = True
                raise Killed
            return result

        return counted

    @contextmanager
    def killing(self, at: int, after: bool) -> Iterator[None]:
        self.left, self.after, self.dead = at, after, False
        try:
            yield
        finally:
            self.left, self.dead = -1, False


@contextmanager
def every_write_counted(writes: Writes) -> Iterator[None]:
    """Hook the four ways in which anything gets written."""
    patch = pytest.MonkeyPatch()
    patch.setattr(Root, "_write", writes.wrap(Root._write))
    patch.setattr(
        "cluster.storage.parts.write_tables",
        writes.wrap(parts.write_tables),
    )
    patch.setattr(DeltaTable, "create", staticmethod(writes.wrap(DeltaTable.create)))
    patch.setattr(DeltaTable, "create_write_transaction", writes.wrap(DeltaTable.create_write_transaction))
    try:
        yield
    finally:
        patch.undo()


class Durability(RuleBasedStateMachine):
    """See the module."""

    writes: ClassVar[Writes] = Writes()

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="gristmill-model-"))
        self.root = Root.at(self.folder / "root")
        self.log = self.folder / "calls"
        self.texts: dict[tuple[str, str, int], str] = {}
        self.views: list[tuple[RunResult, str, pl.DataFrame]] = []
        self.changed: set[int] = set()

    def teardown(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    # -- what a user does ----------------------------------------------------------------------------------------

    def pipeline(self, n: int, problems: int, strict: bool, tokens: int, extend: bool) -> Pipeline:
        rows = [f"p{i},What is {i}{' now' if i in self.changed else ''}?,{i}" for i in range(problems)]
        source = self.folder / "problems.csv"
        source.write_text("id,prompt,answer\n" + "\n".join(rows) + "\n")
        made = Pipeline("model")
        loaded = made.stage("load", Load(source=str(source)))
        engine = ScriptedSpec(answers=ANSWERS, call_log=str(self.log), slots=4)
        sampling = Sample(n=n, max_tokens=tokens, extend_truncated=extend)
        drawn = made.stage("sample", sampling, engine=engine, problems=loaded)
        verifier = VerifyExact() if strict else VerifyExact(pattern=r"(\d+)")
        verdicts = made.stage("verify", verifier, problems=loaded, samples=drawn)
        made.stage("select", MajorityVote(), verdicts=verdicts)
        return made

    def go(self, made: Pipeline, how: RunSettings = HASTY) -> RunResult:
        runner = LocalRunner(slots=2)
        try:
            return runner.run(made, self.root.url, how)
        finally:
            runner.close()

    runs = st.fixed_dictionaries(
        {
            "n": st.integers(1, 12),
            "problems": st.integers(1, 3),
            "strict": st.booleans(),
            "tokens": st.sampled_from([3, 50]),
            "extend": st.booleans(),
        }
    )

    @rule(config=runs)
    def run(self, config: dict[str, Any]) -> None:
        made = self.pipeline(**config)
        plan = make_plan(made, self.root).stages["sample"]
        assert plan.store is not None
        there, begun = RangeMap(plan.store.held), plan.extends
        self.log.write_text("")
        result = self.go(made)
        assert result.manifest.state == "done"
        asked = self.log.read_text().split()
        assert len(asked) == len(set(asked))
        for name in asked:
            key, _, index = name.partition("/")
            assert not there.covers(Range(key, int(index), 1))
        if begun is None:
            assert len(asked) == plan.planned - plan.held
        else:
            assert len(asked) <= plan.planned - plan.held
        rows = result.dataset("sample").select(KEY).collect()
        assert len(rows) == rows.n_unique() == config["n"] * config["problems"]
        for stage in ("sample", "verify", "select"):
            self.views.append((result, stage, _sorted(result.dataset(stage).collect())))

    @rule(number=st.integers(0, 2))
    def change_a_problem(self, number: int) -> None:
        self.changed ^= {number}

    @rule(config=runs, at=st.integers(1, 25), after=st.booleans())
    def killed_run(self, config: dict[str, Any], at: int, after: bool) -> None:
        made = self.pipeline(**config)
        try:
            with self.writes.killing(at, after):
                self.go(made)
        except BaseException as error:
            if isinstance(error, AssertionError | KeyboardInterrupt):
                raise
        self.bury()

    def bury(self) -> None:
        """Leases of a killed process: its id is another's by now."""
        for folder in self.stores():
            lease = read_lease(self.root, folder)
            if lease is not None:
                write_lease(self.root, folder, lease.model_copy(update={"born": 1}))

    # -- what goes on meanwhile ----------------------------------------------------------------------------------

    @rule(pick=st.integers(0, 5), killed=st.booleans())
    def merge(self, pick: int, killed: bool) -> None:
        folders = self.stores()
        if not folders:
            return
        store = self.open(folders[pick % len(folders)])
        names = next_merge(store.sizes, fan_in=2)
        if not names:
            return
        store.acquire("merger")
        before = _sorted(pl.read_delta(self.root.uri(store.folder)))
        files = {name: tuple(store.files[name]) for name in names}
        done = Merge(1, "merge", self.root.url, store.folder, store.contract, files).run()
        if not killed:
            assert store.replace(names, done.part)
            assert not set(names) & set(store.files)
        store.release()
        assert _sorted(pl.read_delta(self.root.uri(store.folder))).equals(before)

    @rule(config=runs)
    def rival_is_refused(self, config: dict[str, Any]) -> None:
        made = self.pipeline(**config)
        plan = make_plan(made, self.root).stages["sample"]
        if plan.action == "reuse" or plan.store is None:
            return
        plan.store.acquire("first")
        self.log.write_text("")
        with pytest.raises(StoreBusy):
            self.go(made)
        read = self.go(made, HASTY.model_copy(update={"if_busy": "read"}))
        assert read.manifest.state == "done"
        assert self.log.read_text() == ""
        assert read.dataset("sample").collect().height == plan.held
        plan.store.release()

    @rule(config=runs)
    def sleeper_is_fenced(self, config: dict[str, Any]) -> None:
        made = self.pipeline(**config)
        plan = make_plan(made, self.root).stages["sample"]
        if plan.action == "reuse" or plan.store is None:
            return
        sleeper = plan.store
        sleeper.acquire("sleeper", seconds=0.05)
        gap = next(gap for wanted in plan.ranges for gap in sleeper.held.missing(wanted))
        late = write_part(self.root, plan.folder, _rows(gap.problem_key, gap.first, gap.size), datasets.Sample, "late")
        time.sleep(0.06)
        self.run(config)
        before = _sorted(pl.read_delta(self.root.uri(plan.folder)))
        with pytest.raises(LeaseLost):
            sleeper.commit([late])
        with pytest.raises(LeaseLost):
            sleeper.replace(list(sleeper.files), late)
        assert _sorted(pl.read_delta(self.root.uri(plan.folder))).equals(before)

    # -- what must be true ---------------------------------------------------------------------------------------

    def stores(self) -> list[str]:
        found: list[str] = []
        for folder in (self.folder / "root").rglob("_delta_log") if hasattr(self, "folder") else ():
            found.append(str(folder.parent.relative_to(self.folder / "root")))
        return sorted(found)

    def open(self, folder: str) -> Store:
        contract = datasets.Sample if folder.startswith("samples/") else datasets.Verdict
        return Store(self.root, folder, contract, {})

    @invariant()
    def tables_agree_with_the_model(self) -> None:
        for folder in self.stores():
            table = DeltaTable(self.root.uri(folder))
            rows = pl.read_delta(table) if table.file_uris() else pl.DataFrame(schema={"problem_key": pl.String})
            if "sample_index" not in rows.columns:
                continue
            assert rows.select(KEY).is_duplicated().sum() == 0
            assert len(self.open(folder).held) == len(rows)
            for uri in table.file_uris():
                keys = pl.read_parquet(uri, columns=KEY).rows()
                assert keys == sorted(keys)
            if folder.startswith("samples/"):
                now = {(folder, key, index): text for key, index, text in rows.select(*KEY, "completion").rows()}
                known = {name: text for name, text in self.texts.items() if name[0] == folder}
                assert known.items() <= now.items()
                self.texts |= now
            else:
                self.verdicts_fit_their_texts(folder, rows)

    def verdicts_fit_their_texts(self, folder: str, rows: pl.DataFrame) -> None:
        samples = f"samples/{folder.split('/')[1]}"
        for key, index, answer in rows.select(*KEY, "predicted_answer").rows():
            assert answer is None or answer in self.texts[samples, key, index]

    @invariant()
    def views_stay_as_they_were_read(self) -> None:
        for result, stage, rows in getattr(self, "views", []):
            assert _sorted(result.dataset(stage).collect()).equals(rows)


def _sorted(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.sort([name for name in ("problem_key", "sample_index", "method") if name in rows.columns])


def _rows(key: str, first: int, count: int) -> pl.DataFrame:
    rows = [
        {
            **dict.fromkeys(
                ("prompt_tokens", "cached_prompt_tokens", "completion_tokens", "seed", "completion_hash"), 1
            ),
            "problem_key": key,
            "sample_index": index,
            "problem_id": "late",
            "completion": "too late",
            "status": "ok",
            "finish_reason": "stop",
            "run_id": "late",
        }
        for index in range(first, first + count)
    ]
    return Sample.table(rows)


def test_durability() -> None:
    from hypothesis.stateful import run_state_machine_as_test

    budget = (
        {"max_examples": 200, "stateful_step_count": 25} if LONG else {"max_examples": 25, "stateful_step_count": 12}
    )
    how = settings(
        **budget, deadline=None, derandomize=not LONG, suppress_health_check=list(HealthCheck), print_blob=True
    )
    with every_write_counted(Durability.writes):
        run_state_machine_as_test(Durability, settings=how)
