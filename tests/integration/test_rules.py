"""The rule by which a run samples is in its log, and coverage goes by it."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from cluster.records.run import RunResult
from cluster.runners.local import LocalRunner
from jobs.looking.op import run_op
from operators.measure.pass_at_k import PassAtK
from operators.policies.named import AnyPolicy, MarginalSpec, UniformSpec, UntilCorrectSpec
from operators.sample.sampling import Sampling
from schemas.budget import Budget
from schemas.errors import BadInput
from tests.support import QUICK, run, scripted_pipeline, stage, write_problems


def measured(
    folder: Path, policy: AnyPolicy | None, n: int, budget: Budget | None = None, k: tuple[int, ...] = (1, 2)
) -> RunResult:
    """Run 9 problems whose answers are 0, 1, 2 in turn on an engine that never says 2, and measure coverage."""
    source = folder / "problems.jsonl"
    if not source.exists():
        write_problems(source, 9)
    pipeline = scripted_pipeline(source, n, Sampling(policy=policy), answers=("0", "1", "3"), slots=2)
    pipeline.stage("coverage", PassAtK(k=k, bootstrap=200), verdicts=pipeline.stages["verify"])
    return run(LocalRunner(), pipeline, folder / "root", QUICK.model_copy(update={"budget": budget}))


def rules(result: RunResult) -> pl.DataFrame:
    folder = Path(result.root.uri("runs", result.manifest.run_id, "allocations", "rules"))
    return pl.read_parquet(folder / "sample.parquet")


def test_a_run_that_stops_at_successes_says_so_and_is_measured_so(tmp_path: Path) -> None:
    result = measured(tmp_path, UntilCorrectSpec(), 12)
    table = result.dataset("coverage").collect()
    assert "sampled by until_correct" in table["note"][0] and "Kaplan-Meier" in table["note"][0]
    assert table["least"].null_count() == 2, "nobody was given up before two samples"
    found = rules(result)
    assert len(found) == 9 and (found["count"] == 0).all() and (found["first_index"] == 0).all()
    assert json.loads(found["rule"][0])["policy"]["name"] == "until_correct" and found["hints"].null_count() == 9
    again = measured(tmp_path, UntilCorrectSpec(), 12)
    assert stage(again, "coverage")["computed"] == 0, "the same rule gives the same view"
    more = measured(tmp_path, UntilCorrectSpec(target=2), 20)
    assert stage(more, "coverage")["computed"] == 9
    changed = rules(more)
    assert json.loads(changed["rule"][0])["n"] == 20
    drawn = result.dataset("sample").group_by("problem_key").len().collect()
    known = changed.join(drawn, on="problem_key")
    assert (known["first_index"] == known["len"]).all(), "the new rule holds from what wasn't drawn yet"


def test_without_a_stopping_rule_samples_count_alike(tmp_path: Path) -> None:
    for name, policy, budget in (("none", None, None), ("uniform", UniformSpec(), Budget(samples=40))):
        folder = tmp_path / name
        folder.mkdir()
        note = measured(folder, policy, 6, budget).dataset("coverage").collect()["note"][0]
        assert "Kaplan-Meier" not in note and "n = " in note, name


def test_problems_that_a_prior_left_unsampled_are_in_the_denominator(tmp_path: Path) -> None:
    before = tmp_path / "before.parquet"
    hard = [i % 3 == 2 or i > 5 for i in range(9)]
    one = pl.DataFrame({"problem_id": [f"p{i}" for i in range(9)], "n": 1000, "c": [0 if h else 500 for h in hard]})
    both = [one.with_columns(model=pl.lit("near")), one.with_columns(model=pl.lit("far"), c=pl.col("c") // 2)]
    pl.concat(both).write_parquet(before)
    result = measured(tmp_path, MarginalSpec(before=str(before)), 50, Budget(samples=8), k=(1,))
    assert result.manifest.state == "budget reached"
    assert result.dataset("sample").select(pl.col("problem_key").n_unique()).collect().item() < 9
    table = result.dataset("coverage").collect()
    assert table["n_problems"].to_list() == [9] and "got no sample" in table["note"][0]
    assert (table["least"] < table["coverage"]).all() and (table["coverage"] < table["most"]).all()
    assert rules(result)["hints"].list.len().to_list() == [2] * 9
    # the same from plain files: the log, or the counts that the policy was told of
    verdicts = tmp_path / "verdicts.parquet"
    result.dataset("verify").collect().write_parquet(verdicts)
    log = tmp_path / "log.parquet"
    rules(result).write_parquet(log)
    name, out, settings = "measure.pass_at_k", str(tmp_path / "out.parquet"), {"k": [1], "bootstrap": 200}
    assert run_op(name, [f"verdicts={verdicts}", f"allocations={log}"], out, settings).equals(table)
    assert run_op(name, [f"verdicts={verdicts}"], out, settings)["n_problems"][0] < 9


def test_features_choose_whom_to_sample_and_measures_know_it(tmp_path: Path) -> None:
    """What a policy was told is in the log, so coverage is as sound afterwards; a run that goes on is told the same."""
    table = tmp_path / "known.jsonl"
    rows = [{"problem_id": f"p{i}", "level": "hard" if i % 3 == 2 else "easy", "size": i} for i in range(9)]
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    policy = MarginalSpec(target=4, features=str(table))
    result = measured(tmp_path, policy, 40, Budget(samples=60), k=(1,))
    found = rules(result)
    said = json.loads(found["rule"][0])
    assert said["features"] == 3 and said["policy"]["features"] == str(table) and "nights" not in said["policy"]
    assert found["hints"].list.len().to_list() == [3] * 9, "easy, hard, size"
    level = found.join(result.dataset("load").select("problem_key", "problem_id").collect(), on="problem_key")
    hard = level.with_columns(
        pl.col("hints").list.first(), hard=pl.col("problem_id").str.slice(1).cast(pl.Int64) % 3 == 2
    )
    assert hard.group_by("hard").agg(pl.col("hints").n_unique())["hints"].to_list() == [1, 1]
    note = result.dataset("coverage").collect()["note"][0]
    assert "sampled by marginal" in note and "with the hints" in note
    log, verdicts = tmp_path / "log.parquet", tmp_path / "verdicts.parquet"
    found.write_parquet(log)
    result.dataset("verify").collect().write_parquet(verdicts)
    out, settings = str(tmp_path / "out.parquet"), {"k": [1], "bootstrap": 200}
    again = run_op("measure.pass_at_k", [f"verdicts={verdicts}", f"allocations={log}"], out, settings)
    assert again.equals(result.dataset("coverage").collect())
    more = measured(tmp_path, policy, 40, Budget(samples=70), k=(1,))
    assert rules(more)["hints"].equals(found["hints"]) and json.loads(rules(more)["rule"][0])["told"] == said["told"]
    own = measured(tmp_path, MarginalSpec(features="problems"), 40, Budget(samples=80), k=(1,))
    assert json.loads(rules(own)["rule"][0])["features"] > 0
    pl.read_ndjson(table).head(8).write_ndjson(table)
    with pytest.raises(BadInput, match="says nothing of 1 problems"):
        measured(tmp_path, policy, 40, Budget(samples=90))
