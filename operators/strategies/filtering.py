"""Particle filters: paths are weighed by what a scorer says of them so far, and drawn anew by their weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from operators.strategies.episode import Episode
from operators.strategies.scorers import Prm, Scorer
from operators.strategies.search import Search
from operators.strategies.weighing import ess, logit, multinomial, softmax, systematic
from operators.strategies.words import Bill, Node, Result

Logs = list[float | None]


class Filter(Search):
    """Base of particle filters (Puri et al. 2025, "A Probabilistic Inference Approach to Inference-Time Scaling").

    With ``weights = each`` (as published) the odds of every prefix are multiplied into what is drawn from, and an ended
    path that is drawn again is weighed again in every round that it waits. With ``ratio`` a path weighs its odds over
    those at its last draw: what is drawn from is the policy times the odds of the whole text.
    """

    scorer: Scorer = Prm(reduce="whole")
    width: int = Field(default=8, ge=1)
    """How many particles there are."""
    resampling: Literal["multinomial", "systematic"] = "multinomial"
    """How paths are drawn anew: each by itself, or at equal distances from one random start, which varies less."""
    ended: Literal["resampled", "kept"] = "resampled"
    """Whether paths that have ended are drawn among the others (as published), or keep their places."""
    weights: Literal["each", "ratio"] = "each"
    """What a path weighs: see above."""
    select: Literal["best", "majority", "weighted", "draw"] = "best"  # pyright: ignore[reportIncompatibleVariableOverride]
    """Which final is chosen; ``draw``: one drawn by the last weights."""

    @property
    def rows(self) -> int:
        return self.width

    def worst(self, prompt: int, most: int) -> Bill:
        return self.walking(prompt, most, self.width)

    def tau_at(self, step: int, logs: Logs) -> float:
        """Return the temperature of the weights after a step, counted from 1.

        Args:
            logs: of the weights at temperature 1.
        """
        raise TypeError(f"{type(self).__name__} doesn't define tau_at()")

    def logs(self, nodes: Sequence[Node], step: int, tau: float, carried: Sequence[float]) -> Logs:
        """Return the logs of the weights after a step.

        Args:
            carried: log of what each node brought along from its last draw (``ratio``).
        """
        if self.weights == "each":
            return [None if node.score is None else logit(node.score) / tau for node in nodes]
        return [
            None if node.score is None else brought + (logit(node.score) - _drawn_at(node, step)) / tau
            for node, brought in zip(nodes, carried, strict=True)
        ]

    async def play(self, ep: Episode) -> Result:
        frontier = [child for [child] in await self.grown(ep, [Node()] * self.width)]
        carried, step = [0.0] * self.width, 1
        while any(not node.ended for node in frontier) and not ep.capped:
            pool = [slot for slot, node in enumerate(frontier) if self.ended == "resampled" or not node.ended]
            logs = self.tempered(frontier, step, carried, pool)
            mine = [logs[slot] for slot in pool]
            shares = self.shares(ep, mine)
            draw = systematic if self.resampling == "systematic" else multinomial
            picked = [pool[place] for place in draw(ep, shares, len(pool), f"resample/{step}")]
            if self.ended == "kept":
                mean = _log_mean(mine)
                carried = [mean if slot in pool else logs[slot] or 0.0 for slot in range(self.width)]
            frontier = _with(frontier, pool, [frontier[place] for place in picked])
            live = [slot for slot, node in enumerate(frontier) if not node.ended]
            if live:
                grown = await self.grown(ep, [frontier[slot] for slot in live], slots=live)
                frontier = _with(frontier, live, [child for [child] in grown])
            step += 1
        return self.result(ep, frontier, self.drawn(ep, self.tempered(frontier, step, carried)))

    def shares(self, ep: Episode, logs: Logs) -> list[float]:
        """Return the weights that paths are drawn by; the episode notes their effective sample size."""
        shares = softmax(ep, logs)
        size = ess(shares)
        ep.notes |= {"ess_last": size, "ess_min": min(size, ep.notes.get("ess_min", size))}
        return shares

    def tempered(
        self, nodes: Sequence[Node], step: int, carried: Sequence[float], pool: Sequence[int] | None = None
    ) -> Logs:
        """Return the logs of the weights at the step's temperature, which is found among the nodes of the pool."""
        plain = self.logs(nodes, step, 1.0, carried)
        tau = self.tau_at(step, plain if pool is None else [plain[slot] for slot in pool])
        return self.logs(nodes, step, tau, carried)

    def drawn(self, ep: Episode, logs: Logs) -> int | None:
        """Return the place that is drawn by the last weights, None where none is to be drawn, or none weighs."""
        if self.select != "draw" or all(log is None for log in logs):
            return None
        return multinomial(ep, softmax(ep, logs), 1, "choose")[0]


def _drawn_at(node: Node, step: int) -> float:
    """Return the log odds that a node had at its last draw: those of its parent, if it was written since."""
    before = node.parent if node.steps == step else node
    return 0.0 if before is None or before.score is None else logit(before.score)


def _with(nodes: Sequence[Node], slots: Sequence[int], new: Sequence[Node]) -> list[Node]:
    found = list(nodes)
    for slot, node in zip(slots, new, strict=True):
        found[slot] = node
    return found


def _log_mean(logs: Logs) -> float:
    known = [log for log in logs if log is not None]
    top = max(known, default=0.0)
    return top + math.log(sum(math.exp(log - top) for log in known) / len(logs)) if known else 0.0
