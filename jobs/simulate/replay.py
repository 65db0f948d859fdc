"""One replay: recorded samples in a random order, drawn without replacement as a policy asks for them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from jobs.simulate.records import Recorded, Samples, Unit, rates
from operators.policies.named import AnyPolicy, Goal
from operators.policies.oracle import Oracle, VotingOracle
from operators.policies.policy import Bools, Chunk, Floats, Ints, Known, Outcomes, Policy, Setting


@dataclass(frozen=True)
class Question:
    """What is asked of all policies alike.

    Attributes:
        recorded: the samples.
        goal, target: what counts.
        unit: what is spent.
        budget: of it, all problems together.
        in_flight: samples that are out at the same time.
        before, similar: what is known beforehand; see ``Setting``.
        costs: where values are read off, shape [costs].
        features: of the problems; see ``Setting``.
    """

    recorded: Recorded
    goal: Goal
    target: int
    unit: Unit
    budget: float
    in_flight: int
    before: Ints | None
    similar: Ints | None
    costs: Floats
    features: Floats | None = None

    @property
    def charge(self) -> Floats:
        """What a sample of each problem costs on average, in the unit, shape [problems, arms]."""
        return np.ones(self.recorded.n.shape) if self.recorded.cost is None else self.recorded.cost

    def room(self, spent: Floats) -> Ints:
        """Return how many samples may go out where so much is spent: so many that the budget is never passed."""
        dearest = float(self.charge.max(initial=0.0))
        left = np.floor((self.budget - spent) / dearest + 1e-9) if dearest > 0 else np.full(len(spent), np.inf)
        return np.clip(left, 0, self.in_flight).astype(np.int64)


@dataclass(frozen=True)
class Replayed:
    """One replay's curve.

    Attributes:
        values: at each of the question's costs.
        spent: what was spent in the end.
        final: the value then.
    """

    values: Floats
    spent: float
    final: float


def setting_of(question: Question, seed: int) -> Setting:
    """Return what a policy is told at the start of a replay."""
    recorded = question.recorded
    known = Known(question.before, question.similar, question.features)
    return Setting(recorded.n.sum(axis=1), question.charge.mean(axis=1), known, seed)


def replay(question: Question, spec: AnyPolicy | None, seed: int) -> Replayed:
    """Replay one policy, or the oracle (None), with the samples in the order of ``seed``, the same for all policies."""
    recorded = question.recorded
    order = Order(recorded, seed)
    setting = setting_of(question, seed)
    policy = oracle(question, setting) if spec is None else spec.begin(setting)
    for arm, cost in enumerate(question.charge.mean(axis=0).tolist()):
        policy.learn_cost(arm, cost)
    tally = _Votes(recorded) if question.goal == "accuracy" else _Accepted(len(recorded.n), question.target)
    spent, costs, values = 0.0, [0.0], [tally.value]
    while room := int(question.room(np.array([spent]))[0]):
        chunks = policy.next(room)
        if not chunks:
            break
        outcomes = order.draw(chunks)
        policy.observe(outcomes)
        tally.count(outcomes)
        if not len(outcomes.problems):
            break
        assert outcomes.arms is not None
        spent += float(question.charge[outcomes.problems, outcomes.arms].sum())
        costs.append(spent)
        values.append(tally.value)
    return Replayed(np.interp(question.costs, costs, values), spent, values[-1])


def replay_each(question: Question, spec: AnyPolicy | None, seeds: list[int]) -> list[Replayed]:
    """Return a replay for each seed."""
    return [replay(question, spec, seed) for seed in seeds]


class Order:
    """The samples of each problem and arm in a random order."""

    def __init__(self, recorded: Recorded, seed: int) -> None:
        self._at = np.zeros_like(recorded.n)
        self._n = recorded.n
        self._samples: Samples | None = recorded.samples
        self._hits: list[list[Ints]] = []
        self._order: list[Ints] = []
        for number, (n, c) in enumerate(zip(recorded.n.tolist(), recorded.c.tolist(), strict=True)):
            rng = np.random.default_rng([seed, number])
            if recorded.samples is not None:
                self._order.append(rng.permutation(n[0]))
            else:
                self._hits.append([np.sort(rng.choice(a, b, replace=False)) for a, b in zip(n, c, strict=True)])

    def draw(self, chunks: Sequence[Chunk]) -> Outcomes:
        """Return the next samples of the chunks, as far as there are any."""
        problems: list[Ints] = []
        arms: list[Ints] = []
        correct: list[Bools] = []
        answers: list[Ints] = []
        for chunk in chunks:
            first = int(self._at[chunk.problem, chunk.arm])
            last = min(first + chunk.size, int(self._n[chunk.problem, chunk.arm]))
            self._at[chunk.problem, chunk.arm] = last
            problems.append(np.full(last - first, chunk.problem, dtype=np.int64))
            arms.append(np.full(last - first, chunk.arm, dtype=np.int64))
            if self._samples is not None:
                rows = self._samples.starts[chunk.problem] + self._order[chunk.problem][first:last]
                answers.append(self._samples.answers[rows])
                correct.append(self._samples.correct[rows])
            else:
                hits = self._hits[chunk.problem][chunk.arm]
                accepted = np.zeros(last - first, dtype=np.bool_)
                accepted[hits[slice(*np.searchsorted(hits, [first, last]))] - first] = True
                correct.append(accepted)
        voted = np.concatenate(answers) if answers else None
        return Outcomes(np.concatenate(problems), np.concatenate(correct), voted, np.concatenate(arms))


class _Accepted:
    """Coverage (target 1) or useful traces: the sum of min(target, accepted)."""

    def __init__(self, problems: int, target: int) -> None:
        self._correct = np.zeros(problems, dtype=np.int64)
        self._target = target
        self.value = 0.0

    def count(self, outcomes: Outcomes) -> None:
        hits = outcomes.problems[outcomes.correct]
        if hits.size:
            some = np.unique(hits)
            before = np.minimum(self._correct[some], self._target).sum()
            np.add.at(self._correct, hits, 1)
            self.value += float(np.minimum(self._correct[some], self._target).sum() - before)


class _Votes:
    """Accuracy of the majority, ties going to the answer that was seen first."""

    def __init__(self, recorded: Recorded) -> None:
        assert recorded.samples is not None
        self._votes: list[Counter[int]] = [Counter() for _ in recorded.problems]
        self._right: list[set[int]] = [set() for _ in recorded.problems]
        self._is_right = np.zeros(len(recorded.problems), dtype=np.bool_)
        self.value = 0.0

    def count(self, outcomes: Outcomes) -> None:
        assert outcomes.answers is not None
        rows = zip(outcomes.problems.tolist(), outcomes.answers.tolist(), outcomes.correct.tolist(), strict=True)
        for problem, answer, correct in rows:
            if answer >= 0:
                self._votes[problem][answer] += 1
            if correct:
                self._right[problem].add(answer)
        for problem in np.unique(outcomes.problems).tolist():
            lead = self._votes[problem].most_common(1)
            self._is_right[problem] = bool(lead) and lead[0][0] in self._right[problem]
        self.value = float(self._is_right.mean())


def oracle(question: Question, setting: Setting) -> Policy:
    """Return the policy that knows what the record says of each problem."""
    recorded = question.recorded
    if question.goal != "accuracy":
        return Oracle(setting, rates(recorded), question.target)
    assert recorded.samples is not None
    samples, right, hopeless = recorded.samples, np.full(len(recorded.problems), -1), np.ones(len(recorded.n), np.bool_)
    for problem, (start, n) in enumerate(zip(samples.starts.tolist(), recorded.n[:, 0].tolist(), strict=True)):
        answers, correct = samples.answers[start : start + n], samples.correct[start : start + n]
        if (accepted := answers[correct & (answers >= 0)]).size:
            right[problem] = np.bincount(accepted).argmax()
            votes = np.bincount(answers[answers >= 0])
            hopeless[problem] = votes[right[problem]] < votes.max()
    return VotingOracle(setting, right, hopeless)


def best_arms(recorded: Recorded) -> Recorded:
    """Return the record of the arm with the most accepted samples: what there is without a choice."""
    shares = recorded.c.sum(axis=0) / np.maximum(recorded.n.sum(axis=0), 1)
    return recorded.arm(recorded.arms[int(shares.argmax())])
