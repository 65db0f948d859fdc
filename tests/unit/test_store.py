"""Stores: group commits, the first commit of a key wins, and a second writer can't overwrite."""

from __future__ import annotations

from pathlib import Path

import duckdb
import polars as pl
import pytest
from deltalake import DeltaTable

from cluster.storage.parts import Part, write_part
from cluster.storage.ranges import Range
from cluster.storage.root import Root
from cluster.storage.snapshot import Snapshot
from cluster.storage.store import Store
from schemas.contract import polars_schema
from schemas.datasets import PassAtK, Verdict
from schemas.errors import BadInput, ContractViolation

FOLDER = "verdicts/s/v"


def open_store(root: Root) -> Store:
    return Store(root, FOLDER, Verdict, {"who": "test"})


def part(root: Root, indices: list[int], detail: str, key: str = "k") -> Part:
    rows = [
        {
            "problem_key": key,
            "sample_index": index,
            "verifier": "v",
            "problem_id": "p",
            "status": "ok",
            "seconds": 0.0,
            "detail": detail,
        }
        for index in indices
    ]
    return write_part(root, FOLDER, pl.DataFrame(rows, schema=polars_schema(Verdict)), Verdict, "verify")


def details(root: Root) -> dict[int, str]:
    rows = pl.read_delta(root.uri(FOLDER)).select("sample_index", "detail").rows()
    assert len(rows) == len({index for index, _ in rows})
    return dict(rows)


def test_what_no_commit_names_does_not_exist(tmp_path: Path) -> None:
    root = Root.at(tmp_path)
    store = open_store(root)
    store.commit([part(root, [0, 1], "first")])
    part(root, [2], "never committed")
    assert details(root) == {0: "first", 1: "first"}
    assert len(open_store(root).held) == 2


def test_a_group_is_one_commit_and_the_first_of_a_key_wins(tmp_path: Path) -> None:
    root = Root.at(tmp_path)
    store = open_store(root)
    store.commit([part(root, [0, 1], "first"), part(root, [1, 2], "second")])
    assert DeltaTable(root.uri(FOLDER)).version() == 1
    store.commit([part(root, [2, 3], "third"), part(root, [0], "fourth")])
    assert details(root) == {0: "first", 1: "first", 2: "second", 3: "third"}


def test_a_writer_that_did_not_see_another_cannot_replace_its_rows(tmp_path: Path) -> None:
    root = Root.at(tmp_path)
    one = open_store(root)
    one.create()
    other = open_store(root)
    one.commit([part(root, [0, 1, 2], "one")])
    other.take_news()
    other.commit([part(root, [2, 3], "other")])
    assert details(root) == {0: "one", 1: "one", 2: "one", 3: "other"}
    assert sorted(other.take_news()) == [Range("k", 0, 3), Range("k", 3, 1)]
    one.commit([part(root, [3, 4], "one")])
    assert details(root) == {0: "one", 1: "one", 2: "one", 3: "other", 4: "one"}


def test_a_reopened_store_knows_its_keys_and_the_files_that_hold_them(tmp_path: Path) -> None:
    root = Root.at(tmp_path)
    store = open_store(root)
    low, high = part(root, [0, 1], "low"), part(root, [7, 8], "high")
    store.commit([low, high, part(root, [0], "other problem", key="other")])
    again = open_store(root)
    assert again.held == store.held
    assert again.files_with([Range("k", 1, 3)]) == [low.name]
    assert again.files_with([Range("k", 0, 9)]) == sorted([low.name, high.name])
    assert again.files_with([Range("absent", 0, 9)]) == []


def test_a_store_reads_as_it_is_with_other_tools(tmp_path: Path) -> None:
    root = Root.at(tmp_path)
    open_store(root).commit([part(root, [0, 1, 2], "x")])
    assert pl.scan_delta(root.uri(FOLDER)).filter(pl.col("sample_index") > 0).collect().height == 2
    verdicts = DeltaTable(root.uri(FOLDER)).to_pyarrow_dataset()
    assert duckdb.sql("select count(*) from verdicts where sample_index > 0").fetchall() == [(2,)]
    assert verdicts.schema.field("problem_key").nullable is False


def test_a_part_that_breaks_its_contract_is_not_written(tmp_path: Path) -> None:
    root = Root.at(tmp_path)
    with pytest.raises(ContractViolation):
        part(root, [-1], "bad")
    assert root.list(FOLDER) == []


def test_a_snapshot_exists_once_its_manifest_does(tmp_path: Path) -> None:
    root = Root.at(tmp_path)
    snapshot = Snapshot(root, "coverage", "view", PassAtK)
    row = {"k": 1, "coverage": 0.5, "low": 0.4, "high": 0.6, "n_problems": 3, "note": ""}
    written = snapshot.write(0, pl.DataFrame([row], schema=polars_schema(PassAtK)))
    assert snapshot.manifest() is None
    snapshot.finish({written.name: written.rows}, {"operator": "x"}, {})
    manifest = snapshot.manifest()
    assert manifest is not None
    assert manifest.parts == {"part-00000.parquet": 1}


def test_an_unwritable_root_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match=r"can't be written.*--root"):
        Root.at(tmp_path / "file" / "below").check_writable()
