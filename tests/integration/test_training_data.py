"""Traces transformed, mixed and rolled out, through whole pipelines."""

from __future__ import annotations

import json
import re
from pathlib import Path

import polars as pl
import pytest

from tests.commands import as_json, gristmill
from tests.support import write_problems

TRACE = "I add them.\n\nWait, let me check that.\n\nThe answer is \\boxed{{{answer}}}."
ANSWERS = tuple(TRACE.format(answer=answer) for answer in (0, 1, 2))


def job(pipeline: str, **settings: object) -> str:
    engine = {"kind": "scripted", "answers": ANSWERS}
    return json.dumps({"pipeline": pipeline, "settings": {"engine": engine, **settings}})


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run whose traces were transformed twice, mixed and cut into prefixes."""
    folder = tmp_path_factory.mktemp("training")
    write_problems(folder / "problems.jsonl", 12)
    (folder / "job.yaml").write_text(
        job(
            "sft",
            load={"source": "problems.jsonl"},
            sample={"n": 12},
            # all of a problem's right samples are the same text: that one is kept, and nothing like it
            deduplicate={"operator": "synthesize.deduplicate", "threshold": 1.0},
            transform=[
                {"operator": "synthesize.drop_trace", "levels": [0, 1, 0, 0, 0]},
                {"operator": "synthesize.trial_and_error", "share": 1.0},
                {"operator": "synthesize.parallel"},
            ],
            mix={"operator": "synthesize.mix", "rows": {"math": 1}},
            roll_outs={"operator": "synthesize.roll_outs", "per_problem": 2},
        )
    )
    document = as_json("run", "job.yaml", "--runner", "local", cwd=folder)
    assert document["state"] == "done"
    return folder


def test_transformations_follow_each_other_and_are_exported_with_their_story(place: Path) -> None:
    done = gristmill("export", "latest", "--format", "messages", "--to", "out", "--validation", "0", cwd=place)
    assert done.returncode == 0, done.stderr
    table = pl.read_parquet(place / "out/train-*.parquet")
    assert len(table) == 1, "the mixture has one row"
    [row] = table.to_dicts()
    said = row["messages"][-1]["content"]
    assert re.search(r"I add them\.\n\nThe answer is \\boxed\{\d\}\.$", said), "no checks in the right trace"
    lineage = json.loads(row["lineage"])
    dropped, tried, parallel = lineage["transformations"]
    assert dropped == {"operator": "synthesize.drop_trace 1", "level": 1}
    assert len(tried["wrong"]) == 1
    assert parallel["unchanged"] == "nothing in it is marked as parallel"
    assert {"model", "revision", "sampling_id", "verifier", "run_id", "exported_from"} <= lineage.keys()
    card = (place / "out/README.md").read_text()
    assert "| mix | beyond the quota of its kind of task |" in card
    assert "synthesize.trial_and_error" in card
    shown = gristmill("trace", "out/train-00000-of-00001.parquet:0", cwd=place)
    assert "transformed by synthesize.drop_trace 1: level 1" in shown.stdout


def test_roll_outs_from_every_step_label_the_traces(place: Path) -> None:
    [first] = as_json("runs", cwd=place)[:1]
    prefixes = Path(first["datasets"]["roll_outs"])
    table = pl.read_parquet(prefixes / "*.parquet")
    assert table["messages"].list.last().struct.field("role").unique().to_list() == ["assistant"]
    (place / "rollouts.yaml").write_text(job("rollouts", load={"source": str(prefixes)}, sample={"n": 16, "seed": 5}))
    document = as_json("run", "rollouts.yaml", "--runner", "local", cwd=place)
    labelled = pl.read_parquet(Path(document["datasets"]["step_rewards"]) / "*.parquet")
    traces = {
        (row["problem_id"].split("/")[0], trace["sample_index"])
        for row in table.to_dicts()
        for trace in json.loads(row["metadata"])["roll_out"]
    }
    assert len(labelled) == len(traces) > 12
    # of 16 roll-outs from anywhere some are right; the last step is as right as its trace
    assert labelled["labels"].list.head(2).list.all().all()
    assert labelled["labels"].list.last().n_unique() == 2
    verdicts = pl.read_delta(document["datasets"]["verify"])
    assert set(verdicts["problem_key"]) == set(table["problem_key"])
    done = as_json("export", document["run_id"], "--format", "step-rewards", "--to", "steps", cwd=place)
    assert done["train"] + done["validation"] == len(labelled)
