"""What runs are listed and sorted by: figures that their manifests hold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

from schemas.manifest import RunManifest
from schemas.prices import MICRO, Prices

VARIABLE = "GRISTMILL_CATALOGUE"
"""Environment variable: the URL of a shared database, such as ``postgresql+psycopg://user@host/gristmill``."""
Sort = Literal["started", "cost", "samples", "problems", "seconds"]


def seconds_of(run: RunManifest) -> float | None:
    """Return how long a run took; None while it isn't finished."""
    return (run.finished - run.started).total_seconds() if run.finished else None


def dollars_of(costs: Sequence[dict[str, Any]]) -> float | None:
    """Return what stages cost together; None where no price is known."""
    known = [cost["dollars"] for cost in costs if cost["dollars"] is not None]
    return sum(known) if known else None


def costs_of(run: RunManifest) -> Iterator[dict[str, Any]]:
    """Yield what each sampling stage of a run drew and paid itself; dollars are None where no price was known."""
    for record in run.stages:
        if record.dataset != "samples":
            continue
        prices = Prices.model_validate(run.prices.get(record.name) or {})
        tokens = (record.prompt_tokens, record.cached_prompt_tokens, record.completion_tokens)
        micro = prices.microdollars(*tokens, record.gpu_seconds)
        yield {
            "stage": record.name,
            "model": record.engine.model if record.engine else None,
            "samples": record.computed,
            "prompt_tokens": tokens[0],
            "cached_prompt_tokens": tokens[1],
            "completion_tokens": tokens[2],
            "gpu_hours": record.all_gpu_seconds / 3600,
            "dollars": None if micro is None else micro / MICRO,
        }
