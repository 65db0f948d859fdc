"""The table of public names: what ``sample.strategy`` calls a strategy, and where its class is."""

from __future__ import annotations

STRATEGIES: dict[str, str] = {
    "best_of": "operators.strategies.best_of:BestOf",
}
