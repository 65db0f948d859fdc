"""A store's log that isn't whole is named, blocks nothing else, is mended, and is never taken for an empty store."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from deltalake import DeltaTable

from cluster.records.run import RunResult
from cluster.runners.local import LocalRunner
from cluster.storage.delta import open_table
from cluster.storage.delta_log import LOG, check_log, find_damage
from cluster.storage.root import Root
from cluster.upkeep.garbage import collect
from cluster.upkeep.mend_log import mend_log
from operators.sample.sampling import Sampling
from schemas.errors import DamagedLog
from schemas.manifest import RunManifest
from tests.damage import again, check, files, make, mend, record, said, texts
from tests.support import run, scripted_pipeline, stage, write_problems

Damage = Callable[[list[Path]], None]


@pytest.fixture(scope="module")
def pattern(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunManifest]:
    folder = tmp_path_factory.mktemp("pattern")
    return folder / "root", make(folder).manifest


@pytest.fixture
def made(pattern: tuple[Path, RunManifest], tmp_path: Path) -> RunResult:
    shutil.copytree(pattern[0], tmp_path / "root")
    return RunResult(pattern[1], Root.at(tmp_path / "root"))


def log_of(result: RunResult, name: str = "sample") -> Path:
    return Path(result.root.uri(record(result, name).path, LOG))


def entries(log: Path) -> list[Path]:
    return sorted(log.glob("*.json"))


def last_that_adds(found: list[Path]) -> int:
    """Return which entry is the last with rows; those after it only say who writes."""
    return max(place for place, path in enumerate(found) if '"add"' in path.read_text())


def end_with_rows(log: Path) -> list[Path]:
    """Take off what follows the last entry with rows, as a power cut would have found it."""
    found = entries(log)
    keep = last_that_adds(found)
    for path in found[keep + 1 :]:
        path.unlink()
    return found[: keep + 1]


def first_line(path: Path) -> bytes:
    return path.read_bytes().split(b"\n")[0] + b"\n"


LAST: dict[str, Damage] = {
    "empty": lambda found: found[-1].write_bytes(b"") and None,
    "zeros": lambda found: found[-1].write_bytes(bytes(found[-1].stat().st_size)) and None,
    "cut in a line": lambda found: found[-1].write_bytes(found[-1].read_bytes()[:-20]) and None,
    "cut between lines": lambda found: found[-1].write_bytes(first_line(found[-1])) and None,
}
ANY: dict[str, Damage] = {
    "missing in the middle": lambda found: found[1].unlink(),
    "empty in the middle": lambda found: found[1].write_bytes(b"") and None,
    "without its first": lambda found: found[0].unlink(),
    "first empty": lambda found: found[0].write_bytes(b"") and None,
    "all gone": lambda found: [path.unlink() for path in found] and None,
}


@pytest.mark.parametrize("how", [*LAST, *ANY])
def test_a_damaged_log_is_named_and_mended_without_a_loss(made: RunResult, how: str) -> None:
    before, folder = texts(made), record(made, "sample").path
    (LAST | ANY)[how](end_with_rows(log_of(made)))
    with pytest.raises(DamagedLog, match=f"{LOG}.*verify-data RUN --repair") as caught:
        open_table(made.root, folder)
    assert folder in str(caught.value)
    done = "\n".join(mend_log(made.root, folder, "test"))
    assert "set aside" in done or "made anew" in done
    assert find_damage(made.root, folder, thorough=True) is None
    assert texts(made) == before


@pytest.mark.parametrize(("name", "how"), [("sample", "empty"), ("verify", "all gone")])
def test_a_run_is_told_of_a_damaged_log_and_goes_on_once_it_is_mended(
    made: RunResult, tmp_path: Path, name: str, how: str
) -> None:
    before = texts(made)
    (LAST | ANY)[how](end_with_rows(log_of(made, name)))
    with pytest.raises(DamagedLog, match=f"{LOG}.*verify-data RUN --repair") as caught:
        again(tmp_path)
    assert record(made, name).path in str(caught.value)
    assert "isn't whole" in said(check(made))
    mend(made)
    after = again(tmp_path)
    assert stage(after, "sample")["computed"] == stage(after, "verify")["computed"] == 0
    assert texts(after) == before
    assert check(after).findings == []


def test_rows_whose_files_are_lost_too_are_drawn_again_and_judged_again(made: RunResult, tmp_path: Path) -> None:
    before = texts(made)
    found = end_with_rows(log_of(made))
    lost = {json.loads(line)["add"]["path"] for line in found[-1].read_text().splitlines() if "add" in json.loads(line)}
    assert lost
    folder = log_of(made).parent
    for name in lost:
        (folder / name).unlink()
    found[-1].write_bytes(b"")
    mend(made)
    kept = texts(made)
    assert kept.keys() < before.keys()
    assert kept.items() <= before.items()
    after = again(tmp_path)
    assert stage(after, "sample")["computed"] == stage(after, "verify")["computed"] == len(before) - len(kept)
    assert check(after).findings == []


def test_what_files_say_differently_is_left_out(made: RunResult, tmp_path: Path) -> None:
    """Two drivers drew the same samples and one commit was lost: nobody can tell whose it was."""
    (tmp_path / "other").mkdir()
    other = make(tmp_path / "other")
    found = end_with_rows(log_of(made))
    before = texts(made)
    path = files(made, "sample")[0]
    strange = files(other, "sample")[0]
    (path.parent / strange.name).write_bytes(strange.read_bytes())
    for one in found:
        one.unlink()
    done = "\n".join(mend(made))
    assert "left out, of which files say different things" in done
    assert texts(made).items() <= before.items()
    after = again(tmp_path)
    assert after.manifest.state == "done"
    assert check(after).findings == []


@pytest.mark.parametrize("hint", [b'{"version":99,"size":1}', b"", b"{"])
def test_a_hint_that_names_no_checkpoint(made: RunResult, hint: bytes) -> None:
    before = texts(made)
    (log_of(made) / "_last_checkpoint").write_bytes(hint)
    if hint.endswith(b"1}"):
        with pytest.raises(DamagedLog, match="_last_checkpoint names the checkpoint 99"):
            texts(made)
        mend_log(made.root, record(made, "sample").path, "test")
    assert texts(made) == before


@pytest.mark.parametrize("entries_too", [False, True])
@pytest.mark.parametrize("left", [0, 50], ids=["empty", "cut"])
def test_a_damaged_checkpoint(made: RunResult, entries_too: bool, left: int) -> None:
    before, log = texts(made), log_of(made)
    DeltaTable(log.parent).create_checkpoint()
    [checkpoint] = log.glob("*.parquet")
    checkpoint.write_bytes(checkpoint.read_bytes()[:left])
    if entries_too:
        for path in entries(log)[:2]:
            path.unlink()
    folder = record(made, "sample").path
    with pytest.raises(DamagedLog, match="checkpoint"):
        check_log(made.root, folder, thorough=True)
    mend_log(made.root, folder, "test")
    assert texts(made) == before


def test_other_stores_go_on(made: RunResult, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    end_with_rows(log_of(made))[-1].write_bytes(b"")
    source = write_problems(tmp_path / "p.jsonl", 4)
    with caplog.at_level(logging.WARNING):
        other = run(LocalRunner(), scripted_pipeline(source, 3, Sampling(seed=7)), tmp_path / "root")
    assert other.manifest.state == "done"
    spared = collect(Root.at(tmp_path / "root"), older_than=0.0).spared
    assert any(record(made, "sample").path in text and "is empty" in text for text in spared)
    mend(made)
    assert stage(again(tmp_path), "sample")["computed"] == 0
