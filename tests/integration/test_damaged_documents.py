"""A damaged manifest concerns its own run: it is named, and all others can be looked at, resumed and cleaned up."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.records.reader import damaged_runs, find_run, manifests
from cluster.records.run import RunResult
from cluster.runners.local import LocalRunner
from cluster.storage import documents
from cluster.storage.numbering import Numbering
from cluster.storage.root import Root
from cluster.upkeep.garbage import collect
from cluster.upkeep.verify_file import Expected, check_file
from jobs.looking.catalogue import Catalogue
from jobs.looking.samples import sample_rows
from jobs.running.summary import document
from jobs.submit.submission import submissions
from schemas.errors import DamagedFile
from tests.support import run, scripted_pipeline, stage, write_problems

DAMAGE = {"zeros": b"\0" * 64, "half": None, "list": b"[]", "bytes": b"\xff\xfe{"}


@pytest.fixture
def root(tmp_path: Path) -> Iterator[tuple[Root, RunResult, RunResult]]:
    """A root with a run of 3 samples a problem and a later one of 5."""
    documents._told.clear()
    source = write_problems(tmp_path / "p.jsonl", 4)
    first, second = (run(LocalRunner(), scripted_pipeline(source, n), tmp_path / "root") for n in (3, 5))
    yield Root.at(tmp_path / "root"), first, second


def spoil(path: Path, how: str) -> None:
    data = path.read_bytes()
    if how == "a folder":
        path.unlink()
        path.mkdir()
        return
    path.write_bytes(DAMAGE[how] if DAMAGE[how] is not None else data[: len(data) // 2])


@pytest.mark.parametrize("how", [*DAMAGE, "a folder"])
def test_a_runs_manifest(root: tuple[Root, RunResult, RunResult], how: str, caplog: pytest.LogCaptureFixture) -> None:
    place, first, second = root
    path = Path(place.uri("runs", first.manifest.run_id, "manifest.json"))
    spoil(path, how)
    snapshots = sorted(Path(place.uri("snapshots")).rglob("*.parquet"))
    with caplog.at_level(logging.WARNING):
        assert [manifest.run_id for manifest in manifests(place)] == [second.manifest.run_id]
        assert find_run(place, "latest").run_id == second.manifest.run_id
        assert damaged_runs(place, [second.manifest]) == [first.manifest.run_id]
        catalogue = Catalogue(place)
        catalogue.sync()
        assert [found.run_id for found in catalogue.runs()] == [second.manifest.run_id]
        catalogue.close()
        garbage = collect(place, older_than=0.0)
    assert any("is damaged, so all results stay" in text for text in garbage.spared)
    assert sorted(Path(place.uri("snapshots")).rglob("*.parquet")) == snapshots
    [told] = [record.message for record in caplog.records if "damaged" in record.message]
    assert str(path) in told and "Restore the file from a copy" in told


@pytest.mark.parametrize("how", DAMAGE)
def test_a_snapshots_manifest_is_made_again(
    root: tuple[Root, RunResult, RunResult], how: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place, _, second = root
    [record] = [record for record in second.manifest.stages if record.name == "select"]
    spoil(Path(place.uri(record.path, "manifest.json")), how)
    with caplog.at_level(logging.WARNING):
        assert second.dataset("select").collect().is_empty()
        again = run(LocalRunner(), scripted_pipeline(tmp_path / "p.jsonl", 5), tmp_path / "root")
    assert again.manifest.state == "done"
    assert stage(again, "sample")["computed"] == 0
    assert len(again.dataset("select").collect()) == 4
    assert "makes" not in caplog.text and "can be made again" in caplog.text


@pytest.mark.parametrize("left", [0, 1, 0.5, -1], ids=["empty", "a byte", "half", "without its last byte"])
def test_a_file_of_samples_is_named_and_the_run_is_shown(
    root: tuple[Root, RunResult, RunResult], left: float, caplog: pytest.LogCaptureFixture
) -> None:
    place, _, second = root
    [record] = [record for record in second.manifest.stages if record.name == "sample"]
    paths = sorted(Path(place.uri(record.path)).glob("*.parquet"))
    data = paths[0].read_bytes()
    paths[0].write_bytes(data[: int(left * len(data)) if isinstance(left, float) else int(left)])
    with caplog.at_level(logging.WARNING):
        shown = document(place, second.manifest)
    assert shown["state"] == "done" and shown["refused"] == []
    [told] = [record.message for record in caplog.records if "damaged" in record.message]
    assert str(paths[0]) in told and "--repair" in told
    with pytest.raises(DamagedFile, match=paths[0].name):
        sample_rows(place, second.manifest, None, None, 20)


def test_a_part_that_is_a_link_to_itself_is_found(root: tuple[Root, RunResult, RunResult]) -> None:
    place = root[0]
    [part, *_] = sorted(Path(place.uri("snapshots")).rglob("*.parquet"))
    part.unlink()
    part.symlink_to(part)
    folder = str(part.parent.relative_to(place.url))
    expected = Expected("load", folder, part.name, None, None, None, in_store=False)
    check = check_file(place, expected, Numbering())
    assert [finding.what for finding in check.findings] == ["can't be looked at: Too many levels of symbolic links"]


def test_a_submission(root: tuple[Root, RunResult, RunResult], caplog: pytest.LogCaptureFixture) -> None:
    place, _, _ = root
    place.write_bytes(b"{", "submissions", "broken", "submission.json")
    assert submissions(place) == []
    assert "broken/submission.json" in caplog.text
