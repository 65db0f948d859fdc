"""Reasoning pruning: leave out the samples of a problem that the model itself thinks improbable."""

from __future__ import annotations

from typing import ClassVar

from operators.base import Operator
from schemas.datasets import SAMPLE_KEY, Path, Sample
from schemas.later import Bools, Floats, Ints, np, pl, special

FEWEST = 8
"""Paths with log-probs that a problem must have to be pruned."""
LARGEST_LOG = 700.0
"""Beyond this exp() leaves the range of floats."""

NO_LOGPROBS = "no log-probs"
PRUNED = "improbable: below the problem's mean, and of the low component"
FEW, EQUAL, FAILED = f"not pruned: fewer than {FEWEST} paths", "not pruned: all equal", "not pruned: the fit failed"
REASONS = [NO_LOGPROBS, PRUNED, FEW, EQUAL, FAILED, None]


class PruneRpc(Operator):
    """Prune each problem's improbable paths (Zhou et al. 2025, "Bridging Internal Probability and Self-Consistency").

    A path's p is exp(mean_logprob), its probability per token. A mixture of two Weibull distributions is fitted to the
    p of a problem (``operators.numeric.weibull``); a path is pruned if the component with the lower mean more likely
    made it *and* its p is below the mean. So the most probable path always stays.

    ``weight`` is the path's weight after pruning: p where it is kept, 0 where it is pruned. A sample without a finite
    mean_logprob is kept with weight 1, and takes no part in fit and mean. A problem with fewer than 8 paths that have
    one, with all p equal, or whose fit failed keeps all its paths, and ``reason`` says why. Failed samples (status
    ``error``) aren't paths and get no row.
    """

    version: ClassVar[int] = 1
    scope = "problem"
    inputs = {"samples": Sample.select("problem_key", "sample_index", "problem_id", "mean_logprob", "status")}
    output = Path

    def run(self, samples: pl.DataFrame) -> pl.DataFrame:
        """Return one row per sample that didn't fail, problem by problem."""
        paths = samples.filter(pl.col("status") == "ok").select(*SAMPLE_KEY, "problem_id", "mean_logprob")
        if paths["problem_key"].rle().struct.field("value").is_duplicated().any():  # a problem here and there
            paths = paths.sort(*SAMPLE_KEY)
        logs = paths["mean_logprob"].to_numpy()
        known = np.isfinite(logs)
        logs = np.clip(logs[known], -LARGEST_LOG, LARGEST_LOG)
        sizes = paths["problem_key"].filter(pl.Series(known)).rle().struct.field("len").to_numpy().astype(np.int64)
        pruned, reasons = prune(logs, sizes)
        weight, kept, reason = np.ones(len(paths)), np.ones(len(paths), np.bool_), np.zeros(len(paths), np.int8)
        p = np.exp(logs)
        p[pruned] = 0.0
        weight[known], kept[known] = p, ~pruned
        reason[known] = np.where(pruned, REASONS.index(PRUNED), np.repeat(reasons, sizes)).astype(np.int8)
        return paths.select(
            *SAMPLE_KEY,
            "problem_id",
            pl.Series("weight", weight),
            pl.Series("kept", kept),
            pl.Series("reason", REASONS, dtype=pl.String).gather(reason),
        )


def prune(logs: Floats, sizes: Ints) -> tuple[Bools, Ints]:
    """Decide which paths of many problems are pruned.

    Args:
        logs: mean log-prob of each path, problem by problem.
        sizes: how many paths each problem has, shape [problems]; at least 1.

    Returns:
        Which paths are pruned, shape [paths], and for each problem why none can be, as a
        number in ``REASONS``; the number of None where there is no reason.
    """
    from operators.numeric.weibull import fit, gather, sort  # settings do without its numerics

    ordered = sort(logs, sizes)
    starts, p = np.cumsum(sizes) - sizes, np.exp(logs)
    largest = np.exp(ordered[starts + sizes - 1])
    few, equal = sizes < FEWEST, np.exp(ordered[starts]) == largest
    fitted = np.flatnonzero(~few & ~equal)
    theta, succeeded = fit(gather(ordered, sizes, fitted), sizes[fitted])
    failed = np.zeros(len(sizes), dtype=np.bool_)
    failed[fitted] = ~succeeded
    reasons = np.select([few, equal, failed], [REASONS.index(why) for why in (FEW, EQUAL, FAILED)], REASONS.index(None))
    done, pruned = fitted[succeeded], np.zeros(len(logs), dtype=np.bool_)
    if done.size:
        bar = np.full(len(sizes), -np.inf)
        bar[done] = np.minimum(np.add.reduceat(p, starts) / sizes, largest)[done]  # rounding may lift a mean
        below = p < np.repeat(bar, sizes)
        counts = np.add.reduceat(below, starts, dtype=np.int64)[done]
        pruned[below] = log_odds(logs[below], counts, theta[succeeded]) < 0
    return pruned, reasons


def log_odds(logs: Floats, sizes: Ints, theta: Floats) -> Floats:
    """Return ln(P_high / P_low) of each value: whether it comes of the component with the larger mean or of the other.

    A component's mean is l Gamma(1 + 1/k). Weights are included: P_high = w f_high / (w f_high + (1-w) f_low).

    Args:
        logs: ln p, problem by problem.
        sizes: how many values each problem has, shape [problems].
        theta: the fits, shape [problems, 5].
    """
    from operators.numeric.weibull import BLOCK, line_terms, on_threads, powers, split

    _, k1, l1, k2, l2 = theta.T
    lines = line_terms(theta)
    mean1, mean2 = np.log(l1) + special.gammaln(1 + 1 / k1), np.log(l2) + special.gammaln(1 + 1 / k2)
    columns = np.stack([k1 - k2, lines[:, 0] - lines[:, 1], k1, k1 * np.log(l1), k2, k2 * np.log(l2)])
    sign = np.where(mean1 < mean2, -1.0, 1.0)
    ends = np.cumsum(sizes)

    def of(part: Ints) -> Floats:
        values = logs[ends[part[0]] - sizes[part[0]] : ends[part[-1]]]
        bend, line, k1, c1, k2, c2 = np.repeat(columns[:, part], sizes[part], axis=1)
        z1, z2 = powers(values, k1, c1), powers(values, k2, c2)
        odds: Floats = (bend * values + line - z1 + z2) * np.repeat(sign[part], sizes[part])
        return odds

    return np.concatenate(on_threads(of, split(sizes, BLOCK)))
