"""Thresholds of confidence, learnt from a problem's first samples, and the samples that wait for them.

A sample behind the warm-up isn't drawn before the threshold is known, so its text never depends on who was first. It
waits here while others are drawn. The warm-up may lie in the store already, or be another worker's: what became a fact
is read from there.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection

import polars as pl
from deltalake.exceptions import DeltaError

from cluster.storage.delta import scan_store
from cluster.storage.root import Root
from operators.sample.sampling import ConfidenceCut
from schemas.datasets import Sample
from schemas.errors import GristmillError

PATIENCE = 120.0
"""Seconds without a new sample of a warm-up after which the threshold is made of those that are there."""


class WarmUps:
    """The warm-ups of a sampling stage's problems, as one worker knows them."""

    def __init__(self, cut: ConfidenceCut, root: Root, folder: str) -> None:
        self.cut = cut
        self._root = root
        self._folder = folder
        self._lowest: dict[int, dict[int, float | None]] = {}
        self._thresholds: dict[int, float | None] = {}
        self._held: dict[int, list[int]] = {}
        self._keys: dict[int, str] = {}
        """Of problems of which samples are held."""
        self._changed: dict[int, float] = {}

    def ready(self, number: int, index: int, key: str) -> bool:
        """Whether a sample of a problem can be drawn; if it can't yet, it is held."""
        if index < self.cut.warm_up or number in self._thresholds:
            return True
        self._held.setdefault(number, []).append(index)
        self._keys[number] = key
        self._changed.setdefault(number, time.monotonic())
        return False

    def drop(self) -> list[tuple[int, int]]:
        """Hold nothing any more; return what was held."""
        held, self._held = self._held, {}
        return [(number, index) for number, indices in held.items() for index in indices]

    def threshold(self, number: int, index: int) -> float | None:
        """Return below which confidence a sample is cut; None: it isn't."""
        return None if index < self.cut.warm_up else self._thresholds.get(number)

    def on_drawn(self, number: int, index: int, lowest: float | None) -> list[tuple[int, int]]:
        """Note a sample (or that it failed); return those that can be drawn now."""
        if index >= self.cut.warm_up or number in self._thresholds:
            return []
        self._lowest.setdefault(number, {})[index] = lowest
        self._changed[number] = time.monotonic()
        return self._settle(number) if len(self._lowest[number]) >= self.cut.warm_up else []

    async def look(self) -> list[tuple[int, int]]:
        """Read the warm-ups of held samples from the store; return those that can be drawn now."""
        waiting = {key: number for number, key in self._keys.items()}
        if not waiting:
            return []
        for key, index, lowest in await asyncio.to_thread(self._committed, waiting.keys()):
            number = waiting[key]
            if number in self._held and index not in self._lowest.get(number, {}):
                self._lowest.setdefault(number, {})[index] = lowest
                self._changed[number] = time.monotonic()
        free: list[tuple[int, int]] = []
        for number in self._held.keys() & waiting.values():
            late = time.monotonic() - self._changed[number] > PATIENCE
            if late or len(self._lowest.get(number, {})) >= self.cut.warm_up:
                free += self._settle(number)
        return free

    def _committed(self, keys: Collection[str]) -> list[tuple[str, int, float | None]]:
        try:
            rows = scan_store(self._root, self._folder, Sample)
            wanted = pl.col("problem_key").is_in(list(keys)) & (pl.col("sample_index") < self.cut.warm_up)
            return rows.filter(wanted).select("problem_key", "sample_index", "lowest_group_confidence").collect().rows()
        except (GristmillError, DeltaError, OSError, pl.exceptions.PolarsError):
            # nothing is committed yet, or a file was merged into another one: it is looked at again
            return []

    def _settle(self, number: int) -> list[tuple[int, int]]:
        self._thresholds[number] = self.cut.threshold(self._lowest.pop(number, {}).values())
        self._changed.pop(number, None)
        self._keys.pop(number, None)
        return [(number, index) for index in self._held.pop(number, [])]
