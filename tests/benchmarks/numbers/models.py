"""The success rates that simulations draw from, and what is said of the results."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FILE = "monkeys_math_counts.parquet"


def parser(about: str | None, simulations: int) -> argparse.ArgumentParser:
    """Return the options that all simulations have."""
    made = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--data", required=True, help=f"a Parquet file of counts, or a folder with {FILE}")
    made.add_argument("--models", default="", help="some of its models, with commas; by default all")
    made.add_argument("--simulations", type=int, default=simulations, help="of each cell")
    made.add_argument("--seed", type=int, default=0)
    return made


def read_counts(options: argparse.Namespace) -> dict[str, tuple[Ints, Ints]]:
    """Return model -> n and c of each problem, in one order of problems; the weakest model first."""
    path = Path(options.data)
    table = pl.read_parquet(path / FILE if path.is_dir() else path).sort("model", "problem_index")
    wanted = [name for name in options.models.split(",") if name]
    found = {
        str(model): (rows["n"].to_numpy().astype(np.int64), rows["c"].to_numpy().astype(np.int64))
        for (model,), rows in table.group_by("model", maintain_order=True)
        if not wanted or model in wanted
    }
    return dict(sorted(found.items(), key=lambda item: float((item[1][1] / item[1][0]).mean())))


def coverage(rates: Floats, k: Ints) -> Floats:
    """Return the true coverage at each k."""
    return -np.expm1(k * np.log1p(-np.minimum(rates, 1.0 - 1e-12))[:, None]).mean(axis=0)


def grid(rows: list[tuple[object, ...]], names: list[str]) -> pl.DataFrame:
    """Print rows as a table, and return it."""
    table = pl.DataFrame(rows, schema=names, orient="row")
    with pl.Config(
        tbl_rows=-1, tbl_cols=-1, tbl_width_chars=200, tbl_hide_dataframe_shape=True, tbl_hide_column_data_types=True
    ):
        print(table.with_columns(pl.col(pl.Float64).round(4)), flush=True)
    return table
