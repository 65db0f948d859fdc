"""Numbers as people read them."""

from __future__ import annotations

from math import sqrt

Z95 = 1.959964
DASH = "\u2013"


def count(value: float) -> str:
    """1234567 -> ``1,234,567``."""
    return f"{value:,.0f}"


def compact(value: float) -> str:
    """1234567 -> ``1.23M``; below 100,000 every digit is kept."""
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e5, "k")):
        if value >= size:
            scaled = value / (1e3 if letter == "k" else size)
            return f"{scaled:.{max(0, 3 - len(str(int(scaled))))}f}{letter}"
    return count(value)


def percent(share: float) -> str:
    """0.8134 -> ``81.3%``."""
    return f"{100 * share:.1f}%"


def interval(low: float, high: float) -> str:
    """(0.7, 0.8) -> ``70.0-80.0%``."""
    return f"{100 * low:.1f}{DASH}{100 * high:.1f}%"


def duration(seconds: float) -> str:
    """75.2 -> ``1 min 15 s``, units held to their numbers."""
    if seconds < 9.95:
        return f"{seconds:.1f}\u00a0s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}\u00a0s"
    if whole < 3600:
        return f"{whole // 60}\u00a0min {whole % 60:02d}\u00a0s"
    return f"{whole // 3600}\u00a0h {whole % 3600 // 60:02d}\u00a0min"


def rate(value: float) -> str:
    """Per-second rates: two digits below ten, thousands separated above."""
    return f"{value:.1f}" if value < 10 else compact(value)


def wilson(right: int, n: int) -> tuple[float, float]:
    """Return the 95% score interval of a share (Wilson 1927); (0, 1) where there is nothing to count."""
    if n == 0:
        return 0.0, 1.0
    p, z2 = right / n, Z95**2
    middle = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 / (1 + z2 / n) * sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)
