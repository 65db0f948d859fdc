"""What all sampling policies share: they hear of outcomes and hand out chunks, one call after the other.

A policy is a pure state machine over counts. It knows problems by their number, never sees a text, a clock or an
engine, and decides the same from the same outcomes in the same order. Nothing is a round: whoever has room for more
samples calls ``next``, whatever came back is told to ``observe``, and both may happen at any time.

A policy is an order: each problem has a value, the most valuable is served first, and a problem without value gets no
more. ``Policy`` keeps that order in a heap, so an allocation costs the logarithm of the problems.
"""

from __future__ import annotations

import heapq
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from schemas.later import Bools, Floats, Ints, np

if TYPE_CHECKING:
    from operators.measure.difficulty import Group

PORTION = 32
"""A chunk is this part of what its problem got so far, so that little is drawn after the decisive sample."""
TURNS = 8
"""A call hands out its capacity in so many turns at least: what is most valuable isn't what was before the first."""
ALIKE = 0.8
"""In one turn are problems whose value is at least this part of the best one's."""
NOTHING_MUCH = 1e-9
"""Of the dearest problem's cost: the cost of what costs nothing."""


class Chunk(NamedTuple):
    """``size`` more samples for one problem.

    Attributes:
        value: what one sample of it was thought to gain, in the policy's own unit per unit of cost.
    """

    problem: int
    size: int
    value: float
    arm: int = 0


@dataclass(frozen=True)
class Outcomes:
    """Samples that came back, in the order in which they are counted.

    Attributes:
        problems: whose samples, shape [samples].
        correct: whether they were accepted, shape [samples].
        answers: what they voted for, numbered within each problem, -1 for nothing; None where nobody votes.
        arms: which sampling configuration drew them; None where there is one.
    """

    problems: Ints
    correct: Bools
    answers: Ints | None = None
    arms: Ints | None = None


class Known(NamedTuple):
    """What is known of problems before their first sample (``operators.measure.difficulty``).

    Attributes:
        before: n and c of the same problems by something similar (another model, an earlier night), shape
            [problems, 2], or by several such, [problems, sources, 2]; n = 0 where there is nothing; None where nothing
            is known.
        similar: n and c of other problems of the same kind, shape [others, 2].
        features: what else is known of each problem, shape [problems, features], each with mean 0 and deviation 1.
        groups: other problems of the same kind, such as those of each night before.
    """

    before: Ints | None = None
    similar: Ints | None = None
    features: Floats | None = None
    groups: Sequence[Group] = ()


NOTHING = Known()


@dataclass(frozen=True)
class Setting:
    """What a policy is told at the start.

    Attributes:
        most: how many samples each problem may get, shape [problems].
        cost: what a sample of each is expected to cost, in any unit, shape [problems]. What costs nothing is taken as
            next to nothing, so that it comes first, in the order of what it may gain.
        known: of the problems beforehand.
        seed: of whatever is drawn at random.
    """

    most: Ints
    cost: Floats
    known: Known = NOTHING
    seed: int = 0

    def __post_init__(self) -> None:
        dearest = float(self.cost.max(initial=0.0))
        object.__setattr__(self, "cost", np.maximum(self.cost, NOTHING_MUCH * dearest if dearest > 0.0 else 1.0))

    @classmethod
    def of(cls, problems: int, most: int, before: Ints | None = None, seed: int = 0) -> Setting:
        """Return a setting in which all problems may get the same, at the same cost."""
        return cls(np.full(problems, most, dtype=np.int64), np.ones(problems), Known(before), seed)


@dataclass
class Counts:
    """What is known of each problem; shape [problems].

    Attributes:
        drawn: samples that came back.
        correct: of these, accepted.
        pending: samples handed out that haven't come back.
    """

    drawn: Ints
    correct: Ints
    pending: Ints = field(init=False)

    def __post_init__(self) -> None:
        self.pending = np.zeros_like(self.drawn)


