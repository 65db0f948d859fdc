"""A run's events: whole lines, whatever becomes of the disk."""

from __future__ import annotations

import resource
from pathlib import Path

from cluster.records.events import EventLog, read_events
from cluster.storage.root import Root


def test_what_a_full_disk_cut_off_is_written_again(tmp_path: Path) -> None:
    """Once, and in order; the lines before and after stay whole."""
    root, path = Root.at(tmp_path), tmp_path / "runs" / "r" / "events" / "00000.jsonl"
    log = EventLog(root, "r")
    log.add("note", "first")
    log.flush()
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 150, hard))  # no file may be larger, as on a full disk
    try:
        for at in range(5):
            log.add("note", f"second {at} " + "x" * 50)
            log.flush()
        cut = path.read_bytes()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert cut.startswith(before) and cut.endswith(b"\n")
    log.add("note", "third")
    log.flush()
    told = [str(one["message"]).partition(" x")[0] for one in read_events(root, "r")]
    assert told == ["first", *(f"second {at}" for at in range(5)), "third"]
    assert len(path.read_bytes().splitlines()) == len(told)
