"""What routers did: traces of expert ids from a real engine, and counts of tokens per expert."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cluster.storage.tables import read_table
from schemas.errors import BadInput
from schemas.experts import ExpertCount

Ids = NDArray[np.integer]
FEWEST = 24
"""Tokens of a trace."""


@dataclass(frozen=True)
class Trace:
    """The routing of one class of jobs.

    Attributes:
        experts: ids, [tokens, layers, top-k].
        lengths: tokens of each sequence; one sequence where they aren't known.
    """

    name: str
    experts: Ids
    lengths: NDArray[np.int64]

    def halves(self) -> tuple[Trace, Trace]:
        """Return the first and the second half of its sequences (of its tokens, where there is one sequence)."""
        if len(self.lengths) < 2:
            cut = len(self.experts) // 2
            return self._part(0, cut, np.array([cut])), self._part(cut, None, np.array([len(self.experts) - cut]))
        half = len(self.lengths) // 2
        cut = int(self.lengths[:half].sum())
        return self._part(0, cut, self.lengths[:half]), self._part(cut, None, self.lengths[half:])

    def apart(self) -> tuple[Trace, Trace]:
        """Return the first two thirds of its sequences, to plan on, and the last third, to judge on.

        What comes later differs more than what comes in between: that is how it will be with the next night's jobs.
        """
        lengths = self.lengths
        if len(lengths) < 3:
            lengths = np.array([len(part) for part in np.array_split(np.arange(len(self.experts)), 3)])
        planned = len(lengths) * 2 // 3
        cut = int(lengths[:planned].sum())
        return self._part(0, cut, lengths[:planned]), self._part(cut, None, lengths[planned:])

    def _part(self, first: int, last: int | None, lengths: NDArray[Any]) -> Trace:
        return Trace(self.name, self.experts[first:last], lengths)


def read_traces(text: str, experts: int | None = None) -> tuple[list[Trace], int]:
    """Read ``FILE.npz[:array,...]``: the arrays that are named, or all with three axes, each a class of jobs.

    Args:
        experts: of each layer; by default one more than the largest id.

    Returns:
        The traces, and the number of experts.

    Raises:
        BadInput: no such file or array, or arrays that are no routing.
    """
    path, names = _parted(text)
    try:
        loaded = np.load(path)
    except (OSError, ValueError) as error:
        raise BadInput(f"'{path}' can't be read as a trace (.npz): {error}") from error
    arrays: dict[str, NDArray[Any]] = {name: loaded[name] for name in loaded.files}
    wanted = names or [name for name, array in arrays.items() if array.ndim == 3]
    unknown = [name for name in wanted if name not in arrays]
    if unknown or not wanted:
        raise BadInput(f"'{path}' has no array {unknown or 'with three axes'}; it has {sorted(arrays)}")
    traces = [_trace(path, name, arrays[name], arrays.get(f"{name}_len")) for name in wanted]
    shapes = {(trace.experts.shape[1], trace.experts.shape[2]) for trace in traces}
    if len(shapes) > 1:
        raise BadInput(f"'{path}': the arrays have different layers and top-k: {sorted(shapes)}")
    most = max(int(trace.experts.max(initial=0)) for trace in traces) + 1
    if experts is not None and most > experts:
        raise BadInput(f"'{path}' has expert {most - 1}, but there are {experts} experts (0 to {experts - 1})")
    return traces, experts or most


def _parted(text: str) -> tuple[str, list[str]]:
    head, colon, tail = text.rpartition(":")
    if colon and not Path(text).exists() and head.endswith(".npz"):
        return head, [name for name in tail.split(",") if name]
    return text, []


def _trace(path: str, name: str, array: NDArray[Any], lengths: NDArray[Any] | None) -> Trace:
    if array.ndim != 3 or not np.issubdtype(array.dtype, np.integer) or not array.size:
        raise BadInput(f"'{path}', array '{name}': expert ids [tokens, layers, top-k] are needed, it is {array.dtype} "
                       f"{list(array.shape)}")  # fmt: skip
    if len(array) < FEWEST:
        raise BadInput(f"'{path}', array '{name}': {len(array)} tokens are too few to plan with; {FEWEST} at least")
    if int(array.min()) < 0:
        raise BadInput(f"'{path}', array '{name}': an expert id is negative")
    known = np.array([len(array)]) if lengths is None else np.asarray(lengths, np.int64)
    if int(known.sum()) != len(array):
        raise BadInput(f"'{path}': '{name}_len' adds up to {known.sum()} tokens, '{name}' has {len(array)}")
    return Trace(name, array, known)


def counts_of(experts: Ids, number: int) -> NDArray[np.float64]:
    """Return how many tokens each expert of each layer gets, [layers, experts]."""
    _, layers, _ = experts.shape
    flat = experts.astype(np.int64) + np.arange(layers)[None, :, None] * number
    return np.bincount(flat.ravel(), minlength=layers * number).reshape(layers, number).astype(np.float64)


def read_counts(path: str) -> NDArray[np.float64]:
    """Read counts [layers, experts]: .npy, .npz (its one array), .json, or a table or folder of ``expert_counts``.

    Raises:
        BadInput: no such file, or not such a table.
    """
    suffix = Path(path).suffix
    try:
        if suffix == ".npy":
            table = np.load(path)
        elif suffix == ".npz":
            loaded = np.load(path)
            [name] = loaded.files
            table = loaded[name]
        elif suffix == ".json":
            table = np.array(json.loads(Path(path).read_text()))
        else:
            return counted(read_table(path))
        if table.ndim != 2 or not np.isfinite(table).all() or (table < 0).any():
            raise ValueError(f"counts [layers, experts] of 0 or more are needed, it is {list(table.shape)}")
    except (OSError, ValueError, TypeError) as error:
        raise BadInput(f"'{path}' can't be read as counts of tokens: {error}") from error
    return table.astype(np.float64)


def counted(rows: pl.DataFrame, halving: float = 7.0) -> NDArray[np.float64]:
    """Return the counts [layers, experts] of rows of the ``expert_counts`` dataset, later nights weighing more.

    Args:
        rows: of one model and revision; job classes are added up.
        halving: nights after which a count is worth half.
    """
    needed = ("night", "layer", "expert", "tokens")
    lacking = [name for name in needed if name not in rows.columns]
    if lacking or not len(rows):
        raise BadInput(f"rows of {ExpertCount.__name__} are needed; column(s) {lacking or 'without rows'} lack")
    models = [name for name in ("model", "revision", "quantization") if name in rows.columns]
    if models and rows.select(models).n_unique() > 1:
        raise BadInput(f"the counts are of several models: {rows.select(models).unique().sort(models).rows()[:4]}")
    age = (pl.col("night").max() - pl.col("night")).dt.total_days()
    weighed = rows.with_columns(tokens=pl.col("tokens") * (0.5 ** (age / halving)))
    sums = weighed.group_by("layer", "expert").agg(pl.col("tokens").sum())
    table = np.zeros((int(sums["layer"].max()) + 1, int(sums["expert"].max()) + 1))  # pyright: ignore[reportArgumentType]
    table[sums["layer"].to_numpy(), sums["expert"].to_numpy()] = sums["tokens"].to_numpy()
    return table
