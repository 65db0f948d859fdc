"""Many replays of one policy side by side: the same decisions as one by one, in a twentieth of the time.

A replay makes some ten thousand decisions, each of which is a few numbers; the time goes into calling NumPy, not into
computing. So replays advance in step, one decision each, and a decision is a row of arrays. There is one policy over
the problems of all replays, whose ``values`` says what a sample of any of them is worth, and one for each replay, which
learns what there is to learn: its counts are a stretch of the wide one's.

Only for policies that rank problems by how often each was accepted, and share chunks as ``Policy`` does.
"""

from __future__ import annotations

from copy import copy
from typing import Any

import numpy as np

from jobs.simulate.replay import Question, Replayed, oracle, setting_of
from operators.measure.rates import RATES
from operators.policies.greedy import Greedy
from operators.policies.marginal import Marginal
from operators.policies.named import AnyPolicy, GreedySpec, MarginalSpec, UniformSpec, UntilCorrectSpec
from operators.policies.oracle import Oracle
from operators.policies.policy import ALIKE, PORTION, TURNS, Counts, Floats, Ints, Outcomes, Policy, Setting

MEMORY = 20_000_000
"""Successes of all replays that are held at once (160 MB), and numbers in their tables of difficulty."""


def runs_abreast(question: Question, spec: AnyPolicy | None) -> bool:
    """Whether replays of a policy (None: the oracle) can be run side by side."""
    if question.goal == "accuracy" or len(question.recorded.arms) > 1:
        return False
    return spec is None or isinstance(spec, (UniformSpec, UntilCorrectSpec, GreedySpec, MarginalSpec))


