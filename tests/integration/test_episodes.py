"""Episodes of strategies in runs: whole rows, calls that are kept and never asked twice, money, faults."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError

from cluster.records.run import RunResult
from cluster.storage.delta import scan_store
from cluster.storage.root import Root
from cluster.upkeep.gather import gather
from cluster.upkeep.repair import repair
from cluster.upkeep.verify_data import verify
from operators.load import Load
from operators.policies.named import UniformSpec
from operators.sample.sampling import Sampling
from operators.verify.judge import VerifyJudge
from operators.verify.math import VerifyMath
from pipelines.graph import Pipeline
from schemas.budget import Budget
from schemas.datasets import Sample
from schemas.engine import ScriptedSpec
from schemas.episodes import Call
from schemas.errors import BadInput, StageFailed
from tests.integration.test_desk import LONG, VOTES, counted, schedules
from tests.strategies import Rounds
from tests.support import QUICK, make_runner, run, write_problems

PROBLEMS, WIDTH, ROUNDS = 10, 4, 3
CALLS = WIDTH * ROUNDS + 2


def searched(
    folder: Path, *, n: int = 8, judge: bool = False, strategy: Rounds | None = None, **engine: Any
) -> Pipeline:
    """Return load -> sample by a strategy with a scorer of its own -> verify, each engine with logs of its own."""
    source = folder / "problems.jsonl"
    if not source.exists():
        write_problems(source, PROBLEMS)
    logs = {name: str(folder / f"{name}.{{kind}}") for name in ("policy", "scorer", "judge")}

    def spec(name: str, **more: Any) -> ScriptedSpec:
        own = {f"{kind}_log": logs[name].format(kind=f"{kind}s") for kind in ("call", "token")}
        return ScriptedSpec.model_validate({"model": name, "slots": 8, **own, **more})

    pipeline = Pipeline("searched")
    problems = pipeline.stage("load", Load(source=str(source)))
    samples = pipeline.stage(
        "sample",
        Sampling(n=n, max_tokens=16, strategy=strategy or Rounds(), policy=UniformSpec()),
        engine=spec("policy", answers=LONG, **engine),
        engines={"scorer": spec("scorer", **engine)},
        problems=problems,
    )
    if judge:
        judging = spec("judge", answers=VOTES, latency=engine.get("latency", 0.0))
        pipeline.stage(
            "verify", VerifyJudge(votes=2, max_tokens=12), engine=judging, problems=problems, samples=samples
        )
    else:
        pipeline.stage("verify", VerifyMath(), problems=problems, samples=samples)
    return pipeline


def play(folder: Path, pipeline: Pipeline, runner: str = "local", **settings: Any) -> RunResult:
    return run(
        make_runner(runner), pipeline, folder / "root", QUICK.model_copy(update={"flush_seconds": 0.1, **settings})
    )


def asked(folder: Path, name: str = "policy") -> Counter[str]:
    log = folder / f"{name}.calls"
    return Counter(log.read_text().split("\n")[:-1]) if log.exists() else Counter()


def calls_of(result: RunResult) -> pl.DataFrame:
    record = next(record for record in result.manifest.stages if record.name == "sample")
    return scan_store(result.root, f"calls/{record.path.split('/')[1]}", Call).collect()


TEXTS = ("problem_key", "sample_index", "completion", "episode", "slot", "chosen", "search_score", "episode_facts")


def texts(result: RunResult) -> pl.DataFrame:
    return result.dataset("sample").select(TEXTS).sort(TEXTS[:2]).collect()


def test_rows_are_whole_episodes_and_calls_are_kept(tmp_path: Path) -> None:
    result = play(tmp_path, searched(tmp_path, n=6))
    assert result.manifest.state == "done"
    rows = result.dataset("sample").collect()
    assert len(rows) == PROBLEMS * 8, "n = 6 is rounded up to two episodes of four"
    of_episodes = rows.group_by("problem_key", "episode").agg(pl.len(), pl.col("chosen").sum())
    assert (of_episodes["len"] == WIDTH).all() and (of_episodes["chosen"] == 1).all()
    assert (rows["sample_index"] == rows["episode"] * WIDTH + rows["slot"]).all()
    calls = calls_of(result)
    assert (calls["kind"] == "generate").sum() == 2 * PROBLEMS * CALLS == len(asked(tmp_path))
    assert (calls["kind"] == "score").sum() == len(asked(tmp_path, "scorer"))
    facts = [json.loads(text) for text in rows["episode_facts"].drop_nulls()]
    assert len(facts) == 2 * PROBLEMS and all(one["calls"] == CALLS for one in facts)
    record = next(record for record in result.manifest.stages if record.name == "sample")
    assert record.calls == 2 * PROBLEMS * CALLS + record.passes and record.passes == len(asked(tmp_path, "scorer"))
    assert record.completion_tokens == sum(one["completion_tokens"] for one in facts)
    again = play(tmp_path, searched(tmp_path, n=6))
    assert again.manifest.state == "done" and len(asked(tmp_path)) == 2 * PROBLEMS * CALLS
    more = play(tmp_path, searched(tmp_path, n=12))
    assert len(more.dataset("sample").collect()) == PROBLEMS * 12
    assert len(asked(tmp_path)) == 3 * PROBLEMS * CALLS


def live(folder: str, runner: str) -> None:
    play(Path(folder), searched(Path(folder), n=16, latency=0.03, jitter=0.02), runner)


@pytest.mark.parametrize("runner", ["local", pytest.param("ray", marks=pytest.mark.ray)])
def test_an_episode_that_was_killed_goes_on_from_its_calls(tmp_path: Path, runner: str) -> None:
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    for folder in (undisturbed, killed):
        folder.mkdir()
    whole = play(undisturbed, searched(undisturbed, n=16))
    context = multiprocessing.get_context("forkserver" if runner == "local" else "spawn")
    known: set[str] = set()
    for _ in range(2):
        life = context.Process(target=live, args=(str(killed), runner))
        life.start()
        while life.is_alive() and len(committed(killed)) < len(known) + 50:
            life.join(0.05)
        os.kill(life.pid or 0, signal.SIGKILL)
        life.join()
        assert committed(killed) > known
        known = committed(killed)
        before = asked(killed)
    result = play(killed, searched(killed, n=16))
    assert result.manifest.state == "done"
    assert texts(result).equals(texts(whole))
    after = asked(killed)
    assert all(after[name] == before[name] for name in known), "what is committed isn't asked again"
    calls = calls_of(result)
    paths = ["problem_key", "episode", "call", "attempt"]
    assert calls.select(paths).n_unique() == len(calls) == len(calls_of(whole))


def committed(folder: Path) -> set[str]:
    """Return the names of the requests whose answers are in the store of calls."""
    root = Root.at(str(folder / "root"))
    names: set[str] = set()
    for store in root.list("calls"):
        try:
            calls = scan_store(root, f"calls/{store}", Call).filter(pl.col("kind") == "generate")
        except TableNotFoundError:
            continue
        names |= set(calls.select(pl.format("{}/{}/{}", "problem_key", "episode", "call")).collect().to_series())
    return names


@pytest.mark.ray
def test_a_worker_that_dies_loses_no_answer_that_was_committed(tmp_path: Path) -> None:
    """A prompt kills its engine: the others' episodes end, and go on from their calls."""
    write_problems(tmp_path / "problems.jsonl", PROBLEMS)
    problems = (tmp_path / "problems.jsonl").read_text()
    first, *_ = problems.splitlines()
    deadly = json.loads(first) | {"id": "deadly", "question": "deadly"}
    (tmp_path / "problems.jsonl").write_text(problems + json.dumps(deadly) + "\n")
    pipeline = searched(tmp_path, n=8, latency=0.01, deadly="deadly")
    result = play(tmp_path, pipeline, "ray", engine_restarts=30)
    assert result.manifest.state == "incomplete" and "8 row(s) are quarantined" in (result.manifest.error or "")
    assert len(result.dataset("sample").collect()) == PROBLEMS * 8
    assert max(asked(tmp_path).values()) <= 1 + sum(one.deaths for one in result.manifest.stages[1].replicas)


