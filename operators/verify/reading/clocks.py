"""Times of the day: which of them are the same."""

from __future__ import annotations

from operators.verify.reading.asks import Asks
from operators.verify.reading.tree import Leaf


def same_clock(gold: Leaf, answer: Leaf, asks: Asks) -> bool | None:
    """Compare times, or ``h:mm`` as the quotient that it is where nothing says time."""
    said = gold.time or answer.time or asks.time
    both = gold.clock is not None and answer.clock is not None
    if said or (both and not asks.ratio):
        if both:
            return _same_time(gold, answer)
        clock, bare = (gold, answer) if gold.clock else (answer, gold)
        if clock.clock is None or bare.kind != "number" or bare.unit or bare.percent or "/" in bare.text:
            return False
        hours, *rest = clock.clock
        # "6" for 6 p.m.
        return bare.number is not None and not any(rest) and bare.number in (hours, hours - 12 if clock.half else hours)
    if gold.number is None or answer.number is None:
        full = gold.clock or answer.clock
        bare = answer if gold.clock else gold
        return full is not None and not any(full[1:]) and bare.number == full[0] and not bare.unit
    return gold.number == answer.number


def _half_of(leaf: Leaf) -> str:
    """Return the half of the day that a time says: a.m. or p.m., or by its hours; empty where it says none."""
    assert leaf.clock is not None
    hours = leaf.clock[0]
    return leaf.half or ("pm" if 12 < hours < 24 else "am" if hours in (0, 24) else "")


def _same_time(gold: Leaf, answer: Leaf) -> bool:
    assert gold.clock is not None and answer.clock is not None
    ours, theirs = _half_of(gold), _half_of(answer)
    if ours and theirs and ours != theirs:
        return False
    halves = gold.half and answer.half
    (h1, *rest1), (h2, *rest2) = gold.clock, answer.clock
    twelve = not halves or h1 > 12 or h2 > 12
    return rest1 == rest2 and (h1 == h2 or (twelve and h1 % 12 == h2 % 12 and (gold.time or answer.time)))
