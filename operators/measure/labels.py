"""Labels that were asked for: which samples they stand for, and what they say of a verifier.

Within a stratum samples are chosen by lot, so the share of right ones there is known to a binomial; how large a stratum
is, is known exactly. What strata differ in adds nothing to the error (Neyman 1934, stratified sampling).
"""

from __future__ import annotations

from schemas.datasets import SAMPLE_KEY
from schemas.later import Floats, np, pl

KINDS = ("right_accepted", "right_rejected", "wrong_accepted", "wrong_rejected")
JEFFREYS = 0.5
"""Both parameters of the shares' Beta priors; a prior that takes strata for alike is too sure of the rare kind."""


def with_chances(labels: pl.DataFrame) -> pl.DataFrame:
    """Return the labels that were given, with the probability by which their samples were chosen.

    Args:
        labels: of all rounds together; ``is_correct`` is null where nobody has labelled yet.

    Returns:
        problem_key, sample_index, right, stratum, stratum_size and chance: the share of the stratum that is labelled.
    """
    given = labels.filter(pl.col("is_correct").is_not_null()).unique(SAMPLE_KEY, keep="last", maintain_order=True)
    size = pl.col("stratum_size").max().over("stratum")
    chance = (pl.len().over("stratum") / size).clip(upper_bound=1.0)
    return given.select(*SAMPLE_KEY, "stratum", "stratum_size", right="is_correct", chance=chance)


def kinds_of(
    given: pl.DataFrame, accepted: Floats, rejected: Floats, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Return how many samples are of each of ``KINDS``: as estimated, shape [4], and draws of it, [draws, 4].

    The shares of right samples are drawn from their Beta posteriors. Strata without a label are taken for what the
    others of their side are.

    Args:
        given: the labels, with ``accepted``, ``right``, ``stratum`` and ``stratum_size``.
        accepted, rejected: draws of how many samples the verifier accepts and rejects, shape [draws]; the first is the
            number itself.
    """
    strata = given.group_by("stratum").agg(
        pl.col("accepted").first(), pl.col("stratum_size").max(), n=pl.len(), c=pl.col("right").sum()
    )
    strata = strata.sort("stratum")
    found, drawn = np.zeros(4), np.zeros((len(accepted) - 1, 4))
    for place, (side, totals) in enumerate(((True, accepted), (False, rejected))):
        some = strata.filter(pl.col("accepted") == side)
        if some.is_empty():
            continue
        size, n, c = (some[name].to_numpy().astype(np.float64) for name in ("stratum_size", "n", "c"))
        share = size / size.sum()
        p = rng.beta(c + JEFFREYS, n - c + JEFFREYS, (len(drawn), len(n))) @ share
        best = float((c / n) @ share)
        found[place], found[2 + place] = totals[0] * best, totals[0] * (1.0 - best)
        drawn[:, place], drawn[:, 2 + place] = totals[1:] * p, totals[1:] * (1.0 - p)
    return found, drawn
