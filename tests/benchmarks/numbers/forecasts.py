"""How far forecasts of coverage at 10,000 samples are off, and how often their intervals hold it.

    python -m tests.benchmarks.numbers.forecasts --data DIR                                         # from n samples
    python -m tests.benchmarks.numbers.forecasts --data DIR --simulations 6 --stopped 1:100,4:1000  # until successes

n samples of each problem are drawn without replacement from those that were counted; the truth is the share of problems
of which any of all samples is right. ``--stopped T:CAP`` draws each problem until T right samples or CAP.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from operators.measure.forecast import MeasureForecast
from tests.benchmarks.numbers.models import Floats, Ints, grid, parser, read_counts

SAMPLES = (100, 200, 300, 500, 1000)


def drawn(n: Ints, c: Ints, size: int, rng: np.random.Generator) -> pl.DataFrame:
    """Return the counts of ``size`` samples of each problem."""
    right = rng.hypergeometric(c, n - c, size)
    return pl.DataFrame({"problem_id": names(len(n)), "n": np.full(len(n), size), "c": right})


def stopped(rates: Floats, target: int, cap: int, rng: np.random.Generator) -> pl.DataFrame:
    """Return verdicts of problems that were drawn until ``target`` right samples, or ``cap``."""
    right = rng.random((len(rates), cap)) < rates[:, None]
    so_far = right.cumsum(axis=1)
    kept = (so_far - right) < target
    problem, index = np.nonzero(kept)
    table = pl.DataFrame({"problem_key": names(len(rates)).gather(problem), "sample_index": index})
    return table.with_columns(verifier=pl.lit("v"), is_correct=right[kept], status=pl.lit("ok"))


def names(count: int) -> pl.Series:
    return pl.Series([f"p{number:05d}" for number in range(count)])


def main() -> None:
    options = parser(__doc__, 20)
    options.add_argument("--samples", default=",".join(map(str, SAMPLES)))
    options.add_argument("--stopped", default="", help="T:CAP,...")
    chosen = options.parse_args()
    rng = np.random.default_rng(chosen.seed)
    cells = [tuple(map(int, cell.split(":"))) for cell in (chosen.stopped or chosen.samples).split(",")]
    rows: list[tuple[object, ...]] = []
    for model, (n, c) in read_counts(chosen).items():
        truth, size = float((c > 0).mean()), int(n.max())
        for cell in cells:
            for _ in range(chosen.simulations):
                operator = MeasureForecast(k=(size,), bootstrap=20, stopped=True if chosen.stopped else None)
                if chosen.stopped:
                    found = operator.merge(operator.partial(verdicts=stopped(c / n, *cell, rng)))  # type: ignore[arg-type]
                else:
                    counts = drawn(n, c, cell[0], rng).with_columns(model=pl.lit(None, pl.String))
                    found = operator.merge(operator.partial(counts=counts))
                for method, value, low, high in found.select("method", "coverage", "low", "high").iter_rows():
                    rows.append(
                        (model, ":".join(map(str, cell)), method, value - truth, low <= truth <= high, high - low)
                    )
    table = pl.DataFrame(rows, schema=["model", "from", "method", "error", "held", "width"], orient="row")
    figures = [
        pl.col("error").mean().alias("bias"),
        pl.col("error").abs().mean().alias("mae"),
        pl.col("held").mean().alias("covers"),
        pl.col("width").mean(),
    ]
    for by in (["model", "from", "method"], ["from", "method"]):
        found = table.group_by(by, maintain_order=True).agg(figures)
        grid(found.rows(), found.columns)


if __name__ == "__main__":
    main()
