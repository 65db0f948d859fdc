"""The kinds of columns that contracts have in common."""

from __future__ import annotations

import dataframely as dy

from schemas.conversation import MORE


def key(minimum: int | None = None) -> dy.Int64:
    return dy.Int64(primary_key=True, min=minimum)


def text(nullable: bool = False) -> dy.String:
    return dy.String(nullable=nullable)


def number(nullable: bool = True, primary_key: bool = False) -> dy.Float64:
    return dy.Float64(nullable=nullable, primary_key=primary_key)


def one_of(values: tuple[str, ...]) -> dy.String:
    return dy.String(nullable=False, regex=f"^({'|'.join(values)})$")


def count(nullable: bool = False) -> dy.Int64:
    return dy.Int64(nullable=nullable, min=0)


def share(nullable: bool = False) -> dy.Float64:
    return dy.Float64(nullable=nullable, min=0.0, max=1.0)


def json_object(nullable: bool = True) -> dy.String:
    """A UTF-8 string that holds a JSON object."""
    return dy.String(nullable=nullable, regex=r"^\{(.|\n)*\}$")


def messages(nullable: bool = False) -> dy.List:
    """Turns, as ``schemas.conversation`` says."""
    said = {"role": dy.String(nullable=False), "content": dy.String(nullable=False)}
    more = {name: dy.String(nullable=True) for name in MORE}
    return dy.List(dy.Struct({**said, **more}, nullable=False), nullable=nullable)


def tools() -> dy.String:
    """A JSON list, in OpenAI's words, of the tools that a conversation may call, or of what an answer calls."""
    return dy.String(nullable=True, regex=r"^\[(.|\n)*\]$")
