"""Trees of Monte Carlo searches: what is known of a place, and what it promises."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from operators.strategies.words import Node


@dataclass
class Place:
    """A node of the tree, with the sum of the values of the walks that went through it."""

    node: Node
    prior: float = 1.0
    visits: int = 0
    total: float = 0.0
    children: list[Place] | None = field(default=None, repr=False)

    @property
    def value(self) -> float:
        """The mean of its walks; before the first its own score."""
        return self.total / self.visits if self.visits else self.node.score or 0.0


def promise(parent: Place, child: Place, c_base: float, c_init: float) -> float:
    """Return Q + U of a child (PUCT): what its walks brought, and what there is to learn there."""
    weight = math.log((parent.visits + c_base + 1.0) / c_base) + c_init
    return child.value + weight * math.sqrt(parent.visits) / (1 + child.visits) * child.prior
