"""How alike rows are that come together, and how many independent rows they are worth."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.later import Floats, np, pl


@dataclass(frozen=True)
class Alike:
    """Sums over the episodes of each problem.

    Attributes:
        between, within: sums of squares, shape [problems]; problems with one episode have none between.
        free_between, free_within: their degrees of freedom.
        size: rows of an episode (n0, times ``free_between``).
        rates: share of right rows of each problem, of all problems.
        any_right: mean over problems of the share of episodes with some right row.
    """

    between: Floats
    within: Floats
    free_between: Floats
    free_within: Floats
    size: Floats
    rates: Floats
    any_right: float
    episodes: int

    @classmethod
    def of(cls, rows: pl.DataFrame) -> Alike:
        """Return the sums of rows with problem_key, episode and right (0 or 1)."""
        groups = rows.group_by("problem_key", "episode").agg(w=pl.len().cast(pl.Float64), m=pl.col("right").mean())
        w, m = pl.col("w"), pl.col("m")
        mean = (w * m).sum() / w.sum()
        found = groups.group_by("problem_key").agg(
            between=(w * (m - mean) ** 2).sum(),
            within=(w * m * (1.0 - m)).sum(),
            free_between=pl.len().cast(pl.Float64) - 1.0,
            free_within=(w - 1.0).sum(),
            size=w.sum() - (w**2).sum() / w.sum(),
            rate=mean,
            some=(m > 0).cast(pl.Float64).mean(),
        )
        found = found.sort("problem_key")
        several = found.filter(pl.col("free_between") > 0)
        names = ("between", "within", "free_between", "free_within", "size")
        return cls(
            *(several[name].to_numpy() for name in names),
            rates=found["rate"].to_numpy(),
            any_right=float(found["some"].mean() or 0.0),  # pyright: ignore[reportArgumentType]
            episodes=len(groups),
        )

    @property
    def problems(self) -> int:
        """Problems with two episodes or more."""
        return len(self.between)

    @property
    def rho(self) -> float | None:
        """The intraclass correlation: (MSB - MSW) / (MSB + (w - 1) MSW); None where it isn't known."""
        found = self.rhos(np.ones((1, self.problems)))
        return float(found[0]) if len(found) else None

    @property
    def why(self) -> str:
        """Why the correlation isn't known."""
        if not self.problems:
            return "it takes two episodes of some problem"
        if not self.free_within.sum():
            return "episodes have one row"
        return "all rows of every problem are the same"

    def rhos(self, weights: Floats) -> Floats:
        """Return the correlation under weights of problems, [replicates, problems], where it is known."""
        if not self.problems or not self.free_within.sum():
            return np.empty(0)
        sums = [weights @ column for column in (self.between, self.within, self.free_between, self.free_within)]
        between, within, free_between, free_within = sums
        with np.errstate(invalid="ignore", divide="ignore"):
            msb, msw = between / free_between, within / free_within
            size = (weights @ self.size) / free_between
            found = (msb - msw) / (msb + (size - 1.0) * msw)
        return found[np.isfinite(found)]

    def n_eff(self, rho: float) -> float:
        """Return how many independent rows have a mean as certain as an episode's."""
        size = float(self.size.sum() / self.free_between.sum())
        return size / (1.0 + (size - 1.0) * max(0.0, rho))

    def k_any(self) -> tuple[float | None, str]:
        """Return how many independent rows have some right one as often as an episode has, or None and why not."""
        some = self.rates[self.rates > 0]
        most = len(some) / max(1, len(self.rates))
        if not 0.0 < self.any_right < most:
            return None, "no number of independent samples has some right one as often"
        if not (some < 1.0).any():
            return None, "every problem is always or never solved"

        def found(k: float) -> float:
            return float((1.0 - (1.0 - some) ** k).sum() / len(self.rates))

        low, high = 0.0, 1.0
        while found(high) < self.any_right:
            high *= 2.0
        for _ in range(200):
            middle = 0.5 * (low + high)
            low, high = (middle, high) if found(middle) < self.any_right else (low, middle)
        return 0.5 * (low + high), ""
