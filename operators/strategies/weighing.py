"""Weighing: from scores to weights, from weights to a new frontier, and which node is the best."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate

from operators.strategies.episode import Episode
from operators.strategies.words import Node

CLIP = 1e-7
"""Scores are cut to [CLIP, 1 - CLIP] before their odds are taken."""


def logit(score: float) -> float:
    """Return the log odds of a score."""
    score = min(1.0 - CLIP, max(CLIP, score))
    return math.log(score / (1.0 - score))


def shares_of(logs: Sequence[float | None]) -> list[float] | None:
    """Return weights of sum 1 that are proportional to exp(log), of which None weighs 0; None where nothing weighs."""
    top = max((log for log in logs if log is not None), default=-math.inf)
    if not math.isfinite(top):
        return None
    odds = [0.0 if log is None else math.exp(log - top) for log in logs]
    total = sum(odds)
    return [one / total for one in odds]


def softmax(ep: Episode, logs: Sequence[float | None]) -> list[float]:
    """Return ``shares_of`` logs; where nothing weighs anything all weigh the same, and the episode notes it."""
    found = shares_of(logs)
    if found is None:
        ep.note(degenerate=1)
    return found or [1.0 / len(logs)] * len(logs)


def weights(ep: Episode, scores: Sequence[float | None], tau: float = 1.0) -> list[float]:
    """Return weights that are proportional to a score's odds to the power of 1/tau (Puri et al. 2025)."""
    return softmax(ep, [None if score is None else logit(score) / tau for score in scores])


def multinomial(ep: Episode, shares: Sequence[float], count: int, name: str) -> list[int]:
    """Return ``count`` places, drawn with replacement by weights of sum 1."""
    bounds = list(accumulate(shares))
    return [_place(bounds, shares, ep.uniform(f"{name}/{draw}")) for draw in range(count)]


def systematic(ep: Episode, shares: Sequence[float], count: int, name: str) -> list[int]:
    """Return ``count`` places in order, by equally spaced positions of which one number says where they begin.

    A weight w is met floor(count x w) or ceil(count x w) times, so equal weights are met once each.
    """
    bounds = list(accumulate(shares))
    first = ep.uniform(name)
    return [_place(bounds, shares, (draw + first) / count) for draw in range(count)]


def _place(bounds: Sequence[float], shares: Sequence[float], position: float) -> int:
    last = max(place for place, share in enumerate(shares) if share > 0)
    return next((place for place, bound in enumerate(bounds[:last]) if position < bound), last)


def ess(shares: Sequence[float]) -> float:
    """Return the effective sample size of weights of sum 1: the count of equal weights with this sum of squares."""
    return 1.0 / sum(share * share for share in shares)


def distinct(nodes: Sequence[Node]) -> list[Node]:
    """Return nodes in order, of equal texts the first alone."""
    first: dict[str, Node] = {}
    for node in nodes:
        first.setdefault(node.text, node)
    return list(first.values())


def ranked(nodes: Sequence[Node], shorter: bool = False) -> list[int]:
    """Return places, the largest score first, and of equal ones the first. No score is smaller than any.

    Args:
        shorter: of equal scores the text of fewer tokens goes first.
    """

    def order(place: int) -> tuple[float, int]:
        score = nodes[place].score
        return math.inf if score is None else -score, nodes[place].tokens if shorter else 0

    return sorted(range(len(nodes)), key=order)


def preferred(finals: Sequence[Node]) -> list[int]:
    """Return places of finals, the best first: those with a score, texts that came to their end, then by score."""

    def order(place: int) -> tuple[bool, bool]:
        return finals[place].score is None, finals[place].finish != "stop"

    return sorted(ranked(finals, shorter=True), key=order)


def best(finals: Sequence[Node]) -> int | None:
    """Return the place of the final that is chosen, None where none has a score."""
    return next((place for place in preferred(finals) if finals[place].score is not None), None)
