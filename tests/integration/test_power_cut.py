"""What is believed survives a power cut: commits, what they name, snapshots, books, the ledger."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from cluster.runners.local import LocalRunner
from cluster.spending.history import read_ledger
from cluster.storage import store as stores
from cluster.storage.parts import write_part
from cluster.storage.root import Root
from cluster.storage.store import Store
from schemas.contract import polars_schema
from schemas.datasets import Verdict
from schemas.job import RunSettings
from tests.damage import check
from tests.power import Disk
from tests.support import facts, run, scripted_pipeline, write_problems


def rows(index: int) -> pl.DataFrame:
    """Return a verdict on one sample."""
    known = {"problem_key": "k", "verifier": "v", "problem_id": "p", "status": "ok", "seconds": 0.0}
    return pl.DataFrame([{**known, "sample_index": index}], schema=polars_schema(Verdict))


def test_each_commit_is_there_once_it_is_believed(tmp_path: Path) -> None:
    """At every one of 105 commits, and so across a checkpoint."""
    (tmp_path / "root").mkdir()
    root, folder = Root.at(tmp_path / "root"), "verdicts/a/b"
    with Disk(tmp_path / "root") as disk:
        store = Store(root, folder, Verdict, {})
        store.acquire("r")
        for index in range(105):
            store.commit([write_part(root, folder, rows(index), Verdict, "verify")])
            if index in (0, 1, 50, 97, 98, 99, 100, 104):
                place = tmp_path / f"after{index}"
                disk.after_a_cut(place)
                found = Store(Root.at(place), folder, Verdict, {})
                assert facts(found) == {("k", at) for at in range(index + 1)}
                assert {path.name for path in (place / folder).glob("*.parquet")} >= set(found.files)
        store.release()


def test_a_cut_between_an_entry_and_its_sync_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing was believed yet; what the entry named is taken in again by a repair."""
    (tmp_path / "root").mkdir()
    root, folder = Root.at(tmp_path / "root"), "verdicts/a/b"
    with Disk(tmp_path / "root") as disk:
        store = Store(root, folder, Verdict, {})
        store.acquire("r")
        store.commit([write_part(root, folder, rows(0), Verdict, "verify")])
        part = write_part(root, folder, rows(1), Verdict, "verify")

        def cut(*_: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(stores, "sync_log", cut)
        with pytest.raises(KeyboardInterrupt):
            store.commit([part])
        disk.after_a_cut(tmp_path / "after")
    found = Store(Root.at(tmp_path / "after"), folder, Verdict, {})
    assert facts(found) == {("k", 0)}


def test_a_whole_run_is_there_once_it_is_done(tmp_path: Path) -> None:
    source = write_problems(tmp_path / "p.jsonl", 4)
    settings = RunSettings.model_validate(
        {"flush_seconds": 0.2, "commit_seconds": 0.05, "budget": {"tokens": 100_000, "account": "a"}}
    )
    (tmp_path / "root").mkdir()
    with Disk(tmp_path / "root") as disk:
        result = run(LocalRunner(), scripted_pipeline(source, 20), tmp_path / "root", settings)
        disk.after_a_cut(tmp_path / "after")
    assert result.manifest.state == "done"
    result.root = Root.at(tmp_path / "after")
    assert check(result).findings == []
    assert read_ledger(result.root)["samples"].sum() == 80
    assert len(result.dataset("select").collect()) == 4
