"""Where a sampling stage's ranges come from under a policy: problems by number on one side, sample keys on the other.

What was sent before and is in no store (holes) goes first, since dropping what was slow would bias the data. Everything
that is there already, paid for by whatever run, counts as observed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import polars as pl

from cluster.spending.allocations import Decision
from cluster.storage.ranges import Range, RangeMap
from operators.policies.named import AnyPolicy
from operators.policies.policy import Chunk, Ints, Outcomes, Setting
from operators.select.classes import answer_key
from schemas.datasets import Sample, Verdict

RESULTS = Verdict.select("problem_key", "sample_index", "is_correct", "status")
VOTES = Verdict.select("problem_key", "sample_index", "predicted_answer", "answer_key", "is_correct", "status")
"""Of verdicts, what policies look at."""
LENGTHS = Sample.select("problem_key", "sample_index", "prompt_tokens", "completion_tokens", "status")
"""Of samples, what they cost."""
AHEAD = 4
"""An arm that asks is told to wait where the others' queues hold so many times what it asks for."""
PRIOR_SAMPLES = 4
"""A problem's cost is its samples' mean, as if it had so many of the usual cost besides."""


class PolicySource:
    """Asks a policy who is next, and tells it what came of it.

    Several sampling stages may share a policy that chooses between them (``sibling_of``): each is an *arm*, and what
    the policy hands out for another arm waits in that one's queue.

    Args:
        keys: the problems, in order.
        most: how many samples each may get at most.
        held: the samples that are there.
        sent: what was sent before, whether it came back or not.
        before, similar: see ``Setting``.
        sibling_of: the first of the stages that share a policy.
    """

    def __init__(
        self,
        spec: AnyPolicy,
        keys: Sequence[str],
        most: int,
        held: RangeMap,
        sent: Iterable[Range],
        before: Ints | None = None,
        similar: Ints | None = None,
        sibling_of: PolicySource | None = None,
    ) -> None:
        self.spec = spec
        self.keys = list(keys)
        self.most = most
        self.columns = VOTES if spec.votes else RESULTS
        self._known = pl.Series(self.keys, dtype=pl.String)
        self._number = {key: number for number, key in enumerate(self.keys)}
        problems = len(self.keys)
        self.siblings: list[PolicySource] = [] if sibling_of is None else sibling_of.siblings
        self.siblings.append(self)
        self.arm = len(self.siblings) - 1
        self.queue: deque[Chunk] = deque()
        """What the policy handed out for this arm when another asked."""
        if sibling_of is None:
            self.policy = spec.begin(Setting(np.full(problems, spec.limit(most)), np.ones(problems), before, similar))
        else:
            self.policy = sibling_of.policy
        self.taken = RangeMap()
        """What is there, or was sent."""
        self.observed = 0
        self.exhausted = False
        """Whether the policy had nothing to hand out when it was asked last, and has heard of nothing since."""
        self._answers: list[dict[str, int]] = [{} for _ in self.keys] if spec.votes else []
        self._first: dict[int, int] = {}
        self._cost = np.zeros((len(self.keys), 2))
        """Sum of the costs of each problem's samples, and how many."""
        for key in self.keys:
            for item in held.present(Range(key, 0, most)):
                self._take(item)
        self.holes: list[Range] = []
        for item in sent:
            if item.problem_key in self._number and item.first < most:
                wanted = Range(item.problem_key, item.first, min(item.size, most - item.first))
                for gap in self.taken.missing(wanted):
                    self.holes.append(gap)
                    self._take(gap)

    def _take(self, item: Range) -> None:
        """Mark a range as sent; its outcomes are pending until they are observed."""
        self.taken.add(item)
        self.policy.sent(self._number[item.problem_key], item.size, self.arm)

    def on_arrived(self, ranges: Iterable[Range]) -> None:
        """Hear of samples that became facts, some of which nobody sent: they were carried over."""
        for item in ranges:
            if item.problem_key in self._number:
                for gap in self.taken.missing(item):
                    self._take(gap)

    @property
    def wants(self) -> bool:
        """Whether the policy may have something to send now."""
        return bool(self.queue) or not self.exhausted

    @property
    def waits(self) -> bool:
        """Whether outcomes are still to come, after which the policy may want more."""
        return bool(self.policy.counts.pending.any())

    def take(self, samples: int) -> list[Decision]:
        """Return up to ``samples`` samples' worth of what the policy sends next."""
        decisions: list[Decision] = []
        for chunk in self._chunks(samples):
            key, left = self.keys[chunk.problem], chunk.size
            first = self._first.get(chunk.problem, 0)
            for gap in self.taken.missing(Range(key, first, self.most - first)):
                piece = Range(key, gap.first, min(left, gap.size))
                left -= piece.size
                self.taken.add(piece)
                self._first[chunk.problem] = piece.first + piece.size
                decisions.append(Decision(piece, chunk.value, self.spec.name))
                if not left:
                    break
            if left:  # there are no more indices
                self.policy.setting.most[chunk.problem] -= left
                self.policy.take_back(chunk.problem, left, self.arm)
        return decisions

    def _chunks(self, samples: int) -> list[Chunk]:
        """Return what the policy hands out for this arm: what waits for it, else something new."""
        mine: list[Chunk] = []
        while self.queue and samples > 0:
            chunk = self.queue.popleft()
            if chunk.size > samples:
                self.queue.appendleft(chunk._replace(size=chunk.size - samples))
                chunk = chunk._replace(size=samples)
            samples -= chunk.size
            mine.append(chunk)
        waiting = sum(chunk.size for source in self.siblings for chunk in source.queue)
        if samples <= 0 or waiting > AHEAD * samples:  # the other arms have enough to do
            return mine
        fresh = self.policy.next(samples)
        for source in self.siblings:
            source.exhausted = not fresh
        for chunk in fresh:
            if chunk.arm == self.arm:
                mine.append(chunk)
            else:
                self.siblings[chunk.arm].queue.append(chunk)
        return mine

    def put_back(self, item: Range) -> None:
        """Hear that a range could not be sent after all."""
        self.taken.remove(item)
        number = self._number[item.problem_key]
        self._first[number] = min(self._first.get(number, 0), item.first)
        self.policy.take_back(number, item.size, self.arm)

    def give_up(self, item: Range) -> None:
        """Hear that samples won't come, and that their indices are used up: they can't be drawn, or not be judged."""
        if item.problem_key in self._number:
            number = self._number[item.problem_key]
            self.policy.setting.most[number] -= item.size
            self.policy.take_back(number, item.size, self.arm)
            self._wake()

    def ban(self, key: str) -> None:
        """Hand nothing more out of a problem: it kills engines."""
        if key in self._number:
            self.policy.setting.most[self._number[key]] = 0

    def learn_costs(self, samples: pl.DataFrame, rates: tuple[float, float]) -> None:
        """Learn what samples of each problem cost, relative to the mean, so that gains are weighed per cost.

        Args:
            rates: of a prompt token and of a completion token, in any one unit.
        """
        cost = pl.col("prompt_tokens") * rates[0] + pl.col("completion_tokens") * rates[1]
        rows = samples.filter(pl.col("status") == "ok", pl.col("problem_key").is_in(self._known.implode()))
        sums = rows.group_by("problem_key", maintain_order=True).agg(cost.sum().alias("cost"), pl.len())
        some = [self._number[key] for key in sums["problem_key"]]
        self._cost[some] += sums.select("cost", "len").to_numpy()
        total, count = self._cost.sum(axis=0)
        if total > 0:
            usual = total / count
            known = self._cost[some]
            mean = (known[:, 0] + PRIOR_SAMPLES * usual) / (known[:, 1] + PRIOR_SAMPLES)
            self.policy.setting.cost[some] = mean / usual

    def observe(self, verdicts: pl.DataFrame) -> None:
        """Tell the policy of verdicts; a sample without one of its own (``error``, ``skipped``) is a wrong one."""
        rows = verdicts.filter(pl.col("problem_key").is_in(self._known.implode())).sort("problem_key", "sample_index")
        if rows.is_empty():
            return
        numbers = np.array([self._number[key] for key in rows["problem_key"]], dtype=np.int64)
        correct = rows["is_correct"].fill_null(False).to_numpy()
        answers = self._answer_numbers(rows, numbers) if self._answers else None
        self.policy.observe(Outcomes(numbers, correct, answers, np.full(len(numbers), self.arm)))
        self.observed += len(rows)
        self._wake()

    def observe_samples(self, ranges: Iterable[Range]) -> None:
        """Tell the policy of samples, where nobody judges them."""
        pieces = [(self._number[item.problem_key], item.size) for item in ranges if item.problem_key in self._number]
        if not pieces:
            return
        numbers = np.concatenate([np.full(size, number, dtype=np.int64) for number, size in pieces])
        self.policy.observe(Outcomes(numbers, np.zeros(len(numbers), dtype=np.bool_)))
        self.observed += len(numbers)
        self._wake()

    def _wake(self) -> None:
        """There is news: the policy may have something again, for any arm."""
        for source in self.siblings:
            source.exhausted = False

    def _answer_numbers(self, rows: pl.DataFrame, numbers: Ints) -> Ints:
        said = rows.select(answer_key(rows.columns))["answer_key"].to_list()
        found = np.full(len(said), -1, dtype=np.int64)
        for place, (number, key) in enumerate(zip(numbers.tolist(), said, strict=True)):
            if key is not None:
                known = self._answers[number]
                found[place] = known.setdefault(key, len(known))
        return found


def split_ranges(ranges: Iterable[Range], most: int) -> Iterator[list[Range]]:
    """Yield the ranges in groups of about ``most`` keys."""
    group: list[Range] = []
    size = 0
    for item in ranges:
        group.append(item)
        size += item.size
        if size >= most:
            yield group
            group, size = [], 0
    if group:
        yield group


def view_of(keys: Iterable[str], most: int, held: RangeMap) -> list[Range]:
    """Return what there is of each problem within the policy's limit: the view that later stages read."""
    return [piece for key in keys for piece in held.present(Range(key, 0, most))]
