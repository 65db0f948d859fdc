"""Parts of the view that need no server: experts, tokens with log-probs, pairs, shards of a bundle."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from cluster.records.recorder import write_manifest
from cluster.runners.local import LocalRunner
from cluster.storage.root import Root
from jobs.looking.samples import sample_rows
from jobs.moe.replan import replan_experts
from jobs.view.bundle import shards
from jobs.view.bundle.shards import Shards
from jobs.view.experts import loads
from jobs.view.filters import read_filter
from jobs.view.live import document
from jobs.view.tables import token_logprobs
from jobs.view.watched import Watched
from schemas.errors import BadInput
from schemas.manifest import StageRecord
from tests.benchmarks.view import manifest
from tests.support import run, scripted_pipeline, write_problems
from tests.unit import test_expert_report as expert_report

PAIRS = [("a", -0.5), ("b", None)]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"tokens": ["a", "b"], "token_logprobs": [-0.5, None]}, PAIRS),
        ({"tokens": ["a", "b"], "logprobs": [-0.5, None]}, PAIRS),
        ({"logprobs": {"tokens": ["a", "b"], "token_logprobs": [-0.5, None]}}, PAIRS),
        ({"logprobs": '{"content": [{"token": "a", "logprob": -0.5}, {"token": "b", "logprob": null}]}'}, PAIRS),
        ({"logprobs": {"content": [{"token": "a", "logprob": -0.5, "bytes": [97]}, {"token": "b"}]}}, PAIRS),
        ({"tokens": ["a", "b"], "token_logprobs": [-0.5]}, None),
        ({"tokens": 7, "logprobs": -3.5}, None),
        ({"logprobs": "no JSON"}, None),
        ({"logprobs": {"content": []}}, None),
        ({"tokens": ["a"], "logprobs": ["<b>"]}, None),
        ({"completion": "a"}, None),
    ],
)
def test_tokens_with_log_probs_are_found_where_they_are_kept(row: dict[str, Any], expected: Any) -> None:
    assert token_logprobs(row) == expected


def test_experts_are_told_with_what_was_predicted(tmp_path: Path) -> None:
    spec = expert_report.spec(tmp_path)
    assert loads(expert_report.manifest(spec)) == []
    expert_report.count(tmp_path, 1, expert_report.NIGHT - timedelta(days=1))
    replan_experts(spec)
    expert_report.count(tmp_path, 1, expert_report.NIGHT)
    [found] = loads(expert_report.manifest(spec))
    table = np.array(found["loads"])
    assert table.shape == (expert_report.LAYERS, expert_report.EXPERTS)
    np.testing.assert_allclose(table.mean(axis=1), 1.0, atol=1e-3)
    assert found["gpus"] == 16 and set(found["balance"]) == {"measured", "predicted", "EPLB", "linear"}
    assert np.mean(found["balance"]["measured"]) > np.mean(found["balance"]["linear"])
    np.testing.assert_allclose(found["balance"]["measured"], found["balance"]["predicted"], atol=1e-9)


def test_shards_keep_their_order_and_their_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "LIMIT", 20_000)
    noise = np.random.default_rng(0)
    texts = [noise.bytes(300).hex() for _ in range(400)] + [noise.bytes(30_000).hex()] + ["short"] * 50
    table = Shards(tmp_path, "texts", ["number"])
    for first in range(0, len(texts), 37):
        some = texts[first : first + 37]
        table.add(pl.DataFrame({"number": range(first, first + len(some)), "text": some}))
    files = table.finish()
    read = pl.concat(pl.read_parquet(tmp_path / one["name"]) for one in files)
    assert read["text"].to_list() == texts and table.rows == len(texts)
    assert read["number"].to_list() == list(range(len(texts)))
    first = 0
    for one in files:
        content = (tmp_path / one["name"]).read_bytes()
        assert (one["bytes"], one["first"]) == (len(content), first)
        assert content[-one["footer"] :].endswith(b"PAR1") and one["footer"] > 100
        assert one["bytes"] <= 20_000 or one["rows"] == 1
        first += one["rows"]
    assert sum(one["bytes"] > 20_000 for one in files) == 1, "a text longer than the limit is alone"
    assert Shards(tmp_path, "none").finish() == []


def test_one_sample_is_found_by_its_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    result = run(LocalRunner(), scripted_pipeline(write_problems(tmp_path / "p.jsonl", 3), 6), tmp_path / "root")
    watched = Watched(result.root, result.manifest.run_id)
    watched.look()
    index, places = watched.open()
    key = str(places.keys[1])
    assert read_filter({"problem": key, "index": "4"}, index, places).page(index, -1, 9).tolist() == [10]
    for asked in ({"problem": key, "index": "6"}, {"problem": "none such", "index": "0"}, {"index": "0"}):
        assert read_filter(asked, index, places).count(index) == 0
    with pytest.raises(BadInput):
        read_filter({"problem": key, "index": "-1"}, index, places)
    rows = sample_rows(result.root, result.manifest, "p1", None, 20, 4)
    assert rows.select("problem_id", "sample_index").rows() == [("p1", 4)]
    watched.close()


def test_a_stage_says_what_it_waits_for(tmp_path: Path) -> None:
    root = Root.at(tmp_path)
    made = manifest("waiting", 0, 3)
    names = {"name": "verify", "operator": "v", "dataset": "verdicts", "kind": "store", "path": "v", "view_id": "v"}
    sampling = made.stages[0].model_copy(update={"complete": False, "queued": 4, "name": "sample"})
    judging = StageRecord.model_validate({**names, "planned": 9, "inputs": {"samples": "sample"}})
    running = made.model_copy(update={"state": "running", "finished": None, "stages": [sampling, judging]})
    write_manifest(root, running)
    watched = Watched(root, running.run_id)
    waits = {stage["name"]: stage["waits_for"] for stage in document(watched)["stages"]}
    assert waits == {"sample": [], "verify": ["sample"]}
    judging.queued = 2
    write_manifest(root, running)
    waits = {stage["name"]: stage["waits_for"] for stage in document(Watched(root, running.run_id))["stages"]}
    assert waits["verify"] == []
