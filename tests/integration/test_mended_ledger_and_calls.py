"""The ledger's log, and that of a store of calls, are mended like those of other stores: nothing paid for is lost."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from cluster.records.run import RunResult
from cluster.runners.local import LocalRunner
from cluster.spending.history import LEDGER, read_ledger
from cluster.storage.delta import calls_folder, make_table, scan_store
from cluster.storage.delta_log import LOG
from cluster.storage.numbering import Numbering
from cluster.storage.parts import write_part
from cluster.storage.root import Root
from cluster.storage.store import Store
from cluster.upkeep.mend_log import mend_log
from schemas.episodes import Call
from schemas.errors import DamagedLog
from tests.damage import check, mend, record, said
from tests.integration.test_episodes import asked, calls_of, play, searched, texts
from tests.support import QUICK, run, scripted_pipeline, write_problems

PAID = QUICK.model_validate({**QUICK.model_dump(), "budget": {"tokens": 10_000_000, "account": "a"}})
HOW: dict[str, Callable[[list[Path]], object]] = {
    "last empty": lambda entries: entries[-1].write_bytes(b""),
    "last cut": lambda entries: entries[-1].write_bytes(entries[-1].read_bytes()[:-20]),
    "first empty": lambda entries: entries[0].write_bytes(b""),
    "first missing": lambda entries: entries[0].unlink(),
    "all gone": lambda entries: shutil.rmtree(entries[0].parent),
}


def pay(folder: Path, n: int) -> RunResult:
    return run(LocalRunner(), scripted_pipeline(write_problems(folder / "p.jsonl", 4), n), folder / "root", PAID)


@pytest.fixture(scope="module")
def paid(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunResult]:
    """A root whose ledger has two entries."""
    folder = tmp_path_factory.mktemp("paid")
    pay(folder, 3)
    return folder / "root", pay(folder, 5)


@pytest.mark.parametrize("how", HOW)
def test_a_damaged_ledger(paid: tuple[Path, RunResult], tmp_path: Path, how: str) -> None:
    shutil.copytree(paid[0], tmp_path / "root")
    made = RunResult(paid[1].manifest, Root.at(tmp_path / "root"))
    before = read_ledger(made.root).sort("run_id", "sequence")
    assert before["run_id"].n_unique() == 2 and before["samples"].sum() == 20
    HOW[how](sorted((tmp_path / "root" / LEDGER / LOG).glob("*.json")))
    with pytest.raises(DamagedLog, match=f"{LEDGER}/{LOG}.*verify-data RUN --repair"):
        read_ledger(made.root)
    assert LEDGER in said(check(made)) and "isn't whole" in said(check(made))
    assert any(LEDGER in line for line in mend(made))
    assert_frame_equal(read_ledger(made.root).sort("run_id", "sequence"), before)
    assert check(made).findings == []
    if how == "first missing":  # a log that was made anew goes on as any other
        assert pay(tmp_path, 6).manifest.state == "done"
        assert read_ledger(made.root)["samples"].sum() == 24


def test_calls_whose_log_is_gone(tmp_path: Path) -> None:
    """An episode's calls may be in several files, and in a merged one beside them: each is taken in once."""
    result = play(tmp_path, searched(tmp_path, n=4))
    before, samples, bill = calls_of(result), texts(result), asked(tmp_path)
    root, folder = result.root, calls_folder(record(result, "sample").path)
    shutil.rmtree(root.uri(folder))
    make_table(root, folder, Call, {})
    store = Store(root, folder, Call, {}, Numbering())
    store.acquire("test")
    mixed = before.with_row_index().select(pl.exclude("index"), odd=pl.col("index") % 2 == 1)
    halves = [mixed.filter(pl.col("odd") == odd).drop("odd") for odd in (False, True)]
    for table in (*halves, before.head(7)):
        store.commit([write_part(root, folder, table, Call, "sample")])
    store.release()
    keys = Call.primary_key()
    shutil.rmtree(root.uri(folder, LOG))
    assert "isn't whole" in said(check(result))
    assert f"{len(before):,} row(s) taken in" in "\n".join(mend_log(root, folder, "test"))
    assert_frame_equal(scan_store(root, folder, Call).collect().sort(keys), before.sort(keys))
    assert check(result).findings == []
    again = play(tmp_path, searched(tmp_path, n=4))
    assert_frame_equal(texts(again), samples)
    assert asked(tmp_path) == bill
