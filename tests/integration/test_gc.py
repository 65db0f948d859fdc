"""``gristmill gc``: what nothing names goes, once it is old; what a live run may be reading stays."""

from __future__ import annotations

import json
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable

from cluster.driving.driver import run_pipeline
from cluster.planning.choice import finished_problems
from cluster.records.reader import find_run, manifests
from cluster.records.recorder import RunRecorder, write_manifest
from cluster.records.run import RunResult
from cluster.runners.local import LocalRunner
from cluster.storage.lease import read_lease
from cluster.storage.parts import write_part
from cluster.storage.root import Root
from cluster.storage.store import Store
from cluster.upkeep.garbage import Garbage, collect, store_folders
from cluster.upkeep.retention import drop_samples, to_retire
from cluster.upkeep.verify_data import verify
from schemas.datasets import Sample, Verdict
from schemas.errors import BadInput
from schemas.job import RunSettings
from schemas.schedule import Retention
from tests.commands import gristmill
from tests.s3 import S3Server
from tests.support import QUICK, merge_of, run, scripted_pipeline, write_problems

HERE = Path(__file__).parents[2]


@pytest.fixture
def made(tmp_path: Path) -> RunResult:
    source = write_problems(tmp_path / "p.jsonl", 3)
    run(LocalRunner(), scripted_pipeline(source, 5), tmp_path / "root")
    return run(LocalRunner(), scripted_pipeline(source, 10), tmp_path / "root")


def folder(result: RunResult, name: str) -> str:
    return next(record.path for record in result.manifest.stages if record.name == name)


def age(place: Path, hours: float) -> None:
    """Make a file, or all files of a folder, look as if they were written some hours ago."""
    then = time.time() - 3600 * hours
    for path in [place, *place.rglob("*")] if place.is_dir() else [place]:
        os.utime(path, (then, then))


def everything(root: Root) -> dict[str, int]:
    """Return path -> bytes of all files, but the logs, to which a vacuum adds."""
    home = Path(root.url)
    paths = [path for path in home.rglob("*") if path.is_file() and "_delta_log" not in path.parts]
    return {path.relative_to(home).as_posix(): path.stat().st_size for path in paths}


def removed(found: Garbage) -> set[str]:
    return {path for files in found.files.values() for path in files}


def merge(result: RunResult) -> list[str]:
    """Merge all files of the samples' store into one; return the paths of the old ones."""
    place = folder(result, "sample")
    store = Store(result.root, place, Sample, {})
    store.acquire("merger")
    old = list(store.files)
    assert len(old) > 1
    assert store.replace(old, merge_of(store, old).run().part)
    store.release()
    return [f"{place}/{name}" for name in old]


def orphan(result: RunResult, hours: float) -> str:
    """Write a part that is never committed."""
    place = folder(result, "verify")
    rows = result.dataset("verify").head(2).collect()
    part = write_part(result.root, place, rows, Verdict, "verify")
    age(Path(result.root.uri(place, part.name)), hours)
    return f"{place}/{part.name}"


def live_run(result: RunResult, hours: float) -> RunRecorder:
    """Start what looks like a run that began some hours ago and is alive, and uses the same stores."""
    recorder = RunRecorder(result.root, scripted_pipeline(Path("p"), 1), "local", RunSettings())
    recorder.manifest.started = datetime.now(UTC) - timedelta(hours=hours)
    recorder.manifest.stages = result.manifest.stages
    write_manifest(result.root, recorder.manifest)
    recorder.beat(3600.0)
    return recorder


def test_nothing_goes_that_is_young_or_named(made: RunResult) -> None:
    before = everything(made.root)
    assert removed(collect(made.root)) == set()
    age(Path(made.root.url), 1000)
    assert removed(collect(made.root)) == set()
    assert everything(made.root) == before
    assert verify(made.root, made.manifest).findings == []


def test_an_orphan_goes_once_it_is_old(made: RunResult) -> None:
    young, old = orphan(made, 1), orphan(made, 30)
    sizes = everything(made.root)
    found = collect(made.root)
    assert found.files["store files"] == {old: sizes[old]}
    assert everything(made.root).keys() == sizes.keys() - {old}
    assert removed(collect(made.root, older_than=0.5)) == {young}
    assert made.dataset("verify").collect().height == 30
    assert verify(made.root, made.manifest).findings == []


