"""verify.math on answers as models write them: ``tests/data/answers.jsonl`` has questions, golds and completions."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl

from cluster.tools.processes import ProcessWorkers
from operators.verify.math import VerifyMath

ROWS = [
    json.loads(line) for line in (Path(__file__).parents[1] / "data" / "answers.jsonl").read_text().split("\n") if line
]


def test_every_verdict_is_known() -> None:
    """Each is a problem of its own, so that none is judged by another's key."""
    texts = [
        (row["asked"], row["gold"], text, side) for row in ROWS for side in ("right", "wrong") for text in row[side]
    ]
    assert len(texts) > 2000
    keys = [str(number) for number in range(len(texts))]
    asked, golds, completions, sides = zip(*texts, strict=True)
    samples = pl.DataFrame({"problem_key": keys, "problem_id": keys, "completion": completions})
    samples = samples.with_columns(sample_index=pl.lit(0, dtype=pl.Int64), status=pl.lit("ok"))
    problems = pl.DataFrame({"problem_key": keys, "problem_id": keys, "prompt": asked, "answer": golds})
    with ProcessWorkers(2) as workers:
        found = VerifyMath(timeout=60.0).run(samples, problems, workers)["is_correct"]
    wrongly = [text for text, side, right in zip(texts, sides, found, strict=True) if right is not (side == "right")]
    assert wrongly == []
