"""Contracts as Arrow schemas: what Parquet files and Delta tables are declared with."""

from __future__ import annotations

from functools import cache

import polars as pl
import pyarrow as pa

from cluster.storage.memory import keep_little
from schemas.contract import Contract, polars_schema

keep_little()  # here, because all that reads or writes tables comes by


@cache
def arrow_schema(contract: type[Contract]) -> pa.Schema:
    """Return the Arrow schema of ``contract``; only nullable columns are nullable."""
    arrow = pl.DataFrame(schema=polars_schema(contract)).to_arrow().schema
    fields: list[pa.Field] = []
    for name, column in contract.columns().items():
        kind = arrow.field(name).type
        fields.append(pa.field(name, _without_views(kind), nullable=column.nullable))
    return pa.schema(fields)


def _without_views(kind: pa.DataType) -> pa.DataType:
    """Map Polars' large and view types to the plain ones that every Parquet reader knows."""
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_large_list(kind):
        return pa.list_(pa.field("element", _without_views(kind.value_type)))
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(f.name, _without_views(f.type)) for f in kind])
    return kind
