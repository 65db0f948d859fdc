"""Carrying over: the finished samples of a store with a smaller ``max_tokens`` become facts of this one, at no cost."""

from __future__ import annotations

import time
from dataclasses import dataclass

import polars as pl

from cluster.storage.parts import Part, write_part
from cluster.storage.root import Root
from cluster.storage.slices import Slice
from cluster.working.drawing import is_truncated
from cluster.working.work import Done
from schemas.datasets import Sample


@dataclass(frozen=True)
class CarryOver:
    """Work: write the finished samples of ``source`` as a part of another store. Truncated and failed ones are left."""

    number: int
    stage: str
    root: str
    source: Slice
    folder: str
    rows: int

    def run(self) -> Done:
        """Copy; nothing is committed yet. Rows keep the run that paid for them."""
        began = time.perf_counter()
        root = Root(self.root)
        rows = self.source.read(root, Sample.select())
        finished = rows.filter(~is_truncated(), pl.col("status") == "ok")
        if not len(finished):
            return Done(Part("", 0, 0, "{}"), time.perf_counter() - began)
        return Done(write_part(root, self.folder, finished, Sample, self.stage), time.perf_counter() - began)
