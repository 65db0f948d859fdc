"""A run's events, read as they come: only what is new is read."""

from __future__ import annotations

import json
import time
from collections import deque
from datetime import datetime
from pathlib import Path
from typing import Any

from cluster.records.events import FOLDER
from cluster.storage.root import Root

SHOWN = 200
"""The last so many sentences are kept."""
POINTS = 600
"""Of a stage's history; every second point goes when there are more."""
REMOTE_SECONDS = 15.0
"""How often an object store is asked whether there is another file."""


class EventTail:
    """What a run's events come to.

    Attributes:
        told: the last sentences, oldest first: time, event, stage, message.
        count: how many sentences there were.
        rows: stage -> rows committed by this run.
        history: stage -> unix seconds and rows committed by then, of this run.
    """

    def __init__(self, root: Root, run_id: str) -> None:
        self.root, self.run_id = root, run_id
        self.told: deque[dict[str, Any]] = deque(maxlen=SHOWN)
        self.history: dict[str, tuple[list[float], list[int]]] = {}
        self.count = 0
        self.rows: dict[str, int] = {}
        self._offset = 0
        self._rest = b""
        self._read: set[str] = set()
        self._looked = -REMOTE_SECONDS

    def look(self) -> bool:
        """Read what is new; return whether there was anything."""
        data = self._local() if self.root.is_local else self._remote()
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        for line in lines:
            try:
                event = json.loads(line)
            except ValueError:
                continue  # cut off by a crash
            if isinstance(event, dict):
                self._hear(event)
        return bool(data)

    def _local(self) -> bytes:
        path = Path(self.root.uri("runs", self.run_id, FOLDER, "00000.jsonl"))
        try:
            if path.stat().st_size <= self._offset:
                return b""
            with path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except OSError:
            return b""
        self._offset += len(data)
        return data

    def _remote(self) -> bytes:
        if time.monotonic() - self._looked < REMOTE_SECONDS:
            return b""
        self._looked = time.monotonic()
        fresh = [name for name in self.root.list("runs", self.run_id, FOLDER) if name not in self._read]
        self._read.update(fresh)
        return b"".join(self.root.read_bytes("runs", self.run_id, FOLDER, name) for name in fresh)

    def _hear(self, event: dict[str, Any]) -> None:
        kind, stage = str(event.get("event")), event.get("stage")
        if kind == "commit" and isinstance(stage, str):
            self.rows[stage] = self.rows.get(stage, 0) + int(event.get("rows") or 0)
            times, rows = self.history.setdefault(stage, ([], []))
            times.append(_seconds(str(event.get("time"))))
            rows.append(self.rows[stage])
            if len(times) > POINTS:
                del times[1:-1:2], rows[1:-1:2]
            return
        if kind in ("note", "stage done", "begin", "end", "waiting", "going on", "stalled", "order"):
            self.count += 1
            self.told.append({name: event.get(name) for name in ("time", "event", "stage", "message", "rows", "state")})


def _seconds(moment: str) -> float:
    try:
        return datetime.fromisoformat(moment).timestamp()
    except ValueError:
        return 0.0