def test_a_dry_run_says_the_same_and_removes_nothing(made: RunResult) -> None:
    orphan(made, 30)
    snapshot = made.root.uri("snapshots", "select", "unfinished", "part-00000.parquet")
    made.root.write_bytes(b"part", "snapshots", "select", "unfinished", "part-00000.parquet")
    age(Path(snapshot).parent, 30)
    before = everything(made.root)
    versions = [DeltaTable(made.root.uri(place)).version() for place in store_folders(made.root)]
    said = collect(made.root, dry_run=True)
    assert everything(made.root) == before
    assert [DeltaTable(made.root.uri(place)).version() for place in store_folders(made.root)] == versions
    assert removed(said) == removed(collect(made.root)) == before.keys() - everything(made.root).keys()
    assert len(removed(said)) == 2


def test_what_a_live_run_could_be_reading_stays(made: RunResult) -> None:
    recorder = live_run(made, hours=3)
    old = merge(made)
    late = orphan(made, 2)
    early = orphan(made, 30)
    assert removed(collect(made.root, older_than=0)) == {early}
    assert all(Path(made.root.uri(path)).exists() for path in [*old, late])
    recorder.manifest.state = "done"
    recorder.end()
    assert removed(collect(made.root, older_than=0)) == {*old, late}
    assert made.dataset("sample").collect().height == 30
    assert verify(made.root, made.manifest).findings == []


def test_a_dead_run_holds_nothing_back(made: RunResult) -> None:
    recorder = live_run(made, hours=3)
    recorder.beat(-1.0)  # its heart stopped, and nobody wrote its last manifest
    late = orphan(made, 2)
    assert removed(collect(made.root, older_than=1)) == {late}


def test_a_run_that_is_alive_for_longer_than_the_log_remembers_holds_stores_back(made: RunResult) -> None:
    live_run(made, hours=24 * 8)
    orphan(made, 24 * 9)
    found = collect(made.root)
    assert removed(found) == set()
    assert len(found.spared) == 2
    assert "a run is alive" in found.spared[0]


def test_a_store_that_somebody_unknown_is_writing_is_left_alone(made: RunResult) -> None:
    store = Store(made.root, folder(made, "verify"), Verdict, {})
    store.acquire("planning")
    old = orphan(made, 30)
    found = collect(made.root)
    assert removed(found) == set()
    assert "run planning" in found.spared[0]
    store.release()
    assert removed(collect(made.root)) == {old}


def test_vacuum_spares_the_log_and_the_lease(made: RunResult) -> None:
    orphan(made, 30)
    home = Path(made.root.url)
    age(home, 1000)
    logs = {path for path in home.rglob("*") if "_delta_log" in path.parts}
    collect(made.root, older_than=0)
    assert all(path.exists() for path in logs)
    for place in store_folders(made.root):
        lease = read_lease(made.root, place)
        assert lease is not None and lease.released


def test_leftovers_of_crashes_go(made: RunResult) -> None:
    home = Path(made.root.url)
    in_store, in_snapshot = home / folder(made, "sample"), home / folder(made, "select")
    for place in (in_store, in_snapshot):
        (place / "old.partial").write_bytes(b"12345")
        age(place / "old.partial", 30)
        (place / "young.partial").write_bytes(b"12345")
    found = collect(made.root)
    assert found.size("partial files") == 10
    assert removed(found) == {f"{folder(made, name)}/old.partial" for name in ("sample", "select")}
    assert (in_store / "young.partial").exists() and (in_snapshot / "young.partial").exists()
    assert made.dataset("select").collect().height == 3


def test_snapshots_that_nobody_finished_or_names_go(made: RunResult) -> None:
    home, select = Path(made.root.url), Path(folder(made, "select"))
    for name, hours in (("unfinished", 30), ("unfinished-young", 1), ("unnamed", 30), ("unnamed-young", 1)):
        place = home / select.parent / name
        place.mkdir()
        for path in (home / select).iterdir():
            (place / path.name).write_bytes(path.read_bytes())
        if name.startswith("unfinished"):
            (place / "manifest.json").unlink()
        age(place, hours)
    found = collect(made.root)
    assert found.count("incomplete snapshots") == 1
    assert found.count("unnamed snapshots") == 2
    left = {path.name for path in (home / select.parent).iterdir()}
    assert {"unfinished-young", "unnamed-young", select.name} <= left
    assert not {"unfinished", "unnamed"} & left


def test_an_unfinished_snapshot_of_a_live_run_stays(made: RunResult) -> None:
    place = Path(made.root.uri(folder(made, "select")))
    recorder = live_run(made, hours=1)
    (place / "manifest.json").unlink()
    age(place, 30)
    assert removed(collect(made.root)) == set()
    recorder.manifest.state = "interrupted"
    recorder.end()
    assert removed(collect(made.root)) == {f"{folder(made, 'select')}/part-00000.parquet"}


