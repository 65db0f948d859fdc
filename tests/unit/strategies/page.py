"""The table of docs/strategies.md, made of the classes: ``python -m tests.unit.strategies.page`` writes it anew."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from operators.strategies.names import STRATEGIES
from operators.strategies.strategy import Strategy, strategy_class
from schemas.explained import summary

PAGE = Path(__file__).parents[3] / "docs" / "strategies.md"
BEGIN, END = "<!-- made by tests/unit/strategies/page.py -->", "<!-- until here -->"
PROMPT, MOST, N = 100, 512, 16
"""Tokens of a prompt and of ``max_tokens``, and the size at which costs are told."""
EQUAL: dict[str, dict[str, Any]] = {
    **{name: {"width": N} for name in ("best_of", "beam", "dvts", "particles", "entropic", "rebase")},
    "gibbs": {"width": N // 2, "sweeps": 2},
    "mcts": {"paths": N},
    "ab_mcts": {"budget": N},
    "oversample": {"draws": N, "keep": N // 4},
    "aggregate": {"widths": (N,) * 3},
    "revise": {"chains": N // 4, "length": 4},
    "x_mbr": {"candidates": N},
    "prompt_choice": {"prompts": ("{prompt} Think step by step.", "{prompt} Answer briefly."), "by": "probe"},
}
"""Settings of the size N; of a strategy that isn't here, its own."""


def table() -> str:
    """Return the table in Markdown."""
    heads = ("strategy", "what it does", "needs", "with", "rows", "calls", "written", "read", "scores")
    lines = ["| " + " | ".join(heads) + " |", "|---|---|---|---|--:|--:|--:|--:|--:|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in _rows())])


def _rows() -> Iterator[tuple[str, ...]]:
    for name in STRATEGIES:
        kind = strategy_class(name)
        settings = EQUAL.get(name, {})
        strategy = kind(**settings)
        worst = strategy.worst(PROMPT, MOST)
        told = ", ".join(f"`{key}: {_short(value)}`" for key, value in settings.items())
        yield (
            f"`{name}`", _does(kind), ", ".join(_needs(strategy, worst.passes)) or "", told, str(strategy.rows),
            f"{worst.calls:,}", f"{worst.completion_tokens / MOST:,.1f}",
            f"{(worst.prompt_tokens + worst.scorer_tokens) / PROMPT:,.0f}", f"{worst.passes:,}" if worst.passes else "",
        )  # fmt: skip


def _does(kind: type[Strategy]) -> str:
    """Return the first sentence of a class's docstring."""
    return re.split(r"(?<=[^.]\w)\.(?:\s|$)", summary(kind))[0].rstrip(".").replace("``", "`").replace("|", "\\|")


def _needs(strategy: Strategy, passes: int) -> Iterator[str]:
    yield from (f"`{role}`" for role in strategy.asks)
    yield from (f"`{role}` or the model itself" for role in strategy.optional_roles)
    if strategy.steps:
        yield "told stops"
    if strategy.by_tokens:
        yield "token search"
    elif passes and "scorer" not in strategy.asks:
        yield "likelihoods"
    yield from strategy.tools
    yield from (f"`{column}`" for column in strategy.columns)


def _short(value: Any) -> str:
    return f"{len(value)} of them" if value and isinstance(value, tuple) and isinstance(value[0], str) else (
        str(list(value)) if isinstance(value, tuple) else str(value)
    )  # fmt: skip


def written(text: str) -> str:
    """Return the page with the table as it is now."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{table()}\n\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text()))
