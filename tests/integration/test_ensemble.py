"""Several models in one pipeline: a selection that knows which sample is whose."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from cluster.runners.local import LocalRunner
from jobs.config.settings import build_pipeline
from schemas.errors import BadInput
from tests.support import run, stage, write_problems


def models(**answers: tuple[dict[str, tuple[str, ...]], tuple[str, ...]]) -> list[dict[str, Any]]:
    return [
        {"name": name, "engine": {"kind": "scripted", "model": name, "by_prompt": known, "answers": others}}
        for name, (known, others) in answers.items()
    ]


def test_one_loud_model_doesnt_outvote_two_that_agree(tmp_path: Path) -> None:
    """The loud one is sampled four times as often and always says 5; of all samples together it has most."""
    write_problems(tmp_path / "problems.jsonl", 6)
    right = {f"What is {i} + {i % 7}?": (str(i % 3),) for i in range(6)}
    named = models(first=(right, ("0",)), second=(right, ("1",)), loud=({}, ("5",)))
    named[2]["sample"] = {"n": 16}
    settings = {
        "load": {"source": str(tmp_path / "problems.jsonl")},
        "sample": {"n": 4},
        "models": named,
        "verify": {"operator": "verify.exact"},
    }
    pipeline, _ = build_pipeline("ensemble", settings)
    result = run(LocalRunner(), pipeline, tmp_path / "root")
    assert result.manifest.state == "done", result.manifest.error
    answers = result.dataset("select").collect()
    assert answers.group_by("method").len().sort("method").rows() == [("abductive", 6), ("top_two", 6)]
    assert answers["is_correct"].all()
    assert set(answers["n_samples"]) == {24}
    everything = pl.concat(result.dataset(f"verify_{name}").collect() for name in ("first", "second", "loud"))
    assert everything.group_by("predicted_answer").len().sort("len")["predicted_answer"][-1] == "5"

    again = run(LocalRunner(), pipeline, tmp_path / "root")
    assert stage(again, "sample_loud")["computed"] == stage(again, "select")["computed"] == 0
    one_more = build_pipeline("ensemble", settings | {"sample": {"n": 5}})[0]
    assert stage(run(LocalRunner(), one_more, tmp_path / "root"), "sample_first")["computed"] == 6

    with pytest.raises(BadInput, match=r"select\.majority can't tell models apart"):
        build_pipeline("ensemble", settings | {"select": {"operator": "select.majority"}})
    with pytest.raises(BadInput, match="two models or more"):
        build_pipeline("ensemble", settings | {"models": named[:1]})
