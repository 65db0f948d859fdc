"""Voting under a common budget: samples go where one more is most likely to change what is known about the leader."""

from __future__ import annotations

from functools import lru_cache

from operators.policies.consistency import Voting
from operators.policies.policy import Bools, Floats, Ints, Setting
from schemas.later import np, special

NODES = 64
"""Points of the quadrature over the largest share."""
DEPTH = 6
"""Answers that are looked at apart; the others can't lead soon."""


class Pets(Voting):
    """Serve first where one more sample raises the certainty of the leader most (optimistic knowledge gradient).

    Votes a of a problem give its answers' shares the distribution Dirichlet(a + 1), one answer that nobody gave yet
    included. h(a) = max_m P(theta_m largest); the next problem is argmax_i max_m [h(a_i + e_m) - h(a_i)] / cost_i
    (Chen, Lin and Zhou 2013, "Optimistic Knowledge Gradient"; for test-time scaling: PETS). A problem with
    h >= ``confidence`` gets no more.
    """

    def __init__(self, setting: Setting, confidence: float = 0.95) -> None:
        super().__init__(setting)
        self.confidence = confidence

    def settled(self, problems: Ints) -> Bools:
        return np.array([certainty(self._state(problem)) >= self.confidence for problem in problems.tolist()])

    def values(self, problems: Ints) -> Floats:
        gains = np.array([_gain(self._state(problem)) for problem in problems.tolist()])
        waiting = self.counts.pending[problems]
        # a sample that is on its way already may tell the same
        value = np.maximum(gains, 1e-9) / self.setting.cost[problems] / (1.0 + waiting)
        return np.where(self._stopped[problems], -np.inf, value)

    def size(self, problem: int) -> int:
        return 1

    def _state(self, problem: int) -> tuple[int, ...]:
        votes = sorted(self.votes[problem].values(), reverse=True)
        return tuple(votes[:DEPTH])


@lru_cache(maxsize=200_000)
def certainty(votes: tuple[int, ...]) -> float:
    """Return h: the probability that the leading answer has the largest share; ``votes`` are sorted, most first."""
    return largest((*votes, 0))


@lru_cache(maxsize=200_000)
def largest(votes: tuple[int, ...]) -> float:
    """Return max_m P(theta_m largest) under Dirichlet(votes + 1).

    Shares are Gamma(a_m) variables over their sum, so P(m largest) = E[prod_{j != m} F(x; a_j)], x ~ Gamma(a_m).
    """
    shape = np.array(votes, dtype=np.float64) + 1.0
    x = special.gammaincinv(shape.max(), (np.arange(NODES) + 0.5) / NODES)
    others = np.delete(shape, int(shape.argmax()))
    below: Floats = special.gammainc(others[:, None], x)
    return float(below.prod(axis=0).mean())


@lru_cache(maxsize=200_000)
def _gain(votes: tuple[int, ...]) -> float:
    """Return max_m h(a + e_m) - h(a)."""
    known = certainty(votes)
    return max(certainty(_one_more(votes, place)) for place in range(len(votes) + 1)) - known


def _one_more(votes: tuple[int, ...], place: int) -> tuple[int, ...]:
    grown = [*votes, 0]
    grown[place] += 1
    return tuple(sorted((count for count in grown if count), reverse=True)[:DEPTH])
