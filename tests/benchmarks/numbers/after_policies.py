"""Coverage measured after ``marginal`` with another model's counts as prior, against what all samples say.

    python -m tests.benchmarks.numbers.after_policies --data DIR --simulations 10 --budgets 6000

Each model is sampled with each other model's counts as prior; verdicts, and the counts that the policy was told of, go
to ``measure.pass_at_k``. The problems are the model's own, and both intervals (``covers``, ``same_covers``) are held
against their coverage; with ``--resampled`` each simulation draws as many with replacement, and the interval of new
problems is held against the coverage of all. ``within`` is the share of simulations in which k was no larger than the
median n; bias is told of all, and of these alone. ``survival`` is the bias of Kaplan and Meier's estimate on the same
verdicts, which knows nothing of the hints, and ``bounds`` the mean width between ``least`` and ``most``.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from operators.measure.pass_at_k import PassAtK
from operators.measure.survival import first_success
from operators.policies.marginal import Marginal
from operators.policies.policy import Known, Outcomes, Policy, Setting
from schemas.errors import BadInput
from tests.benchmarks.numbers.models import Floats, Ints, coverage, grid, parser, read_counts

SIZES = np.array([1, 8, 32, 100])
IN_FLIGHT = 8


def played(policy: Policy, rates: Floats, budget: int, rng: np.random.Generator) -> pl.DataFrame:
    """Let a policy spend a budget, and return the verdicts."""
    numbers: list[Ints] = []
    results: list[NDArrayOfBool] = []
    spent = 0
    while spent < budget and (chunks := policy.next(min(IN_FLIGHT, budget - spent))):
        problems = np.concatenate([np.full(chunk.size, chunk.problem) for chunk in chunks])
        right = rng.random(len(problems)) < rates[problems]
        policy.observe(Outcomes(problems, right))
        numbers.append(problems)
        results.append(right)
        spent += len(problems)
    table = pl.DataFrame({"problem": np.concatenate(numbers), "is_correct": np.concatenate(results)})
    return table.select(
        problem_key=pl.format("p{}", pl.col("problem").cast(pl.String).str.zfill(5)),
        sample_index=pl.int_range(pl.len()).over("problem"),
        verifier=pl.lit("v"),
        is_correct="is_correct",
        status=pl.lit("ok"),
    )


NDArrayOfBool = np.ndarray[tuple[int, ...], np.dtype[np.bool_]]


def known(n: Ints, c: Ints) -> pl.DataFrame:
    """Return counts as ``measure.pass_at_k`` takes those that a policy was told of."""
    keys = [f"p{number:05d}" for number in range(len(n))]
    return pl.DataFrame({"problem_key": keys, "n": n, "c": c, "model": None}, schema_overrides={"model": pl.String})


def ignorant(counts: pl.DataFrame, k: Ints) -> Floats:
    """Return Kaplan and Meier's estimate at each k, NaN where it has none."""
    some = counts.filter(pl.col("n") > 0)
    n, first = some["n"].to_numpy(), some["first"].fill_null(0).to_numpy()
    found = np.full(len(k), np.nan)
    for place, size in enumerate(k.tolist()):
        try:
            found[place] = first_success(n, first, np.array([size]))[0]
        except BadInput:
            break
    return found


def main() -> None:
    options = parser(__doc__, 10)
    options.add_argument("--budgets", default="6000,20000")
    options.add_argument("--resampled", action="store_true", help="draw the problems anew in each simulation")
    chosen = options.parse_args()
    rng = np.random.default_rng(chosen.seed)
    counts = read_counts(chosen)
    rows: list[tuple[object, ...]] = []
    for budget in map(int, chosen.budgets.split(",")):
        for model, (n, c) in counts.items():
            truth = coverage(c / n, SIZES)
            for other, (prior_n, prior_c) in counts.items():
                if other == model:
                    continue
                for number in range(chosen.simulations):
                    mine = rng.integers(0, len(n), len(n)) if chosen.resampled else np.arange(len(n))
                    same = coverage((c / n)[mine], SIZES)
                    before = np.stack([prior_n, prior_c], axis=1)[mine]
                    policy = Marginal(Setting(n[mine], np.ones(len(n)), Known(before)))
                    verdicts = played(policy, (c / n)[mine], budget, rng)
                    partial = PassAtK().partial(verdicts=verdicts, before=known(*before.T))
                    sizes = SIZES[: (partial["n"].to_numpy().max() >= SIZES).sum()]
                    found = PassAtK(k=tuple(sizes.tolist()), bootstrap=1000, seed=number).merge(partial)
                    for row, value in zip(found.iter_rows(named=True), ignorant(partial, sizes).tolist(), strict=True):
                        place = SIZES.tolist().index(row["k"])
                        of_all, of_these = truth[place], same[place]
                        rows.append(
                            (
                                *(budget, model, other, row["k"], row["k"] <= partial["n"].median()),
                                *(value - of_these, row["coverage"] - of_these),
                                *(row["low"] <= of_all <= row["high"], row["high"] - row["low"]),
                                row["same_low"] <= of_these <= row["same_high"],
                                (row["most"] or 0.0) - (row["least"] or 0.0),
                            )
                        )
    names = ["budget", "model", "prior", "k", "within", "survival", "error", "covers", "width", "same_covers", "bounds"]
    table = pl.DataFrame(rows, schema=names, orient="row")
    within = pl.col("error").filter("within").mean().alias("bias_within")
    figures = [
        pl.col("within").mean(),
        pl.col("survival").fill_nan(None).mean(),
        pl.col("error").mean().alias("bias"),
        within,
        pl.col("covers", "width", "same_covers", "bounds").mean(),
    ]
    for by in (["budget", "model", "prior", "k"], ["budget", "k"]):
        found = table.group_by(by, maintain_order=True).agg(figures)
        grid(found.rows(), found.columns)


if __name__ == "__main__":
    main()
