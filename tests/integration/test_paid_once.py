"""What is known before anything is paid, and what isn't paid for twice: long prompts, mended answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from cluster.planning.plan import make_plan
from cluster.planning.reuse import with_reuse
from cluster.storage.root import Root
from operators.sample.sampling import Sampling
from schemas.errors import BadInput
from tests.support import QUICK, make_runner, run, scripted_pipeline, stage

Row = dict[str, Any]


def write(path: Path, rows: list[Row]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_samples_of_a_mended_answer_are_used_again_and_counted_once(tmp_path: Path) -> None:
    rows: list[Row] = [{"id": "a", "question": "1+1?"}, {"id": "b", "question": "0+0?", "answer": "0"}]
    source = write(tmp_path / "p.jsonl", rows)
    first = run(make_runner("local"), scripted_pipeline(source, 6), tmp_path / "root")
    assert stage(first, "sample") == {"planned": 12, "reused": 0, "computed": 12}
    assert any("1 of 2 problems have no answer" in note for note in first.manifest.notes)
    write(source, [{**rows[0], "answer": "2"}, rows[1]])
    plan = with_reuse(make_plan(scripted_pipeline(source, 6), Root.at(str(tmp_path / "root")), QUICK), first.root)
    assert plan.stages["sample"].action == "reuse"
    assert any("6 samples of 1 problem(s) are there already" in note for note in plan.notes)
    again = run(make_runner("local"), scripted_pipeline(source, 6), tmp_path / "root")
    assert again.manifest.state == "done"
    assert stage(again, "sample") == {"planned": 12, "reused": 12, "computed": 0}
    assert stage(again, "verify") == {"planned": 12, "reused": 6, "computed": 6}
    samples = again.dataset("sample").collect()
    before = first.dataset("sample").collect()
    texts = {(row["problem_id"], row["sample_index"]): row["completion"] for row in before.to_dicts()}
    assert {(r["problem_id"], r["sample_index"]): r["completion"] for r in samples.to_dicts()} == texts
    taken = samples.filter(pl.col("problem_id") == "a")["run_id"].unique().to_list()
    assert taken == [f"{first.manifest.run_id}@{again.manifest.run_id}"]
    once_more = run(make_runner("local"), scripted_pipeline(source, 8), tmp_path / "root")
    assert stage(once_more, "sample") == {"planned": 16, "reused": 12, "computed": 4}


def test_prompts_that_are_too_long_are_refused_or_left_out_and_counted(tmp_path: Path) -> None:
    long = " ".join(["word"] * 400)
    source = write(tmp_path / "p.jsonl", [{"id": i, "question": q} for i, q in (("a", "1+1?"), ("b", long))])
    limits = {"context": 200}
    sampling = Sampling(max_tokens=100)
    with pytest.raises(BadInput, match=r"1 problem\(s\) leaves no room.*'b' \(\d+ tokens\).*too_long=skip"):
        run(make_runner("local"), scripted_pipeline(source, 2, sampling, **limits), tmp_path / "root")
    sampling = sampling.model_copy(update={"too_long": "skip"})
    found = run(make_runner("local"), scripted_pipeline(source, 2, sampling, **limits), tmp_path / "root")
    record = next(record for record in found.manifest.stages if record.name == "sample")
    assert (found.manifest.state, record.skipped, record.quarantined) == ("done", 2, 0)
    assert any("'b'" in note and "left out" in note for note in found.manifest.notes)
    assert found.dataset("verify").select("problem_id").unique().collect()["problem_id"].to_list() == ["a"]
    assert found.dataset("select").collect()["problem_id"].to_list() == ["a"]
