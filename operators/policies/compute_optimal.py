"""Choosing among sampling configurations by difficulty: compute-optimal scaling of test-time computation."""

from __future__ import annotations

from operators.measure.difficulty import Difficulty, grid
from operators.policies.policy import Bools, Chunk, Floats, Ints, Outcomes, Policy, Setting
from schemas.later import np

BINS = 5
"""Quintiles of difficulty."""


class ComputeOptimal(Policy):
    """Draw each problem's samples from the configuration that is best for problems of its difficulty.

    Snell et al. 2024, "Scaling LLM Test-Time Compute Optimally can be More Effective than Scaling Model Parameters",
    section 3. First every problem gets ``calibration`` samples of every arm (a temperature, a prompt, a model, a limit
    of tokens). Its difficulty is the mean of its rate, given the share of these that was accepted and whatever is known
    beforehand (``operators.measure.difficulty``; without that it is in the order of the shares), in quintiles. Problems
    are in two folds, evenly spread over difficulty; the arm of a quintile in one fold is the one that gained most per
    cost on the *other* fold, so no problem has a say in its own. Then problems are served in turn, each from its arm,
    until ``target`` samples were accepted. An arm may be a strategy: a
    sample is then an episode, and costs what its calls took.

    Args:
        arms: how many configurations there are.
        arm_cost: what a sample of each costs relative to the others, shape [arms]; None: what they were seen to cost.
    """

    def __init__(
        self, setting: Setting, arms: int, calibration: int = 16, target: int = 1, arm_cost: Floats | None = None
    ) -> None:
        super().__init__(setting)
        self.arms, self.calibration, self.target = arms, calibration, target
        self.arm_cost = arm_cost
        problems = len(setting.most)
        self.drawn = np.zeros((problems, arms), dtype=np.int64)
        self.correct = np.zeros((problems, arms), dtype=np.int64)
        self.given = np.zeros((problems, arms), dtype=np.int64)
        """Samples handed out or seen of each arm."""
        self.choice: Ints | None = None
        """The arm of each problem, shape [problems], once the calibration is over."""

    def learn(self, outcomes: Outcomes) -> bool:
        arms = np.zeros_like(outcomes.problems) if outcomes.arms is None else outcomes.arms
        np.add.at(self.drawn, (outcomes.problems, arms), 1)
        np.add.at(self.correct, (outcomes.problems, arms), outcomes.correct)
        self.given = np.maximum(self.given, self.drawn)
        if self.choice is None and (self.drawn >= self._wanted()).all():
            self.choice = self.choose()
            return True
        return False

    @property
    def costs(self) -> Floats:
        """What a sample of each arm counts as: as given, else as seen; all the same where one isn't known."""
        if self.arm_cost is not None:
            return self.arm_cost
        seen = np.array([self.seen_costs.get(arm, 0.0) for arm in range(self.arms)])
        return seen if (seen > 0).all() else np.ones(self.arms)

    def sent(self, problem: int, count: int, arm: int = 0) -> None:
        self.given[problem, arm] += count
        super().sent(problem, count, arm)

    def take_back(self, problem: int, count: int, arm: int = 0) -> None:
        self.given[problem, arm] -= min(count, int(self.given[problem, arm]))
        super().take_back(problem, count, arm)

    def values(self, problems: Ints) -> Floats:
        committed = (self.counts.drawn[problems] + self.counts.pending[problems]).astype(np.float64)
        if self.choice is None:  # what is calibrated waits for the others
            return np.where((self.given[problems] < self._wanted()[problems]).any(axis=1), -committed, -np.inf)
        return np.where(self.counts.correct[problems] < self.target, -committed, -np.inf)

    def done(self) -> Bools:
        waits = self.choice is None and bool(self.counts.pending.any())
        return super().done() & ~np.array(waits)

    def size(self, problem: int) -> int:
        if self.choice is None:
            return int((self._wanted()[problem] - self.given[problem]).clip(0).sum())
        return super().size(problem)

    def _best(self, problems: int, capacity: int) -> list[Chunk]:
        return [chunk for found in super()._best(problems, capacity) for chunk in self._of_arms(found)]

    def _of_arms(self, chunk: Chunk) -> list[Chunk]:
        if self.choice is not None:
            arm = int(self.choice[chunk.problem])
            self.given[chunk.problem, arm] += chunk.size
            return [chunk._replace(arm=arm)]
        found: list[Chunk] = []
        left = chunk.size
        for arm, lacking in enumerate((self._wanted()[chunk.problem] - self.given[chunk.problem]).tolist()):
            count = min(left, lacking)
            if count > 0:
                found.append(chunk._replace(size=count, arm=arm))
                self.given[chunk.problem, arm] += count
                left -= count
        return found

    def _wanted(self) -> Ints:
        """Return how many calibration samples each problem gets of each arm, shape [problems, arms]."""
        each = np.minimum(self.calibration, self.setting.most // self.arms)
        return np.repeat(each[:, None], self.arms, axis=1)

    def choose(self) -> Ints:
        """Return the arm of each problem by two-fold cross-validation within its quintile, shape [problems]."""
        problems = len(self.drawn)
        drawn, correct = self.drawn.sum(axis=1), self.correct.sum(axis=1)
        difficulty = Difficulty(problems, *self.setting.known)
        difficulty.fit(drawn, correct)
        rate = difficulty.posterior(drawn, correct, np.arange(problems)) @ grid.RATES
        rank = np.argsort(np.argsort(rate, kind="stable"), kind="stable")
        quintile, fold = rank * BINS // max(problems, 1), rank % 2
        gain = np.minimum(self.correct, self.target) / self.costs
        overall = gain.mean(axis=0)
        chosen = np.zeros(problems, dtype=np.int64)
        for number in range(BINS):
            for mine in (0, 1):
                others = (quintile == number) & (fold != mine)
                score = gain[others].mean(axis=0) if others.any() else overall
                best = np.flatnonzero(score == score.max())
                chosen[(quintile == number) & (fold == mine)] = best[np.argmax(overall[best])]
        return chosen
