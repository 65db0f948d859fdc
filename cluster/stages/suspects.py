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
        self._deaths: Counter[str] = Counter()
        self._trials: list[frozenset[str]] = []
        self._trying: frozenset[str] = frozenset()
        """In trials that are under way."""

    def on_died(self, keys: Collection[str], trial: frozenset[str] = frozenset()) -> str | None:
        """Hear which problems were in an engine that died; return the one that is guilty, if that is known now.

        Args:
            trial: what the engine was tried with, if it was.
        """
        self._trying -= trial
        self._deaths.update(keys)
        twice = sorted(key for key in keys if self._deaths[key] > 1)
        if len(twice) == 1 and len(keys) == 1:
            return twice[0]
        if twice:
            half = (len(twice) + 1) // 2
            self._trials += [frozenset(part) for part in (twice[half:], twice[:half]) if part]
        return None

    def on_survived(self, trial: frozenset[str]) -> None:
        """Hear that an engine answered for the problems that it was tried with."""
        self._trying -= trial
        for key in trial:
            del self._deaths[key]

    def next_trial(self) -> frozenset[str]:
        """Return the problems that an engine shall be tried with alone; empty where there are no suspects."""
        trial = self._trials.pop() if self._trials else frozenset[str]()
        self._trying |= trial
        return trial

    @property
    def waiting(self) -> frozenset[str]:
        """Problems that nobody may be given but in a trial."""
        return self._trying.union(*self._trials)
