"""Policies for voting without a verifier: stop a problem once its leading answer can be trusted to stay in the lead.

* ``AdaptiveConsistency`` (Aggarwal et al. 2023, "Let's Sample Step by Step"): the two leaders have v1 >= v2 votes; the
  chance that the first is the more frequent is 1 - I_{1/2}(v1 + 1, v2 + 1) with a uniform prior on their shares.
* ``EarlyStopping`` (ESC; Li et al. 2024, "Escape Sky-high Cost"): windows of w samples; stop when one is unanimous.
* ``BayesianStopping`` keeps three numbers, the votes of the first, of the second and of all others (L = 3), and asks
  for the posterior chance that the leader is the most frequent answer, under a library of shapes that the sorted
  frequencies of a problem's answers may have (``operators.policies.shapes``).
"""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter

from operators.policies.policy import Bools, Floats, Ints, Outcomes, Policy, Setting
from operators.policies.shapes import Shapes
from schemas.later import np, special


class Voting(Policy):
    """Base: counts each problem's votes; whoever has the fewest samples is next, until ``settled``."""

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        problems = len(setting.most)
        self.votes: list[Counter[int]] = [Counter() for _ in range(problems)]
        self._stopped = np.zeros(problems, dtype=np.bool_)

    def learn(self, outcomes: Outcomes) -> bool:
        if outcomes.answers is None:
            raise ValueError(f"{type(self).__name__} votes, and needs to know what each sample answered")
        for problem, answer in zip(outcomes.problems.tolist(), outcomes.answers.tolist(), strict=True):
            self.vote(problem, answer)
        some = np.unique(outcomes.problems)
        self._stopped[some] |= self.settled(some)
        return False

    def vote(self, problem: int, answer: int) -> None:
        """Count one sample's answer, in the order in which samples are counted."""
        if answer >= 0:
            self.votes[problem][answer] += 1

    @abstractmethod
    def settled(self, problems: Ints) -> Bools:
        """Return for which problems the vote is decided."""

    def values(self, problems: Ints) -> Floats:
        committed = self.counts.drawn[problems] + self.counts.pending[problems]
        return np.where(self._stopped[problems], -np.inf, -committed.astype(np.float64))

    def leaders(self, problems: Ints) -> Ints:
        """Return the votes of the first, the second and all other answers, shape [problems, 3]."""
        table = np.zeros((len(problems), 3), dtype=np.int64)
        numbers: list[int] = problems.tolist()
        for row, problem in enumerate(numbers):
            first = self.votes[problem].most_common(2)
            table[row, : len(first)] = [count for _, count in first]
            table[row, 2] = self.votes[problem].total() - table[row, 0] - table[row, 1]
        return table


class AdaptiveConsistency(Voting):
    """Stop where the leader is ahead of the second with probability ``confidence``."""

    def __init__(self, setting: Setting, confidence: float = 0.95) -> None:
        super().__init__(setting)
        self.confidence = confidence

    def settled(self, problems: Ints) -> Bools:
        first, second, _ = self.leaders(problems).T
        ahead = 1.0 - np.asarray(special.betainc(first + 1.0, second + 1.0, 0.5), dtype=np.float64)
        settled: Bools = (ahead >= self.confidence) & (first > 0)
        return settled


class EarlyStopping(Voting):
    """Stop where all samples of a window of ``window`` agree."""

    def __init__(self, setting: Setting, window: int = 4) -> None:
        super().__init__(setting)
        self.window = window
        self._recent: list[list[int]] = [[] for _ in setting.most]
        self._unanimous = np.zeros(len(setting.most), dtype=np.bool_)

    def vote(self, problem: int, answer: int) -> None:
        super().vote(problem, answer)
        recent = self._recent[problem]
        recent.append(answer)
        if len(recent) == self.window:
            self._unanimous[problem] |= answer >= 0 and len(set(recent)) == 1
            recent.clear()

    def settled(self, problems: Ints) -> Bools:
        return self._unanimous[problems]

    def size(self, problem: int) -> int:
        """The rest of a window."""
        committed = int(self.counts.drawn[problem] + self.counts.pending[problem])
        return min(self.window - committed % self.window, int(self.setting.most[problem]) - committed)


class BayesianStopping(Voting):
    """Stop where the leader is the most frequent answer with posterior probability 1 - ``risk``."""

    def __init__(self, setting: Setting, risk: float = 0.05, shapes: Shapes | None = None) -> None:
        super().__init__(setting)
        self.risk = risk
        self.shapes = shapes or Shapes.library()
        self._known: dict[tuple[int, ...], float] = {}

    def settled(self, problems: Ints) -> Bools:
        states = [tuple(row) for row in self.leaders(problems).tolist()]
        fresh = sorted(set(states) - self._known.keys())
        if fresh:
            self._known |= dict(zip(fresh, self.shapes.leads(np.array(fresh)).tolist(), strict=True))
        sure = np.array([self._known[state] for state in states])
        settled: Bools = sure >= 1.0 - self.risk
        return settled
