"""How often the intervals of ``measure.verifier_audit`` hold the truth about all problems like those that were seen.

    python -m tests.benchmarks.numbers.audits --simulations 200

Problems have success rates of Beta(.6, 1.2); the verifier accepts right samples with probability .8 and rejects wrong
ones with .9, the same for all problems or (``varies``) Beta(8, 2) and Beta(9, 1) by problem. Of each problem there are
m samples, of which the reference knows some.
"""

from __future__ import annotations

import argparse

import numpy as np
import polars as pl

from operators.measure.verifier_audit import MeasureVerifierAudit
from tests.benchmarks.numbers.models import Floats, grid

PROBLEMS = (10, 30, 100)
SAMPLES = ((20, 8), (100, 20), (100, 100))
MANY = 1_000_000
METRICS = ("completeness", "soundness", "precision", "accuracy_judged", "accuracy_corrected")


def audited(right: Floats, accepted: Floats, known: int) -> tuple[pl.LazyFrame, pl.LazyFrame]:
    """Return verdicts and reference of samples, shape [problems, samples]; the reference knows the first ones."""
    problem, index = np.indices(right.shape)
    keys = pl.DataFrame({"problem_key": problem.ravel(), "sample_index": index.ravel()})
    keys = keys.with_columns(pl.col("problem_key").cast(pl.String), verifier=pl.lit("v"))
    tables = [keys.with_columns(is_correct=pl.Series(values.ravel())) for values in (accepted, right)]
    return tables[0].lazy(), tables[1].filter(pl.col("sample_index") < known).lazy()


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--simulations", type=int, default=200)
    made.add_argument("--seed", type=int, default=0)
    options = made.parse_args()
    rng = np.random.default_rng(options.seed)
    rows: list[tuple[object, ...]] = []
    for varies in (False, True):
        rates = rng.beta(0.6, 1.2, MANY)
        complete = rng.beta(8, 2, MANY) if varies else np.full(MANY, 0.8)
        sound = rng.beta(9, 1, MANY) if varies else np.full(MANY, 0.9)
        both = (rates * complete).sum()
        said = both + ((1 - rates) * (1 - sound)).sum()
        truths = [both / rates.sum(), ((1 - rates) * sound).sum() / (1 - rates).sum(), both / said, said / MANY]
        truth = dict(zip(METRICS, [*truths, rates.mean()], strict=True))
        for problems in PROBLEMS:
            for samples, known in SAMPLES:
                for number in range(options.simulations):
                    some = rng.integers(0, MANY, problems)
                    right = rng.random((problems, samples)) < rates[some, None]
                    chance = np.where(right, complete[some, None], 1 - sound[some, None])
                    tables = audited(right, rng.random(right.shape) < chance, known)
                    found = MeasureVerifierAudit(bootstrap=1000, seed=number).run(*tables)
                    for metric, prior, low, high in found.select("metric", "prior", "low", "high").iter_rows():
                        if metric in truth and low is not None:
                            held = low <= truth[metric] <= high
                            rows.append((varies, problems, samples, known, f"{metric} {prior}", held, high - low))
    names = ["varies", "P", "m", "known", "metric", "covers", "width"]
    table = pl.DataFrame(rows, schema=names, orient="row")
    found = table.group_by(names[:-2], maintain_order=True).agg(pl.col("covers", "width").mean())
    grid(found.rows(), found.columns)


if __name__ == "__main__":
    main()
