"""Orders that meet with trouble: half done, absurd, given to runs elsewhere and to such as are killed."""

from __future__ import annotations

import contextlib
from collections import Counter
from concurrent.futures import Future
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from typer.testing import CliRunner

from cluster.pools.replicas import Replicas
from cluster.records.orders import give, new_order
from cluster.records.reader import find_run
from cluster.runners.local import LocalRunner
from cluster.storage.root import Root
from cluster.storage.store import Store
from cluster.upkeep.verify_data import verify
from jobs.cli import app
from operators.policies.named import UniformSpec
from operators.sample.sampling import Sampling
from schemas.budget import Budget
from schemas.errors import BadInput, WorkerLost
from schemas.job import RunSettings
from tests.integration.test_interruptions import committed, start, wait_for
from tests.integration.test_orders import asked, attentive, slow, stands_still
from tests.orders import Going, computed
from tests.support import QUICK, keys, make_runner

assert attentive, "runs look more often than usual here, too"

# -- half done ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stays", ["samples", "verdicts"])
def test_rows_that_cant_be_taken_out_stay_with_what_is_said_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stays: str
) -> None:
    """Whichever store keeps its rows: nothing is lacking in the end, and nothing was drawn twice."""
    drop, kept = Store.drop, list[str]()

    def now_and_then(self: Store, names: Any, instead: Any = ()) -> bool:
        if self.folder.startswith(stays) and not kept:
            kept.append(self.folder)
            return False
        return drop(self, names, instead)

    monkeypatch.setattr(Store, "drop", now_and_then)
    pipeline = slow(tmp_path, 300, problems=2, fail_permanent=0.2)
    with Going(LocalRunner(), pipeline, tmp_path / "root", QUICK) as going:
        going.when(lambda manifest: computed(manifest, "verify") > 20)
        going.told("pause")
        going.when(lambda manifest: stands_still(manifest, tmp_path))
        going.told("requeue", problem="p0")
        going.when(lambda _: any("couldn't be taken out" in text for text in going.said))
        going.told("resume")
        going.end()
    result = going.result
    assert kept and result is not None and result.manifest.state == "done", going.error
    assert set(Counter(asked(tmp_path)).values()) == {1} and len(asked(tmp_path)) == 600
    assert keys(result) == keys(result, "verify") and len(keys(result)) == 600
    assert all(record.complete for record in result.manifest.stages)
    assert computed(result.manifest) == computed(result.manifest, "verify") == 600
    assert verify(going.root, result.manifest).findings == []


def pool(paused: bool, **feed: bool) -> tuple[Replicas, Mock, list[Mock]]:
    """Return the replicas of a role, the state of its stage, whose turn it is, and the workers that are started."""
    started: list[Mock] = []

    def engine_worker(*_: object) -> Mock:
        started.append(Mock(call=lambda *_: Future()))
        return started[-1]

    state, runner = Mock(paused=paused, turn=True), Mock(engine_worker=engine_worker)
    role = Mock(role="scorer", state=state, on_died=lambda *_: 0, **feed)
    role.spec.replicas = 1
    replicas = Replicas(runner, RunSettings(), "r", Mock(), Mock(), lambda state: state.turn, Mock(), Mock())  # pyright: ignore[reportAttributeAccessIssue]
    replicas.add(role)
    return replicas, state, started


@pytest.mark.parametrize(
    ("needed", "waiting", "paused", "starts"),
    [(True, True, True, 1), (False, True, True, 0), (False, True, False, 1), (False, False, False, 0)],
)
def test_in_a_pause_engines_start_for_what_is_under_way_alone(
    needed: bool, waiting: bool, paused: bool, starts: int
) -> None:
    """A role's engine that died, which the episodes that are being played need; not one that nothing needs yet."""
    replicas, state, started = pool(paused, needed=needed, waiting=waiting)
    replicas.start_where_needed(state)
    assert len(started) == starts


