"""``gristmill verify-data``: damage of every kind is found and named."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake

from cluster.records.run import RunResult
from cluster.spending.history import read_ledger
from cluster.storage.arrow import arrow_schema
from cluster.upkeep.verify_data import verify
from schemas.books import LedgerEntry
from schemas.budget import Budget
from schemas.contract import polars_schema
from schemas.datasets import Sample
from tests.commands import gristmill
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
from tests.integration.test_episodes import play
from tests.integration.test_roles import searched
from tests.support import keys

HERE = Path(__file__).parents[2]


@pytest.fixture
def made(tmp_path: Path) -> RunResult:
    return make(tmp_path)


def test_a_good_run_passes_and_so_does_the_one_it_topped_up(tmp_path: Path) -> None:
    small = again(tmp_path, 10)
    large = again(tmp_path)
    reused = again(tmp_path)
    for result in (small, large, reused):
        found = check(result)
        assert found.findings == []
        assert found.unchecked == []
        assert found.rows > 2 * len(keys(result))
        assert found.size > 0
    assert check(large).files >= 2 * 2 + 2 + 3 * 2  # two files a store, two views, part and manifest of three snapshots


def test_progress_ends_where_all_is_read(made: RunResult) -> None:
    heard: list[tuple[int, int]] = []
    verify(made.root, made.manifest, lambda done, of: heard.append((done, of)))
    assert heard[0][0] == 0
    assert heard[-1][0] == heard[-1][1] > 0
    assert heard == sorted(heard)


@pytest.mark.parametrize("name", ["sample", "verify"])
@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (truncate, ["can't be read to its end", "bytes, the log says"]),
        (flip, ["can't be read to its end"]),
        (lambda path: path.unlink(), ["is gone; the log names it"]),
    ],
    ids=["truncated", "flipped", "deleted"],
)
def test_damage_of_a_store_file_is_found_and_named(
    made: RunResult, name: str, damage: Callable[[Path], None], words: list[str]
) -> None:
    path = files(made, name)[0]
    damage(path)
    found = check(made)
    about = [item for item in found.findings if item.file.endswith(path.name)]
    assert {item.stage for item in about} == {name}
    assert {item.remedy for item in about} == {"drop"}
    for word in words:
        assert any(word in item.what for item in about), said(found)
    assert "rows of the run's view in files that can be read" in said(found)


def test_every_page_of_a_file_is_covered(made: RunResult) -> None:
    path = files(made, "sample")[0]
    whole, rows = path.read_bytes(), pl.read_parquet(path)
    for column in polars_schema(Sample):
        flip(path, column)
        found = any(item.file.endswith(path.name) for item in check(made).findings)
        # a page of nulls alone is little more than its header, of which not all bits mean something
        empty = rows[column].null_count() == len(rows)
        assert found or (empty and pl.read_parquet(path).equals(rows)), column
        path.write_bytes(whole)
    assert check(made).findings == []


def test_a_flipped_bit_is_found_or_changes_nothing(made: RunResult) -> None:
    path = files(made, "sample")[0]
    whole, rows = path.read_bytes(), pl.read_parquet(path)
    draws = random.Random(0)
    for _ in range(100):
        data = bytearray(whole)
        data[draws.randrange(len(data))] ^= 1 << draws.randrange(8)
        path.write_bytes(data)
        if not any(item.file.endswith(path.name) for item in check(made).findings):
            assert pl.read_parquet(path).equals(rows)  # a statistic in a page's header, say


def test_a_key_that_two_files_have_is_found(made: RunResult) -> None:
    path = files(made, "sample")[0]
    part = add_by_hand(made, "sample", Sample, pl.read_parquet(path).head(3))
    (found,) = check(made).findings
    assert found.file == f"{record(made, 'sample').path}/{part.name}"
    key, index = min(in_file(path))
    assert found.what == f"has 3 key(s) that {path.name} has too: problem_key {key}, sample_index {index}"


def test_a_text_that_is_not_its_hash_s_is_found(made: RunResult) -> None:
    name = rewrite(made, wrong_hash)
    (found,) = check(made).findings
    assert found.file.endswith(name)
    assert "has 2 completion_hash(es) that aren't their text's" in found.what


def test_a_verdict_without_a_sample_is_found(made: RunResult) -> None:
    key, index = min(in_file(files(made, "sample")[0]))
    rewrite(made, lambda rows: rows.tail(-1))
    found = [item for item in check(made).findings if item.stage == "verify"]
    assert [item.what for item in found] == [
        f"has 1 row(s) whose sample isn't in {record(made, 'sample').path}: problem_key {key}, sample_index {index}"
    ]
    assert mend(made)
    assert judged(made) == texts(made).keys()


def test_other_columns_and_unsorted_rows_are_found(made: RunResult) -> None:
    path = files(made, "sample")[0]
    table = pq.read_table(path)
    pq.write_table(table.drop_columns(["worker"]), path)
    assert "hasn't the columns of Sample: lacks ['worker']" in said(check(made))
    pq.write_table(table.take(list(range(len(table)))[::-1]), path)
    assert "isn't sorted by problem_key, sample_index" in said(check(made))
    pq.write_table(table.take([0, 0, *range(2, len(table))]), path)
    assert "has 1 key(s) more than once" in said(check(made))
    bad = table.set_column(table.column_names.index("status"), table.schema.field("status"), [["odd"] * len(table)])
    pq.write_table(bad, path)
    assert "breaks its contract" in said(check(made))
    assert "Sample.status" in said(check(made))


def test_damage_of_a_snapshot_is_found(made: RunResult) -> None:
    folder = Path(made.root.uri(record(made, "select").path))
    part = folder / "part-00000.parquet"
    whole = part.read_bytes()
    (folder / "part-00007.parquet").write_bytes(whole)
    assert "part-00007.parquet isn't named by the manifest" in said(check(made))
    (folder / "part-00007.parquet").unlink()
    pq.write_table(pq.read_table(part)[:2], part)
    assert f"has 2 rows, the manifest says {PROBLEMS}" in said(check(made))
    part.unlink()
    assert said(check(made)) == f"select: {record(made, 'select').path}/{part.name} is gone; the manifest names it"
    part.write_bytes(whole)
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "view_id": "other", "contract": "Verdict"}))
    assert "names the view other" in said(check(made))
    assert "names the contract Verdict, it is Answer" in said(check(made))
    (folder / "manifest.json").unlink()
    assert "manifest.json is gone" in said(check(made))


def test_other_problems_than_the_run_s_are_found(made: RunResult) -> None:
    part = Path(made.root.uri(record(made, "load").path)) / "part-00000.parquet"
    pq.write_table(pl.read_parquet(part).with_columns(answer=pl.lit("7")).to_arrow().cast(pq.read_schema(part)), part)
    assert "holds other problems than the run's manifest says" in said(check(made))


def test_views_and_counts_are_held_against_the_manifest(made: RunResult) -> None:
    view = Path(made.root.uri(record(made, "sample").view))
    whole = view.read_bytes()
    pl.read_parquet(view).with_columns(count=pl.col("count") - 1).write_parquet(view)
    assert "isn't the view" in said(check(made))
    truncate(view)
    assert "views/sample.parquet can't be read" in said(check(made))
    view.unlink()
    assert "views/sample.parquet is gone" in said(check(made))
    view.write_bytes(whole)
    record(made, "sample").computed += 1
    assert f"says 40 reused and 41 computed of {PROBLEMS * N} planned" in said(check(made))
    record(made, "sample").computed -= 1
    assert check(made).findings == []


def test_the_ledger_is_held_against_the_samples(made: RunResult) -> None:
    run_id = made.manifest.run_id
    mine = made.dataset("sample").filter(pl.col("run_id") == run_id).collect()
    tokens = int(mine["completion_tokens"].sum())

    def entry(sequence: int, kind: str, samples: int, completion_tokens: int, who: str = run_id) -> dict[str, Any]:
        counts = {"samples": samples, "completion_tokens": completion_tokens}
        rest = dict.fromkeys(("prompt_tokens", "cached_prompt_tokens", "microdollars"), 0)
        seconds = dict.fromkeys(("engine_seconds", "gpu_seconds"), 0.0)
        about = {"sequence": sequence, "run_id": who, "time": datetime.now(UTC), "kind": kind}
        return {**about, "stage": "sample", "engine": "scripted", **counts, **rest, **seconds}

    def write(*entries: dict[str, Any]) -> None:
        rows = pl.DataFrame(list(entries), schema=polars_schema(LedgerEntry)).to_arrow()
        write_deltalake(made.root.uri("ledger"), rows.cast(arrow_schema(LedgerEntry)), mode="overwrite")

    half = entry(1, "settle", 30, 30)
    others = entry(3, "settle", 7, 7, "another-run")
    write(half, entry(2, "settle", len(mine) - 30, tokens - 30), others)
    assert check(made).findings == []
    write(half, entry(2, "settle", len(mine) - 31, tokens - 30), others)
    assert (
        said(check(made)) == f": ledger has {len(mine) - 1} samples settled for this run, its samples have {len(mine)}"
    )
    write({**half, "kind": "spent"})
    assert "ledger breaks its contract" in said(check(made))


def test_the_command_says_what_is_wrong_and_what_to_do(made: RunResult, tmp_path: Path) -> None:
    root = ("--root", made.root.url)
    good = gristmill("verify-data", "latest", *root, cwd=tmp_path)
    assert good.returncode == 0, good.stderr
    assert "All is well." in good.stdout
    path = files(made, "sample")[0]
    truncate(path)
    bad = gristmill("verify-data", "latest", *root, cwd=tmp_path)
    assert bad.returncode == 1
    assert f"{path.name} can't be read to its end" in bad.stdout
    assert f"gristmill verify-data {made.manifest.run_id} --root {made.root.url} --repair" in bad.stdout
    repaired = gristmill("verify-data", "latest", "--repair", "--json", *root, cwd=tmp_path)
    assert repaired.returncode == 1
    document = json.loads(repaired.stdout)
    assert any(path.name in line for line in document["repaired"])
    assert {"stage", "file", "what", "remedy"} <= document["findings"][0].keys()
    missing = gristmill("verify-data", "latest", *root, cwd=tmp_path)
    assert missing.returncode == 1
    assert "Make what is missing again" in missing.stdout
    again(tmp_path)
    assert gristmill("verify-data", "latest", *root, cwd=tmp_path).returncode == 0
    assert gristmill("verify-data", "nothing", *root, cwd=tmp_path).returncode == 2


def test_what_episodes_took_isnt_held_against_their_rows(tmp_path: Path) -> None:
    """Rows tell what one path of calls took, the ledger what all of them did: nothing is wrong with that."""
    for n in (8, 16):
        result = play(tmp_path, searched(tmp_path, n=n, gpus=0.0), budget=Budget(tokens=10**7))
        assert result.manifest.state == "done" and read_ledger(result.root)["completion_tokens"].sum() > 0
        assert verify(result.root, result.manifest).findings == []