def test_transient_faults_are_played_again_from_what_was_answered(tmp_path: Path) -> None:
    sampling = searched(tmp_path, n=8, fail_transient=0.2)
    result = play(tmp_path, sampling)
    assert result.manifest.state == "done"
    whole = tmp_path / "whole"
    whole.mkdir()
    assert texts(result).equals(texts(play(whole, searched(whole, n=8))))


def test_a_strategy_that_raises_is_named(tmp_path: Path) -> None:
    with pytest.raises(StageFailed, match=r"tests.strategies:Rounds raised KeyError"):
        play(tmp_path, searched(tmp_path, strategy=Rounds(fails=True)))


def test_roles_are_checked(tmp_path: Path) -> None:
    pipeline = Pipeline("roles")
    problems = pipeline.stage("load", Load(source="p.jsonl"))
    with pytest.raises(BadInput, match=r"no role 'critic': it asks scorer"):
        pipeline.stage(
            "sample",
            Sampling(strategy=Rounds()),
            engine=ScriptedSpec(),
            engines={"critic": ScriptedSpec()},
            problems=problems,
        )
    with pytest.raises(BadInput, match=r"asks no engine but the stage's own"):
        pipeline.stage(
            "plain", Sampling(), engine=ScriptedSpec(), engines={"scorer": ScriptedSpec()}, problems=problems
        )


