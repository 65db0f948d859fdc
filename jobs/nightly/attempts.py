"""The journal of a schedule: one record for each time a night was tried, left out or found to have nothing to do.

Records are numbered and made by conditional writes, so of two processes that see the same night due one gets it. While
one is being worked on, its lease is renewed; a record whose process is gone is a night that was cut off.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from typing import Any, Literal

from pydantic import BaseModel

from cluster.storage.lease import LEASE_SECONDS, Lease, watch
from cluster.storage.root import Root
from jobs.config.calendar import Night
from schemas.errors import GristmillError
from schemas.manifest import Spending
from schemas.redaction import redacted

FOLDER = "nightly"
LATEST = "latest.json"
RECORD = "night.json"

State = Literal[
    "running",
    "done",
    "budget reached",
    "nothing new",
    "missed",
    "unaffordable",
    "gate",
    "failed",
    "interrupted",
    "cut off",
]
OVER = ("done", "budget reached", "nothing new", "missed", "unaffordable", "gate")
"""Such a night isn't tried again. One that failed at its gate would only spend more on the same fault."""
COMPLETE = ("done", "budget reached")
"""Such a night has a dataset."""


class Attempt(BaseModel):
    """One record of the journal.

    Attributes:
        at: when the night was due.
        problems: how many it took.
        datasets: stage -> address.
    """

    number: int
    day: date
    at: datetime
    state: State
    started: datetime
    finished: datetime | None = None
    run_id: str | None = None
    error: str | None = None
    problems: int = 0
    datasets: dict[str, str] = {}
    exports: dict[str, str] = {}
    spent: Spending | None = None
    lease: Lease | None = None

    @property
    def over(self) -> bool:
        return self.state in OVER

    @property
    def complete(self) -> bool:
        return self.state in COMPLETE

    @property
    def live(self) -> bool:
        """Whether a process is at it."""
        return self.state == "running" and self.lease is not None and self.lease.alive()


class Journal:
    """The records of one schedule, under ``nightly/{name}/attempts``."""

    def __init__(self, root: Root, name: str) -> None:
        self.root = root
        self.name = name
        self._ended: dict[str, Attempt] = {}
        """Records that nobody changes any more, by their files' names."""

    @property
    def folder(self) -> str:
        return f"{FOLDER}/{self.name}"

    def read(self) -> list[Attempt]:
        """Return all records in order; what was left running by a process that is gone is ``cut off``."""
        folder = f"{self.folder}/attempts"
        found: list[Attempt] = []
        for name in self.root.list(folder):
            one = self._ended.get(name) or self._record(name)
            if one.state == "running":
                watch(lambda name=name: self._record(name).lease)
                one = self._record(name)
            if one.state != "running":
                self._ended[name] = one
            found.append(one)
        return [
            one.model_copy(update={"state": "cut off"}) if one.state == "running" and not one.live else one
            for one in sorted(found, key=lambda one: one.number)
        ]

    def _record(self, name: str) -> Attempt:
        return Attempt.model_validate_json(self.root.read_bytes(f"{self.folder}/attempts", name))

    def claim(self, night: Night, now: datetime, known: Sequence[Attempt], state: State = "running") -> Attempt | None:
        """Make the next record; None where another process made it first."""
        number = known[-1].number + 1 if known else 1
        made = Attempt(number=number, day=night.day, at=night.at, state=state, started=now)
        if state == "running":
            made.lease = Lease.of(f"{self.name}/{night.day}", number, LEASE_SECONDS)
        else:
            made.finished = now
        return made if self.root.create(self._data(made), *self._place(made)) else None

    def write(self, attempt: Attempt) -> None:
        """Write a record anew."""
        self.root.write_bytes(self._data(attempt), *self._place(attempt))

    @contextmanager
    def held(self, attempt: Attempt) -> Iterator[None]:
        """Renew a record's lease meanwhile."""
        done = threading.Event()

        def renew() -> None:
            while not done.wait(LEASE_SECONDS / 4):
                lease = Lease.of(f"{self.name}/{attempt.day}", attempt.number, LEASE_SECONDS)
                try:
                    self.write(attempt.model_copy(update={"lease": lease}))
                except GristmillError:  # storage that is away: the run itself says so
                    continue

        thread = threading.Thread(target=renew, name="gristmill-night", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def publish(self, attempt: Attempt, known: Sequence[Attempt]) -> None:
        """Make a complete night's dataset findable: by its date, and as the latest if none is later."""
        record = self._public(attempt)
        self.root.write_bytes(record, self.folder, str(attempt.day), RECORD)
        if all(other.day <= attempt.day for other in known if other.complete):
            self.root.write_bytes(record, self.folder, LATEST)

    def latest(self) -> dict[str, Any] | None:
        """Return the record of the last complete night; None before there is one."""
        return self.root.read_json(self.folder, LATEST) if self.root.exists(self.folder, LATEST) else None

    def _public(self, attempt: Attempt) -> bytes:
        return _text(attempt.model_dump(mode="json", exclude={"lease", "number"}))

    def _data(self, attempt: Attempt) -> bytes:
        return _text(attempt.model_dump(mode="json"))

    def _place(self, attempt: Attempt) -> tuple[str, ...]:
        return self.folder, "attempts", f"{attempt.number:06}.json"


def _text(document: dict[str, Any]) -> bytes:
    return json.dumps(redacted(document), indent=2, ensure_ascii=False).encode()
