"""Writing rows of samples: one that no table takes costs itself alone."""

from __future__ import annotations

from typing import Any

import polars as pl

from cluster.storage.parts import Part, write_part
from cluster.storage.root import Root
from operators.sample.sampling import Sampling
from schemas import datasets
from schemas.contract import validate
from schemas.errors import ContractViolation

Row = dict[str, Any]
UNFIT = (ContractViolation, UnicodeError, TypeError, ValueError, OverflowError, pl.exceptions.PolarsError)
"""What a row is refused with that isn't one."""


def write_samples(root: Root, folder: str, rows: list[Row], stage: str) -> tuple[Part | None, list[tuple[Row, str]]]:
    """Write the rows that can be written as one part; return it, and the other rows with what is wrong with them."""
    try:
        return write_part(root, folder, Sampling.table(rows), datasets.Sample, stage), []
    except UNFIT:
        good, bad = _apart(rows, stage)
        if not bad:
            raise  # it isn't the rows
    return write_part(root, folder, Sampling.table(good), datasets.Sample, stage) if good else None, bad


def _apart(rows: list[Row], stage: str) -> tuple[list[Row], list[tuple[Row, str]]]:
    """Return the rows that can be written, and the others with what is wrong with each."""
    good: list[Row] = []
    bad: list[tuple[Row, str]] = []
    for row in rows:
        try:
            validate(Sampling.table([row]), datasets.Sample, stage)
            good.append(row)
        except UNFIT as error:
            bad.append((row, f"{type(error).__name__}: {error}"))
    return good, bad
