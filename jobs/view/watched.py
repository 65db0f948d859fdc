"""A run as the view has it: its manifest, the index of its samples, its events, looked at while somebody watches.

One thread looks, once a second as long as somebody asks; everybody else reads what it found. A look at a run where
nothing happened costs a few file times.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from cluster.records.reader import seems_alive
from cluster.storage.root import Root
from cluster.storage.snapshot import MANIFEST
from jobs.view.events import EventTail
from jobs.view.experts import loads
from jobs.view.figures import Answers, accuracy, coverage
from jobs.view.filling import Filler, places_of
from jobs.view.index import Index
from jobs.view.listing import manifest_of
from jobs.view.slots import Places
from schemas.errors import BadInput, GristmillError
from schemas.manifest import StageRecord

Result = TypeVar("Result")

LOOK_SECONDS = 1.0
REMOTE_SECONDS = 1.5
MANIFEST_SECONDS = 5.0
"""How often the manifest of a run on an object store is read again at most."""
IDLE_SECONDS = 15.0
"""Where nobody asked for so long, nobody looks."""
SAVE_SECONDS = 30.0
GROWTH = 400
"""Points of growing figures that are kept; every second one goes when there are more."""
SHARE = 50.0
"""Figures that took t seconds are made again after so many t at the earliest: 2% of a core."""


class Watched:
    """One run, and one of its sampling stages.

    Attributes:
        version: goes up with whatever changed.
        ready: whether the index is filled.
        trouble: why it can't be, in words.
    """

    def __init__(self, root: Root, run_id: str) -> None:
        self.root, self.run_id = root, run_id
        self.manifest = manifest_of(root, run_id)
        self.version = 0
        self.ready = False
        self.trouble = ""
        self.alive = True
        self.events = EventTail(root, run_id)
        self.stage: StageRecord | None = None
        self.index: Index | None = None
        self.places: Places | None = None
        self.filler: Filler | None = None
        self._figures: dict[str, Any] = {}
        self._figures_at = (-1, 0.0, 0.0)
        self.growth: list[dict[str, Any]] = []
        self._cache: dict[str, tuple[int, Any]] = {}
        self._lock = threading.RLock()
        self._asked = self._saved = self._manifest_read = time.monotonic()
        self._stamp: Any = None
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def ask(self) -> None:
        """Say that somebody wants to know."""
        self._asked = time.monotonic()
        with self._lock:
            if not self._closed.is_set() and (self._thread is None or not self._thread.is_alive()):
                self._thread = threading.Thread(target=self._keep_looking, name=f"view {self.run_id}", daemon=True)
                self._thread.start()

    def close(self) -> None:
        self._closed.set()
        if self._thread is not None:
            self._thread.join(timeout=10)
        if self.index is not None:
            self._save()
            self.index.close()

    @property
    def closed(self) -> bool:
        return self._closed.is_set()

    @property
    def going_on(self) -> bool:
        return self.manifest.state == "running" and self.alive

    @property
    def progress(self) -> dict[str, int]:
        return {"done": self.filler.done, "total": self.filler.total} if self.filler else {"done": 0, "total": 0}

    def open(self) -> tuple[Index, Places]:
        """Return the index and its places.

        Raises:
            BadInput: the run has no samples, or they can't be read.
        """
        if self.trouble:
            raise BadInput(self.trouble)
        if self.index is None or self.places is None:
            raise BadInput(f"run {self.run_id} has no stage that samples")
        return self.index, self.places

    @contextmanager
    def still(self) -> Iterator[None]:
        """Learn what is new, then nothing more as long as the context lasts: all that is told is of one moment."""
        with self._lock:
            self.look()
            yield

    def _keep_looking(self) -> None:
        pause = LOOK_SECONDS if self.root.is_local else REMOTE_SECONDS
        while not self._closed.is_set() and time.monotonic() - self._asked < IDLE_SECONDS:
            try:
                self.look()
            except GristmillError as error:
                self._fail(str(error))
            except Exception as error:  # whatever a damaged store makes its readers raise
                self._fail(f"{type(error).__name__}: {error}")
            self._closed.wait(pause if self.going_on else 5 * pause)

    def _fail(self, why: str) -> None:
        if why != self.trouble:
            self.trouble = why
            self.version += 1

    def look(self) -> None:
        """Learn what is new."""
        with self._lock:
            changed = self._look_at_manifest()
            changed |= self.events.look()
            if self.stage is not None and self.index is None:
                self._open()
            if self.filler is not None:
                changed |= self.filler.look()
                if not self.ready or (changed and time.monotonic() - self._saved > SAVE_SECONDS):
                    self._save()
                changed |= not self.ready
                self.ready = True
            elif not self.ready:
                self.ready = changed = True
            self.trouble = ""
            if changed:
                self.version += 1

    def _look_at_manifest(self) -> bool:
        alive = self.manifest.state != "running" or seems_alive(self.root, self.run_id)
        changed = alive != self.alive or self._stamp is None
        stamp = self._stamp_of_manifest(alive != self.alive)
        self.alive = alive
        if stamp != self._stamp:
            self._stamp = stamp
            before, self.manifest = self.manifest, manifest_of(self.root, self.run_id)
            changed |= before != self.manifest
            sampled = [one for one in self.manifest.stages if one.dataset == "samples" and one.kind == "store"]
            stage = sampled[-1] if sampled else None
            known = {one.name: one.view_id for one in before.stages}
            if stage is not None and self.index is not None and known.get(stage.name) != stage.view_id:
                self.index.close()
                self.index = None  # what later stages read was settled anew
            self.stage = stage
        return changed

    def _stamp_of_manifest(self, ended: bool) -> Any:
        """Return another value than before where the manifest may be another one.

        Args:
            ended: whether the run's driver came or went: what it said last is wanted at once.
        """
        if self.root.is_local:
            found = Path(self.root.uri("runs", self.run_id, MANIFEST)).stat()
            return found.st_mtime_ns, found.st_size
        now = time.monotonic()
        if ended or self._stamp is None or now - self._manifest_read > MANIFEST_SECONDS:
            self._manifest_read = now
            return now
        return self._stamp

    def _open(self) -> None:
        assert self.stage is not None
        places = places_of(self.root, self.stage)
        name = f"{self.root.url} {self.run_id} {self.stage.name} {self.stage.view_id}"
        index = Index(name, len(places))
        self.filler = Filler(self.root, self.manifest, self.stage.name, index, places, self._tick)
        self.places, self.index = places, index
        self._cache, self._figures_at = {}, (-1, 0.0, 0.0)

    def _tick(self) -> None:
        self.version += 1
        if self._closed.is_set():
            raise GristmillError("the view was closed")

    def _save(self) -> None:
        assert self.index is not None
        self._saved = time.monotonic()
        self.index.save()

    # -- figures -------------------------------------------------------------------------------------------------

    def answers(self) -> Answers:
        """Return what the answers of each problem come to, as of the last look."""
        index, places = self.open()
        return self.cached("answers", lambda: Answers(index, places))

    def cached(self, name: str, make: Callable[[], Result], once: bool = False) -> Result:
        """Return what ``make`` gives, made again only where something changed since; ``once``: not even then."""
        with self._lock:
            found = self._cache.get(name)
            if found is None or (found[0] != self.version and not once):
                found = self._cache[name] = (self.version, make())
            return found[1]

    @property
    def independent(self) -> bool:
        """Whether rows are independent draws of a number that nothing decided by what came out."""
        assert self.stage is not None
        settings = self.manifest.config.get(self.stage.name, {})
        return self.stage.policy is None and not settings.get("strategy")

    def figures(self) -> dict[str, Any]:
        """Return coverage and the vote's accuracy, made again at most so often that it costs little."""
        version, made, took = self._figures_at
        now = time.monotonic()
        if self.filler is None or version == self.version or (self._figures and now - made < SHARE * took):
            return self._figures
        with self._lock:
            sums = self.filler.tally.sums
            found: dict[str, Any] = {"independent": self.independent, "coverage": [], "vote": None}
            judged, right = sums["judged"], sums["right"]
            found["solved"] = int((right > 0).sum())
            found["judged_problems"] = int((judged > 0).sum())
            if self.independent:
                found["coverage"] = coverage(judged, right)
            found["vote"] = accuracy(self.answers())
            self._figures = found
            self._grow(found)
            self._figures_at = (self.version, now, time.monotonic() - now)
        return found

    def _grow(self, found: dict[str, Any]) -> None:
        """Remember figures by how many samples there were."""
        first = found["coverage"][0] if found["coverage"] else {}
        vote = found["vote"] or {}
        self.growth.append(
            {
                "drawn": self.totals()["drawn"],
                "one": [first.get(name) for name in ("coverage", "low", "high")],
                "vote": [vote.get(name) for name in ("accuracy", "low", "high")],
            }
        )
        if len(self.growth) > GROWTH:
            del self.growth[1:-1:2]

    def experts(self) -> list[dict[str, Any]]:
        """Return how tokens fell on experts, made again only where something changed."""
        return self.cached("experts", lambda: loads(self.manifest))

    def totals(self) -> dict[str, int]:
        """Return sums over all samples that are there."""
        if self.filler is None:
            return {}
        return {name: int(np.sum(values)) for name, values in self.filler.tally.sums.items()}