def replay_abreast(question: Question, spec: AnyPolicy | None, seeds: list[int]) -> list[Replayed]:
    """Replay one policy (None: the oracle) once for each seed; the same results as ``replay`` with each."""
    successes = max(1, int(question.recorded.c.sum()), len(question.recorded.n) * len(RATES))
    step = max(1, MEMORY // successes)
    found: list[Replayed] = []
    for start in range(0, len(seeds), step):
        found += _Fleet(question, spec, seeds[start : start + step]).run()
    return found


class _Fleet:
    """Replays in step.

    Attributes:
        worth: what the next sample of each problem is worth, shape [replays, problems]; -inf for no more.
    """

    def __init__(self, question: Question, spec: AnyPolicy | None, seeds: list[int]) -> None:
        self.question, self.replays = question, len(seeds)
        recorded = question.recorded
        self.problems = len(recorded.n)
        alone = [setting_of(question, seed) for seed in seeds]
        self.parts = [oracle(question, one) if spec is None else spec.begin(one) for one in alone]
        self.difficulties = _Difficulties(self.replays, self.problems)
        self.wide = _wide(self.parts, self.difficulties)
        self.counts = self.wide.counts
        self.most = self.wide.setting.most
        self.cost: Floats = np.tile(question.charge[:, 0], self.replays)
        self.learns = type(self.wide).learn is not Policy.learn
        self.worth = np.full((self.replays, self.problems), -np.inf)
        self.hits = _Hits(recorded.n[:, 0], recorded.c[:, 0], seeds)
        self.correct = np.zeros(self.replays * self.problems, dtype=np.int64)
        self.spent, self.value = np.zeros(self.replays), np.zeros(self.replays)

    def run(self) -> list[Replayed]:
        """Replay until the budget is spent or no sample is wanted, and read the curves off."""
        for one, policy in enumerate(self.parts):
            self._take_over(one, policy)
        self._rank(np.arange(self.replays * self.problems))
        spent, values = [self.spent.copy()], [self.value.copy()]
        while (touched := self._hand_out()).size:
            self._observe(touched)
            spent.append(self.spent.copy())
            values.append(self.value.copy())
        costs, curves = np.stack(spent, axis=1), np.stack(values, axis=1)
        return [
            Replayed(
                np.interp(self.question.costs, costs[one], curves[one]), float(costs[one, -1]), float(curves[one, -1])
            )
            for one in range(self.replays)
        ]

    def _hand_out(self) -> Ints:
        """Hand out one round of samples in every replay; return the problems that got some, by their wide number."""
        capacity = self.question.room(self.spent)
        turn = -(-capacity // TURNS)
        while True:
            places = self._best(np.minimum(turn, capacity))
            if not places.size:
                return np.flatnonzero(self.counts.pending)
            # a row of ``places`` are problems of different replays, so that nobody's capacity is counted twice
            for row in places:
                which = row[row >= 0]
                replay = which // self.problems
                which = which[capacity[replay] > 0]
                replay = which // self.problems
                committed = self.counts.drawn[which] + self.counts.pending[which]
                size = np.maximum(1, np.minimum(committed // PORTION, self.most[which] - committed))
                size = np.minimum(size, capacity[replay])
                self.counts.pending[which] += size
                capacity[replay] -= size
            self._rank(places[places >= 0])

    def _best(self, turn: Ints) -> Ints:
        """Return the problems that get a chunk now, shape [rank, replays]; -1 where there is none."""
        worth, replays = self.worth, np.arange(self.replays)
        most = int(turn.max(initial=0))
        first = worth.argmax(axis=1)[:, None]
        order = first if most == 1 else np.argsort(-worth, axis=1, kind="stable")[:, :most]
        value = worth[replays[:, None], order]
        alike = (value >= ALIKE * value[:, :1]) | (value[:, :1] <= 0)
        wanted = np.isfinite(value) & alike & (np.arange(order.shape[1]) < turn[:, None])
        if not wanted.any():
            return np.empty((0, self.replays), dtype=np.int64)
        return np.where(wanted, order + replays[:, None] * self.problems, -1).T

    def _observe(self, touched: Ints) -> None:
        """Draw what was handed out, and count it."""
        counts = self.counts
        size = counts.pending[touched]
        first = counts.drawn[touched]
        hits = self.hits.among(touched, first + size)
        replay = touched // self.problems
        target, before = self.question.target, counts.correct[touched]
        counts.pending[touched] = 0
        counts.drawn[touched] += size
        counts.correct[touched] += hits
        gained = np.minimum(before + hits, target) - np.minimum(before, target)
        self.value += np.bincount(replay, weights=gained, minlength=self.replays)
        self.spent += np.bincount(replay, weights=size * self.cost[touched], minlength=self.replays)
        if self.learns:
            self._learn(touched, size, hits)
        self._rank(touched)

    def _learn(self, touched: Ints, size: Ints, hits: Ints) -> None:
        """Tell every replay's policy its outcomes, and rank all problems of those that learnt something from them."""
        ends = np.searchsorted(touched, np.arange(self.replays + 1) * self.problems)
        for one, policy in enumerate(self.parts):
            here = slice(ends[one], ends[one + 1])
            if ends[one] == ends[one + 1]:
                continue
            first = one * self.problems
            number = np.repeat(touched[here] - first, size[here])
            place = np.arange(len(number)) - np.repeat(np.cumsum(size[here]) - size[here], size[here])
            if policy.learn(Outcomes(number, place < np.repeat(hits[here], size[here]))):
                self._take_over(one, policy)
                self._rank(np.arange(first, first + self.problems))

    def _take_over(self, replay: int, policy: Policy) -> None:
        """Let the wide policy know what one replay's has learnt."""
        if isinstance(policy, Greedy):
            assert isinstance(self.wide, Greedy)
            self.wide.prior[:, replay * self.problems : (replay + 1) * self.problems] = policy.prior
        if isinstance(policy, Marginal):
            self.difficulties.take(replay, policy.difficulty)

    def _rank(self, some: Ints) -> None:
        committed = self.counts.drawn[some] + self.counts.pending[some]
        values = np.where(committed < self.most[some], self.wide.values(some), -np.inf)
        self.worth.reshape(-1)[some] = values


class _Hits:
    """Where in each problem's samples, in each replay's order, the accepted ones are."""

    def __init__(self, n: Ints, c: Ints, seeds: list[int]) -> None:
        self._long = int(n.max(initial=0)) + 1
        where: list[Ints] = []
        for row, seed in enumerate(seeds):
            for number, (a, b) in enumerate(zip(n.tolist(), c.tolist(), strict=True)):
                accepted = np.sort(np.random.default_rng([seed, number]).choice(a, b, replace=False))
                where.append(accepted + (row * len(n) + number) * self._long)
        self._where = np.concatenate(where) if where else np.empty(0, dtype=np.int64)
        each = np.tile(c, len(seeds))
        self._next = np.cumsum(each) - each
        """Place in ``_where`` of each problem's first accepted sample that wasn't drawn yet."""

    def among(self, problems: Ints, drawn: Ints) -> Ints:
        """Return how many more were accepted when so many of each problem are drawn."""
        now = np.searchsorted(self._where, problems * self._long + drawn)
        found = now - self._next[problems]
        self._next[problems] = now
        return found


def _wide(parts: list[Policy], difficulties: _Difficulties) -> Policy:
    """Return one policy over the problems of all; the parts' counts become stretches of its own."""
    one, problems = parts[0], len(parts[0].setting.most)
    wide: Any = copy(one)
    wide.setting = Setting(np.tile(one.setting.most, len(parts)), np.tile(one.setting.cost, len(parts)))
    nothing = np.zeros(len(wide.setting.most), dtype=np.int64)
    wide.counts = Counts(nothing, nothing.copy())
    for number, part in enumerate(parts):
        here = slice(number * problems, (number + 1) * problems)
        part.counts.drawn, part.counts.correct = wide.counts.drawn[here], wide.counts.correct[here]
        part.counts.pending = wide.counts.pending[here]
    if isinstance(one, Oracle):
        wide.rates = np.tile(one.rates, len(parts))
    if isinstance(one, Marginal):
        wide.difficulty = difficulties
    if isinstance(one, Greedy):
        wide.prior = np.tile(one.prior, len(parts))
    return wide


class _Difficulties:
    """In the place of a policy's ``difficulty``: that of several replays.

    A posterior is a mixture of two, without regard to the hints and with it; each is a prior on the grid of rates times
    the likelihood of the counts. The priors are kept.
    """

    def __init__(self, replays: int, problems: int) -> None:
        self.problems = problems
        self.trust = np.zeros(replays)
        self.plain = np.zeros((replays, len(RATES)))
        self.hinted: Floats = np.empty((0, len(RATES)))
        self._hit, self._miss = np.log(RATES), np.log1p(-RATES)

    def take(self, replay: int, difficulty: Any) -> None:
        """Keep one replay's priors as they are now."""
        every, none = np.arange(self.problems), np.zeros(self.problems, dtype=np.int64)
        self.trust[replay] = difficulty.trust
        alone = copy(difficulty)
        alone.trust = 0.0
        self.plain[replay] = np.log(np.maximum(alone.posterior(none[:1], none[:1], every[:1])[0], 1e-300))
        if difficulty.trust > 0.0:
            if not len(self.hinted):
                self.hinted = np.zeros((len(self.trust) * self.problems, len(RATES)))
            alone.trust = 1.0
            here = slice(replay * self.problems, (replay + 1) * self.problems)
            self.hinted[here] = np.log(np.maximum(alone.posterior(none, none, every), 1e-300))

    def posterior(self, drawn: Ints, correct: Ints, problems: Ints) -> Floats:
        """As ``Difficulty.posterior``, with the problems of all replays."""
        known = np.outer(correct, self._hit) + np.outer(drawn - correct, self._miss)
        replay = problems // self.problems
        trust = self.trust[replay][:, None]
        if not trust.any():
            return _shares(self.plain[replay] + known)
        found: Floats = (1.0 - trust) * _shares(self.plain[replay] + known)
        found += trust * _shares(self.hinted[problems] + known)
        return found


def _shares(logs: Floats) -> Floats:
    shares = np.exp(logs - logs.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True)
