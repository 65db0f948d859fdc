"""Cutting: completions into steps, and the scores of steps into one."""

from __future__ import annotations

import math
import re
from typing import Literal

RULES = {
    "blank_line": r"\n\s*\n",
    "line": r"\n+",
    "sentence": r"(?<=[.!?])\s+(?=[A-Z\"'(\\$])",
    "numbered": r"\n+(?=(?:Step\s+)?\d+[.:)])",
}
StepRule = Literal["blank_line", "line", "sentence", "numbered"]
Reduction = Literal["min", "prod", "last", "mean"]


def steps_of(completion: str, rule: StepRule, separator: str, step_tag: str) -> list[str]:
    """Return the steps of a completion, without step tags of its own; at least one.

    Args:
        separator: cut at this text instead of by the rule.
    """
    parts = completion.split(separator) if separator else re.split(RULES[rule], completion)
    kept = [part.replace(step_tag, " ").strip() for part in parts]
    return [part for part in kept if part] or [""]


def reduced(steps: tuple[float, ...], how: Reduction) -> float:
    """Return one score of the scores of all steps (at least one)."""
    if how == "min":
        return min(steps)
    if how == "prod":
        return math.prod(steps)
    return steps[-1] if how == "last" else sum(steps) / len(steps)
