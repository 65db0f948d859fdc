"""A root that disappears or becomes read-only under a run: a clean end, exit code 3, nothing begun anew."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cluster.storage.presence import lost
from cluster.storage.root import Root
from schemas.errors import RootLost, StorageFull
from tests.chaos.support import Job, check_same, wait_for
from tests.privileges import as_anybody, read_only


def remove(root: Path) -> None:
    root.rename(root.with_name("elsewhere"))


def replace(root: Path) -> None:
    remove(root)
    root.mkdir()


def lose_the_samples(root: Path) -> None:
    (root / "samples").rename(root / "gone")


@pytest.mark.parametrize(
    ("runner", "lose"),
    [
        ("local", remove),
        ("local", replace),
        ("local", lose_the_samples),
        pytest.param("ray", remove, marks=pytest.mark.ray),
    ],
)
def test_a_root_that_disappears(tmp_path: Path, runner: str, lose: Callable[[Path], None]) -> None:
    job = Job(tmp_path / "job", n=1000, latency=0.05)
    root = tmp_path / "job/root"
    process = job.start(runner)
    wait_for(lambda: job.look() > 20, process)
    lose(root)
    assert job.finish(process, 120.0) == 3, job.log()
    assert "Traceback" not in job.log() and "It is a defect" not in job.log()
    assert "any more" in job.log() or "another folder than before" in job.log()
    assert "the same command goes on" in job.log()
    assert not (root / "samples").exists(), "something was begun anew in its place"
    if root.exists() and not (root / "gone").exists():
        shutil.rmtree(root)
    if root.exists():
        (root / "gone").rename(root / "samples")
    else:
        (tmp_path / "job/elsewhere").rename(root)
    job.n, job.latency = 60, 0.0
    assert job.look() > 20


def test_a_root_that_becomes_read_only(tmp_path: Path) -> None:
    job = Job(tmp_path / "job", n=100, latency=0.05, privileged=False)
    process = job.start()
    wait_for(lambda: job.look() > 20, process)
    with read_only(Path(job.root)):
        assert job.finish(process, 120.0) == 3, job.log()
        assert "can't be written any more" in job.log()
        assert "Traceback" not in job.log() and "It is a defect" not in job.log()
        had = job.look()
    job.latency = 0.0
    job.write()
    assert job.finish(job.start()) == 0, job.log()
    assert had
    check_same(job)


@pytest.mark.parametrize("number", [errno.EROFS, errno.ESTALE, errno.ENOTCONN, errno.EIO])
def test_a_file_system_that_takes_nothing_any_more(tmp_path: Path, number: int) -> None:
    """What the kernel says of one that was mounted read-only, or whose server or disk is gone."""
    root = Root.at(tmp_path / "root")
    root.check_writable()

    def write() -> None:
        raise OSError(number, os.strerror(number))

    with pytest.raises(RootLost, match="can't be written any more"):
        root.patiently(write, "writing")
    assert lost(root.url, RuntimeError(f"Generic LocalFileSystem error: {os.strerror(number)} (os error {number})"))


def test_a_root_that_may_not_be_written(tmp_path: Path) -> None:
    root = Root.at(tmp_path / "root")
    root.check_writable()
    with read_only(tmp_path / "root"):
        raised = as_anybody(lambda: root.write_bytes(b"", "runs", "x"))
    assert isinstance(raised, RootLost) and "can't be written any more" in str(raised)


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MB of its own, where this user may mount one."""
    place = tmp_path / "mounted"
    place.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", "size=8m", "gristmill-test", str(place)]
    if shutil.which("mount") is None or subprocess.run(mounting, capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount a file system")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_a_file_system_that_is_mounted_read_only_under_a_run(mounted: Path, tmp_path: Path) -> None:
    job = Job(tmp_path / "job", root=str(mounted / "root"), n=150, latency=0.05)
    process = job.start()
    wait_for(lambda: job.look() > 20, process)
    wait_for(lambda: _remount(mounted, "ro"), process)  # nothing may be open for writing at that moment
    assert job.finish(process, 120.0) == 3, job.log()
    assert "can't be written any more" in job.log() and "the same command goes on" in job.log()
    assert "Traceback" not in job.log() and "It is a defect" not in job.log()
    assert job.look() > 20
    assert _remount(mounted, "rw")
    job.latency = 0.0
    job.write()
    assert job.finish(job.start()) == 0, job.log()
    check_same(job)


def _remount(place: Path, how: str) -> bool:
    return not subprocess.run(
        ["mount", "-o", f"remount,{how}", str(place)], capture_output=True, check=False
    ).returncode


def test_a_file_system_that_is_full(mounted: Path) -> None:
    """What is written is there whole or not at all, and what the kernel says is said in words."""
    root = Root.at(mounted / "root")
    root.check_writable()
    root.write_bytes(b"before", "runs", "a")
    with pytest.raises(StorageFull, match="no space is left"):
        for number in range(20):
            root.write_bytes(bytes(2**20), "runs", f"large-{number}")
    whole = [path for path in (mounted / "root/runs").iterdir() if path.name.startswith("large")]
    assert {path.stat().st_size for path in whole} == {2**20}
    assert not list((mounted / "root/runs").glob(".*")), "no half of a file is left"
    with pytest.raises(StorageFull, match="no space is left"):
        root.write_bytes(bytes(2**20), "runs", "a")
    assert root.read_bytes("runs", "a") == b"before"
    whole[0].unlink()
    root.write_bytes(b"after", "runs", "a")
    assert root.read_bytes("runs", "a") == b"after"


def test_who_begins_may_begin_anew(tmp_path: Path) -> None:
    """A root that was removed between two runs of one process is simply made again."""
    root = Root.at(tmp_path / "root")
    root.check_writable()
    root.write_bytes(b"1", "a", "b")
    shutil.rmtree(tmp_path / "root")
    with pytest.raises(RootLost, match="isn't there any more"):
        root.write_bytes(b"2", "a", "b")
    root.check_writable()
    root.write_bytes(b"2", "a", "b")
    assert root.read_bytes("a", "b") == b"2"
