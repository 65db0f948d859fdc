"""Row contracts: declared once with dataframely, checked before every write.

``validate`` is strict (exact columns and dtypes, every rule) and guards what is written. ``conform`` is lenient and
serves what users bring: integers of any width, absent nullable columns, extra columns.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

import dataframely as dy
import polars as pl

from schemas.errors import BadInput, ContractViolation
from schemas.identity import completion_hashes


@dataclass(frozen=True)
class Columns:
    """The columns of a contract that an operator reads; nothing else is loaded for it."""

    contract: type[Contract]
    names: tuple[str, ...]


class Contract(dy.Schema):
    """Base of all row contracts."""

    @classmethod
    def select(cls, *names: str) -> Columns:
        """Name the columns an operator reads of this dataset (all of them when none is named).

        Raises:
            ValueError: a name that the contract doesn't have.
        """
        unknown = set(names) - set(cls.column_names())
        if unknown:
            raise ValueError(f"{cls.__name__} has no column {sorted(unknown)}; it has {cls.column_names()}")
        return Columns(cls, names or tuple(cls.column_names()))


@cache
def polars_schema(contract: type[Contract]) -> dict[str, pl.DataType]:
    """Return column name -> dtype, in the contract's order."""
    return {name: column.dtype for name, column in contract.columns().items()}


def validate(table: pl.DataFrame, contract: type[Contract], stage: str) -> pl.DataFrame:
    """Return ``table`` with the contract's columns in order, sorted by key; or refuse it.

    Raises:
        ContractViolation: names stage, column, row key and rule. A column the contract has not, lacks or types
            differently is a violation too: contracts are never widened silently.
    """
    expected = polars_schema(contract)
    missing = [name for name in expected if name not in table.columns]
    extra = [name for name in table.columns if name not in expected]
    if missing or extra:
        raise ContractViolation(
            f"stage {stage}: {contract.__name__} lacks column(s) {missing or 'none'} and has unknown column(s) "
            f"{extra or 'none'}; the contract is {list(expected)}"
        )
    for name, dtype in expected.items():
        if table.schema[name] != dtype:
            raise ContractViolation(
                f"stage {stage}: column {contract.__name__}.{name} is {table.schema[name]}, the contract says {dtype}"
            )
    table = table.select(list(expected))
    good, failure = contract.filter(table)
    if len(good) < len(table):
        raise ContractViolation(f"stage {stage}: {_explain(failure, contract)}")
    key = contract.primary_key()
    return table.sort(key) if key else table


def _explain(failure: Any, contract: type[Contract]) -> str:
    """Describe the first broken rule with the key and value of the first row that breaks it."""
    rule, count = max(failure.counts().items(), key=lambda item: item[1])
    details: pl.DataFrame = failure.details()
    row = details.filter(pl.col(rule) == "invalid").row(0, named=True)
    key = {name: row[name] for name in contract.primary_key()}
    column = rule.split("|")[0] if "|" in rule else ", ".join(contract.primary_key())
    value = f" is {row[column]!r}" if column in row else ""
    pattern = getattr(contract.columns().get(column), "regex", None)
    allowed = f" {pattern}" if pattern and rule.endswith("regex") else ""
    other = len(failure.counts()) - 1
    return (
        f"column {contract.__name__}.{column}{value} in row {key} breaks the rule '{rule.split('|')[-1]}{allowed}' "
        f"({count} row(s){f', and {other} other rule(s) are broken' if other else ''})"
    )


def conform(table: pl.DataFrame, columns: Columns, source: str) -> pl.DataFrame:
    """Return the wanted columns of a user's ``table`` in the contract's dtypes.

    ``problem_id`` serves as ``problem_key`` (and the other way round) where one is absent, ``completion_hash`` is
    computed, ``verifier`` and ``scorer`` become one unnamed, absent nullable columns are null.

    Raises:
        BadInput: a needed column is absent or can't be converted; the text lists what was found.
    """
    found = table.columns
    dtypes = polars_schema(columns.contract)
    table = table.with_columns(_substitutes(table, columns.names))
    picked: list[pl.Expr] = []
    for name in columns.names:
        column = columns.contract.columns()[name]
        if name in table.columns:
            picked.append(pl.col(name).cast(dtypes[name], strict=True))
        elif column.nullable:
            picked.append(pl.lit(None, dtype=dtypes[name]).alias(name))
        else:
            raise BadInput(f"{source}: column '{name}' is missing; found {found}, wanted {list(columns.names)}")
    try:
        return table.select(picked)
    except pl.exceptions.PolarsError as error:
        raise BadInput(f"{source}: a column can't be read as the contract's dtype: {error}") from error


def _substitutes(table: pl.DataFrame, wanted: Iterable[str]) -> list[pl.Expr | pl.Series]:
    have = set(table.columns)
    absent = [name for name in wanted if name not in have]
    made: list[pl.Expr | pl.Series] = []
    for name in absent:
        if name == "problem_key" and "problem_id" in have:
            made.append(pl.col("problem_id").cast(pl.String).alias("problem_key"))
        elif name == "problem_id" and "problem_key" in have:
            made.append(pl.col("problem_key").cast(pl.String).alias("problem_id"))
        elif name in ("verifier", "scorer"):
            made.append(pl.lit("").alias(name))
        elif name == "status":
            made.append(pl.lit("ok").alias(name))
        elif name == "completion_hash" and "completion" in have:
            made.append(pl.Series(name, completion_hashes(table["completion"].fill_null("")), dtype=pl.Int64))
    return made
