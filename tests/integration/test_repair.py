"""``verify-data --repair``: what is damaged is made again, nothing else is lost, no verdict gets another text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from cluster.driving.driver import run_pipeline
from cluster.records.recorder import RunRecorder, write_manifest
from cluster.records.run import RunResult
from cluster.runners.local import LocalRunner
from cluster.storage.parts import write_part
from cluster.storage.root import Root
from cluster.storage.store import Store
from cluster.upkeep.verify_store import LenientStore
from schemas.datasets import Sample, Verdict
from schemas.errors import StoreBusy
from schemas.job import RunSettings
from tests.damage import (
    PROBLEMS,
    N,
    add_by_hand,
    again,
    check,
    files,
    flip,
    in_file,
    judged,
    make,
    mend,
    record,
    rewrite,
    said,
    texts,
    truncate,
    wrong_hash,
)
from tests.s3 import S3Server
from tests.support import QUICK, facts, keys, scripted_pipeline, stage, write_problems


@pytest.fixture
def made(tmp_path: Path) -> RunResult:
    return make(tmp_path)


@pytest.mark.parametrize(
    "damage", [truncate, flip, lambda path: path.unlink()], ids=["truncated", "flipped", "deleted"]
)
def test_a_damaged_samples_file_is_made_again_and_no_old_verdict_stays(
    made: RunResult, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    path = files(made, "sample")[0]
    lost, before = in_file(path), texts(made)
    assert 0 < len(lost) < len(before)
    damage(path)
    done = mend(made)
    assert any(f"{path.name}: dropped" in line for line in done)
    kept = {key: text for key, text in before.items() if key not in lost}
    assert texts(made) == kept
    assert judged(made) == kept.keys()
    assert not (Path(made.root.uri(record(made, "select").path)) / "manifest.json").exists()
    result = again(tmp_path)
    assert stage(result, "sample") == {"planned": 80, "reused": 80 - len(lost), "computed": len(lost)}
    assert stage(result, "verify")["computed"] == len(lost)
    assert stage(result, "select")["computed"] == PROBLEMS
    after = texts(result)
    assert after.keys() == before.keys() == judged(result)
    assert {key: text for key, text in after.items() if key not in lost} == kept
    assert {after[key][1] for key in lost} == {result.manifest.run_id}
    assert check(result).findings == []
    assert check(made).findings == []


def test_keys_are_known_to_be_lost_where_only_the_verdicts_tell_them(made: RunResult) -> None:
    path = files(made, "sample")[0]
    lost = in_file(path)
    assert len({key for key, _ in lost}) > 1  # so that the log's bounds don't tell
    truncate(path)
    store = LenientStore(made.root, record(made, "sample").path, Sample, {})
    assert not store.files.of(path.name)
    mend(made)
    assert not judged(made) & lost


def test_verdicts_go_before_samples_do(made: RunResult, monkeypatch: pytest.MonkeyPatch) -> None:
    path = files(made, "sample")[0]
    lost = in_file(path)
    truncate(path)
    drop = LenientStore.drop

    def cut_off(self: LenientStore, *arguments: Any) -> bool:
        if self.contract is Sample:
            raise KeyboardInterrupt
        return drop(self, *arguments)

    monkeypatch.setattr(LenientStore, "drop", cut_off)
    with pytest.raises(KeyboardInterrupt):
        mend(made)
    assert not judged(made) & lost
    assert not made.root.exists(record(made, "select").path, "manifest.json")
    monkeypatch.undo()
    mend(made)
    assert texts(made).keys() == judged(made)


def test_a_damaged_verdicts_file_costs_no_sample(made: RunResult, tmp_path: Path) -> None:
    path, before = files(made, "verify")[0], texts(made)
    lost = in_file(path)
    truncate(path)
    mend(made)
    assert texts(made) == before
    result = again(tmp_path)
    assert stage(result, "sample")["computed"] == 0
    assert stage(result, "verify")["computed"] == len(lost)
    assert check(result).findings == []


def test_rows_with_a_wrong_hash_are_made_again_and_the_others_of_their_file_stay(
    made: RunResult, tmp_path: Path
) -> None:
    wrong = set(sorted(in_file(files(made, "sample")[0]))[:2])
    rewrite(made, wrong_hash)
    kept = {key: text for key, text in texts(made).items() if key not in wrong}
    assert any("2 row(s) dropped" in line for line in mend(made))
    assert texts(made) == kept
    assert judged(made) == kept.keys()
    result = again(tmp_path)
    assert stage(result, "sample")["computed"] == stage(result, "verify")["computed"] == 2
    assert {key: text for key, text in texts(result).items() if key not in wrong} == kept
    assert check(result).findings == []


def test_of_a_key_that_two_files_have_the_first_stays_and_is_judged_again(made: RunResult, tmp_path: Path) -> None:
    before = texts(made)
    rows = made.dataset("sample").collect().sort("problem_key", "sample_index").head(3)
    other = rows.with_columns(sample_index=pl.col("sample_index") + 500)  # keys that only this file has
    part = add_by_hand(made, "sample", Sample, pl.concat([rows.with_columns(worker=pl.lit("second")), other]))
    done = mend(made)
    assert any(f"{part.name}: 3 row(s) dropped" in line for line in done)
    after = texts(made)
    assert {key: after[key] for key in before} == before
    assert len(after) == len(before) + 3
    twice = set(rows.select("problem_key", "sample_index").iter_rows())
    assert judged(made) == before.keys() - twice
    result = again(tmp_path)
    assert stage(result, "sample")["computed"] == 0
    assert stage(result, "verify")["computed"] == 3
    assert check(result).findings == []


def test_rows_out_of_order_are_put_in_order(made: RunResult) -> None:
    before = texts(made)
    name = rewrite(made, lambda rows: rows.reverse())
    assert f"{name} isn't sorted by problem_key, sample_index" in said(check(made))
    assert mend(made) == [f"{record(made, 'sample').path}/{name}: put in order"]
    assert texts(made) == before
    assert judged(made) == before.keys()
    assert check(made).findings == []


def test_a_damaged_snapshot_is_computed_again(made: RunResult, tmp_path: Path) -> None:
    before = made.dataset("select").collect()
    folder = Path(made.root.uri(record(made, "select").path))
    (folder / "part-00000.parquet").unlink()
    (folder / "part-00007.parquet").write_bytes(b"left over")
    place = record(made, "select").path
    assert mend(made) == [f"{place}: is computed again", f"{place}/part-00007.parquet: removed"]
    result = again(tmp_path)
    assert stage(result, "sample")["computed"] == stage(result, "verify")["computed"] == 0
    assert result.dataset("select").collect().equals(before)
    assert check(result).findings == []


def test_a_store_in_use_is_not_repaired(made: RunResult) -> None:
    truncate(files(made, "sample")[0])
    store = LenientStore(made.root, record(made, "verify").path, Verdict, {})
    store.acquire("somebody")
    with pytest.raises(StoreBusy, match="run somebody"):
        mend(made)
    store.release()
    running = RunRecorder(made.root, scripted_pipeline(Path("p"), 1), "local", RunSettings())
    running.manifest.stages = made.manifest.stages
    write_manifest(made.root, running.manifest)
    running.beat(60.0)
    with pytest.raises(StoreBusy, match=f"in use by run {running.manifest.run_id}"):
        mend(made)
    running.manifest.state = "done"
    running.end()
    assert mend(made)


def test_what_other_verifiers_said_of_a_lost_text_goes_too(made: RunResult) -> None:
    path = files(made, "sample")[0]
    lost, before = in_file(path), texts(made)
    other = Store(
        made.root, f"{Path(record(made, 'verify').path).parent}/other", Verdict, {"who": "another run's verifier"}
    )
    other.acquire("another")
    other.commit([write_part(made.root, other.folder, made.dataset("verify").collect(), Verdict, "verify")])
    other.release()
    truncate(path)
    mend(made)
    other.refresh()
    assert facts(other) == before.keys() - lost


@pytest.mark.s3
def test_a_root_on_s3_is_verified_and_repaired(s3: S3Server, tmp_path: Path) -> None:
    source = write_problems(tmp_path / "p.jsonl", PROBLEMS)
    for n in (10, N):
        result = run_pipeline(scripted_pipeline(source, n), LocalRunner(), s3.root("verify"), QUICK)
    assert check(result).findings == []
    root, folder = result.root, record(result, "sample").path
    name = max(
        (n for n in root.list(folder) if n.endswith(".parquet")), key=lambda n: root.fs.size(root.uri(folder, n))
    )
    root.write_bytes(root.read_bytes(folder, name)[:-200], folder, name)
    assert f"{folder}/{name} can't be read to its end" in said(check(result))
    assert mend(result)
    result = run_pipeline(scripted_pipeline(source, N), LocalRunner(), s3.root("verify"), QUICK)
    assert len(keys(result)) == len(set(keys(result))) == PROBLEMS * N
    assert keys(result) == keys(result, "verify")
    assert check(result).findings == []
    assert Root.at(s3.root("verify")).list(folder)
