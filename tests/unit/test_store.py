"""Stores: group commits, one writer by lease and epoch, the first commit of a key wins, small files become large."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import duckdb
import polars as pl
import pytest
from deltalake import DeltaTable

from cluster.storage.lease import Lease, read_lease
from cluster.storage.numbering import Numbering
from cluster.storage.parts import Part, write_part
from cluster.storage.root import Root
from cluster.storage.snapshot import Snapshot
from cluster.storage.store import Store
from cluster.working import compaction
from cluster.working.compaction import next_merge
from schemas.contract import polars_schema
from schemas.datasets import Verdict
from schemas.errors import BadInput, ContractViolation, LeaseLost, StoreBusy
from schemas.measures import PassAtK
from tests.support import facts, keyed, merge_of

FOLDER = "verdicts/s/v"


def open_store(root: Root, writer: str | None = None, seconds: float = 60.0) -> Store:
    store = Store(root, FOLDER, Verdict, {"who": "test"})
    if writer is not None:
        store.acquire(writer, seconds)
    return store


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
    store = open_store(root, "run")
    store.commit([part(root, [0, 1], "first")])
    part(root, [2], "never committed")
    assert details(root) == {0: "first", 1: "first"}
    assert len(open_store(root).held) == 2


def test_a_group_is_one_commit_and_the_first_of_a_key_wins(tmp_path: Path) -> None:
    root = Root.at(tmp_path)
    store = open_store(root, "run")
    before = DeltaTable(root.uri(FOLDER)).version()
    store.commit([part(root, [0, 1], "first"), part(root, [1, 2], "second")])
    assert DeltaTable(root.uri(FOLDER)).version() == before + 1
    store.commit([part(root, [2, 3], "third"), part(root, [0], "fourth")])
    assert details(root) == {0: "first", 1: "first", 2: "second", 3: "third"}


def test_a_store_has_one_writer(tmp_path: Path) -> None:
    root = Root.at(tmp_path)
    one = open_store(root, "one")
    with pytest.raises(StoreBusy, match=r"run one \(process \d+ on .*--if-busy wait"):
        open_store(root, "other")
    with pytest.raises(LeaseLost):
        open_store(root).commit([part(root, [0], "nobody")])
    one.commit([part(root, [0, 1, 2], "one")])
    one.release()
    other = open_store(root, "other")
    assert len(other.held) == 3
    other.commit([part(root, [2, 3], "other")])
    assert details(root) == {0: "one", 1: "one", 2: "one", 3: "other"}


def test_a_writer_that_slept_past_its_lease_cannot_commit_once_another_took_over(tmp_path: Path) -> None:
    root = Root.at(tmp_path)
    sleeper = open_store(root, "sleeper", seconds=0.3)
    sleeper.commit([part(root, [0, 1], "sleeper")])
    late = part(root, [1, 2], "too late")
    time.sleep(0.4)
    other = open_store(root, "other")
    other.take_news()
    other.commit([part(root, [3], "other")])
    with pytest.raises(LeaseLost, match=r"run sleeper .*run other"):
        sleeper.commit([late])
    with pytest.raises(LeaseLost):
        sleeper.commit([late])
    other.commit([part(root, [1, 2], "other")])
    assert details(root) == {0: "sleeper", 1: "sleeper", 2: "other", 3: "other"}


def test_a_writer_whose_clock_stood_still_is_fenced_by_the_epoch(tmp_path: Path) -> None:
    root = Root.at(tmp_path)
    sleeper = open_store(root, "sleeper", seconds=0.3)
    time.sleep(0.4)
    other = open_store(root, "other")
    assert sleeper.lease is not None
    sleeper.lease = sleeper.lease.model_copy(update={"expires": time.time() + 999})  # it believes it still holds it
    with pytest.raises(LeaseLost):
        sleeper.commit([part(root, [0], "too late")])
    other.commit([part(root, [0], "other")])
    assert details(root) == {0: "other"}


def test_a_sleeper_does_not_release_what_another_holds(tmp_path: Path) -> None:
    root = Root.at(tmp_path)
    sleeper = open_store(root, "sleeper", seconds=0.2)
    time.sleep(0.3)
    other = open_store(root, "other")
    with pytest.raises(LeaseLost):
        sleeper.release()
    with pytest.raises(StoreBusy, match="run other"):
        open_store(root, "third")
    other.commit([part(root, [0], "other")])


def test_a_lease_that_lapsed_and_nobody_wanted_goes_on(tmp_path: Path) -> None:
    root = Root.at(tmp_path)
    store = open_store(root, "run", seconds=0.2)
    time.sleep(0.3)
    store.commit([part(root, [0], "run")])
    assert details(root) == {0: "run"}


def test_a_killed_writer_holds_nothing_on_its_own_machine(tmp_path: Path) -> None:
    script = (
        "from cluster.storage.root import Root; from cluster.storage.store import Store;"
        "from schemas.datasets import Verdict; import os;"
        f"Store(Root({str(tmp_path)!r}), {FOLDER!r}, Verdict, {{'who': 'test'}}).acquire('killed', 3600);"
        "os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -9
    lease = read_lease(Root.at(tmp_path), FOLDER)
    assert lease is not None and lease.run_id == "killed" and not lease.alive()
    open_store(Root.at(tmp_path), "next").commit([part(Root.at(tmp_path), [0], "next")])


def test_a_lease_on_another_machine_has_to_lapse() -> None:
    here = Lease.of("run", 1, 60.0)
    elsewhere = here.model_copy(update={"machine": "another", "pid": 1, "born": 0})
    assert here.alive() and elsewhere.alive()
    assert elsewhere.model_copy(update={"expires": time.time() - 1}).alive()  # by a clock that isn't its holder's
    assert not elsewhere.model_copy(update={"seconds": 0.0}).alive()
    assert not elsewhere.model_copy(update={"released": True}).alive()
    assert not here.model_copy(update={"born": here.born + 1}).alive()  # the process id was given to another process


def test_of_two_that_take_a_store_at_once_one_gets_it(tmp_path: Path) -> None:
    root = Root.at(tmp_path)
    open_store(root).create()
    won: list[str] = []

    def take(name: str) -> None:
        try:
            open_store(root, name)
            won.append(name)
        except StoreBusy:
            pass

    threads = [threading.Thread(target=take, args=(f"run{i}",)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1


def test_small_files_are_merged_in_tiers() -> None:
    small, large = 2**16, 2**20
    assert next_merge({f"f{i}": small for i in range(15)}) == []
    assert next_merge({f"f{i}": small for i in range(20)}) == [f"f{i}" for i in range(20)]
    mixed = {**{f"l{i}": large for i in range(10)}, **{f"s{i}": small // 2 for i in range(16)}}
    assert next_merge(mixed) == [f"s{i}" for i in range(16)]
    assert next_merge({f"f{i}": 100 * large for i in range(50)}) == []
    sizes: dict[str, int] = {}
    written = 0
    for number in range(10_000):
        sizes[f"n{number}"] = 400_000
        while chosen := next_merge(sizes):
            total = sum(sizes.pop(name) for name in chosen)
            written += total
            sizes[f"m{number}-{len(sizes)}"] = total
    assert len(sizes) < 100
    assert written < 4 * 10_000 * 400_000


def test_a_merge_keeps_every_row_once_and_sorts_them(tmp_path: Path) -> None:
    root = Root.at(tmp_path)
    store = open_store(root, "run")
    for number in range(16):
        store.commit([part(root, [number, number + 20], str(number), key=f"k{number % 3}")])
    names = next_merge(store.sizes)
    assert len(names) == 16
    before = details(root)
    done = merge_of(store, names).run()
    assert store.replace(names, done.part)
    assert not store.replace(names, done.part)
    assert details(root) == before
    assert list(store.files) == [done.part.name]
    again = open_store(root)
    assert facts(again) == facts(store)
    assert again.files.holding(again.numbering.ranges(keyed(("k1", 1, 1)))) == [done.part.name]
    rows = pl.read_parquet(root.uri(FOLDER, done.part.name)).select("problem_key", "sample_index").rows()
    assert rows == sorted(rows)
    assert all(Path(root.uri(FOLDER, name)).exists() for name in names)  # others may be reading them


def test_a_merge_holds_few_rows_also_of_one_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "MOST_ROWS", 20)
    monkeypatch.setattr(compaction, "EVERY", 4)
    root = Root.at(tmp_path)
    store = open_store(root, "run")
    for number in range(4):
        store.commit([part(root, list(range(number, 200, 4)), str(number))])
    store.commit([part(root, [0, 3, 150], "another problem", key="l"), part(root, [7], "a third", key="a")])
    merge = merge_of(store, list(store.files))
    outlines = [merge._outline(root, name) for name in merge.files]
    batches = [batch.select("problem_key", "sample_index").rows() for batch in merge._batches(root, outlines)]
    assert max(map(len, batches)) <= 2 * 20 + 16, "each file may have some rows between two keys that are looked at"
    rows = [row for batch in batches for row in batch]
    assert rows == sorted(rows) and len(rows) == len(set(rows)) == 204
    before = pl.read_delta(root.uri(FOLDER)).sort("problem_key", "sample_index")
    assert store.replace(merge.files, merge.run().part)
    assert before.equals(pl.read_delta(root.uri(FOLDER)).sort("problem_key", "sample_index"))
    again = open_store(root)
    assert facts(again) == facts(store)


def test_the_log_of_a_long_run_is_checkpointed(tmp_path: Path) -> None:
    root = Root.at(tmp_path)
    store = open_store(root, "run")
    for number in range(105):
        store.commit([part(root, [number], "x")])
    assert len(list(Path(root.uri(FOLDER, "_delta_log")).glob("*.checkpoint.parquet"))) == 1
    again = open_store(root)
    assert facts(again) == facts(store)
    assert set(again.files) == set(store.files)
    again.refresh()
    with pytest.raises(StoreBusy):
        again.acquire("other")
    store.commit([part(root, [105], "x")])
    assert len(details(root)) == 106


def test_a_reader_follows_a_merge(tmp_path: Path) -> None:
    root = Root.at(tmp_path)
    store = open_store(root, "run")
    for number in range(16):
        store.commit([part(root, [number], "x")])
    reader = open_store(root)
    reader.take_news()
    names = next_merge(store.sizes)
    store.replace(names, merge_of(store, names).run().part)
    reader.refresh()
    assert list(reader.files) == list(store.files)
    assert facts(reader) == facts(store)
    assert not reader.take_news()


def test_a_reopened_store_knows_its_keys_and_the_files_that_hold_them(tmp_path: Path) -> None:
    root = Root.at(tmp_path)
    store = open_store(root, "run")
    low, high = part(root, [0, 1], "low"), part(root, [7, 8], "high")
    store.commit([low, high, part(root, [0], "other problem", key="other")])
    again = open_store(root)
    assert facts(again) == facts(store)
    for rows, names in (
        ([("k", 1, 3)], [low.name]),
        ([("k", 0, 9)], sorted([low.name, high.name])),
        ([("k", 2, 5), ("absent", 0, 9)], []),
    ):
        assert again.files.holding(again.numbering.ranges(keyed(*rows))) == names


def test_a_store_reads_as_it_is_with_other_tools(tmp_path: Path) -> None:
    root = Root.at(tmp_path)
    open_store(root, "run").commit([part(root, [0, 1, 2], "x")])
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
        Root(str(tmp_path / "file" / "below")).check_writable()
    with pytest.raises(BadInput, match="file' is a file"):
        Root.at(tmp_path / "file" / "below")


def test_a_store_of_an_older_gristmill_gets_the_new_columns(tmp_path: Path) -> None:
    """Its files stay as they are; what they lack is null, and verify-data finds nothing wrong with them."""
    from cluster.storage.slices import scan_files
    from cluster.upkeep.verify_file import Expected, check_file
    from schemas.contract import Contract
    from schemas.datasets import Sample
    from schemas.identity import completion_hashes

    new = sorted(Sample.added)
    columns = {name: column for name, column in Sample.columns().items() if name not in new}
    older = type("Sample", (Contract,), {**columns})
    root = Root.at(tmp_path)
    row = {
        "problem_key": "k", "sample_index": 0, "problem_id": "p", "completion": "a", "status": "ok",
        "completion_hash": completion_hashes(["a"])[0], "finish_reason": "stop", "prompt_tokens": 1,
        "cached_prompt_tokens": 0, "completion_tokens": 1, "seed": 0, "run_id": "r",
    }  # fmt: skip
    folder = "samples/s"
    store = Store(root, folder, older, {"who": "test"})
    store.acquire("old", 60.0)
    first = write_part(root, folder, pl.DataFrame([row], schema=polars_schema(older)), older, "sample")
    store.commit([first])
    store.release()
    store = Store(root, folder, Sample, {"who": "test"})
    store.acquire("new", 60.0)
    table = pl.DataFrame([{**row, "sample_index": 1, "mean_confidence": 2.0}], schema=polars_schema(Sample))
    store.commit([write_part(root, folder, table, Sample, "sample")])
    rows = pl.read_delta(root.uri(folder)).sort("sample_index")
    assert rows["mean_confidence"].to_list() == [None, 2.0]
    uris = [root.uri(folder, name) for name in store.files]
    nulls = scan_files(root, uris, Sample).select(new).collect().null_count().row(0, named=True)
    assert nulls == {**dict.fromkeys(new, 2), "mean_confidence": 1}
    expected = Expected("sample", folder, first.name, Sample, rows=1, size=None, in_store=True)
    assert check_file(root, expected, Numbering()).findings == []
