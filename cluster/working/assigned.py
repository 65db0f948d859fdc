"""The problems that a sampling worker is asked about: read when they are given to it, forgotten when they are drawn."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl

from cluster.storage.ranges import Ints, Ranges
from cluster.storage.root import Root
from cluster.storage.rows import NumberedRows
from schemas.contract import Columns

BLOCK = 1024
"""Problems are read so many at a time."""
KEPT = 3
"""So many blocks are kept, for the problems in them that are asked for next."""


class AssignedProblems:
    """Rows of problems by number, as long as samples of them are outstanding."""

    def __init__(self, root: Root, rows: NumberedRows, columns: Columns) -> None:
        self._root = root
        self._rows = rows
        self._columns = columns
        self._held: dict[int, dict[str, Any]] = {}
        self._outstanding: Counter[int] = Counter()
        self._blocks: dict[int, pl.DataFrame] = {}
        self._reading = threading.Lock()

    def __getitem__(self, number: int) -> dict[str, Any]:
        return self._held[number]

    async def fetch(self, ranges: Ranges) -> None:
        """Have the problems of some ranges, until as many samples were let go."""
        for number, _, size in ranges:
            self._outstanding[number] += size
        lacking = np.unique(ranges.numbers)
        lacking = lacking[[number not in self._held for number in lacking.tolist()]]
        for numbers in self.blocks(lacking):
            rows = await asyncio.to_thread(self.read, numbers)
            self._held.update(zip(numbers.tolist(), rows.iter_rows(named=True), strict=True))

    def blocks(self, numbers: Ints) -> Iterator[Ints]:
        """Yield sorted numbers in groups that are read at once."""
        if len(numbers):
            yield from np.split(numbers, np.flatnonzero(np.diff(numbers // BLOCK)) + 1)

    def read(self, numbers: Ints) -> pl.DataFrame:
        """Return the rows of some problems of one block, in order."""
        number = int(numbers[0]) // BLOCK
        with self._reading:
            block = self._blocks.pop(number, None)
            if block is None:
                first = number * BLOCK
                block = self._rows.read(self._root, first, first + BLOCK, self._columns)
            self._blocks[number] = block
            while len(self._blocks) > KEPT:
                del self._blocks[next(iter(self._blocks))]
        return block[numbers - number * BLOCK]

    def let_go(self, number: int) -> None:
        """Hear that a sample was drawn, or can't be; with the last one its problem is forgotten."""
        self._outstanding[number] -= 1
        if not self._outstanding[number]:
            del self._outstanding[number], self._held[number]
