"""Telling a run something while it goes on: it does it within seconds, or says why not, and it is written down."""

from __future__ import annotations

import json
import threading
from collections import Counter
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from cluster.records.events import read_events
from cluster.records.orders import KEY, give, new_order
from cluster.records.rules import read_rules
from cluster.records.run import RunResult
from cluster.runners.local import LocalRunner
from cluster.spending.history import read_ledger
from cluster.storage.root import Root
from cluster.upkeep.verify_data import verify
from jobs.cli import app
from operators.load import Load
from operators.measure.pass_at_k import PassAtK
from operators.policies.named import UniformSpec, UntilCorrectSpec
from operators.sample.sampling import Sampling
from pipelines.graph import Pipeline
from schemas.budget import Budget
from schemas.engine import OpenAISpec, ScriptedSpec
from schemas.errors import BadInput, RunIncomplete
from schemas.job import RunSettings
from schemas.manifest import RunManifest
from tests.completion_server import CompletionServer
from tests.integration.test_failures import Troubled
from tests.orders import Going, computed
from tests.support import BOTH, QUICK, keys, make_runner, run, scripted_pipeline, stage, write_problems


@pytest.fixture(autouse=True)
def attentive(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs and those who tell them something look more often than usual."""
    monkeypatch.setattr("cluster.driving.ear.LOCAL_SECONDS", 0.05)
    monkeypatch.setattr("cluster.records.orders.LOOK_SECONDS", 0.05)


MANY = 100_000
"""More samples than any test waits for."""

EVENLY = Sampling(policy=UniformSpec())


def slow(folder: Path, n: int = MANY, sampling: Sampling | None = None, problems: int = 4, **engine: object):
    source = write_problems(folder / "p.jsonl", problems)
    given = {"latency": 0.01, "slots": 4, "call_log": str(folder / "calls"), **engine}
    return scripted_pipeline(source, n, sampling, **given)


def asked(folder: Path) -> list[str]:
    return (folder / "calls").read_text().split()


def stands_still(manifest: RunManifest, folder: Path) -> bool:
    """Whether a paused run has finished what was under way."""
    idle = manifest.paused is not None and all(record.queued == 0 for record in manifest.stages)
    return idle and computed(manifest) == len(asked(folder))


@BOTH
def test_a_run_is_paused_goes_on_and_is_cancelled(tmp_path: Path, runner: str) -> None:
    with Going(make_runner(runner), slow(tmp_path), tmp_path / "root", QUICK) as going:
        going.when(computed)
        answer = going.told("pause", why="the server is needed")
        assert answer.result == "applied" and answer.by == "anna"
        with pytest.raises(BadInput, match=r"paused already, by anna \(the server is needed\)"):
            going.told("pause")
        still = going.when(lambda manifest: stands_still(manifest, tmp_path) and manifest.waits_for)
        before = len(asked(tmp_path))
        assert still.paused is not None and still.waits_for == "resume: it is paused by anna (the server is needed)"
        assert computed(still) == before  # what was under way was finished and kept
        with pytest.raises(BadInput, match=r"there is no 'sample\.n' to set"):
            going.told("set", {"sample.n": 5})
        assert len(asked(tmp_path)) == before
        assert going.told("resume").answer == "it goes on"
        going.when(lambda manifest: computed(manifest) > before)
        with pytest.raises(BadInput, match="isn't paused"):
            going.told("resume")
        going.told("cancel", why="enough")
        ended = going.end()
    assert (ended.state, ended.paused) == ("interrupted", None)
    assert ended.error is not None and ended.error.startswith("cancelled by anna (enough)")
    told = [("pause", "applied"), ("pause", "refused"), ("set", "refused"), ("resume", "applied")]
    told += [("resume", "refused"), ("cancel", "applied")]
    assert [(one.action, one.result) for one in ended.orders] == told
    events = [one for one in read_events(going.root, ended.run_id) if one["event"] == "order"]
    assert [(one["action"], one["result"]) for one in events] == told
    assert events[0]["by"] == "anna" and events[0]["reason"] == "the server is needed"
    ledger = read_ledger(going.root).filter(pl.col("kind") == "order").sort("sequence")
    assert ledger["action"].to_list()[0] == "pause: applied" and len(ledger) == len(told)
    assert set(ledger["author"]) == {"anna"} and ledger["microdollars"].sum() == 0
    assert not going.root.list("orders")
    with pytest.raises(BadInput, match="has ended"):
        give(going.root, ended.run_id, new_order("pause"), 5.0)
    assert not going.root.exists("runs", ended.run_id, KEY)


def test_what_goes_on_with_a_paused_run_stays_paused(tmp_path: Path) -> None:
    """Settings that were changed hold on, too, unless the command says something else by then."""
    budget = Budget(samples=70_000, tokens=10**9)
    settings = QUICK.model_copy(update={"budget": budget})
    with Going(LocalRunner(), slow(tmp_path, MANY, EVENLY), tmp_path / "root", settings) as first:
        first.when(computed)
        first.told("set", {"run.budget.samples": 60_000, "run.budget.tokens": 10**8, "concurrency": 2})
        first.told("pause", why="lunch")
        first.die = True
        assert first.end().state == "interrupted"
    other = settings.model_copy(update={"budget": budget.model_copy(update={"tokens": 10**7})})
    with Going(LocalRunner(), slow(tmp_path, MANY, EVENLY), tmp_path / "root", other) as second:
        manifest = second.when(lambda manifest: manifest.paused)
        assert any("which was paused, and stays so" in text for text in second.said)
        assert any("run.budget.tokens" in text and "this command says something else" in text for text in second.said)
        assert computed(manifest) == 0
        caps = second.when(lambda manifest: manifest.spending).spending
        assert caps is not None and caps.caps == {"samples": 60_000, "tokens": 10**7}
        second.told("resume")
        second.when(computed)
        second.told("cancel")
        second.end()
    with Going(LocalRunner(), slow(tmp_path, MANY, EVENLY), tmp_path / "root", settings) as third:
        third.when(computed)  # a cancelled run leaves nothing behind
        spending = third.when(lambda manifest: manifest.spending).spending
        assert spending is not None and spending.caps["samples"] == 70_000
        third.told("cancel")


def test_caps_are_changed_as_far_as_they_can_hold(tmp_path: Path) -> None:
    budget = Budget(tokens=10**7)
    settings = QUICK.model_copy(update={"budget": budget})
    with Going(LocalRunner(), slow(tmp_path, MANY, EVENLY), tmp_path / "root", settings) as going:
        going.when(lambda manifest: computed(manifest, "verify"))
        going.told("pause")
        cap = computed(going.when(lambda manifest: stands_still(manifest, tmp_path))) + 200
        with pytest.raises(BadInput, match=r"run\.budget\.tokens = 5, and [\d,]+ are spent and .* The least that can"):
            going.told("set", {"run.budget.tokens": 5})
        with pytest.raises(BadInput, match=r"run\.budget\.dollars: the run began without a cap in dollars"):
            going.told("set", {"run.budget.dollars": 1.0})
        with pytest.raises(BadInput, match=r"run\.budget\.account can't be changed"):
            going.told("set", {"run.budget.account": "other", "run.budget.tokens": 10**6})
        with pytest.raises(BadInput, match=r"run\.budget\.tokens: .*valid integer"):
            going.told("set", {"run.budget.tokens": "many"})
        assert going.told("set", {"run.budget.samples": cap}).answer == f"run.budget.samples none -> {cap:,}"
        going.told("resume")
        going.end()
    result = going.result
    assert result is not None and result.manifest.state == "budget reached"
    assert len(asked(tmp_path)) == cap == computed(result.manifest)
    rules = read_rules(going.root, result.manifest.run_id, "sample").with_columns(
        cap=pl.col("rule").str.json_path_match("$.budget.samples"),
        by=pl.col("rule").str.json_path_match("$.ordered.by"),
    )
    assert rules["cap"].to_list() == [None] * 4 + [str(cap)] * 4
    assert rules["by"].to_list() == [None] * 4 + ["anna"] * 4
    changed = rules.tail(4)["first_index"]
    assert int(changed.min()) > 0 and int(changed.sum()) == cap - 200  # pyright: ignore[reportArgumentType]


def test_without_a_cap_there_is_none_to_change(tmp_path: Path) -> None:
    with Going(LocalRunner(), slow(tmp_path), tmp_path / "root", QUICK) as going:
        going.when(computed)
        with pytest.raises(BadInput, match="the run began without a cap"):
            going.told("set", {"run.budget.tokens": 10**6})
        with pytest.raises(BadInput, match="sampled in order, the same for every problem"):
            going.told("set", {"policy": "uniform"})
        with pytest.raises(BadInput, match="priority: the engines of this run are its own"):
            going.told("set", {"priority": 3, "concurrency": 1})
        with pytest.raises(BadInput, match="concurrency=9: an engine of this run takes 4"):
            going.told("set", {"concurrency": 9})
        with pytest.raises(BadInput, match="from 1 on"):
            going.told("set", {"concurrency": 0})
        assert going.told("set", {"concurrency": 2}).answer == "concurrency none -> 2"
        assert going.told("set", {"concurrency": None}).answer == "concurrency 2 -> none"
        going.told("cancel")


def test_another_policy_goes_on_where_the_first_one_was(tmp_path: Path) -> None:
    """Nothing is drawn twice, and measures know by which rules samples came about."""
    sampling = Sampling(policy=UntilCorrectSpec(target=40))
    pipeline = slow(tmp_path, 400, sampling)
    verdicts = next(stage for stage in pipeline.stages.values() if stage.name == "verify")
    pipeline.stage("coverage", PassAtK(), verdicts=verdicts)
    with Going(LocalRunner(), pipeline, tmp_path / "root", QUICK) as going:
        going.when(lambda manifest: computed(manifest, "verify"))
        going.told("pause")
        with pytest.raises(BadInput, match="compute_optimal calibrates its arms"):
            going.told("set", {"policy.name": "compute_optimal"})
        with pytest.raises(BadInput, match="no policy 'greedily'"):
            going.told("set", {"policy": "greedily"})
        with pytest.raises(BadInput, match=r"sample\.policy\.target"):
            going.told("set", {"sample.policy.target": -1})
        with pytest.raises(BadInput, match="stages that sample are sample"):
            going.told("set", {"verify.policy": "uniform"})
        answer = going.told("set", {"policy": "uniform"}, why="to see the curve")
        assert answer.answer == "policy until_correct -> uniform"
        going.told("resume")
        going.end()
    result = going.result
    assert result is not None and result.manifest.state == "done", going.error
    calls = Counter(asked(tmp_path))
    assert len(calls) == 1600 and set(calls.values()) == {1}  # until_correct alone would have stopped long before
    rules = read_rules(going.root, result.manifest.run_id, "sample")
    names = rules["rule"].str.json_path_match("$.policy.name").to_list()
    assert names == ["until_correct"] * 4 + ["uniform"] * 4
    notes = result.dataset("coverage").select("note").collect()["note"].unique().to_list()
    assert any("sampled by uniform, until_correct" in note for note in notes), notes


def test_a_changed_goal_of_the_same_policy(tmp_path: Path) -> None:
    pipeline = slow(tmp_path, 2_000, Sampling(policy=UntilCorrectSpec(target=20)))
    with Going(LocalRunner(), pipeline, tmp_path / "root", QUICK) as going:
        going.when(lambda manifest: computed(manifest, "verify"))
        going.told("pause")
        going.told("set", {"sample.policy.target": 60})
        going.told("resume")
        going.end()
    assert going.result is not None
    right = going.result.dataset("verify").filter("is_correct").group_by("problem_key").len().collect()
    assert len(right) == 4 and int(right["len"].min()) >= 60  # pyright: ignore[reportArgumentType]
    assert len(asked(tmp_path)) < 8_000


def test_several_at_once_are_answered_one_after_the_other(tmp_path: Path) -> None:
    with Going(LocalRunner(), slow(tmp_path), tmp_path / "root", QUICK) as going:
        going.when(computed)
        answers: list[str] = []

        def tell(most: int) -> None:
            answers.append(going.told("set", {"concurrency": most}).answer)

        threads = [threading.Thread(target=tell, args=(most,)) for most in (1, 2, 3, 4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=60)
        assert len(answers) == 4
        manifest = going.when(lambda manifest: len(manifest.orders) == 4)
        assert sorted(one.values["concurrency"] for one in manifest.orders) == [1, 2, 3, 4]
        going.root.write_bytes(b'{"action": "pau', "runs", going.run_id, KEY)
        going.when(lambda _: any("can't be read was thrown away" in text for text in going.said))
        going.root.write_bytes(b'{"action": "explode", "id": "abcdef01"}', "runs", going.run_id, KEY)
        going.when(lambda _: sum("was thrown away" in text for text in going.said) == 2)
        assert going.told("cancel").result == "applied"


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["pause"], "has ended (done, at"),
        (["pause", "now"], "pause takes nothing else; got now"),
        (["set"], "set takes KEY=VALUE"),
        (["set", "concurrency"], "set takes KEY=VALUE"),
        (["set", "a=1", "a=2"], "'a' is there twice"),
        (["set", "a=[1"], "is not valid YAML"),
        (["requeue"], "requeue takes one problem_id"),
        (["resume", "--reason", "x" * 3_000], "reason: String should have at most 2000 characters"),
    ],
)
def test_the_command_says_what_is_wrong(ended: RunResult, words: list[str], why: str) -> None:
    done = CliRunner().invoke(app, ["ctl", ended.manifest.run_id, *words, "--root", ended.root.url])
    assert isinstance(done.exception, BadInput) and why in str(done.exception)


def test_the_command_lists_what_a_run_was_told(ended: RunResult, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["ctl", "latest", "--root", ended.root.url])
    assert done.exit_code == 0 and "was told nothing" in done.stdout
    with Going(LocalRunner(), slow(tmp_path), tmp_path / "root", QUICK) as going:
        going.when(computed)
        words = ["ctl", "latest", "--root", going.root.url]
        done = CliRunner().invoke(app, [*words, "set", "concurrency=3", "--reason", "[b]noise[/b]", "--by", "ben"])
        assert (done.exit_code, done.stdout) == (0, f"{going.run_id}: concurrency none -> 3\n")
        told = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)
        assert [(one["by"], one["values"], one["result"]) for one in told] == [("ben", {"concurrency": 3}, "applied")]
        assert "[b]noise[/b]" in CliRunner().invoke(app, words, env={"COLUMNS": "300"}).stdout
        done = CliRunner().invoke(app, ["cancel", going.run_id, "--root", going.root.url])
        assert done.exit_code == 0 and "it ends in good order" in done.stdout


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    folder = tmp_path_factory.mktemp("ended")
    return run(LocalRunner(), slow(folder, 4), folder / "root")


def test_nobody_answers_for_a_dead_run(tmp_path: Path) -> None:
    root = Root.at(tmp_path / "root")
    result = run(LocalRunner(), slow(tmp_path, 4), tmp_path / "root")
    path = ("runs", result.manifest.run_id, "manifest.json")
    root.write_bytes(root.read_bytes(*path).replace(b'"state": "done"', b'"state": "running"'), *path)
    with pytest.raises(BadInput, match=r"nobody is at work on run .* any more"):
        give(root, result.manifest.run_id, new_order("pause"), 5.0)


def test_who_isnt_heard_withdraws_the_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cluster.driving.ear.LOCAL_SECONDS", 3600.0)
    with Going(LocalRunner(), slow(tmp_path), tmp_path / "root", QUICK) as going:
        going.when(computed)
        with pytest.raises(RunIncomplete, match="the order was withdrawn"):
            give(going.root, going.run_id, new_order("pause"), 0.5)
        assert not going.root.exists("runs", going.run_id, KEY)
        going.die = True


def test_refused_rows_of_a_problem_are_drawn_again(tmp_path: Path) -> None:
    pipeline = slow(tmp_path, 1_000, problems=2, fail_permanent=0.2)
    with Going(LocalRunner(), pipeline, tmp_path / "root", QUICK) as going:
        going.when(lambda manifest: computed(manifest, "verify") > 20)
        going.told("pause")  # so that nothing is being judged
        manifest = going.when(lambda manifest: stands_still(manifest, tmp_path))
        failed = next(record.failed for record in manifest.stages if record.name == "sample")
        assert failed > 0
        with pytest.raises(BadInput, match="no problem of this run is called 'p9'"):
            going.told("requeue", problem="p9")
        before = computed(manifest)
        said = going.told("requeue", problem="p0").answer  # in order, so it is the first problem's turn
        again = int(said.split()[2])
        assert said == f"problem 'p0': {again} refused row(s) are made again" and 0 < again <= failed
        going.when(lambda manifest: computed(manifest) == before - again)
        going.told("resume")
        going.end()
    result = going.result
    assert result is not None and result.manifest.state == "done", going.error
    calls = Counter(asked(tmp_path))
    assert len(calls) == 2_000 and sum(calls.values()) == 2_000 + again and set(calls.values()) == {1, 2}
    assert keys(result) == keys(result, "verify") and len(keys(result)) == 2_000
    record = next(record for record in result.manifest.stages if record.name == "sample")
    assert record.failed == result.dataset("sample").filter(pl.col("status") == "error").collect().height
    assert stage(result, "sample")["computed"] == 2_000
    assert verify(going.root, result.manifest).findings == []


def test_quarantined_rows_are_tried_again_once_that_may_help(tmp_path: Path) -> None:
    switch = tmp_path / "switch"
    switch.touch()
    pipeline = Pipeline("troubled")
    problems = pipeline.stage("load", Load(source=str(write_problems(tmp_path / "p.jsonl", 1))))
    spec = ScriptedSpec(answers=("0", "1"), latency=0.05, slots=4)
    samples = pipeline.stage("sample", Sampling(n=600), engine=spec, problems=problems)
    verifier = Troubled(switch=str(switch), trouble="raise", indices=(3,))
    pipeline.stage("verify", verifier, samples=samples, problems=problems)
    with Going(LocalRunner(), pipeline, tmp_path / "root", QUICK) as going:
        going.when(lambda manifest: manifest.stages[2].quarantined == 1)
        switch.unlink()
        assert going.told("requeue", problem="p0").answer == "problem 'p0': 1 quarantined row(s) are made again"
        going.end()
    result = going.result
    assert result is not None and (result.manifest.state, result.manifest.error) == ("done", None)
    assert len(keys(result, "verify")) == 600
    assert not result.root.read_bytes("runs", result.manifest.run_id, "quarantine.jsonl")


@pytest.mark.parametrize("refuses", ["", "priority"])
def test_a_priority_is_sent_to_a_server_that_has_some(tmp_path: Path, refuses: str) -> None:
    server = CompletionServer(refuses=refuses or "no such field")
    spec = OpenAISpec(url=server.url, model="m", revision="1", concurrency=2)
    pipeline = Pipeline("served")
    problems = pipeline.stage("load", Load(source=str(write_problems(tmp_path / "p.jsonl", 1))))
    pipeline.stage("sample", Sampling(n=MANY), engine=spec, problems=problems)
    with Going(LocalRunner(), pipeline, tmp_path / "root", QUICK) as going:
        going.when(computed)
        with pytest.raises(BadInput, match="it takes a whole number"):
            going.told("set", {"priority": "high"})
        assert going.told("set", {"priority": 7}).answer == "priority 0 -> 7"
        going.when(lambda _: any(body.get("priority") == 7 for body in server.asked))
        going.told("cancel")
        manifest = going.end()
    server.close()
    sent = sum("priority" in body for body in server.asked)
    assert manifest.stages[1].failed == 0 and (sent <= 4 if refuses else sent > 0)


def test_too_late_to_make_rows_again(tmp_path: Path) -> None:
    settings = RunSettings(flush_seconds=0.2, commit_seconds=0.05)
    with Going(LocalRunner(), slow(tmp_path, problems=2), tmp_path / "root", settings) as going:
        going.when(computed)
        with pytest.raises(BadInput, match="has no refused and no quarantined rows"):
            going.told("requeue", problem="p1")
        going.told("cancel")
