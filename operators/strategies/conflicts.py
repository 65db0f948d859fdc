"""What a knowledge conflict is made of: the objects of a relation, and the passages that a condition shows."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from operators.strategies.episode import Episode
from operators.verify.canonical import cheap_key
from operators.verify.letters import comparable

NAMED = ("single", "memory_first", "counter_first", "random", "irrelevant")
"""Conditions that have names; others are amounts, ``2:1``."""
_AMOUNTS = re.compile(r"([1-9]):([1-9])")


def condition(name: str) -> str:
    """Return a condition's name.

    Raises:
        ValueError: there is no such condition.
    """
    if name not in NAMED and _AMOUNTS.fullmatch(name) is None:
        raise ValueError(f"'{name}' is no condition: {', '.join(NAMED)}, or amounts such as 2:1")
    return name


def amounts(name: str) -> tuple[int, int]:
    """Return how many passages a condition shows for the memory, and how many for the counter answer."""
    said = _AMOUNTS.fullmatch(name)
    if said is not None:
        return int(said[1]), int(said[2])
    return (0, 1) if name in ("single", "irrelevant") else (1, 1)


def arranged(
    ep: Episode, name: str, supporting: Sequence[str], against: Sequence[str], irrelevant: Sequence[str]
) -> list[str]:
    """Return the passages of a condition in its order."""
    mine, other = amounts(name)
    shown = [*supporting[:mine], *against[:other]]
    if name == "irrelevant":
        shown += irrelevant
    if name == "counter_first":
        shown.reverse()
    if name in ("single", "memory_first", "counter_first"):
        return shown
    return [shown[at] for at in sorted(range(len(shown)), key=lambda at: ep.uniform(f"order/{name}/{at}"))]


@dataclass(frozen=True)
class Objects:
    """What can be the answer of a question: objects of one relation, of which one is right."""

    all: tuple[str, ...]
    true: str | None

    @staticmethod
    def of(problem: Mapping[str, Any], field: str) -> Objects:
        """Read them from a problem's metadata, and the right one from its answer."""
        listed: list[Any] = json.loads(problem.get("metadata") or "{}").get(field) or []
        return Objects(tuple(map(str, listed)), problem.get("answer"))

    def named(self, text: str) -> str | None:
        """Return the object that a text names, None where it names none or several."""
        others = [] if self.true is None or self.true in self.all else [self.true]
        found = [one for one in (*self.all, *others) if names(text, one)]
        return found[0] if len(found) == 1 else None

    def other(self, ep: Episode, memory: str, evidence: str) -> str | None:
        """Return an object that is neither remembered nor named by the evidence, by lot; None where there is none."""
        free = [one for one in self.all if not same(one, memory) and not names(evidence, one)]
        return free[int(ep.uniform("counter") * len(free))] if free else None


def names(text: str, thing: str) -> bool:
    """Return whether a text has the words of a thing in it, in their order."""
    return re.search(rf"(?<!\w){re.escape(comparable(thing))}(?!\w)", comparable(text)) is not None


def same(one: str, other: str | None) -> bool:
    """Return whether two answers are the same."""
    if other is None:
        return False
    return comparable(one) == comparable(other) or (cheap_key(one) or one) == (cheap_key(other) or other)
