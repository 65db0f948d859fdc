"""Stages with engines: scores that stream, engines that take turns, prompts that kill, problems that stay put."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import polars as pl
import pytest

from cluster.records.run import RunResult
from cluster.runners.local import LocalRunner
from operators.load import Load
from operators.sample.sampling import Sampling
from operators.score.outcome import ScoreOutcome
from operators.verify.exact import VerifyExact
from pipelines.graph import Pipeline
from schemas.engine import ScriptedSpec
from schemas.errors import BadInput, EngineFailed
from schemas.job import RunSettings
from tests.support import BOTH, QUICK, make_runner, run, scripted_pipeline, stage, write_problems


def scored(source: Path, n: int, sampling: ScriptedSpec, scoring: ScriptedSpec) -> Pipeline:
    """Return load -> sample -> verify and score."""
    pipeline = Pipeline("scored")
    problems = pipeline.stage("load", Load(source=str(source)))
    samples = pipeline.stage("sample", Sampling(n=n), engine=sampling, problems=problems)
    pipeline.stage("verify", VerifyExact(), problems=problems, samples=samples)
    pipeline.stage("score", ScoreOutcome(), engine=scoring, problems=problems, samples=samples)
    return pipeline


def quarantined(result: RunResult) -> list[dict[str, object]]:
    path = Path(result.root.url) / "runs" / result.manifest.run_id / "quarantine.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@BOTH
def test_scores_stream_and_each_distinct_text_is_scored_once(tmp_path: Path, runner: str) -> None:
    source, log = write_problems(tmp_path / "p.jsonl", 8), tmp_path / "score.log"
    sampling = ScriptedSpec(answers=("0", "1", "2"))
    pipeline = scored(source, 200, sampling, ScriptedSpec(model="reward", call_log=str(log)))
    result = run(make_runner(runner), pipeline, tmp_path / "data")
    assert result.manifest.state == "done"
    assert stage(result, "score") == {"planned": 1600, "reused": 0, "computed": 1600}
    rows = result.dataset("score").collect()
    assert rows["status"].unique().to_list() == ["ok"]
    texts = result.dataset("sample").collect().join(rows, on=["problem_key", "sample_index"])
    assert texts.group_by("problem_key", "completion").agg(pl.col("score").n_unique())["score"].max() == 1
    tasks = -(-1600 // 512) + 8 * 3
    assert len(log.read_text().splitlines()) <= 24 * tasks  # a text is asked for once in a task, not once a sample
    record = next(record for record in result.manifest.stages if record.name == "score")
    assert record.engine is not None
    assert record.engine.model == "reward"
    assert record.replicas
    assert record.replicas[0].busy_seconds > 0
    again = run(make_runner("local"), pipeline, tmp_path / "data")
    assert stage(again, "score")["computed"] == 0


@BOTH
def test_engines_take_turns_on_the_same_gpus(tmp_path: Path, runner: str) -> None:
    source, log = write_problems(tmp_path / "p.jsonl", 4), tmp_path / "calls.log"
    common = {"takes_turns": "gpu", "call_log": str(log), "slots": 8}
    answers = tuple(str(number) for number in range(50))
    sampling = ScriptedSpec.model_validate({**common, "model": "policy", "latency": 0.02, "answers": answers})
    scoring = ScriptedSpec.model_validate({**common, "model": "reward"})
    settings = QUICK.model_copy(update={"turn_seconds": 0.5})
    result = run(make_runner(runner), scored(source, 600, sampling, scoring), tmp_path / "data", settings)
    assert result.manifest.state == "done"
    assert stage(result, "score")["computed"] == 2400
    awake: set[str] = set()
    slept: Counter[str] = Counter()
    for line in log.read_text().splitlines():
        kind, _, model = line.partition(" ")
        if kind in ("#sleep", "#close"):
            awake.discard(model)
            slept[model] += kind == "#sleep"
        elif kind != "#wake":
            awake.add("reward" if kind == "score" else "policy")
        assert len(awake) <= 1, "both engines worked at a time"
    assert slept["policy"] >= 1
    assert slept["reward"] >= 1


@BOTH
def test_a_prompt_that_kills_the_engine_is_found_and_left_out(tmp_path: Path, runner: str) -> None:
    source = write_problems(tmp_path / "p.jsonl", 9)
    pipeline = scripted_pipeline(source, 40, slots=16, deadly="What is 3 +", latency=0.005)
    result = run(make_runner(runner), pipeline, tmp_path / "data")
    assert result.manifest.state == "incomplete"
    assert stage(result, "sample")["computed"] == 8 * 40
    out = quarantined(result)
    assert len(out) == 40
    assert len({row["problem_key"] for row in out}) == 1
    assert "died of 'What is 3 +'" in str(out[0]["error"])
    record = next(record for record in result.manifest.stages if record.name == "sample")
    assert record.quarantined == 40
    assert 2 <= sum(replica.deaths for replica in record.replicas) <= 9
    assert "quarantined" in (result.manifest.error or "")


@BOTH
def test_a_text_that_kills_the_reward_model_is_found_and_left_out(tmp_path: Path, runner: str) -> None:
    source = write_problems(tmp_path / "p.jsonl", 3)
    sampling = ScriptedSpec(
        answers=("fine {seed}",), by_prompt={"What is 1 +": tuple(f"x{i}" for i in range(17)) + ("poison",) * 3}
    )
    pipeline = scored(source, 16, sampling, ScriptedSpec(model="reward", deadly="poison"))
    result = run(make_runner(runner), pipeline, tmp_path / "data", QUICK.model_copy(update={"engine_restarts": 8}))
    samples = result.dataset("sample").collect()
    poisoned = (
        samples.filter(pl.col("completion") == "poison").select("problem_key", "sample_index").sort("sample_index")
    )
    assert len(poisoned) >= 1
    assert result.manifest.state == "incomplete"
    assert stage(result, "score")["computed"] == 48 - len(poisoned)
    assert {(row["problem_key"], row["sample_index"]) for row in quarantined(result)} == set(poisoned.rows())


def test_an_engine_that_dies_of_everything_is_given_up_soon(tmp_path: Path) -> None:
    source, log = write_problems(tmp_path / "p.jsonl", 8), tmp_path / "calls.log"
    pipeline = scripted_pipeline(source, 40, slots=4, deadly="What is", call_log=str(log))
    with pytest.raises(EngineFailed, match=r"died \d+ times.*scripted engine died of 'What is'"):
        run(LocalRunner(), pipeline, tmp_path / "data")
    assert len(log.read_text().splitlines()) < 12 * 8


def test_a_problem_stays_with_the_replica_that_began_it(tmp_path: Path) -> None:
    source, folder = write_problems(tmp_path / "p.jsonl", 36), tmp_path / "data"
    pipeline = scripted_pipeline(source, 100, slots=8, latency=0.02, replicas=3)
    settings = RunSettings(flush_seconds=600, flush_rows=100_000, commit_seconds=0.05)  # each replica writes one part
    result = run(LocalRunner(), pipeline, folder, settings)
    assert result.manifest.state == "done"
    record = next(record for record in result.manifest.stages if record.name == "sample")
    assert [replica.number for replica in record.replicas] == [0, 1, 2]
    assert sum(replica.requests for replica in record.replicas) == 3600
    assert all(replica.busy_share > 0.5 for replica in record.replicas)
    parts = [pl.read_parquet(path)["problem_key"].value_counts() for path in sorted(folder.glob("samples/*/*.parquet"))]
    most = pl.concat(parts).group_by("problem_key").agg(pl.col("count").max())["count"]
    assert (most == 100).sum() >= 24, "all but the last few problems are drawn by one replica each"


def test_guided_decoding_is_refused_where_the_engine_cannot(tmp_path: Path) -> None:
    pipeline = Pipeline("guided")
    problems = pipeline.stage("load", Load(source=str(write_problems(tmp_path / "p.jsonl", 1))))
    with pytest.raises(BadInput, match=r"scripted.*doesn't know regex"):
        pipeline.stage("sample", Sampling(regex="[0-9]+"), engine=ScriptedSpec(), problems=problems)
