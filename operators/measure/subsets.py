"""Any selection method on many subsets of the samples at once.

A subset of a problem's samples is a problem of its own to a method that sees one problem at a time. So subsets are
stacked into tables, as many as fit, and the method runs on them as it always does.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from operators.select.classes import in_n, one_verifier
from operators.select.selection import Selection
from operators.select.union import tables_of
from schemas.datasets import SAMPLE_KEY
from schemas.later import Floats, Ints, np, pl

BLOCK = 1_000_000
"""Rows that a method is given at once."""


@dataclass(frozen=True)
class Aligned:
    """The tables of some problems, cut to the first N samples that count.

    Attributes:
        keys: the problems, in order.
        total: N.
        verdicts: [problems * N] rows, problem by problem in the order of sample_index.
        others: tables that have a row for each of these (null but for the key where there is none), by input; several
            for scores of several scorers.
    """

    keys: list[str]
    total: int
    verdicts: pl.DataFrame
    others: dict[str, list[pl.DataFrame]]


def pack(tables: dict[str, pl.DataFrame | None]) -> bytes:
    """Return tables as bytes, to be kept in a cell."""
    stream = io.BytesIO()
    names = [name for name, table in tables.items() if table is not None]
    for name in names:
        part = io.BytesIO()
        table = tables[name]
        assert table is not None
        table.write_ipc(part)
        raw = part.getvalue()
        head = f"{name} {len(raw)}\n".encode()
        stream.write(head + raw)
    return stream.getvalue()


def unpack(data: bytes) -> dict[str, pl.DataFrame]:
    """Return the tables of ``pack``."""
    stream, tables = io.BytesIO(data), dict[str, pl.DataFrame]()
    while head := stream.readline():
        name, size = head.decode().split()
        tables[name] = pl.read_ipc(io.BytesIO(stream.read(int(size))))
    return tables


def align(tables: dict[str, pl.DataFrame], total: int) -> Aligned:
    """Cut all tables to the first ``total`` samples of each problem that count in n."""
    verdicts = one_verifier(tables["verdicts"]).filter(in_n()).sort(SAMPLE_KEY)
    verdicts = verdicts.filter(pl.int_range(pl.len()).over("problem_key") < total)
    keys = verdicts.select(SAMPLE_KEY)
    others: dict[str, list[pl.DataFrame]] = {}
    for name, table in tables.items():
        if name == "verdicts" or "sample_index" not in table.columns:
            continue
        split = [table] if "scorer" not in table.columns else table.partition_by("scorer", maintain_order=True)
        others[name] = [
            keys.join(part.with_columns(there=pl.lit(True)), on=SAMPLE_KEY, how="left", maintain_order="left")
            for part in split
        ]
    return Aligned(verdicts["problem_key"].unique(maintain_order=True).to_list(), total, verdicts, others)


def stacks(data: Aligned, orders: Sequence[Ints], size: int) -> Iterator[tuple[dict[str, pl.DataFrame], int, int]]:
    """Yield (tables, first subset, number of subsets): the first ``size`` samples in each order.

    The stacked problem of problem p (its position) and subset s is called ``p/s``; its samples are numbered by order.
    """
    problems = len(data.keys)
    step = max(1, BLOCK // max(1, problems * size))
    base = np.arange(problems, dtype=np.int64)[:, None, None] * data.total
    for first in range(0, len(orders), step):
        some = np.stack([order[:size] for order in orders[first : first + step]]).astype(np.int64)
        rows = (base + some[None]).ravel()
        names = [f"{problem}/{subset}" for problem in range(problems) for subset in range(first, first + len(some))]
        key = pl.Series("problem_key", names).gather(np.repeat(np.arange(len(names)), size))
        index = pl.Series("sample_index", np.tile(np.arange(size, dtype=np.int64), len(names)))
        tables = {"verdicts": data.verdicts[rows].with_columns(key, index)}
        for name, parts in data.others.items():
            stacked = [part[rows].with_columns(key, index).filter("there").drop("there") for part in parts]
            tables[name] = pl.concat(stacked)
        yield tables, first, len(some)


def right_on(method: Selection, data: Aligned, orders: Sequence[Ints], size: int) -> dict[str, Floats]:
    """Return name of the method (one per scorer) -> whether it is right: shape [subsets, problems], 0 or 1."""
    found: dict[str, Floats] = {}
    for tables, _, _ in stacks(data, orders, size):
        answers: Any = method.run(**tables_of(method, tables))
        for (name,), part in answers.group_by("method"):
            right = found.setdefault(str(name), np.zeros((len(orders), len(data.keys))))
            place = part["problem_key"].str.split_exact("/", 1).struct.unnest().cast(pl.Int64).to_numpy()
            right[place[:, 1], place[:, 0]] = part["is_correct"].fill_null(False).to_numpy()
    return found
