"""How many labels does an audit need, chosen by measure.next_labels or by lot?

    python -m tests.benchmarks.next_labels [--data DIR] [--times 40]

A verifier accepts right samples with probability .8 and rejects wrong ones with .9, more often wrong where answers are
rare. By lot, labels are a ``reference`` on random samples; chosen, they are asked for in rounds of 50. Printed for each
number of labels: the mean width of the 95% intervals of completeness and soundness, and how often they hold the truth.
With --data also on GSM8K (660 problems, 4 models), where the verifier accepts what the larger verified model answers.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import polars as pl

from operators.measure.next_labels import MeasureNextLabels
from operators.measure.verifier_audit import MeasureVerifierAudit
from schemas.contract import conform

METRICS = ("completeness", "soundness", "accuracy_corrected")


class Truth(NamedTuple):
    """All samples with the verifier's word and the truth, and what is true of problems like these."""

    verdicts: pl.DataFrame
    right: pl.DataFrame
    values: dict[str, float]


def simulated(seed: int, problems: int = 150, n: int = 16) -> Truth:
    """Return samples of problems whose wrong answers are mostly different ones."""
    rng = np.random.default_rng(seed)
    rate = rng.beta(1.0, 1.2, problems)
    right = rng.random((problems, n)) < rate[:, None]
    said = np.where(right, 0, rng.integers(1, 6, (problems, n)))
    often = (said[:, :, None] == said[:, None, :]).mean(axis=2)
    rare = often < 0.4
    chance = np.where(right, np.where(rare, 0.6, 0.9), np.where(rare, 0.05, 0.3))
    return _truth(right, rng.random(right.shape) < chance, said)


def _truth(right: np.ndarray, accepted: np.ndarray, said: np.ndarray, values: dict[str, float] | None = None) -> Truth:
    problem, index = np.indices(right.shape)
    key = {"problem_key": [f"p{number:04}" for number in problem.ravel()], "sample_index": index.ravel()}
    verdicts = pl.DataFrame({**key, "is_correct": accepted.ravel(), "predicted_answer": said.ravel().astype(str)})
    known = pl.DataFrame({**key, "is_correct": right.ravel()})
    own = {
        "completeness": float(accepted[right].mean()),
        "soundness": float((~accepted[~right]).mean()),
        "accuracy_corrected": float(right.mean()),
    }
    return Truth(conform(verdicts, MeasureNextLabels.inputs["verdicts"], "v"), known, values or own)


def gsm8k(data: str) -> Truth:
    """Return the labelled completions; the verifier goes by the answer of the largest verified model."""
    table = pl.read_parquet(f"{data}/gsm8k_labelled_completions.parquet").sort("problem_id", "model")
    said = pl.col("completion").str.split("A:").list.last().str.extract(r"(-?[\d,.]+)").fill_null("")
    table = table.with_columns(said=said)
    best = pl.col("said").filter(pl.col("model") == "175b_verification").first().over("problem_id")
    table = table.with_columns(accepted=pl.col("said") == best).filter(pl.col("model") != "175b_verification")
    shape = (len(table) // 3, 3)
    return _truth(*(table[name].to_numpy().reshape(shape) for name in ("is_correct", "accepted", "said")))


def by_lot(truth: Truth, labels: int, seed: int) -> pl.DataFrame:
    """Return the audit with so many labels of random samples."""
    some = truth.right.sample(labels, seed=seed).with_columns(verifier=pl.lit("people"))
    return _audit(truth, reference=some.lazy())


def asked_for(truth: Truth, labels: int, seed: int, rounds: int = 50) -> pl.DataFrame:
    """Return the audit with labels that were asked for, ``rounds`` at a time."""
    given: pl.DataFrame | None = None
    while given is None or len(given) < labels:
        left = labels - (0 if given is None else len(given))
        operator = MeasureNextLabels(next=min(rounds, left), seed=seed + left)
        wanted = operator.run(truth.verdicts.lazy(), labels=None if given is None else given.lazy())
        answered = wanted.drop("is_correct").join(truth.right, on=["problem_key", "sample_index"], how="left")
        answered = answered.select(wanted.columns)
        given = answered if given is None else pl.concat([given, answered])
    return _audit(truth, labels=given.lazy())


def _audit(truth: Truth, **known: pl.LazyFrame) -> pl.DataFrame:
    verdicts = truth.verdicts.select("problem_key", "sample_index", "verifier", "is_correct").lazy()
    found = MeasureVerifierAudit(bootstrap=400, tries=1).run(verdicts, **known)
    return found.filter(pl.col("metric").is_in(METRICS)).unique("metric", keep="first", maintain_order=True)


def widths(
    draw: Callable[[int], Truth], audit: Callable[[Truth, int, int], pl.DataFrame], labels: int, times: int
) -> dict[str, tuple[float, float]]:
    """Return the mean width of each metric's interval, and how often it held."""
    found: dict[str, list[tuple[float, bool]]] = {metric: [] for metric in METRICS}
    for seed in range(times):
        truth = draw(seed)
        for metric, low, high in audit(truth, labels, seed).select("metric", "low", "high").iter_rows():
            found[metric].append((high - low, low <= truth.values[metric] <= high))
    return {
        metric: (float(np.mean([one for one, _ in some])), float(np.mean([held for _, held in some])))
        for metric, some in found.items()
    }


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--times", type=int, default=40)
    made.add_argument("--data")
    options = made.parse_args()
    sources: dict[str, Callable[[int], Truth]] = {"simulated": simulated}
    if options.data:
        whole = gsm8k(options.data)
        sources["GSM8K"] = lambda seed: whole
    for name, draw in sources.items():
        print(f"{name}: width of the interval (share that holds the truth)")
        for how, audit in (("by lot", by_lot), ("asked for", asked_for)):
            for labels in (100, 200, 400):
                found = widths(draw, audit, labels, options.times)
                said = ", ".join(f"{metric} {wide:.3f} ({held:.2f})" for metric, (wide, held) in found.items())
                print(f"  {how:<10} {labels:>4} labels: {said}", flush=True)


if __name__ == "__main__":
    main()
