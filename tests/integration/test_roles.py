"""Engines that play roles in workers of their own, since they take GPUs: asked by lists, replaced, in turn, refused."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import cluster.working.serving as serving_module
from cluster.runners.local import LocalRunner
from cluster.runners.runner import Runner
from cluster.spending.history import read_ledger
from cluster.working.engine_worker import EngineJob, EngineWorker
from cluster.working.serving import Answering
from operators.engine import EngineDied, ScoreRequest
from operators.load import Load
from operators.policies.named import UniformSpec
from operators.sample.sampling import Sampling
from operators.score.outcome import ScoreOutcome
from pipelines.graph import Pipeline
from schemas.budget import Budget
from schemas.engine import ScriptedSpec
from schemas.errors import BadInput, WorkerLost
from tests.integration.test_desk import LONG, counted
from tests.integration.test_episodes import asked, calls_of, committed, play, texts
from tests.strategies import Rounds
from tests.support import BOTH, make_runner, write_problems


def searched(folder: Path, n: int = 8, policy: dict[str, Any] | None = None, **scorer: Any) -> Pipeline:
    """Return load -> sample by a strategy whose scorer takes a GPU, each engine with logs of its own."""
    source = folder / "problems.jsonl"
    if not source.exists():
        write_problems(source, 10)

    def spec(name: str, **more: Any) -> ScriptedSpec:
        logs = {f"{kind}_log": str(folder / f"{name}.{kind}s") for kind in ("call", "token")}
        return ScriptedSpec.model_validate({"model": name, "slots": 8, "answers": LONG, **logs, **more})

    pipeline = Pipeline("searched")
    problems = pipeline.stage("load", Load(source=str(source)))
    pipeline.stage(
        "sample",
        Sampling(n=n, max_tokens=16, strategy=Rounds(), policy=UniformSpec()),
        engine=spec("policy", **(policy or {})),
        engines={"scorer": spec("scorer", **{"gpus": 1.0, **scorer})},
        problems=problems,
    )
    return pipeline


@BOTH
def test_a_role_in_workers_of_its_own_gives_the_same_rows(tmp_path: Path, runner: str) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
    whole = play(here, searched(here, gpus=0.0))
    result = play(there, searched(there, replicas=2), runner)
    assert result.manifest.state == "done"
    assert texts(result).equals(texts(whole))
    record = result.manifest.stages[1]
    scorer = record.roles["scorer"]
    assert scorer.engine is not None and scorer.engine.model == "scorer"
    assert scorer.passes == len(asked(there, "scorer")) == len(asked(here, "scorer"))
    assert sum(replica.requests for replica in scorer.replicas) == scorer.passes
    assert scorer.gpu_seconds > 0 and record.gpu_seconds == 0 and record.all_gpu_seconds == scorer.gpu_seconds
    held = read_ledger(result.root).filter(pl.col("role") == "scorer")
    assert held.is_empty() or held["gpu_seconds"][0] == pytest.approx(scorer.gpu_seconds)


def test_what_a_role_in_workers_of_its_own_takes_is_paid(tmp_path: Path) -> None:
    result = play(tmp_path, searched(tmp_path, n=80), budget=Budget(tokens=30_000))
    used = counted(tmp_path)
    spending = result.manifest.spending
    assert result.manifest.state == "budget reached" and spending is not None
    assert sum(used.values()) == spending.tokens <= 30_000 and spending.tokens >= 30_000 - 17 * 200
    ledger = read_ledger(result.root).filter(pl.col("stage") == "sample", pl.col("kind") == "settle")
    by_role = {row["role"]: row["gpu_seconds"] for row in ledger.iter_rows(named=True)}
    assert by_role["policy"] == 0 and by_role["scorer"] > 0


def holder(log: Path) -> int:
    """Return the process that has a file open, other than this one."""
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and int(process.name) != os.getpid():
            try:
                if any(os.readlink(one) == str(log) for one in (process / "fd").iterdir()):
                    return int(process.name)
            except OSError:
                continue
    raise AssertionError(f"nobody has {log} open")


@pytest.mark.ray
def test_a_roles_engine_is_killed_in_the_middle_of_100_episodes(tmp_path: Path) -> None:
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    for folder in (undisturbed, killed):
        folder.mkdir()
    whole = play(undisturbed, searched(undisturbed, n=40))
    before: list[tuple[set[str], Counter[str]]] = []

    def kill() -> None:
        while len(committed(killed)) < 150:
            time.sleep(0.02)
        before.append((committed(killed), asked(killed, "scorer")))
        os.kill(holder(killed / "scorer.calls"), signal.SIGKILL)

    killing = threading.Thread(target=kill, daemon=True)
    killing.start()
    result = play(killed, searched(killed, n=40, policy={"latency": 0.02}, latency=0.01), "ray")
    killing.join(10)
    [(known, scored)] = before
    assert result.manifest.state == "done", "every episode ends"
    assert texts(result).equals(texts(whole)) and len(result.dataset("sample").collect()) == 400
    record = result.manifest.stages[1]
    assert [one.deaths for one in record.roles["scorer"].replicas] == [1]
    assert sum(one.deaths for one in record.replicas) == 0
    assert max(asked(killed).values()) == 1 and len(known) >= 150
    after = asked(killed, "scorer")
    again = {name for name, times in after.items() if times > 1}
    assert len(again) <= 8, "what was with the engine when it died, no more"
    assert max(after.values()) <= 2 and scored.keys() <= after.keys()
    calls = calls_of(result)
    assert calls.select("problem_key", "episode", "call", "attempt").n_unique() == len(calls) == len(calls_of(whole))


@BOTH
def test_a_call_that_kills_two_engines_is_refused_for_good(tmp_path: Path, runner: str) -> None:
    poisoned = {"by_prompt": {"What is 1 +": (*LONG, "it is poison")}}
    pipeline = searched(tmp_path, policy=poisoned, deadly="poison")
    result = play(tmp_path, pipeline, runner)
    assert result.manifest.state == "done" and len(result.dataset("sample").collect()) == 80
    scores = calls_of(result).filter(pl.col("kind") == "score")
    refused = scores.filter(pl.col("status") == "error")
    assert len(refused) and refused["error"].str.contains("two engines of role 'scorer' died over it").all()
    record = result.manifest.stages[1]
    assert sum(one.deaths for one in record.replicas) == 0
    times = asked(tmp_path, "scorer")
    named = refused.select(pl.format("score {}/{}/{}", "problem_key", "episode", "call")).to_series()
    assert all(1 <= times[name] <= 2 for name in named), "at the first death it may have been on its way"
    assert sum(one.deaths for one in record.roles["scorer"].replicas) <= 2 * len(named)
    again = play(tmp_path, searched(tmp_path, 12, policy=poisoned, deadly="poison"), runner)
    assert again.manifest.state == "done"
    assert all(asked(tmp_path, "scorer")[name] == times[name] for name in named), "not in a later run either"


@BOTH
def test_all_roles_of_a_stage_are_awake_together(tmp_path: Path, runner: str) -> None:
    log = tmp_path / "calls.log"
    pipeline = searched(
        tmp_path, 40,
        policy={"takes_turns": "a", "call_log": str(log), "latency": 0.02},
        takes_turns="b", call_log=str(log), replicas=1,
    )  # fmt: skip
    problems, samples = pipeline.stages["load"], pipeline.stages["sample"]
    for name, turn in (("first", "a"), ("second", "b")):
        spec = ScriptedSpec(model=name, takes_turns=turn, call_log=str(log))
        pipeline.stage(f"{name}_scores", ScoreOutcome(), engine=spec, problems=problems, samples=samples)
    result = play(tmp_path, pipeline, runner, turn_seconds=0.5)
    assert result.manifest.state == "done"
    asleep: set[str] = set()
    slept: Counter[str] = Counter()
    for line in log.read_text().splitlines():
        kind, _, model = line.partition(" ")
        if kind in ("#sleep", "#close"):
            asleep.add(model)
            slept[model] += kind == "#sleep"
        elif kind == "#wake":
            asleep.discard(model)
        elif kind == "score" and "/s/" not in model:  # of a sample, by a later stage
            assert not {"policy", "scorer"} - asleep, "two stages worked at a time"
    assert slept["policy"] == slept["scorer"] >= 1


def test_two_engines_of_a_stage_cant_take_the_same_turns(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="two of its engines take turns as 'gpu'"):
        searched(tmp_path, policy={"takes_turns": "gpu"}, takes_turns="gpu")


def serving(runner: Runner, folder: Path, **spec: Any) -> Any:
    """Return a worker that plays a role, by itself."""
    pipeline = searched(folder, **spec)
    stage = pipeline.stages["sample"]
    job = EngineJob(
        "sample", stage.operator, stage.engines["scorer"], str(folder / "root"), "samples/none", "run", 100, 1.0,
        serves="scorer",
    )  # fmt: skip
    return runner.engine_worker(job, 0)


@BOTH
def test_control_calls_dont_wait_behind_a_full_pool(tmp_path: Path, runner: str) -> None:
    host = make_runner(runner)
    try:
        worker = serving(host, tmp_path, latency=3600.0, slots=64)
        worker.call(EngineWorker.start).result(timeout=60)
        request = ScoreRequest("p", "c")
        full = [worker.call(EngineWorker.answer, [request] * 4) for _ in range(200)]
        report = worker.call(EngineWorker.collect, 0.01).result(timeout=60)
        while report.activity.busy_seconds == 0.0:
            report = worker.call(EngineWorker.collect, 0.01).result(timeout=60)
        took = []
        for _ in range(20):
            began = time.monotonic()
            worker.call(EngineWorker.call_back).result(timeout=60)
            took.append(time.monotonic() - began)
        assert not any(one.done() for one in full), "all lists are still with the engine, and nothing waited for them"
        print(f"{runner}: control calls behind 800 calls in 200 lists took {max(took):.3f} s at most")
        worker.kill()
    finally:
        host.close()


def test_who_waited_for_an_engine_isnt_to_blame_for_its_death(tmp_path: Path) -> None:
    host = LocalRunner()
    try:
        worker = serving(host, tmp_path, deadly="poison")
        worker.call(EngineWorker.start).result(timeout=60)

        async def ask() -> list[Any]:
            address = worker.address
            hold = await address.call(Answering.hold)
            waiting = asyncio.ensure_future(address.call(Answering.hold))
            await asyncio.sleep(0)  # it stands at the door
            deadly = address.call(Answering.answer, [ScoreRequest("p", "poison")], hold)
            return await asyncio.gather(deadly, waiting, return_exceptions=True)

        died, waited = asyncio.run(ask())
        assert isinstance(died, EngineDied) and isinstance(waited, EngineDied | WorkerLost)
        assert len((tmp_path / "scorer.calls").read_text().splitlines()) == 1
        worker.kill()
    finally:
        host.close()


def test_an_engine_that_is_held_has_nothing_else_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving_module, "HOLD_SECONDS", 3600.0)
    host = LocalRunner()
    try:
        worker = serving(host, tmp_path, latency=0.01)
        worker.call(EngineWorker.start).result(timeout=60)

        async def ask() -> list[Any]:
            address = worker.address
            first = asyncio.ensure_future(address.call(Answering.answer, [ScoreRequest("p", "before")]))
            await asyncio.sleep(0)  # it is on its way
            hold = await address.call(Answering.hold)
            assert first.done() or (await first)
            later = asyncio.ensure_future(address.call(Answering.answer, [ScoreRequest("p", "after")]))
            alone = await address.call(Answering.answer, [ScoreRequest("p", "alone")], hold)
            assert await address.call(Answering.answer, [ScoreRequest("p", "alone")], hold) is None
            return [*alone, *await later]

        assert len(asyncio.run(ask())) == 2
        order = [line.split()[0] for line in (tmp_path / "scorer.calls").read_text().splitlines()]
        assert order == ["score"] * 3
        worker.kill()
    finally:
        host.close()
