"""Files that are cut short, and disks that are full."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable

from cluster.records.reader import find_run
from tests.chaos.conftest import Figures
from tests.chaos.support import FULL, Job, check_same, delayed, ends_within, wait_for

pytestmark = pytest.mark.chaos
FACT = ["problem_key", "sample_index", "completion", "worker"]


def cut(path: Path) -> None:
    """Leave the first half of a file."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_what_is_not_committed_may_be_damaged(tmp_path: Path, figures: Figures) -> None:
    """Parts that no commit names, and parts of a snapshot that has no manifest yet: they are made again."""
    job = Job(tmp_path / "job", n=100, latency=0.02)
    process = job.start()
    wait_for(lambda: job.look() > 100, process)
    slow = delayed(process.pid)
    process.kill()
    process.wait()
    job.look()
    assert job.finish(job.start()) == 0, job.log()
    samples = next((tmp_path / "job/root/samples").iterdir())
    part = next(path for path in samples.glob("*.parquet"))
    (samples / "0123456789abcdef.parquet").write_bytes(part.read_bytes()[:500])
    (samples / "0123456789abcdef.partial").write_bytes(part.read_bytes()[:500])
    damaged = 2
    for folder in (tmp_path / "job/root/snapshots/select").iterdir():
        (folder / "manifest.json").unlink()
        for path in folder.glob("*.parquet"):
            cut(path)
            damaged += 1
    assert job.finish(job.start()) == 0, job.log()
    check_same(job)
    assert job.repeated() <= job.allowed(more_seconds=slow)
    figures |= {"files cut": damaged, "calls repeated": job.repeated()}


@pytest.mark.parametrize("problems", [1, 4], ids=["found by the stage that reads it", "found when the store is opened"])
def test_a_committed_file_is_damaged(tmp_path: Path, figures: Figures, problems: int) -> None:
    """Who must read it hears which file it is; everything else stays as it was, and repair makes its rows again."""
    job = Job(tmp_path / "job", problems=problems, n=400 // problems, latency=0.02)
    assert job.finish(job.start()) == 0, job.log()
    before = job.samples()
    folder = next((tmp_path / "job/root/samples").iterdir())
    files = sorted(Path(path) for path in DeltaTable(folder).file_uris())
    cut(files[0])
    job.verify = {"operator": "verify.exact", "ignore_case": False}
    job.write()
    assert job.finish(job.start()) == 1
    assert f"error: the file {files[0]} can't be read" in job.log()
    assert "Traceback" not in job.log()
    others = pl.read_parquet(files[1:])
    assert others.join(before, on=["problem_key", "sample_index", "worker"], how="anti").is_empty()
    assert job.gristmill("verify-data", "latest", "--repair") == 1, job.log()
    assert job.finish(job.start()) == 0, job.log()
    job.facts = {(key, index): (text, mark) for key, index, text, mark in others.select(FACT).rows()}
    check_same(job)
    lost = len(before) - len(others)
    assert job.repeated() == lost
    figures |= {"rows in the damaged file": lost, "rows elsewhere": len(others), "calls repeated": job.repeated()}


@pytest.fixture(params=[900, *([560, 700, 800, 1000] if FULL else [])], ids=lambda size: f"{size} KiB")
def small_disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with very little room."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = _mount(place, f"size={request.param}k")
    if mounted.returncode:
        pytest.skip(f"mount isn't permitted here: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def _mount(place: Path, options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], capture_output=True, text=True, check=False
    )


def test_a_disk_is_full(small_disk: Path, tmp_path: Path, figures: Figures) -> None:
    """The run ends in good order and can be read; with more room, the same command goes on, and nothing is lost."""
    job = Job(tmp_path / "job", root=str(small_disk / "root"), n=1000, latency=0.01)
    process, slow = job.start(), 0.0
    while not ends_within(process, 0.1):
        job.look()
        slow = max(slow, delayed(process.pid))
    assert process.returncode == 3, job.log()
    lost = job.lost()
    assert "no space is left" in job.log()
    manifest = find_run(job.place, "latest")
    assert manifest.state == "incomplete"
    assert "no space is left" in (manifest.error or "")
    had = len(job.facts)
    assert had < 4 * job.n
    assert job.finish(job.start()) in (0, 3), job.log()  # still no room, unless the little that was freed is enough
    assert job.look() >= had
    assert not _mount(small_disk, "remount,size=64m").returncode
    assert job.finish(job.start()) == 0, job.log()
    check_same(job)
    assert lost <= job.allowed(more_seconds=slow)
    figures |= {"samples when it was full": had, "calls repeated": job.repeated()}
