"""pass^k and G-Pass@k: does a model that can solve a problem solve it every time?"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import Field

from operators.measure.counts import Drawn, FromCounts
from operators.measure.intervals import new_problems
from operators.measure.pass_at_k import powers_of_two, spread
from schemas.contract import polars_schema
from schemas.errors import BadInput
from schemas.later import Floats, Ints, np, pl
from schemas.measures import Reliability

Share = Annotated[float, Field(gt=0.0, le=1.0)]


def at_least(n: Ints, c: Ints, k: int, wanted: int) -> Floats:
    """Return the chance that at least ``wanted`` of k samples, drawn from n without replacement, are among the c right.

    Without bias for independent samples: sum_{j >= wanted} C(c, j) C(n - c, k - j) / C(n, k).

    Args:
        n, c: samples of each problem, and right ones, shape [problems]; n >= k.
    """
    from scipy import stats as _stats  # pyright: ignore[reportMissingTypeStubs]: 30 MB

    stats: Any = _stats
    return np.asarray(stats.hypergeom.sf(wanted - 1, n, c, k), dtype=np.float64)


class MeasureReliability(FromCounts):
    """How surely problems are solved, with 95% intervals for problems like these (Gaffke's, as of measure.pass_at_k).

    * ``pass_hat_k``: pass^k, the chance that all k samples are right (Yao et al. 2024, "tau-bench"):
      mean of C(c, k) / C(n, k).
    * ``g_pass``: G-Pass@k of tau, the chance that at least ceil(tau k) are (Liu et al. 2024, "Are Your LLMs Capable of
      Stable Reasoning?", eq. 3).
    * ``mg_pass``: mG-Pass@k, its mean over tau from .5 to 1: 2/k times the sum over i = ceil(k/2) + 1, ..., k of
      G-Pass@k of i/k (their eq. 4).

    Each needs k samples of every problem, and samples whose number didn't depend on their results.
    """

    version: ClassVar[int] = 1
    output = Reliability

    k: tuple[Annotated[int, Field(ge=1)], ...] = ()
    """Empty: powers of two up to the smallest n."""
    tau: tuple[Share, ...] = (0.25, 0.5, 0.75)
    """Shares; for each there is a ``g_pass``, which wants at least so much of k attempts to be right."""
    bootstrap: int = Field(default=2000, ge=100)
    """Draws that intervals are made of."""
    seed: int = 0
    """Of the intervals' random draws: the same seed, the same intervals."""
    stopped: bool | None = None
    """Whether n depended on the results. None: as the run's log says."""

    def merge(self, partials: pl.DataFrame) -> pl.DataFrame:
        """Return one row per metric, k and tau.

        Raises:
            BadInput: nothing to measure, a k that some problem has too few samples for, or samples that a policy chose
                by their results.
        """
        table = partials.filter(pl.col("n") > 0).sort("problem_id", "model")
        if table.is_empty():
            raise BadInput("measure.reliability: no problem has a sample that counts, so there is nothing to measure")
        drawn = Drawn.of(table, self.stopped)
        if drawn.stopped:
            raise BadInput(
                "measure.reliability: how many samples a problem got depended on their results, so how often it is "
                "solved again isn't known without bias; sample uniformly"
            )
        n, c = drawn.n, drawn.c
        sizes = sorted(set(self.k)) or powers_of_two(int(n.min()))
        if sizes[-1] > n.min():
            raise BadInput(
                f"measure.reliability: k = {sizes[-1]} needs that many samples of every problem; one has {n.min()}"
            )
        rows: list[tuple[str, int, float]] = []
        values: list[Floats] = []
        for k in sizes:
            chances = np.stack([at_least(n, c, k, wanted) for wanted in range(1, k + 1)])  # [k, problems]
            half = -(-k // 2)
            stable = 2.0 / k * chances[half:].sum(axis=0) if k > 1 else chances[0]
            rows += [("pass_hat_k", k, 1.0), ("mg_pass", k, 0.5)]
            values += [chances[-1], stable]
            for tau in sorted(set(self.tau)):
                rows.append(("g_pass", k, tau))
                values.append(chances[max(1, int(np.ceil(tau * k - 1e-9))) - 1])
        each = np.clip(np.stack(values, axis=1), 0.0, 1.0)
        low, high = new_problems(each, each, self.bootstrap, self.seed)
        found = zip(rows, each.mean(axis=0).tolist(), low.tolist(), high.tolist(), strict=True)
        note = spread(n)
        return pl.DataFrame(
            [(*row, *numbers, len(n), note) for row, *numbers in found],
            schema=polars_schema(Reliability),
            orient="row",
        )
