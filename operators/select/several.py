"""Several selection methods side by side: one ``answers`` dataset, told apart by ``method``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import field_validator

from operators.asking import AskingOperator
from operators.base import AnyOperator, Operator, Scope
from operators.piecewise import key_ranges
from operators.select.selection import Selection
from operators.select.union import collected, inputs_of, optional_of, selections, tables_of
from schemas.contract import Columns, polars_schema
from schemas.datasets import Answer
from schemas.later import asyncio, pl

if TYPE_CHECKING:
    from operators.engine import Engine

PIECE_ROWS = 500_000
"""Rows that methods which see one problem at a time are given at once, where another needs all problems together."""


class SelectSeveral(Selection, AskingOperator):
    """Run several selections on the same inputs; each reads the columns it needs.

    If one of them sees all problems at once, all wait for the last sample.
    """

    version: ClassVar[int] = 1

    methods: tuple[AnyOperator, ...]
    """The selections, each with a name of its own."""

    @field_validator("methods")
    @classmethod
    def _are_selections(cls, value: tuple[AnyOperator, ...]) -> tuple[AnyOperator, ...]:
        if any(isinstance(method, SelectSeveral) for method in selections(value)):
            raise ValueError("select.several can't be one of its own methods")
        return value

    def with_holdout(self, share: float) -> Operator:
        return self.model_copy(update={"methods": tuple(method.with_holdout(share) for method in self.methods)})

    @property
    def scope(self) -> Scope:  # pyright: ignore[reportIncompatibleVariableOverride]
        return "dataset" if any(method.scope == "dataset" for method in self.methods) else "problem"

    @property
    def inputs(self) -> dict[str, Columns]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return inputs_of(self.methods)

    @property
    def optional(self) -> frozenset[str]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return optional_of(self.methods)

    @property
    def tools(self) -> tuple[str, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return tuple(sorted({tool for method in self.methods for tool in method.tools}))

    def run(self, engine: Engine | None = None, **inputs: Any) -> pl.DataFrame:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return one row per problem and method."""
        if engine is not None:
            return asyncio.run(self.ask(engine, **inputs))
        return pl.concat([self._run(method, inputs) for method in self.methods])

    async def ask(self, engine: Engine, **inputs: Any) -> pl.DataFrame:
        """Return one row per problem and method, with an engine for those that ask one."""
        found: list[pl.DataFrame] = []
        for method in self.methods:
            if "engine" in method.tools:
                assert isinstance(method, AskingOperator)
                found.append(await method.ask(engine, **collected(tables_of(method, inputs))))
            else:
                found.append(await asyncio.to_thread(self._run, method, inputs))
        return pl.concat(found)

    def _run(self, method: Any, inputs: dict[str, Any]) -> pl.DataFrame:
        tables = tables_of(method, inputs)
        if method.scope == self.scope:
            return method.run(**tables)
        given = [table for table in tables.values() if table is not None]
        pieces = [
            method.run(**collected(tables, pl.col("problem_key").is_between(pl.lit(low), pl.lit(high))))
            for low, high in key_ranges(given, PIECE_ROWS)
        ]
        return pl.concat(pieces) if pieces else pl.DataFrame(schema=polars_schema(Answer))
