"""Outgoing: the rows of one worker on their way to the store.

They are flushed to a part when there are enough of them, or when the oldest has waited ``flush_seconds`` (the first
ones sooner): that bounds what a crash can cost. No more than ``BUFFERS`` parts' worth of rows are ever held.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine
from typing import Any

import polars as pl

from cluster.storage.delta import calls_folder
from cluster.storage.parts import write_part
from cluster.storage.root import Root
from cluster.working.reports import Report
from cluster.working.unproven import Unproven
from cluster.working.writing import DrawnRows, Row, write_samples
from schemas import datasets, episodes

FIRST_FLUSH = 0.25
"""Seconds until the first part is written; each next one may wait twice as long, up to ``flush_seconds``."""
BUFFERS = 2
"""How many parts' worth of rows a worker holds, one being filled and one being written, before it stops drawing."""


class Outgoing:
    """See the module.

    Args:
        folder: of the stage's store.
        whole: of an episode all rows are written, or none, and its calls before them.
        report: returns the report that is open now, which hears of what is written.
        on_written: called after each writing, with what went wrong.

    Attributes:
        room: set while rows may be added.
    """

    def __init__(
        self,
        root: Root,
        folder: str,
        stage: str,
        flush_rows: int,
        flush_seconds: float,
        whole: bool,
        report: Callable[[], Report],
        on_written: Callable[[BaseException | None], None],
    ) -> None:
        self.room = asyncio.Event()
        self.room.set()
        self._root = root
        self._folder = folder
        self._stage = stage
        self._flush_rows = flush_rows
        self._flush_seconds = flush_seconds
        self._whole = whole
        self._report = report
        self._on_written = on_written
        self._rows = DrawnRows(datasets.Sample)
        self._calls = DrawnRows(episodes.Call)
        self._unproven = Unproven()
        self._oldest = 0.0
        self._flush_after = min(FIRST_FLUSH, flush_seconds)
        self._writes: set[asyncio.Task[None]] = set()
        self._in_order = asyncio.Lock()
        self._unwritten = 0

    def add(self, drawn: list[Row]) -> None:
        """Take the rows of a draw."""
        self._keep(self._rows, self._unproven.proven(drawn))

    def add_calls(self, calls: list[Row]) -> None:
        """Take calls of an episode."""
        self._keep(self._calls, calls)

    def release(self) -> None:
        """Hear that nothing else is drawn for now: refusals become rows."""
        self._keep(self._rows, self._unproven.rest())

    def _keep(self, buffer: DrawnRows, rows: list[Row]) -> None:
        if rows and not (self._rows or self._calls):
            self._oldest = time.monotonic()
        buffer.add(rows)
        self._count_unwritten(len(rows))
        if len(buffer) >= self._flush_rows:
            self.flush()

    def _count_unwritten(self, rows: int) -> None:
        self._unwritten += rows
        if self._unwritten >= BUFFERS * self._flush_rows:
            self.room.clear()
        else:
            self.room.set()

    async def flush_forever(self, idle: Callable[[], bool]) -> None:
        """Write what has waited long enough.

        Args:
            idle: tells whether nothing is to be drawn now.
        """
        while True:
            await asyncio.sleep(min(0.1, self._flush_seconds / 4))
            waited = time.monotonic() - self._oldest
            if idle():
                self.release()
            late = waited >= self._flush_after or (waited >= 0.1 and idle())
            if late and (self._rows or self._calls):
                self._flush_after = min(2 * self._flush_after, self._flush_seconds)
                self.flush()

    def flush(self) -> None:
        """Start writing what there is so far; drawing goes on meanwhile, and a cancelled draw can't lose the part."""
        if self._rows or self._calls:
            calls, (rows, bad) = self._calls.take()[0], self._rows.take()
            self._report().unwritten += bad
            self._in_background(self._write(calls, rows))

    def then(self, do: Callable[[], None]) -> None:
        """Do something once all that was added so far is written."""
        self.flush()

        async def wait(*written: asyncio.Task[None]) -> None:
            await asyncio.gather(*written)
            do()

        if self._writes:
            self._in_background(wait(*self._writes))
        else:
            do()

    async def end(self) -> None:
        """Write all of it."""
        self.flush()
        await asyncio.gather(*self._writes)

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)

    async def _write(self, calls: pl.DataFrame, rows: pl.DataFrame) -> None:
        """Write calls, then the samples that came of them; one after the other, where there are calls."""
        fault: BaseException | None = None
        try:
            async with self._in_order if self._whole else contextlib.nullcontext():
                if len(calls):
                    folder = calls_folder(self._folder)
                    part = await asyncio.to_thread(write_part, self._root, folder, calls, episodes.Call, self._stage)
                    self._report().calls.append(part)
                if len(rows):
                    about = self._root, self._folder, rows, self._stage, not self._whole
                    part, bad = await asyncio.to_thread(write_samples, *about)
                    if part is not None:
                        self._report().parts.append(part)
                    self._report().unwritten += bad
        except Exception as error:
            fault = error
        finally:
            self._count_unwritten(-len(rows) - len(calls))
            self._on_written(fault)
