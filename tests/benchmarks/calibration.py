"""Do the intervals of measure.calibration hold? Simulated methods whose true calibration error is known.

    python -m tests.benchmarks.calibration [--simulations 500]

A cell is a way of being sure and right, and a number of answers. Printed for each: the true error (over all answers
there could be), the mean estimate, the mean plain ECE, how often the 95% intervals of the error, of Brier's score and
of accuracy covered the truth, and the error's mean width. Every coverage should be at least .90.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl

from operators.measure.calibration import MeasureCalibration

Drawn = tuple[Any, Any]
Cell = Callable[[np.random.Generator, int], Drawn]
SIZES = (30, 128, 1000)
MANY = 1_000_000


def _beta(a: float, b: float, chance: Callable[[Any], Any]) -> Cell:
    def draw(rng: np.random.Generator, n: int) -> Drawn:
        said = rng.beta(a, b, n)
        return said, np.clip(chance(said), 0.0, 1.0)

    return draw


def _constant(said: float, chance: float) -> Cell:
    return lambda rng, n: (np.full(n, said), np.full(n, chance))


def _votes(samples: int, chance: Callable[[Any], Any]) -> Cell:
    def draw(rng: np.random.Generator, n: int) -> Drawn:
        said = rng.integers(samples // 2 + 1, samples + 1, n) / samples
        return said, np.clip(chance(said), 0.0, 1.0)

    return draw


CELLS: dict[str, Cell] = {
    "calibrated, any confidence": _beta(1, 1, lambda c: c),
    "calibrated, mostly sure": _beta(8, 1.5, lambda c: c),
    "calibrated, 16 votes": _votes(16, lambda c: c),
    "sure by .03 too much": _beta(3, 1.5, lambda c: c - 0.03),
    "sure by .15 too much": _beta(8, 1, lambda c: c - 0.15),
    "right .85 as often": _beta(4, 1.5, lambda c: 0.85 * c),
    "not sure enough": _beta(2, 2, lambda c: c + 0.2 * (1 - c)),
    "odds cubed": _beta(1, 1, lambda c: c**3 / (c**3 + (1 - c) ** 3)),
    "very sure, squared": _beta(40, 1, lambda c: c**2),
    "always 1, right .98": _constant(1.0, 0.98),
    "always 1, right .95": _constant(1.0, 0.95),
    "always 1, right .75": _constant(1.0, 0.75),
    "always .99, right .95": _constant(0.99, 0.95),
    "always .75, right .7": _constant(0.75, 0.7),
}


def truth(cell: Cell, bins: int = 10) -> dict[str, float]:
    """Return what the measures are over all answers that there could be."""
    said, chance = cell(np.random.default_rng(0), MANY)
    place = np.clip(np.searchsorted(np.linspace(0, 1, bins + 1), said, side="left") - 1, 0, bins - 1)
    count, gap = np.bincount(place, minlength=bins), np.bincount(place, chance - said, bins)
    brier = chance * (1 - said) ** 2 + (1 - chance) * said**2
    error = float(np.sqrt((gap**2 / np.maximum(count, 1)).sum() / MANY))
    return {"rmsce": error, "brier": float(brier.mean()), "accuracy": float(chance.mean())}


def simulate(name: str, size: int, simulations: int, bootstrap: int) -> str:
    """Return the printed line of one cell."""
    cell, found = CELLS[name], []
    known = truth(cell)
    rng = np.random.default_rng([size, list(CELLS).index(name)])
    for seed in range(simulations):
        said, chance = cell(rng, size)
        columns = {
            "problem_key": [f"{i:04d}" for i in range(size)],
            "method": ["m"] * size,
            "confidence": said,
            "is_correct": rng.random(size) < chance,
        }
        found.append(MeasureCalibration(bootstrap=bootstrap, seed=seed).merge(pl.DataFrame(columns)).row(0, named=True))
    # to the digits that a million draws give the truth
    held = {
        measure: np.mean([row[f"{measure}_low"] - 1e-3 <= value <= row[f"{measure}_high"] + 1e-3 for row in found])
        for measure, value in known.items()
    }
    means = [np.mean([row[column] for row in found]) for column in ("rmsce", "ece")]
    width = np.mean([row["rmsce_high"] - row["rmsce_low"] for row in found])
    return (
        f"{name:28s}{size:6d}{known['rmsce']:8.3f}{means[0]:10.3f}{means[1]:8.3f}{held['rmsce']:9.3f}{width:8.3f}"
        f"{held['brier']:9.3f}{held['accuracy']:10.3f}"
    )


def main() -> None:
    """Print the grid."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--simulations", type=int, default=500)
    parser.add_argument("--bootstrap", type=int, default=300)
    given = parser.parse_args()
    print(f"{'cell':28s}{'n':>6s}{'truth':>8s}{'estimate':>10s}{'ECE':>8s}{'covered':>9s}{'width':>8s}", end="")
    print(f"{'Brier':>9s}{'accuracy':>10s}")
    for name in CELLS:
        for size in SIZES:
            print(simulate(name, size, given.simulations, given.bootstrap), flush=True)


if __name__ == "__main__":
    main()