def test_a_cap_suspends_episodes_and_a_later_run_goes_on(tmp_path: Path) -> None:
    pipeline = searched(tmp_path, n=40, judge=True, latency=0.002)
    cap = 30_000
    result = play(tmp_path, pipeline, budget=Budget(tokens=cap))
    assert result.manifest.state == "budget reached"
    used = counted(tmp_path)
    assert sum(used.values()) <= cap
    spending = result.manifest.spending
    assert spending is not None and spending.tokens == sum(used.values()) and spending.orphaned_tokens == 0
    slots, worst = 8 + 8 + 8, 200
    assert spending.tokens >= cap - (slots + 1) * worst
    samples, verdicts = (result.dataset(name).collect() for name in ("sample", "verify"))
    assert len(samples) == len(verdicts) > 0, "what was drawn is judged"
    known = asked(tmp_path)
    rest = play(tmp_path, pipeline)
    assert rest.manifest.state == "done"
    assert all(asked(tmp_path)[name] == 1 for name in known), "what was answered isn't asked again"


def cut_off(folder: str, budget: dict[str, Any]) -> None:
    pipeline = searched(Path(folder), n=200, judge=True, latency=0.01, jitter=0.02, fail_transient=0.02)
    play(Path(folder), pipeline, budget=Budget(**budget))


@pytest.mark.parametrize("seed", schedules(1))
def test_a_cap_holds_whatever_is_killed(tmp_path: Path, seed: int) -> None:
    draws = random.Random(seed)
    budget: dict[str, Any] = {"tokens": 40_000}
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.integration.test_episodes"])
    for _ in range(draws.randint(1, 3)):
        life = context.Process(target=cut_off, args=(str(tmp_path), budget))
        life.start()
        life.join(draws.uniform(0.5, 3.0))
        if life.is_alive():
            os.kill(life.pid or 0, draws.choice([signal.SIGKILL, signal.SIGTERM]))
        life.join(60)
    pipeline = searched(tmp_path, n=200, judge=True, latency=0.01, jitter=0.02, fail_transient=0.02)
    drew = True
    while drew:
        result = play(tmp_path, pipeline, budget=Budget(**budget))
        drew = result.manifest.stages[1].computed > 0
        samples, verdicts = (len(result.dataset(name).collect()) for name in ("sample", "verify"))
        assert samples == verdicts
    used = sum(counted(tmp_path).values())
    spending = result.manifest.spending
    assert spending is not None and used <= spending.tokens <= 40_000
    assert spending.tokens >= 40_000 - 25 * 200


def test_a_sample_without_a_strategy_has_no_episode(tmp_path: Path) -> None:
    pipeline = Pipeline("plain")
    write_problems(tmp_path / "p.jsonl", 2)
    problems = pipeline.stage("load", Load(source=str(tmp_path / "p.jsonl")))
    pipeline.stage("sample", Sampling(n=2), engine=ScriptedSpec(), problems=problems)
    rows = play(tmp_path, pipeline).dataset("sample").collect()
    assert all(rows[name].null_count() == len(rows) for name in ("episode", "slot", "chosen", "episode_facts"))
    assert not (tmp_path / "root" / "calls").exists()
    assert set(Sample.added) >= {"episode", "turns"}


def test_calls_are_verified_merged_and_gathered(tmp_path: Path) -> None:
    pipeline = searched(tmp_path, n=24, latency=0.03)
    result = play(tmp_path, pipeline, flush_seconds=0.02, commit_seconds=0.02, flush_rows=40)
    before = calls_of(result)
    assert not verify(result.root, result.manifest).findings
    [store] = (tmp_path / "root" / "calls").iterdir()
    there = scan_store(result.root, f"calls/{store.name}", Call)
    assert len(there.select("problem_key").collect()) == len(before)
    merged = [path for path in store.glob("*.parquet") if pl.read_parquet_metadata(path)]
    assert len(DeltaTable(str(store)).file_uris()) < len(merged), "sixteen small files became one"
    other = Root.at(str(tmp_path / "other"))
    taken = gather(other, [result.root], lambda _: None)
    assert taken.rows["calls"] == len(before) and taken.rows["samples"] == PROBLEMS * 24
    assert scan_store(other, f"calls/{store.name}", Call).collect().sort(pl.all()).equals(before.sort(pl.all()))
    damaged = next(path for path in store.glob("*.parquet") if path.name in DeltaTable(str(store)).file_uris()[0])
    damaged.write_bytes(damaged.read_bytes()[:100])
    found = verify(result.root, result.manifest).findings
    assert {one.remedy for one in found} == {"drop"} and "calls/" in found[0].file
    assert any("dropped" in line for line in repair(result.root, result.manifest, found))
    assert not verify(result.root, result.manifest).findings
