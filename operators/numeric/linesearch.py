"""Many line searches at once: Moré and Thuente 1994, "Line search algorithms with guaranteed sufficient decrease".

The rules, their order and their constants are those of MINPACK-2's ``dcsrch`` and ``dcstep``, as L-BFGS-B uses them, so
that a search tries the same steps as the published code does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from schemas.later import Bools, Floats, Ints, np

SUFFICIENT, FLATTER, NARROW = 1e-3, 0.9, 0.1
"""Tolerances of the decrease, of the slope, and of the interval's width relative to its upper end."""


@dataclass
class Rows:
    """Arrays with a row per problem."""

    def take(self, rows: Ints | Bools) -> Self:
        """Return a copy of some rows."""
        return type(self)(**{name: value[rows] for name, value in vars(self).items()})

    def put(self, rows: Ints | Bools, part: Self) -> None:
        """Write ``part`` over some rows."""
        for name, value in vars(self).items():
            value[rows] = getattr(part, name)

    def join(self, other: Self) -> Self:
        """Return these rows and then ``other``'s."""
        return type(self)(**{name: np.concatenate([value, getattr(other, name)]) for name, value in vars(self).items()})


@dataclass
class Lines(Rows):
    """Searches along lines for a step that lowers a function enough and makes it flatter; a row each.

    Attributes:
        step: what to try next; after ``advance`` said that a search has ended, the step that it ended with.
        limit: the largest step.
        value, slope: at step 0, where the slope is negative.
        near, far: the ends of the interval that holds a minimum, the better one first; shape [rows, 3]: step, value and
            slope. Before a minimum is ``bracketed`` they are the best and the next best step so far.
        low, high: bounds of the next step.
        settled: a step was found that is low enough and not downhill any more.
        width, last_width: of the interval, now and one step ago.
    """

    step: Floats
    limit: Floats
    value: Floats
    slope: Floats
    near: Floats
    far: Floats
    low: Floats
    high: Floats
    bracketed: Bools
    settled: Bools
    width: Floats
    last_width: Floats

    @classmethod
    def begin(cls, value: Floats, slope: Floats, step: Floats, limit: Floats) -> Lines:
        """Start searches from values and slopes at 0, with a first step of at most ``limit``."""
        origin = np.stack([np.zeros_like(value), value, slope], axis=1)
        no = np.zeros(len(value), dtype=np.bool_)
        low, high = np.zeros_like(step), 5 * step
        return cls(
            step.copy(), limit, value, slope, origin, origin.copy(), low, high, no, no.copy(), limit.copy(), 2 * limit
        )

    def advance(self, value: Floats, slope: Floats) -> Bools:
        """Take in value and slope at ``step``; return which searches end there, and set the others' next step."""
        wanted = SUFFICIENT * self.slope
        enough = value <= self.value + self.step * wanted
        self.settled |= enough & (slope >= 0)
        ends = enough & (np.abs(slope) <= FLATTER * -self.slope)
        ends |= self.bracketed & ((self.step <= self.low) | (self.step >= self.high))
        ends |= self.bracketed & (self.high - self.low <= NARROW * self.high)
        ends |= (self.step == self.limit) & enough & (slope <= wanted)
        ends |= (self.step == 0) & (~enough | (slope >= wanted))
        if not ends.all():
            part = self.take(~ends)
            part._next(value[~ends], slope[~ends], wanted[~ends])
            self.put(~ends, part)
        return ends

    def _next(self, value: Floats, slope: Floats, wanted: Floats) -> None:
        """Set the next step, and the bounds of the one after it."""
        # until a step is low enough, the function is searched less the line of sufficient decrease
        searching = ~self.settled & (value <= self.near[:, 1]) & (value > self.value + self.step * wanted)
        tilt = np.where(searching, wanted, 0.0)
        self._tilt(-tilt)
        self._narrow(np.stack([self.step, value - tilt * self.step, slope - tilt], axis=1))
        self._tilt(tilt)
        near, far = self.near[:, 0], self.far[:, 0]
        width = np.abs(far - near)
        slow = self.bracketed & (width >= 0.66 * self.last_width)
        step = np.where(slow, near + 0.5 * (far - near), self.step)
        self.last_width = np.where(self.bracketed, self.width, self.last_width)
        self.width = np.where(self.bracketed, width, self.width)
        self.low = np.where(self.bracketed, np.minimum(near, far), step + 1.1 * (step - near))
        self.high = np.where(self.bracketed, np.maximum(near, far), step + 4.0 * (step - near))
        step = np.clip(step, 0.0, self.limit)
        stuck = (step <= self.low) | (step >= self.high) | (self.high - self.low <= NARROW * self.high)
        self.step = np.where(self.bracketed & stuck, near, step)

    def _tilt(self, by: Floats) -> None:
        """Add a line through the origin to the functions."""
        for end in (self.near, self.far):
            end[:, 1] += by * end[:, 0]
            end[:, 2] += by

    def _narrow(self, tried: Floats) -> None:
        """Choose the next step by cubic and quadratic interpolation, and update the interval (``dcstep``)."""
        t, f, d = tried.T
        t0, f0, d0 = self.near.T
        higher = f > f0
        opposite = d * np.sign(d0) < 0
        flatter = np.abs(d) < np.abs(d0)
        with np.errstate(all="ignore"):
            theta, gamma = _cubic(t, f, d, t0, f0, d0)
            # 1: the value rose
            signed = np.where(t < t0, -gamma, gamma)
            ratio = ((signed - d0) + theta) / (((signed - d0) + signed) + d)
            cubic: Floats = t0 + ratio * (t - t0)
            square: Floats = t0 + d0 / ((f0 - f) / (t - t0) + d0) / 2 * (t - t0)
            rose = np.where(np.abs(cubic - t0) < np.abs(square - t0), cubic, cubic + (square - cubic) / 2)
            # 2 and 3: it fell, and the slope changed its sign or got flatter
            signed = np.where(t > t0, -gamma, gamma)
            ratio = ((signed - d) + theta) / (((signed - d) + signed) + d0)
            cubic = t + ratio * (t0 - t)
            square = t + d / (d - d0) * (t0 - t)
            crossed = np.where(np.abs(cubic - t) > np.abs(square - t), cubic, square)
            cubic = np.where((ratio < 0) & (signed != 0), cubic, np.where(t > t0, self.high, self.low))
            nearer = np.where(np.abs(cubic - t) < np.abs(square - t), cubic, square)
            most = t + 0.66 * (self.far[:, 0] - t)
            nearer = np.where(t > t0, np.minimum(most, nearer), np.maximum(most, nearer))
            farther = np.where(np.abs(cubic - t) > np.abs(square - t), cubic, square)
            flattened = np.where(self.bracketed, nearer, np.clip(farther, self.low, self.high))
            # 4: it fell, and just as steeply
            t1, f1, d1 = self.far.T
            theta, gamma = _cubic(t, f, d, t1, f1, d1)
            signed = np.where(t > t1, -gamma, gamma)
            inside = t + ((signed - d) + theta) / (((signed - d) + signed) + d1) * (t1 - t)
            fell = np.where(self.bracketed, inside, np.where(t > t0, self.high, self.low))
        self.step = np.select([higher, opposite, flatter], [rose, crossed, flattened], fell)
        self.far = np.where(higher[:, None], tried, np.where(opposite[:, None], self.near, self.far))
        self.near = np.where(higher[:, None], self.near, tried)
        self.bracketed = self.bracketed | higher | opposite


def _cubic(t: Floats, f: Floats, d: Floats, t0: Floats, f0: Floats, d0: Floats) -> tuple[Floats, Floats]:
    """Return theta and gamma of the cubic through two values and slopes (its minimum is at a ratio of these)."""
    theta = 3 * (f0 - f) / (t - t0) + d0 + d
    size = np.maximum(np.maximum(np.abs(theta), np.abs(d0)), np.abs(d))
    return theta, size * np.sqrt(np.maximum((theta / size) ** 2 - (d0 / size) * (d / size), 0.0))