class Policy(ABC):
    """Base of all policies: serves the most valuable problems first."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        problems = len(setting.most)
        self.counts = Counts(np.zeros(problems, dtype=np.int64), np.zeros(problems, dtype=np.int64))
        self.shadow_price = float("inf")
        """The value of what was handed out last."""
        self.seen_costs: dict[int, float] = {}
        """What a draw of each arm was seen to cost on average; only policies with arms look at it."""
        self._version = np.zeros(problems, dtype=np.int64)
        self._heap: list[tuple[float, int, int]] | None = None

    @abstractmethod
    def values(self, problems: Ints) -> Floats:
        """Return what the next sample of each of ``problems`` is worth, given what is pending; -inf for no more."""

    def learn(self, outcomes: Outcomes) -> bool:
        """Take in more than counts; return whether all values have changed."""
        return False

    def observe(self, outcomes: Outcomes) -> None:
        """Hear of samples that came back, also of such that this policy didn't hand out (they were there before)."""
        counts = self.counts
        some, where, came = np.unique(outcomes.problems, return_inverse=True, return_counts=True)
        counts.drawn[some] += came
        counts.correct[some] += np.bincount(where[outcomes.correct], minlength=len(some))
        counts.pending[some] -= np.minimum(came, counts.pending[some])
        if self.learn(outcomes):
            self._heap = None
        else:
            self._rank(some)

    def learn_cost(self, arm: int, cost: float) -> None:
        """Hear what a draw of an arm has cost on average so far, in any one unit."""
        self.seen_costs[arm] = cost

    def sent(self, problem: int, count: int, arm: int = 0) -> None:
        """Hear of samples that were sent, or are there, without this policy's doing; their outcomes are to come."""
        self.counts.pending[problem] += count
        self._rank(np.array([problem]))

    def take_back(self, problem: int, count: int, arm: int = 0) -> None:
        """Hear that samples won't come: they were lost, or could not be paid for."""
        self.counts.pending[problem] -= min(count, int(self.counts.pending[problem]))
        self._rank(np.array([problem]))

    def next(self, capacity: int) -> list[Chunk]:
        """Hand out up to ``capacity`` samples; nothing where no more are worth it now."""
        if self._heap is None:
            self._heap = []
            self._rank(np.arange(len(self.setting.most)))
            heapq.heapify(self._heap)
        chunks: list[Chunk] = []
        turn = -(-capacity // TURNS)
        while capacity > 0 and (best := self._best(min(turn, capacity), capacity)):
            for chunk in best:
                self.counts.pending[chunk.problem] += chunk.size
                capacity -= chunk.size
                self.shadow_price = chunk.value
            self._rank(np.unique([chunk.problem for chunk in best]))
            chunks += best
        return chunks

    def done(self) -> Bools:
        """Return for which problems no more samples are wanted, whatever is pending; shape [problems]."""
        return ~np.isfinite(self.values(np.arange(len(self.setting.most)))) & (self.counts.pending == 0)

    def size(self, problem: int) -> int:
        """Return how many samples to hand a problem at once."""
        committed = self.counts.drawn[problem] + self.counts.pending[problem]
        return max(1, min(int(committed) // PORTION, int(self.setting.most[problem] - committed)))

    def _best(self, problems: int, capacity: int) -> list[Chunk]:
        """Take the most valuable problems off the heap, each with the chunk it gets."""
        assert self._heap is not None
        found: list[Chunk] = []
        while self._heap and len(found) < problems and capacity > 0:
            value, problem, version = heapq.heappop(self._heap)
            if version == self._version[problem]:
                if found and -value < ALIKE * found[0].value and found[0].value > 0:
                    heapq.heappush(self._heap, (value, problem, version))
                    break
                count = min(self.size(problem), capacity)
                capacity -= count
                found.append(Chunk(problem, count, -value))
        return found

    def _rank(self, problems: Ints) -> None:
        """Put problems at their place in the order."""
        if self._heap is None:
            return
        self._version[problems] += 1
        committed = self.counts.drawn[problems] + self.counts.pending[problems]
        values = np.where(committed < self.setting.most[problems], self.values(problems), -np.inf)
        live = np.isfinite(values)
        entries = zip(
            (-values[live]).tolist(), problems[live].tolist(), self._version[problems[live]].tolist(), strict=True
        )
        if self._heap:
            for entry in entries:
                heapq.heappush(self._heap, entry)
        else:
            self._heap.extend(sorted(entries))