def test_the_command(made: RunResult, tmp_path: Path) -> None:
    old = orphan(made, 30)
    size = Path(made.root.uri(old)).stat().st_size

    def gc(*arguments: str) -> Any:
        return gristmill("gc", "--root", made.root.url, *arguments, cwd=tmp_path)

    said = gc("--dry-run")
    assert said.returncode == 0, said.stderr
    assert said.stdout.startswith("Would remove")
    assert f"store files: 1 files, {size:,} bytes" in said.stdout
    document = json.loads(gc("--older-than", "24", "--json").stdout)
    assert document["paths"] == [old]
    assert document["store files"] == {"files": 1, "bytes": size}
    assert not Path(made.root.uri(old)).exists()
    assert gc("--older-than", "-1").returncode == 2


@pytest.mark.s3
def test_a_root_on_s3_is_cleaned(s3: S3Server, tmp_path: Path) -> None:
    source = write_problems(tmp_path / "p.jsonl", 3)
    for n in (5, 10):
        result = run_pipeline(scripted_pipeline(source, n), LocalRunner(), s3.root("gc"), QUICK)
    root, place = Root.at(s3.root("gc")), folder(result, "verify")
    part = write_part(root, place, result.dataset("verify").head(2).collect(), Verdict, "verify")
    root.write_bytes(b"part", "snapshots", "select", "unfinished", "part-00000.parquet")
    assert removed(collect(root)) == set()
    time.sleep(1.1)  # the server's times are whole seconds
    gone = {f"{place}/{part.name}", "snapshots/select/unfinished/part-00000.parquet"}
    assert removed(collect(root, older_than=0, dry_run=True)) == gone
    assert removed(collect(root, older_than=0)) == gone
    assert not any(root.exists(path) for path in gone)
    assert verify(root, find_run(root, "latest")).findings == []
    assert result.dataset("sample").collect().height == 30


def test_runs_are_retired_by_rule_and_what_they_finished_stays_known(tmp_path: Path) -> None:
    """Their logs, reports and results go; samples, problems, spending stay, and so does what a kept run names."""
    source = write_problems(tmp_path / "p.jsonl", 3)
    results = [run(LocalRunner(), scripted_pipeline(source, n), tmp_path / "root") for n in (2, 3, 3)]
    root = results[0].root
    runs = list(manifests(root))
    now = datetime.now(UTC)
    assert to_retire(root, runs, Retention(runs=1), now) == [runs[1].run_id, runs[2].run_id]
    assert to_retire(root, runs, Retention(days=1), now) == []
    assert to_retire(root, runs, Retention(runs=2, days=1), now + timedelta(days=2)) == [runs[2].run_id]
    retired = to_retire(root, runs, Retention(runs=1), now)
    before = {str(path) for path in Path(root.url).rglob("*") if path.is_file()}
    planned = collect(root, 0.0, dry_run=True, retired=retired)
    assert before == {str(path) for path in Path(root.url).rglob("*") if path.is_file()}
    done = collect(root, 0.0, retired=retired)
    assert done.files["unnamed snapshots"] == planned.files["unnamed snapshots"] != {}
    assert done.count("logs of retired runs") == 2
    first, latest = results[0].manifest, results[2]
    for record in first.stages:
        if record.kind == "snapshot" and record.dataset != "problems":
            assert not root.exists(record.path)  # n = 2 is only its own
    assert latest.dataset("select").collect().height == 3
    assert len(finished_problems(root, [find_run(root, first.run_id)])) == 3
    assert find_run(root, first.run_id).retired is not None
    assert to_retire(root, list(manifests(root)), Retention(runs=1), now) == []
    again = run(LocalRunner(), scripted_pipeline(source, 2), tmp_path / "root")
    record = {one.name: one for one in again.manifest.stages}
    assert (record["sample"].reused, record["select"].computed) == (6, 3)


def test_paid_samples_go_only_by_name(tmp_path: Path) -> None:
    source = write_problems(tmp_path / "p.jsonl", 2)
    made = run(LocalRunner(), scripted_pipeline(source, 2), tmp_path / "root")
    kept = run(LocalRunner(), scripted_pipeline(source, 2, model="other"), tmp_path / "root")
    name = made.manifest.stages[1].path.split("/")[1]
    with pytest.raises(BadInput, match="no samples 'x'"):
        drop_samples(made.root, "x", dry_run=False)
    sizes, runs = drop_samples(made.root, name, dry_run=True)
    assert sorted(folder.split("/")[0] for folder in sizes) == ["samples", "verdicts"]
    assert runs == [made.manifest.run_id]
    assert made.dataset("sample").collect().height == 4
    done = gristmill("gc", "--root", made.root.url, "--samples", name, "--json", cwd=tmp_path)
    assert json.loads(done.stdout)["samples"][name]["runs"] == [made.manifest.run_id], done.stderr
    assert made.dataset("sample").collect().height == 0
    assert kept.dataset("sample").collect().height == 4
