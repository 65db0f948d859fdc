"""Finding the problems whose prompts kill engines, by halving.

An engine that dies takes everything that was in it along, so the first time all of it is simply asked again. Problems
that were in two dying engines are *suspects*: they are tried in halves, each with an engine of its own and nothing else
in it, until a half survives (it is innocent) or a single problem is left that has killed alone (it is guilty).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection


class Suspects:
    """The suspects of one sampling stage."""

    def __init__(self) -> None:
        self._deaths: Counter[int] = Counter()
        self._trials: list[frozenset[int]] = []
        self._trying: frozenset[int] = frozenset()
        """In trials that are under way."""

    def on_died(self, problems: Collection[int], trial: frozenset[int] = frozenset()) -> int | None:
        """Hear which problems were in an engine that died; return the one that is guilty, if that is known now.

        Args:
            trial: what the engine was tried with, if it was.
        """
        self._trying -= trial
        self._deaths.update(problems)
        twice = sorted(key for key in problems if self._deaths[key] > 1)
        if len(twice) == 1 and len(problems) == 1:
            return twice[0]
        if twice:
            half = (len(twice) + 1) // 2
            self._trials += [frozenset(part) for part in (twice[half:], twice[:half]) if part]
        return None

    def on_survived(self, trial: frozenset[int]) -> None:
        """Hear that an engine answered for the problems that it was tried with."""
        self._trying -= trial
        for key in trial:
            del self._deaths[key]

    def next_trial(self) -> frozenset[int]:
        """Return the problems that an engine shall be tried with alone; empty where there are no suspects."""
        trial = self._trials.pop() if self._trials else frozenset[int]()
        self._trying |= trial
        return trial

    @property
    def waiting(self) -> frozenset[int]:
        """Problems that nobody may be given but in a trial."""
        return self._trying.union(*self._trials)
