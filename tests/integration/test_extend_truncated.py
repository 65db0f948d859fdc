"""Raising max_tokens: finished samples are taken over at no cost, truncated ones go on from where they were cut."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import polars as pl

from cluster.planning.plan import make_plan
from cluster.runners.local import LocalRunner
from cluster.storage.root import Root
from operators.sample.sampling import Sampling
from pipelines.graph import Pipeline
from tests.support import keys, run, scripted_pipeline, stage, write_problems

SHORT, LONG = "yes", "one two three four five six"


def pipeline(source: Path, log: Path, max_tokens: int, n: int = 20, extend: bool = True) -> Pipeline:
    sampling = Sampling(max_tokens=max_tokens, extend_truncated=extend)
    return scripted_pipeline(source, n, sampling, answers=(SHORT, LONG), call_log=str(log))


def test_only_truncated_samples_are_continued(tmp_path: Path) -> None:
    source, log = write_problems(tmp_path / "p.jsonl", 4), tmp_path / "calls"
    first = run(LocalRunner(), pipeline(source, log, 3), tmp_path / "root")
    before = first.dataset("sample").collect()
    truncated = before.filter(pl.col("finish_reason") == "length")
    assert 10 < len(truncated) < 70
    assert set(truncated["completion"]) == {"one two three"}

    plan = make_plan(pipeline(source, log, 50), Root.at(tmp_path / "root")).stages["sample"]
    assert plan.why == "sample.max_tokens 3 -> 50: finished samples are taken over, truncated ones continued"
    log.write_text("")
    second = run(LocalRunner(), pipeline(source, log, 50), tmp_path / "root")
    assert second.manifest.state == "done"
    assert stage(second, "sample")["computed"] == 80
    assert keys(second) == keys(first) == keys(second, "verify")
    asked = Counter(log.read_text().split())
    assert asked == Counter(f"{key}/{i}" for key, i in truncated.select("problem_key", "sample_index").rows())
    rows = second.dataset("sample").collect().join(before, on=["problem_key", "sample_index"], suffix="_before")
    finished = rows.filter(pl.col("finish_reason_before") != "length")
    same = ["completion", "completion_hash", "completion_tokens", "sum_logprob", "run_id", "seed"]
    for name in same:
        assert finished[name].equals(finished[f"{name}_before"], check_names=False), name
    continued = rows.filter(pl.col("finish_reason_before") == "length")
    assert (continued["run_id"] == second.manifest.run_id).all()
    assert continued["completion"].str.starts_with("one two three").all()
    assert (continued["completion"] != continued["completion_before"]).all()
    assert (continued["completion_tokens"] > continued["completion_tokens_before"]).all()
    assert (continued["sum_logprob"] < continued["sum_logprob_before"]).all()
    mean = continued["sum_logprob"] / continued["completion_tokens"]
    assert (continued["mean_logprob"] - mean).abs().max() < 1e-12  # pyright: ignore[reportOperatorIssue]
    assert (
        first.dataset("sample")
        .collect()
        .sort("problem_key", "sample_index")
        .equals(before.sort("problem_key", "sample_index"))
    )


def test_more_samples_and_more_tokens_at_once(tmp_path: Path) -> None:
    source, log = write_problems(tmp_path / "p.jsonl", 2), tmp_path / "calls"
    first = run(LocalRunner(), pipeline(source, log, 3, n=10), tmp_path / "root")
    truncated = first.dataset("sample").filter(pl.col("finish_reason") == "length").collect()
    log.write_text("")
    more = write_problems(tmp_path / "more.jsonl", 3)
    second = run(LocalRunner(), pipeline(more, log, 50, n=15), tmp_path / "root")
    assert len(keys(second)) == 45
    assert len(log.read_text().split()) == len(truncated) + 2 * 5 + 15


def test_without_it_raising_max_tokens_draws_new_samples_and_says_what_else_there_is(tmp_path: Path) -> None:
    source, log = write_problems(tmp_path / "p.jsonl", 2), tmp_path / "calls"
    run(LocalRunner(), pipeline(source, log, 3), tmp_path / "root")
    fresh = pipeline(source, log, 50, extend=False)
    plan = make_plan(fresh, Root.at(tmp_path / "root")).stages["sample"]
    assert plan.why.startswith("sample.max_tokens 3 -> 50: new samples")
    assert "extend_truncated=true" in plan.why
    log.write_text("")
    run(LocalRunner(), fresh, tmp_path / "root")
    assert len(log.read_text().split()) == 40


def test_the_longest_samples_are_continued_and_a_resume_goes_on(tmp_path: Path) -> None:
    source, log = write_problems(tmp_path / "p.jsonl", 2), tmp_path / "calls"
    run(LocalRunner(), pipeline(source, log, 2), tmp_path / "root")
    run(LocalRunner(), pipeline(source, log, 4), tmp_path / "root")
    plan = make_plan(pipeline(source, log, 50), Root.at(tmp_path / "root")).stages["sample"]
    assert "4 -> 50" in plan.why
    smaller = make_plan(pipeline(source, log, 1), Root.at(tmp_path / "root")).stages["sample"]
    assert smaller.extends is None
    run(LocalRunner(), pipeline(source, log, 50, n=7), tmp_path / "root")
    log.write_text("")
    last = run(LocalRunner(), pipeline(source, log, 50, n=20), tmp_path / "root")
    assert stage(last, "sample") == {"planned": 40, "reused": 14, "computed": 26}
    assert max(Counter(log.read_text().split()).values()) == 1
