"""How fast something goes on, and when it will be done: from the last minute, with what isn't sure about it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

SECONDS = 60.0
"""What the rate is over."""
BLOCKS = 6
"""Pieces of that time whose rates are compared: how they differ says how sure their mean is."""
LEAST = 3
"""Pieces that are needed to say so."""


@dataclass(frozen=True)
class Left:
    """Seconds until the rest is done: expected, and where known what it is between in 19 of 20 cases."""

    expected: float
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return f"about {clock(self.expected)} left"
        high = "?" if self.high == float("inf") else clock(self.high)
        if clock(self.low) == high:
            return f"{clock(self.expected)} left"
        return f"{clock(self.expected)} left ({clock(self.low)} to {high})"


class Pace:
    """Counts of one thing at points in time.

    Time is split into blocks of ten seconds; the rate is the mean of theirs, which smooths batches that end together.
    """

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def add(self, at: float, done: int) -> None:
        """Note that so much was done at a time, in seconds."""
        self._seen.append((at, done))
        while len(self._seen) > 2 and at - self._seen[1][0] >= SECONDS:
            self._seen.popleft()

    @property
    def rate(self) -> float:
        """What is done in a second; 0 where nothing can be said yet."""
        (start, before), (end, after) = self._seen[0], self._seen[-1]
        return (after - before) / (end - start) if end > start else 0.0

    def left(self, rest: int) -> Left | None:
        """Return when so much more will be done; None where nothing goes on."""
        rate = self.rate
        if rate <= 0:
            return None
        rates = self._rates()
        if len(rates) < LEAST:
            return Left(rest / rate)
        mean = sum(rates) / len(rates)
        error = (sum((one - mean) ** 2 for one in rates) / (len(rates) - 1) / len(rates)) ** 0.5
        slow, fast = rate - 2 * error, rate + 2 * error
        return Left(rest / rate, rest / fast, rest / slow if slow > 0 else float("inf"))

    def _rates(self) -> list[float]:
        """Return the rates of the whole blocks, the latest last."""
        width, end = SECONDS / BLOCKS, self._seen[-1][0]
        rates: list[float] = []
        last = self._seen[0]
        for at, done in self._seen:
            if at - last[0] >= width:
                rates.append((done - last[1]) / (at - last[0]))
                last = (at, done)
        if len(self._seen) > 1 and end - last[0] >= width / 2:
            rates.append((self._seen[-1][1] - last[1]) / (end - last[0]))
        return rates


def clock(seconds: float) -> str:
    """Return seconds as ``m:ss`` or ``h:mm:ss``."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
