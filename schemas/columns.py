"""The columns of row contracts, as they are declared, and the kinds of them that contracts have in common.

They say what dataframely's columns of the same names say (https://dataframely.readthedocs.io), which check frames
against them; but that library takes as long to import as a whole command may, so only the first check imports it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

from schemas.conversation import MORE
from schemas.later import pl

Function = TypeVar("Function", bound=Callable[..., "pl.Expr"])


@dataclass(frozen=True, eq=False)
class Column:
    """One column of a contract.

    Attributes:
        kind: the name of dataframely's column.
        nullable: whether a row may have no value here.
        primary_key: whether it is one of those by which a row is known.
        limits: what else is checked of a value: ``min``, ``max`` (both included), ``regex``.
        inner: what lists hold (``""``), or the fields of a struct.
    """

    kind: str
    nullable: bool = False
    primary_key: bool = False
    limits: dict[str, Any] = field(default_factory=dict[str, Any])
    inner: dict[str, Column] = field(default_factory=dict[str, "Column"])

    @cached_property
    def dtype(self) -> pl.DataType:
        """Its type in Polars."""
        if self.kind == "List":
            return pl.List(self.inner[""].dtype)
        if self.kind == "Struct":
            return pl.Struct({name: column.dtype for name, column in self.inner.items()})
        if self.kind == "Datetime":
            return pl.Datetime("us", "UTC")
        return getattr(pl, {"Bool": "Boolean"}.get(self.kind, self.kind))()

    @property
    def regex(self) -> str | None:
        return self.limits.get("regex")

    def checked(self) -> Any:
        """Return dataframely's column that checks this one."""
        import dataframely as dy

        parts = {name: column.checked() for name, column in self.inner.items()}
        inner = () if not parts else (parts[""],) if "" in parts else (parts,)
        how = {name: value for name, value in self.limits.items() if value is not None}
        return getattr(dy, self.kind)(*inner, nullable=self.nullable, primary_key=self.primary_key, **how)


def String(*, nullable: bool = False, primary_key: bool = False, regex: str | None = None) -> Column:
    return Column("String", nullable, primary_key, {"regex": regex})


def Bool(*, nullable: bool = False) -> Column:
    return Column("Bool", nullable)


def Int64(
    *, nullable: bool = False, primary_key: bool = False, min: int | None = None, max: int | None = None
) -> Column:
    return Column("Int64", nullable, primary_key, {"min": min, "max": max})


def Float64(
    *, nullable: bool = False, primary_key: bool = False, min: float | None = None, max: float | None = None
) -> Column:
    """Numbers that are finite."""
    return Column("Float64", nullable, primary_key, {"min": min, "max": max})


def Float32(*, nullable: bool = False, min: float | None = None, max: float | None = None) -> Column:
    """Numbers that are finite, in half the space."""
    return Column("Float32", nullable, False, {"min": min, "max": max})


def Date(*, nullable: bool = False, primary_key: bool = False) -> Column:
    return Column("Date", nullable, primary_key)


def Datetime(*, nullable: bool = False) -> Column:
    """Times in UTC, in microseconds."""
    return Column("Datetime", nullable, False, {"time_unit": "us", "time_zone": "UTC"})


def List(inner: Column, *, nullable: bool = False) -> Column:
    return Column("List", nullable, inner={"": inner})


def Struct(inner: dict[str, Column], *, nullable: bool = False) -> Column:
    return Column("Struct", nullable, inner=inner)


def rule() -> Callable[[Function], Function]:
    """Return a decorator for a contract's method that says, as an expression, which rows are as they must be."""

    def mark(function: Function) -> Function:
        function.is_rule = True  # type: ignore[attr-defined]
        return function

    return mark


def key(minimum: int | None = None) -> Column:
    return Int64(primary_key=True, min=minimum)


def text(nullable: bool = False) -> Column:
    return String(nullable=nullable)


def number(nullable: bool = True, primary_key: bool = False) -> Column:
    return Float64(nullable=nullable, primary_key=primary_key)


def one_of(values: tuple[str, ...]) -> Column:
    return String(nullable=False, regex=f"^({'|'.join(values)})$")


def count(nullable: bool = False) -> Column:
    return Int64(nullable=nullable, min=0)


def share(nullable: bool = False) -> Column:
    return Float64(nullable=nullable, min=0.0, max=1.0)


def json_object(nullable: bool = True) -> Column:
    """A UTF-8 string that holds a JSON object."""
    return String(nullable=nullable, regex=r"^\{(.|\n)*\}$")


def messages(nullable: bool = False) -> Column:
    """Turns, as ``schemas.conversation`` says."""
    said = {"role": String(nullable=False), "content": String(nullable=False)}
    more = {name: String(nullable=True) for name in MORE}
    return List(Struct({**said, **more}, nullable=False), nullable=nullable)


def tools() -> Column:
    """A JSON list, in OpenAI's words, of the tools that a conversation may call, or of what an answer calls."""
    return String(nullable=True, regex=r"^\[(.|\n)*\]$")
