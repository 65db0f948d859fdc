"""What a run was told while it went on, for people; and reading what they want to tell it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from schemas.errors import BadInput
from schemas.manifest import RunManifest
from schemas.yaml_text import load_yaml


def order_values(assignments: Iterable[str]) -> dict[str, Any]:
    """Return ``["concurrency=16"]`` as ``{"concurrency": 16}``; values are YAML.

    Raises:
        BadInput: nothing is assigned, or something twice, or a value isn't YAML.
    """
    values: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals or not key:
            raise BadInput(f"set takes KEY=VALUE, such as run.budget.tokens=2000000; got '{assignment}'")
        if key in values:
            raise BadInput(f"set: '{key}' is there twice")
        if not text.strip():
            raise BadInput(f"set: '{key}' has no value; to take a cap or a limit away say null")
        try:
            values[key] = load_yaml(text)
        except ValueError as error:
            raise BadInput(f"set {key}: the value '{text[:60]}' is not valid YAML: {error}") from error
    if not values:
        raise BadInput("set takes KEY=VALUE, such as run.budget.tokens=2000000")
    return values


def print_orders(console: Console, manifest: RunManifest) -> None:
    """Print what a run was told, and what it answered."""
    if manifest.paused is not None:
        console.print(f"{manifest.run_id} is paused by {manifest.paused.whose}", markup=False, soft_wrap=True)
    if not manifest.orders:
        console.print(f"{manifest.run_id} was told nothing", markup=False, soft_wrap=True)
        return
    table = Table("time (UTC)", "who", "why", "what", "result", "answer", box=None)
    for order in manifest.orders:
        cells = f"{order.answered:%Y-%m-%d %H:%M:%S}", order.by, order.reason, order.what, order.result, order.answer
        table.add_row(*map(escape, cells))
    console.print(table)