@pytest.mark.parametrize("needed", [True, False])
def test_an_engine_that_dies_as_its_turn_ends_is_replaced_if_it_is_needed(needed: bool) -> None:
    replicas, state, started = pool(False, needed=needed, waiting=True)
    replicas.start_where_needed(state)
    state.turn = False
    replicas.on_died(replicas._all[0], WorkerLost("killed"))
    assert len(started) == 1 + needed


def test_caps_change_with_a_policy_or_not_at_all(tmp_path: Path) -> None:
    """What the policy is to be told is read before anything is changed."""
    settings = QUICK.model_copy(update={"budget": Budget(tokens=10**7)})
    sampling = Sampling(policy=UniformSpec())
    with Going(LocalRunner(), slow(tmp_path, sampling=sampling), tmp_path / "root", settings) as going:
        going.when(computed)
        nowhere = {"name": "marginal", "before": str(tmp_path / "nowhere.csv")}
        with pytest.raises(BadInput, match=r"nowhere\.csv"):
            going.told("set", {"run.budget.tokens": 10**6, "policy": nowhere})
        counts = tmp_path / "counts.csv"
        counts.write_text("problem_id,n,c\np0,4,1\np1,4,3\n")
        going.told("set", {"policy": {"name": "marginal", "before": str(counts), "target": 1000}})
        counts.unlink()
        assert going.told("set", {"run.budget.tokens": 10**6}).answer == "run.budget.tokens 10,000,000 -> 1,000,000"
        going.told("cancel")


ABSURD: list[dict[str, Any]] = [
    {"run.budget.tokens": -1},
    {"run.budget.tokens": 10**400},
    {"run.budget.tokens": True},
    {"run.budget.tokens": "1e400"},
    {"run.budget.dollars": 1e308},
    {"run.budget.hours": -0.0},
    {"run.budget.tokens": None},
    {"run.budget.": 5},
    {"run.budget": {"tokens": 5}},
    {"run.budget.keep": {"sample": 2}},
    {"policy.target": 10**30},
    {"policy.target": [[1]]},
    {"policy": None},
    {"policy": {"name": "uniform", "odd": 1}},
    {"policy.name.x": 1},
    {"policy": {"name": "consistency", "shapes": [[]]}},
    {"policy": {"name": "consistency", "shapes": [[-1, 1]]}},
    {"policy": {"name": "with_flaws", "types": [[-1, 0.5], [2, 0.5]]}},
    {"..policy..": "uniform"},
    {"concurrency": 2**70},
    {"concurrency": True},
    {"concurrency": 0.5},
    {"priority": 2**40},
    {"": 1},
]


def test_absurd_settings_are_refused_and_the_run_goes_on(tmp_path: Path) -> None:
    settings = QUICK.model_copy(update={"budget": Budget(tokens=10**7)})
    sampling = Sampling(policy=UniformSpec())
    with Going(LocalRunner(), slow(tmp_path, sampling=sampling), tmp_path / "root", settings) as going:
        going.when(computed)
        taken: list[dict[str, Any]] = []
        for values in ABSURD:
            with contextlib.suppress(BadInput):
                going.told("set", values)
                taken.append(values)
        assert taken == []
        for problem in ("", "\u202e", "p" * 1_999, "../p0", "p0/0", "*"):
            with pytest.raises(BadInput):
                going.told("requeue", problem=problem)
        before = computed(going.when(computed))
        going.when(lambda manifest: computed(manifest) > before)
        going.told("cancel")
        manifest = going.end()
    spending = manifest.spending
    assert spending is not None and spending.caps == {"tokens": 10**7}
    assert {one.result for one in manifest.orders if one.action != "cancel"} == {"refused"}


# -- elsewhere, and afterwards -----------------------------------------------------------------------------------------


