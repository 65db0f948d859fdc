"""A root that version 0.1 left: what it paid for is found, what it had begun is ended, what it said can be read.

It was made before problems were numbered. Four runs of the scripted pipeline on ``problems.jsonl`` (30 problems of two
types; the first run took 12 of them, ``few.jsonl``): one done, one killed half-way, one that a budget of 100 samples
ended, one under a budget that was killed half-way.
"""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import polars as pl
import pytest

from cluster.planning.plan import RunPlan, make_plan
from cluster.records.reader import manifests, open_stage
from cluster.runners.local import LocalRunner
from cluster.spending.allocations import read_allocations
from cluster.storage.root import Root
from cluster.upkeep.verify_data import verify
from operators.sample.sampling import Sampling
from schemas.budget import Budget
from schemas.manifest import RunManifest
from tests.support import QUICK, run, scripted_pipeline, stage

PAID = ("load", "sample")
"""Stages that no newer version of a verifier makes anew."""
OLD = Path(__file__).parents[1] / "data" / "root-of-0.1.tar.gz"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    with tarfile.open(OLD) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path


def nobody_waits(old: Path) -> None:
    """Shorten the leases of killed runs: who comes next watches them for their length, of which 0.1 said nothing."""
    for path in (*old.rglob("_lease.json"), *old.rglob("heartbeat.json")):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"seconds": 0.5}))


def by_state(root: Root) -> dict[tuple[str, str | None], RunManifest]:
    return {(found.state, found.account): found for found in manifests(root)}


def check_views(plan: RunPlan, before: RunManifest) -> None:
    """What is asked for and where it lies is what it was."""
    known = {record.name: (record.view_id, record.path) for record in before.stages}
    assert {name: (plan.stages[name].view_id, plan.stages[name].folder) for name in PAID} == {n: known[n] for n in PAID}


def test_what_it_says_can_be_read_and_is_sound(old: Path) -> None:
    root = Root.at(old / "root")
    found = by_state(root)
    assert set(found) == {("done", None), ("running", None), ("budget reached", "scripted"), ("running", "other")}
    done = found["done", None]
    assert open_stage(root, done, "sample").collect().height == 72
    assert open_stage(root, done, "load").collect().height == 12
    for state in ("done", None), ("budget reached", "scripted"):
        assert verify(root, found[state]).findings == []


def test_a_run_that_was_done_is_found_whole(old: Path) -> None:
    plan = make_plan(scripted_pipeline(old / "few.jsonl", 6), Root.at(old / "root"))
    check_views(plan, by_state(plan.root)["done", None])
    assert {plan.stages[name].action for name in PAID} == {"reuse"}
    again = run(LocalRunner(), scripted_pipeline(old / "few.jsonl", 6), old / "root")
    assert again.manifest.state == "done"
    assert sum(record.computed for record in again.manifest.stages if record.name in PAID) == 0


def test_a_run_that_was_killed_goes_on_where_it_was(old: Path) -> None:
    nobody_waits(old)
    root = Root.at(old / "root")
    before = pl.concat([pl.read_parquet(path) for path in _files(root, "samples")]).filter(pl.col("seed") >= 0)
    killed = by_state(root)["running", None]
    pipeline = scripted_pipeline(old / "problems.jsonl", 10)
    plan = make_plan(pipeline, root)
    check_views(plan, killed)
    held = plan.stages["sample"].held
    assert 72 < held < 300
    result = run(LocalRunner(), pipeline, old / "root", QUICK)
    assert result.manifest.state == "done", result.manifest.error
    assert stage(result, "load") == {"planned": 30, "reused": 30, "computed": 0}
    assert stage(result, "sample") == {"planned": 300, "reused": held, "computed": 300 - held}
    rows = result.dataset("sample").collect()
    assert rows.select("problem_key", "sample_index").is_unique().all() and len(rows) == 300
    kept = rows.join(before, on=["problem_key", "sample_index", "completion", "run_id"], how="semi")
    assert len(kept) == held, "what was paid for before is what it was"
    assert verify(root, result.manifest).findings == []


def test_a_budget_counts_what_was_spent_before(old: Path) -> None:
    """The killed run's log says what it sent: its holes are drawn first, and what it cost is settled."""
    nobody_waits(old)
    root = Root.at(old / "root")
    killed = by_state(root)["running", "other"]
    sampling = Sampling(temperature=0.7)
    sent = read_allocations(root, killed.run_id)
    budget = Budget(samples=int(sent["count"].sum()) + 20, account="other")
    settings = QUICK.model_copy(update={"budget": budget})
    result = run(LocalRunner(), scripted_pipeline(old / "problems.jsonl", 8, sampling), old / "root", settings)
    assert result.manifest.state == "budget reached", result.manifest.error
    held = result.dataset("sample").collect()
    fresh = held.filter(pl.col("run_id") == result.manifest.run_id)
    assert len(fresh) == 20 and held.filter(pl.col("run_id") == killed.run_id).height == len(held) - 20
    asked = sent.select("problem_key", index=pl.int_ranges("first_index", pl.col("first_index") + pl.col("count")))
    asked = set(asked.explode("index").iter_rows())
    assert set(fresh.select("problem_key", "sample_index").iter_rows()) <= asked
    assert verify(root, result.manifest).findings == []


def _files(root: Root, kind: str) -> list[Path]:
    return sorted(Path(root.uri(kind)).glob("*/*.parquet"))
