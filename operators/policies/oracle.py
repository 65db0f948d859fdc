"""Policies that know what nobody can know, for comparison: how much a perfect forecast of difficulty would save."""

from __future__ import annotations

from operators.policies.consistency import Voting
from operators.policies.policy import Bools, Floats, Ints, Policy, Setting
from schemas.later import np


class Oracle(Policy):
    """Serve the highest true success rate first, until ``target`` samples were accepted.

    Args:
        rates: the true success rate of each problem, shape [problems].
    """

    def __init__(self, setting: Setting, rates: Floats, target: int = 1) -> None:
        super().__init__(setting)
        self.rates, self.target = rates, target

    def values(self, problems: Ints) -> Floats:
        wanted = (self.counts.correct[problems] < self.target) & (self.rates[problems] > 0)
        return np.where(wanted, self.rates[problems] / self.setting.cost[problems], -np.inf)


class VotingOracle(Voting):
    """Stop a problem as soon as the right answer leads; leave out those where it never will.

    Args:
        right: which answer is right, shape [problems]; -1 where no sample has it.
        hopeless: whether the right answer isn't the most frequent of all samples, shape [problems].
    """

    def __init__(self, setting: Setting, right: Ints, hopeless: Bools) -> None:
        super().__init__(setting)
        self.right = right
        self._stopped |= hopeless

    def settled(self, problems: Ints) -> Bools:
        numbers: list[int] = problems.tolist()
        leaders = [next(iter(self.votes[number].most_common(1)), (-2, 0))[0] for number in numbers]
        return np.array(leaders) == self.right[problems]
