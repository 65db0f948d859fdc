"""Shapes that the sorted frequencies of a problem's answers may have, and which answer they say is the mode.

With q_1 >= q_2 >= ... the frequencies, the votes (v1, v2, rest) of the first, of the second and of all others come from
the shape with the chance  sum_{i != j} q_i^v1 q_j^v2 (1 - q_i - q_j)^rest, i and j being whichever answers lead now.
The leader is the mode in the terms with i = 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from schemas.later import Floats, Ints, np

TOPS = (0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.98, 0.995)
DECAYS = (0.3, 0.6, 0.8, 0.95)
ANSWERS = 24


@dataclass(frozen=True)
class Shapes:
    """A library of shapes.

    Attributes:
        first, second, rest: q_i, q_j and 1 - q_i - q_j of every pair of answers of every shape, shape [pairs].
        weight: prior probability of the pair's shape, shape [pairs].
        leads: whether i is the shape's mode, shape [pairs].
    """

    first: Floats
    second: Floats
    rest: Floats
    weight: Floats
    mode: Floats

    @classmethod
    def of(cls, shapes: Sequence[Sequence[float]]) -> Shapes:
        """Return a library in which each of ``shapes`` (frequencies, largest first) is as likely as the others."""
        columns: list[Floats] = []
        for shape in shapes:
            q = np.asarray(shape, dtype=np.float64) / np.sum(shape)
            i, j = (index.ravel() for index in np.indices((len(q), len(q))))
            i, j = i[i != j], j[i != j]
            rest = np.maximum(1.0 - q[i] - q[j], 0.0)
            columns.append(np.stack([q[i], q[j], rest, np.full(len(i), 1.0 / len(shapes)), q[i] == q[0]]))
        return cls(*np.concatenate(columns, axis=1))

    @classmethod
    def library(cls) -> Shapes:
        """Return shapes with any share of the first answer and others that decay geometrically, slowly or fast."""
        shapes: list[list[float]] = []
        for top in TOPS:
            for decay in DECAYS:
                others = decay ** np.arange(ANSWERS - 1)
                others *= (1.0 - top) / others.sum()
                if others[0] < top:
                    shapes.append([top, *others.tolist()])
        return cls.of(shapes)

    def leads(self, votes: Ints) -> Floats:
        """Return P(the leader is the mode | votes).

        Args:
            votes: of the first, the second and all others, shape [states, 3].
        """
        with np.errstate(divide="ignore"):
            logs = np.log(np.stack([self.first, self.second, self.rest]))
        # 0 votes for an answer that can't be: 0 ln 0 = 0
        scores = np.where(votes[:, :, None] > 0, votes[:, :, None] * logs[None], 0.0).sum(axis=1) + np.log(self.weight)
        top = scores.max(axis=1, keepdims=True)
        terms = np.exp(scores - top)
        shares: Floats = (terms @ self.mode) / terms.sum(axis=1)
        return shares
