"""Pipelines on vLLM: arithmetic as it ships, a reward model in turn, an engine killed in mid-batch, a server."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import polars as pl
import psutil
import pytest

from cluster.ray.runner import RayRunner
from cluster.runners.local import LocalRunner
from operators.load import Load
from operators.sample.collecting import CollectEpisodes
from operators.sample.sampling import Sampling
from operators.score.outcome import ScoreOutcome
from operators.strategies.beam import Beam
from operators.strategies.scorers import Prm
from operators.strategies.steps import StepRule
from pipelines.arithmetic import Config, build
from pipelines.graph import Pipeline
from schemas.engine import OpenAISpec, ScriptedSpec
from tests.support import QUICK, keys, run, stage, write_problems
from tests.with_vllm.models import CLASSIFIER, PROCESS
from tests.with_vllm.vllm_cpu import SERVED, engine_cores, on_cpu, vllm_serve

pytestmark = pytest.mark.vllm


@pytest.mark.ray
def test_the_arithmetic_pipeline_on_ray(tmp_path: Path) -> None:
    config = Config(engine=on_cpu(cpus=1))
    config = config.model_copy(update={"load": config.load.model_copy(update={"size": 3})})
    result = run(RayRunner(), build(config), tmp_path)
    assert result.manifest.state == "done"
    assert stage(result, "sample") == {"planned": 96, "reused": 0, "computed": 96}
    rows = result.dataset("sample").collect()
    assert rows["status"].unique().to_list() == ["ok"]
    assert rows["sum_logprob"].null_count() == 0
    assert result.dataset("verify").collect()["is_correct"].sum() > 0
    record = next(record for record in result.manifest.stages if record.name == "sample")
    assert record.engine is not None
    assert record.engine.family == "vllm"
    [replica] = record.replicas
    print(f"busy {replica.busy_share:.4f}, {replica.tokens_per_second:.0f} tokens/s")
    assert replica.busy_share > 0.98


def test_policy_and_reward_model_take_turns(tmp_path: Path) -> None:
    pipeline = Pipeline("rewarded")
    problems = pipeline.stage("load", Load(source=str(write_problems(tmp_path / "p.jsonl", 3))))
    sampling, scoring = on_cpu(takes_turns="gpu"), on_cpu(model=str(CLASSIFIER), task="classify", takes_turns="gpu")
    operator = Sampling(n=16, max_tokens=12, chat=False)
    samples = pipeline.stage("sample", operator, engine=sampling, problems=problems)
    pipeline.stage("score", ScoreOutcome(chat=False), engine=scoring, problems=problems, samples=samples)
    result = run(LocalRunner(), pipeline, tmp_path / "data")
    assert result.manifest.state == "done"
    scores = result.dataset("score").collect()
    assert len(scores) == 48
    assert scores["score"].null_count() == 0
    assert scores["score"].n_unique() > 20


def test_a_search_is_led_by_a_process_reward_model(tmp_path: Path) -> None:
    """A random one: its scores are those of the texts, decide which paths are kept, and are billed to it."""
    pipeline = Pipeline("led")
    problems = pipeline.stage("load", Load(source=str(write_problems(tmp_path / "p.jsonl", 3))))
    script = ScriptedSpec(answers=("First this.\n\n.", "Then that.\n\n.", "Or else.\n\n.", "So \\boxed{1}"), slots=8)
    beam = Beam(width=4, beam=2, scorer=Prm(), rule=StepRule(max_steps=3))
    scorer = on_cpu(model=str(PROCESS), task="token_classify")
    operator = Sampling(n=4, max_tokens=24, strategy=beam)
    samples = pipeline.stage("sample", operator, engine=script, engines={"scorer": scorer}, problems=problems)
    pipeline.stage("episodes", CollectEpisodes(), samples=samples)
    result = run(LocalRunner(), pipeline, tmp_path / "data")
    assert result.manifest.state == "done", result.manifest.error
    rows = result.dataset("sample").filter(pl.col("status") == "ok").collect()
    assert rows["search_score"].null_count() == 0 and rows["search_score"].is_between(0, 1).all()
    assert rows["search_score"].n_unique() > 2
    best = rows.group_by("problem_key").agg(
        pl.col("search_score").max(), pl.col("search_score").filter("chosen").first().alias("chosen")
    )
    assert best["search_score"].to_list() == best["chosen"].to_list()
    episodes = result.dataset("episodes").collect()
    assert (episodes["scorer_passes"] >= 4).all() and (episodes["scorer_tokens"] > episodes["scorer_passes"] * 10).all()
    assert all(set(json.loads(told)) == {"policy", "scorer"} for told in episodes["roles"])


@pytest.mark.ray
def test_an_engine_killed_in_mid_batch_costs_nothing_but_time(tmp_path: Path) -> None:
    pipeline = Pipeline("killed")
    problems = pipeline.stage("load", Load(source=str(write_problems(tmp_path / "p.jsonl", 8))))
    pipeline.stage("sample", Sampling(n=24, max_tokens=64, chat=False), engine=on_cpu(), problems=problems)
    killer = threading.Thread(target=_kill_core_once, args=(tmp_path / "data", engine_cores()), daemon=True)
    killer.start()
    result = run(RayRunner(), pipeline, tmp_path / "data", QUICK)
    killer.join(timeout=60)
    assert not killer.is_alive()
    assert result.manifest.state == "done"
    found = keys(result)
    assert len(found) == len(set(found)) == 192
    record = next(record for record in result.manifest.stages if record.name == "sample")
    assert sum(replica.deaths for replica in record.replicas) == 1


def _kill_core_once(root: Path, others: list[psutil.Process], seconds: float = 900) -> None:
    """Kill the engine core that isn't one of the others as soon as the first samples are there."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if list(root.glob("samples/*/*.parquet")):
            for process in engine_cores():
                if process not in others:
                    process.kill()
                    return
        time.sleep(0.05)


def test_vllm_serve_is_sampled_through_its_api(tmp_path: Path) -> None:
    pipeline = Pipeline("served")
    problems = pipeline.stage("load", Load(source=str(write_problems(tmp_path / "p.jsonl", 4))))
    engine = OpenAISpec(url=vllm_serve(), model=SERVED, api="completions", logprobs=True, concurrency=24)
    operator = Sampling(n=16, max_tokens=16, chat=False)
    pipeline.stage("sample", operator, engine=engine, problems=problems)
    result = run(LocalRunner(), pipeline, tmp_path / "data")
    assert result.manifest.state == "done"
    rows = result.dataset("sample").collect()
    assert len(rows) == 64
    assert rows["sum_logprob"].null_count() == 0
    assert rows.select(pl.col("completion_tokens").max()).item() <= 16
