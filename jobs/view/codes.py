"""Columns of tables as the index keeps them: small numbers for names, hashes for answers."""

from __future__ import annotations

import polars as pl

from jobs.view.index import Array, Index, hashed


def fixed(values: pl.Series, names: tuple[str, ...]) -> Array:
    """Return the position of each value among ``names``; 0 where it isn't one of them."""
    codes = {name: code for code, name in enumerate(names) if name}
    return values.replace_strict(codes, default=0, return_dtype=pl.UInt8).to_numpy()


def named(index: Index, column: str, values: pl.Series) -> Array:
    """Return the code of each value in one of the index's columns of names; 0 of null."""
    codes = {name: index.code(column, name) for name in values.unique().drop_nulls().to_list()}
    return values.replace_strict(codes, default=0, return_dtype=pl.UInt8).to_numpy()


def flags(values: pl.Series) -> Array:
    """Return 2 for true, 1 for false, 0 for null (``FLAGS``)."""
    return (values.cast(pl.UInt8) + 1).fill_null(0).cast(pl.UInt8).to_numpy()


def answers(values: pl.Series) -> Array:
    """Return the hash of each answer; 0 of null."""
    texts = values.unique().drop_nulls()
    codes = pl.DataFrame({"text": texts, "code": pl.Series([hashed(text) for text in texts], dtype=pl.UInt32)})
    found = pl.DataFrame({"text": values}).join(codes, on="text", how="left", maintain_order="left")
    return found["code"].fill_null(0).to_numpy()


def scores(values: pl.Series) -> Array:
    """Return scores; NaN of null."""
    return values.cast(pl.Float32).fill_null(float("nan")).to_numpy()


def counts(values: pl.Series) -> Array:
    """Return numbers of tokens; 0 of null."""
    return values.cast(pl.Float64).fill_null(0).fill_nan(0).clip(0, 2**32 - 1).to_numpy().astype("u4")
