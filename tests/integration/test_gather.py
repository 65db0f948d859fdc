"""Gathering other roots' work into one: nothing twice, no verdict on another text, runs and spending with it."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from cluster.records.reader import find_run, manifests
from cluster.records.recorder import write_manifest
from cluster.records.run import RunResult
from cluster.runners.local import LocalRunner
from cluster.spending.history import read_ledger
from cluster.storage.root import Root
from cluster.upkeep.gather import gather
from jobs.config.settings import build_pipeline
from schemas.budget import Budget
from schemas.errors import BadInput
from tests.completion_server import CompletionServer
from tests.support import QUICK, keys, run, scripted_pipeline, write_problems


def test_shards_together_are_the_whole(tmp_path: Path) -> None:
    source, log = write_problems(tmp_path / "p.jsonl", 23), tmp_path / "calls"
    pipeline = scripted_pipeline(source, 6, call_log=str(log))
    shards = [Root.at(tmp_path / f"shard-{number}") for number in range(3)]
    for number, shard in enumerate(shards):
        settings = QUICK.model_copy(update={"shard": f"{number}/3", "budget": Budget(samples=10_000, account="all")})
        run(LocalRunner(), scripted_pipeline(source, 6, call_log=str(log)), Path(shard.url), settings)
    sizes = [next(iter(manifests(shard))).n_problems for shard in shards]
    assert sum(sizes) == 23 and min(sizes) > 0
    root = Root.at(tmp_path / "root")
    said: list[str] = []
    found = gather(root, shards, said.append)
    assert found.rows == {"calls": 0, "samples": 138, "verdicts": 138, "scores": 0}
    assert found.runs == 3
    assert len(said) == 6
    again = gather(root, shards, said.append)
    assert (sum(again.rows.values()), again.runs) == (0, 0)
    calls = log.read_text().count("\n")
    whole = run(LocalRunner(), pipeline, Path(root.url))
    assert whole.manifest.state == "done"
    assert log.read_text().count("\n") == calls == 138  # nothing was paid for again
    assert {record.name: record.reused for record in whole.manifest.stages}["verify"] == 138
    assert keys(whole) == keys(run(LocalRunner(), scripted_pipeline(source, 6), tmp_path / "by-itself"))
    assert read_ledger(root)["samples"].sum() == 138
    for shard in shards:  # their runs can be looked at here
        name = next(iter(manifests(shard))).run_id
        assert find_run(root, name).n_problems == next(iter(manifests(shard))).n_problems


def test_a_verdict_comes_only_with_the_text_that_it_saw(tmp_path: Path) -> None:
    """The same model gave other texts to the same keys elsewhere: what is here stays, and gets no verdict of theirs."""
    source = write_problems(tmp_path / "p.jsonl", 4)
    results: list[RunResult] = []
    for folder, answer, n in (("here", "1", 2), ("other", "2", 5)):
        server = CompletionServer(answer)
        settings = {
            "engine": {"kind": "openai", "url": server.url, "model": "m", "revision": "1"},
            "load": {"source": str(source)},
            "sample": {"n": n},
            "verify": {"operator": "verify.exact", "extract": ["whole"]},
        }
        pipeline, _ = build_pipeline("math", settings)
        results.append(run(LocalRunner(), pipeline, tmp_path / folder))
        server.close()
    here, other = results
    paths = {record.name: record.path for record in here.manifest.stages}
    root = here.root
    root.remove(paths["verify"], recursive=True)  # the samples here aren't judged yet
    gather(root, [other.root], lambda text: None)
    rows = pl.read_delta(root.uri(paths["sample"])).select("problem_key", "sample_index", "completion")
    assert rows["completion"].value_counts().sort("completion").rows() == [("1", 8), ("2", 12)]
    verdicts = pl.read_delta(root.uri(paths["verify"]))
    assert len(verdicts) == 12
    assert set(verdicts["predicted_answer"]) == {"2"}
    assert set(verdicts.join(rows, on=["problem_key", "sample_index"])["completion"]) == {"2"}


def test_what_is_no_root_is_refused(tmp_path: Path) -> None:
    root = Root.at(tmp_path / "root")
    with pytest.raises(BadInput, match="no samples"):
        gather(root, [Root.at(tmp_path / "nothing")], print)
    with pytest.raises(BadInput, match="the root itself"):
        gather(root, [root], print)


def test_what_is_missing_is_told_and_the_rest_is_taken(tmp_path: Path) -> None:
    source = write_problems(tmp_path / "p.jsonl", 4)
    done = run(LocalRunner(), scripted_pipeline(source, 2), tmp_path / "done")
    half = run(LocalRunner(), scripted_pipeline(source, 3), tmp_path / "half")
    half.manifest.state = "interrupted"
    write_manifest(half.root, half.manifest)
    found = gather(Root.at(tmp_path / "root"), [done.root, half.root, Root.at(tmp_path / "nothing")], print)
    assert found.rows["samples"] == 12
    assert [("interrupted" in text, "no samples" in text) for text in found.missing] == [(True, False), (False, True)]