@pytest.mark.ray
def test_a_run_on_ray_is_told_by_the_command(tmp_path: Path) -> None:
    settings = QUICK.model_copy(update={"budget": Budget(tokens=10**7)})
    pipeline = slow(tmp_path, sampling=Sampling(policy=UniformSpec()), problems=2, fail_permanent=0.2)

    def ctl(*words: str) -> str:
        done = CliRunner().invoke(app, ["ctl", "latest", *words, "--root", str(tmp_path / "root"), "--by", "ben"])
        assert done.exit_code == 0, (done.stdout, done.exception)
        return done.stdout

    def repeated() -> int:
        return len(asked(tmp_path)) - len(set(asked(tmp_path)))

    with Going(make_runner("ray"), pipeline, tmp_path / "root", settings) as going:
        going.when(lambda manifest: computed(manifest, "verify") > 20)
        assert "nothing new is begun" in ctl("pause", "--reason", "to look at it")
        before = computed(going.when(lambda manifest: stands_still(manifest, tmp_path)))
        answer = ctl("set", "run.budget.tokens=2000000", "run.budget.samples=90000", "concurrency=3")
        assert "run.budget.tokens 10,000,000 -> 2,000,000" in answer and "concurrency none -> 3" in answer
        answer = ctl("requeue", "p0")
        assert "refused row(s) are made again" in answer
        again = int(answer.split("'p0': ")[1].split()[0])
        going.when(lambda manifest: computed(manifest) == before - again)
        assert repeated() == 0, "nothing is begun in a pause"
        ctl("resume")
        going.when(lambda manifest: computed(manifest) > before and repeated() == again)
        ctl("cancel")
        manifest = going.end()
    result = going.result
    assert result is not None and manifest.state == "interrupted", going.error
    assert set(Counter(asked(tmp_path)).values()) == {1, 2} and repeated() == again
    assert len(keys(result)) == len(asked(tmp_path)) - again
    assert set(keys(result)) >= set(keys(result, "verify"))
    assert manifest.spending is not None and manifest.spending.caps == {"samples": 90_000, "tokens": 2_000_000}
    assert [(one.by, one.result) for one in manifest.orders] == [("ben", "applied")] * 5
    assert verify(going.root, manifest).findings == []


def test_a_paused_run_that_was_killed_stays_paused_and_loses_nothing(tmp_path: Path) -> None:
    root = Root.at(tmp_path / "gristmill-data")
    more = ("--set", "run.lease_seconds=3")

    def told(*words: str) -> str:
        done = CliRunner().invoke(app, ["ctl", "latest", *words, "--root", root.url])
        assert done.exit_code == 0, (done.stdout, done.exception)
        return done.stdout

    def calls() -> list[str]:
        return (tmp_path / "calls").read_text().split()

    first = start(tmp_path, *more, n=100_000)
    wait_for(lambda: committed(tmp_path) >= 30)
    told("pause", "--reason", "lunch")
    wait_for(lambda: committed(tmp_path) == len(calls()))
    name, there = find_run(root, "latest").run_id, len(calls())
    first.kill()
    first.wait()
    done = CliRunner().invoke(app, ["ctl", name, "resume", "--root", root.url])
    assert isinstance(done.exception, BadInput) and "stays paused until it is told to resume" in str(done.exception)
    second = start(tmp_path, *more, n=100_000)
    wait_for(lambda: f"goes on with run {name}, which was paused" in second.errors())
    wait_for(lambda: find_run(root, "latest").run_id != name)
    manifest = find_run(root, "latest")
    assert manifest.paused is not None and manifest.paused.reason == "lunch"
    with pytest.raises(BadInput, match=r"is paused already, by .* \(lunch\)"):
        give(root, manifest.run_id, new_order("pause"), 60.0)
    assert len(calls()) == there == committed(tmp_path)
    told("resume")
    wait_for(lambda: committed(tmp_path) > there + 20)
    told("cancel")
    assert second.wait() == 3
    assert set(Counter(calls()).values()) == {1} and committed(tmp_path) == len(calls())
    assert not root.list("orders")
