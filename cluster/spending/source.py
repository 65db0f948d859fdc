"""Where a sampling stage's ranges come from under a policy: problems by number on one side, sample keys on the other.

What was sent before and is in no store (holes) goes first, since dropping what was slow would bias the data. Everything
that is there already, paid for by whatever run, counts as observed.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Iterator

import numpy as np
import polars as pl

from cluster.spending.allocations import Decisions
from cluster.storage.numbering import Numbering
from cluster.storage.ranges import Ranges, RangeSet
from operators.policies.named import AnyPolicy
from operators.policies.policy import NOTHING, Chunk, Ints, Known, Outcomes, Setting
from operators.select.classes import answer_key
from schemas.datasets import Verdict

RESULTS = Verdict.select("problem_key", "sample_index", "is_correct", "status")
VOTES = Verdict.select("problem_key", "sample_index", "predicted_answer", "answer_key", "is_correct", "status")
"""Of verdicts, what policies look at."""
AHEAD = 4
"""An arm that asks is told to wait where the others' queues hold so many times what it asks for."""
PRIOR_SAMPLES = 4
"""A problem's cost is its samples' mean, as if it had so many of the usual cost besides."""


class PolicySource:
    """Asks a policy who is next, and tells it what came of it.

    Several sampling stages may share a policy that chooses between them (``sibling_of``): each is an *arm*, and what
    the policy hands out for another arm waits in that one's queue.

    Args:
        numbering: of the run's problems.
        most: how many samples each may get at most.
        held: the samples that are there.
        sent: what was sent before, whether it came back or not.
        known: of the problems beforehand.
        sibling_of: the first of the stages that share a policy.
    """

    def __init__(
        self,
        spec: AnyPolicy,
        numbering: Numbering,
        most: int,
        held: RangeSet,
        sent: Ranges,
        known: Known = NOTHING,
        sibling_of: PolicySource | None = None,
    ) -> None:
        self.spec = spec
        self.known = known
        self.numbering = numbering
        self.most = most
        self.columns = VOTES if spec.votes else RESULTS
        problems = numbering.problems
        self.siblings: list[PolicySource] = [] if sibling_of is None else sibling_of.siblings
        self.siblings.append(self)
        self.arm = len(self.siblings) - 1
        self.queue: deque[Chunk] = deque()
        """What the policy handed out for this arm when another asked."""
        if sibling_of is None:
            self.policy = spec.begin(Setting(np.full(problems, spec.limit(most)), np.ones(problems), known))
        else:
            self.policy = sibling_of.policy
        self.taken = RangeSet()
        """What is there, or was sent."""
        self.observed = 0
        self.given_up: list[Ranges] = []
        """What won't come, and whose indices are used up."""
        self.banned: Ints = np.empty(0, np.int64)
        """Problems of which nothing more is handed out."""
        self.exhausted = False
        """Whether the policy had nothing to hand out when it was asked last, and has heard of nothing since."""
        self._held_up = False
        """Whether it waits for another arm to draw what was handed out for that one."""
        self._answers: defaultdict[int, dict[str, int]] | None = defaultdict(dict) if spec.votes else None
        """The answers of each problem, numbered."""
        self._first = np.zeros(problems, np.int32)
        """No index below this one is free."""
        self._cost = np.zeros((problems, 2))
        """Sum of the costs of each problem's samples, and how many."""
        self._take(self._within(held.ranges))
        self.holes = self.taken.missing(self._within(sent).merged())
        self._take(self.holes)

    def _within(self, ranges: Ranges) -> Ranges:
        """Return what of some ranges is about the run's problems and within the limit."""
        mine = ranges[(ranges.numbers < self.numbering.problems) & (ranges.firsts < self.most)]
        return Ranges(mine.starts, np.minimum(mine.sizes, self.most - mine.firsts).astype(np.int32))

    def _take(self, ranges: Ranges) -> None:
        """Mark ranges as sent; their outcomes are pending until they are observed."""
        self.taken.add(ranges)
        for number, _, size in ranges:
            self.policy.sent(number, size, self.arm)

    def on_arrived(self, ranges: Ranges) -> None:
        """Hear of samples that became facts, some of which nobody sent: they were carried over."""
        self._take(self.taken.missing(self._mine(ranges)))

    def _mine(self, ranges: Ranges) -> Ranges:
        return ranges[ranges.numbers < self.numbering.problems]

    @property
    def wants(self) -> bool:
        """Whether the policy may have something to send now."""
        return bool(self.queue) or not (self.exhausted or self._held_up)

    @property
    def waits(self) -> bool:
        """Whether outcomes are still to come, after which the policy may want more."""
        return int(self.policy.counts.pending.sum()) > self._queued  # what nobody has sent has no outcome

    @property
    def _queued(self) -> int:
        return sum(chunk.size for source in self.siblings for chunk in source.queue)

    def take(self, samples: int) -> Decisions:
        """Return up to ``samples`` samples' worth of what the policy sends next."""
        chunks = self._chunks(samples)
        ranges: list[Ranges] = []
        places: list[Ints] = []
        for round_ in _rounds(chunks):
            numbers = np.array([chunks[place].problem for place in round_], np.int64)
            sizes = np.array([chunks[place].size for place in round_], np.int64)
            first = self._first[numbers]
            free, row = self.taken.gaps(Ranges.of(numbers, first, self.most - first))
            found = free.capped(row, sizes)
            at = np.searchsorted(numbers, found.numbers)
            self.taken.add(found)
            np.maximum.at(self._first, found.numbers, (found.firsts + found.sizes).astype(np.int32))
            ranges.append(found)
            places.append(np.array(round_)[at])
            left = sizes - np.bincount(at, weights=found.sizes, minlength=len(sizes)).astype(np.int64)
            for place in np.flatnonzero(left).tolist():  # there are no more indices
                self.policy.setting.most[numbers[place]] -= left[place]
                self.policy.take_back(int(numbers[place]), int(left[place]), self.arm)
        order = np.concatenate(places) if places else np.empty(0, np.int64)
        values = np.array([chunk.value for chunk in chunks])[order]
        first = np.argsort(order, kind="stable")
        return Decisions(Ranges.joined(ranges)[first], values[first], self.spec.name)

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
        if mine:
            self._free()
        if samples > 0 and self._queued > AHEAD * samples:  # the other arms have enough to do
            self._held_up = True
        if samples <= 0 or self._held_up:
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

    def put_back(self, ranges: Ranges) -> None:
        """Hear that ranges could not be sent after all."""
        self.taken.remove(ranges)
        np.minimum.at(self._first, ranges.numbers, ranges.firsts.astype(np.int32))
        for number, _, size in ranges:
            self.policy.take_back(number, size, self.arm)

    def give_up(self, ranges: Ranges) -> None:
        """Hear that samples won't come, and that their indices are used up: they can't be drawn, or not be judged."""
        self.given_up.append(ranges)
        for number, _, size in self._mine(ranges):
            self.policy.setting.most[number] -= size
            self.policy.take_back(number, size, self.arm)
            self._wake()

    def take_up(self, ranges: Ranges) -> None:
        """Hear that samples are drawn again of which nothing more was expected; it isn't the policy that sends them."""
        gone = RangeSet(Ranges.joined(self.given_up).merged())
        gone.remove(ranges)
        self.given_up = [gone.ranges]
        self.taken.add(ranges)
        for number, _, size in self._mine(ranges):
            if number not in self.banned:
                self.policy.setting.most[number] += size
            self.policy.sent(number, size, self.arm)

    def ban(self, numbers: Ints) -> None:
        """Hand nothing more out of problems: they kill engines."""
        self.banned = np.union1d(self.banned, numbers[numbers < self.numbering.problems])
        self.policy.setting.most[self.banned] = 0

    def follow(self, before: PolicySource) -> None:
        """Hear of what another policy didn't get, in whose place this one is."""
        for ranges in before.given_up:
            self.give_up(ranges)
        self.ban(before.banned)

    def learn_costs(self, costs: pl.DataFrame) -> None:
        """Learn what draws of each problem cost, relative to the mean, so that gains are weighed per cost; and what a
        draw of this arm costs, if the policy chooses between several.

        Args:
            costs: problem_key, sample_index, cost in any one unit, the same for all arms.
        """
        rows = self._numbered(costs)
        sums = rows.group_by("number", maintain_order=True).agg(pl.col("cost").sum(), pl.len())
        some = sums["number"].to_numpy()
        self._cost[some] += sums.select("cost", "len").to_numpy()
        total, count = self._cost.sum(axis=0)
        if total > 0:
            usual = total / count
            known = self._cost[some]
            mean = (known[:, 0] + PRIOR_SAMPLES * usual) / (known[:, 1] + PRIOR_SAMPLES)
            self.policy.setting.cost[some] = mean / usual
            self.policy.learn_cost(self.arm, usual)

    def observe(self, verdicts: pl.DataFrame) -> None:
        """Tell the policy of verdicts; a sample without one of its own (``error``, ``skipped``) is a wrong one."""
        rows = self._numbered(verdicts).sort("problem_key", "sample_index")
        if rows.is_empty():
            return
        numbers = rows["number"].to_numpy()
        correct = rows["is_correct"].fill_null(False).to_numpy()
        answers = self._answer_numbers(rows, numbers, self._answers) if self._answers is not None else None
        self.policy.observe(Outcomes(numbers, correct, answers, np.full(len(numbers), self.arm)))
        self.observed += len(rows)
        self._wake()

    def _numbered(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Return the rows about the run's problems, with the numbers of these."""
        numbered = rows.with_columns(number=self.numbering.find(rows["problem_key"]))
        return numbered.filter(pl.col("number").is_between(0, self.numbering.problems - 1))

    def observe_samples(self, ranges: Ranges) -> None:
        """Tell the policy of samples, where nobody judges them."""
        mine = self._mine(ranges)
        if not mine:
            return
        numbers = np.repeat(mine.numbers, mine.sizes)
        self.policy.observe(Outcomes(numbers, np.zeros(len(numbers), dtype=np.bool_)))
        self.observed += len(numbers)
        self._wake()

    def _wake(self) -> None:
        """There is news: the policy may have something again, for any arm."""
        self._free()
        for source in self.siblings:
            source.exhausted = False

    def _free(self) -> None:
        """An arm went on: those that wait for it may ask again."""
        for source in self.siblings:
            source._held_up = False

    @staticmethod
    def _answer_numbers(rows: pl.DataFrame, numbers: Ints, known: defaultdict[int, dict[str, int]]) -> Ints:
        said = rows.select(answer_key(rows.columns))["answer_key"].to_list()
        found = np.full(len(said), -1, dtype=np.int64)
        for place, (number, key) in enumerate(zip(numbers.tolist(), said, strict=True)):
            if key is not None:
                answers = known[number]
                found[place] = answers.setdefault(key, len(answers))
        return found


def _rounds(chunks: list[Chunk]) -> Iterator[list[int]]:
    """Yield the places of chunks, no problem twice in a round, sorted by problem; earlier chunks in earlier rounds."""
    seen: Counter[int] = Counter()
    rounds: list[list[int]] = []
    for place, chunk in enumerate(chunks):
        number = seen[chunk.problem]
        seen[chunk.problem] += 1
        if number == len(rounds):
            rounds.append([])
        rounds[number].append(place)
    for one in rounds:
        yield sorted(one, key=lambda place: chunks[place].problem)


def view_of(problems: int, most: int, held: RangeSet) -> Ranges:
    """Return what there is of each problem within the policy's limit: the view that later stages read."""
    return held.present(Ranges.of(np.arange(problems), 0, most))
