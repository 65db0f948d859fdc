"""What happened in a run, as structured lines: time, run, event, message, and where they apply stage and part.

They are JSON lines under the run's folder (``events/00000.jsonl``, ...): one file that grows on a local root, one file
a minute on an object store. With ``GRISTMILL_LOG=json`` in the environment they also go to standard error, for
whatever collects the output of a job.
"""

from __future__ import annotations

import errno
import json
import os
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cluster.storage.root import Root
from schemas.errors import GristmillError
from schemas.redaction import redacted

FOLDER = "events"
REMOTE_SECONDS = 60.0
"""How often a file is written to an object store, which can't append."""
LOG = "GRISTMILL_LOG"


def echoes() -> bool:
    """Whether events also go to standard error."""
    return os.environ.get(LOG, "").lower() == "json"


class EventLog:
    """One run's events."""

    def __init__(self, root: Root, run_id: str) -> None:
        self.root = root
        self.run_id = run_id
        self._lines: list[str] = []
        self._files = 0
        self._written = time.monotonic()

    def add(self, event: str, message: str = "", **figures: Any) -> None:
        """Note something: ``commit``, ``stage done``, ``note``, ``stalled``... ; figures that are None are left out."""
        line = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "run": self.run_id,
            "event": event,
            **{name: value for name, value in figures.items() if value is not None},
            **({"message": message} if message else {}),
        }
        text = json.dumps(redacted(line), ensure_ascii=False, default=str) + "\n"
        self._lines.append(text)
        if echoes():
            sys.stderr.write(text)

    def flush(self, now: bool = True) -> None:
        """Write what waits; if not ``now``, only where it is time to. A log that can't be written stops no run."""
        if not self._lines or not (now or self.root.is_local or time.monotonic() - self._written >= REMOTE_SECONDS):
            return
        data = "".join(self._lines)
        try:
            if self.root.is_local:
                self.root.check_there()
                path = Path(self.root.uri("runs", self.run_id, FOLDER, "00000.jsonl"))
                path.parent.mkdir(parents=True, exist_ok=True)
                _append(path, data.encode())
            else:
                self.root.write_bytes(data.encode(), "runs", self.run_id, FOLDER, f"{self._files:05}.jsonl")
        except (OSError, GristmillError):
            return
        self._files += 1
        self._lines.clear()
        self._written = time.monotonic()


def _append(path: Path, data: bytes) -> None:
    """Add whole lines to a file, or nothing: what a full disk cut off is taken back, and written again later."""
    with path.open("ab", buffering=0) as file:
        before = file.tell()
        try:
            written = file.write(data)
            if written != len(data):
                raise OSError(errno.ENOSPC, "a line was cut off")
        except OSError:
            file.truncate(before)
            raise


def read_events(root: Root, run_id: str) -> Iterator[dict[str, Any]]:
    """Yield the events of a run, in order; a line that was cut off by a crash is left out."""
    for name in root.list("runs", run_id, FOLDER):
        for line in root.read_bytes("runs", run_id, FOLDER, name).decode(errors="replace").splitlines():
            try:
                yield json.loads(line)
            except ValueError:
                continue
