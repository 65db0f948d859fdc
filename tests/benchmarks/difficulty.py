"""What features of problems save, and what useless ones cost: samples to reach what uniform reaches.

    python -m tests.benchmarks.difficulty [--data FILE.parquet] [--seeds 20]

Simulated problems of mixed levels, some of whose difficulty their features tell, or (--data) a table with problem_key,
prompt, n and c: recorded samples of problems of mixed levels. ``marginal`` with the features, without any, and with
features of other problems (the rows shuffled, 5 times), beside the oracle. Printed are how many times fewer samples
than uniform each needs for the coverage that uniform reaches, over 20 replays, and the cost of features over none.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl

from jobs.simulate.abreast import replay_abreast
from jobs.simulate.records import Recorded
from jobs.simulate.replay import Question
from jobs.simulate.simulation import cost_to_reach
from operators.measure.features import features_of, standard
from operators.policies.named import policy_spec


def recorded(problems: int, n: int, told: float, seed: int) -> tuple[Recorded, Any]:
    """Return counts of problems of mixed levels and 12 features, of which 3 tell some of the difficulty."""
    rng = np.random.default_rng(seed)
    features = rng.normal(0.0, 1.0, (problems, 12))
    logit = -4.0 + told * features[:, :3].sum(axis=1) / np.sqrt(3) + rng.normal(0.0, 1.0, problems)
    c = rng.binomial(n, 1.0 / (1.0 + np.exp(-logit)))
    return Recorded([f"p{i}" for i in range(problems)], [""], np.full((problems, 1), n), c[:, None]), standard(features)


def needs(record: Recorded, features: Any, budget: float, policy: str | None, seeds: int) -> tuple[float, float]:
    """Return uniform's coverage for a budget, and the samples that a policy (None: the oracle) needs for it."""
    costs = np.unique(np.round(np.geomspace(4, budget, 400)))
    flight = max(1, min(64, len(record.problems) // 16))
    question = Question(record, "coverage", 1, "samples", budget, flight, None, None, costs)
    curves = {
        name: np.mean([one.values for one in replay_abreast(asked, spec, list(range(seeds)))], axis=0)
        for name, asked, spec in (
            ("uniform", question, policy_spec({"name": "uniform"})),
            ("own", replace(question, features=features), policy_spec({"name": policy}) if policy else None),
        )
    }
    reached = float(curves["uniform"][-1])
    return reached, cost_to_reach(costs.tolist(), curves["own"].tolist(), reached) or float("nan")


def compared(record: Recorded, features: Any, budget: float, seeds: int, shuffles: int = 5) -> dict[str, float]:
    """Return what uniform needs over what each needs, and the cost of useless features over none."""
    plain = needs(record, None, budget, "marginal", seeds)[1]
    useless = []
    for seed in range(shuffles):
        order = np.random.default_rng(seed).permutation(len(features))
        useless.append(needs(record, features[order], budget, "marginal", seeds)[1])
    return {
        "no prior": budget / plain,
        "features": budget / needs(record, features, budget, "marginal", seeds)[1],
        "oracle": budget / needs(record, None, budget, None, seeds)[1],
        "useless over none": float(np.mean(useless)) / plain,
    }


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--data")
    made.add_argument("--seeds", type=int, default=20)
    options = made.parse_args()
    cases: dict[str, tuple[Recorded, Any]] = {
        f"simulated, told {told}": recorded(128, 200, told, 0) for told in (0.0, 1.0, 2.5)
    }
    if options.data:
        table = pl.read_parquet(options.data).sort("problem_key")
        n, c = (table[name].to_numpy().astype(np.int64)[:, None] for name in ("n", "c"))
        cases[options.data] = Recorded(table["problem_key"].to_list(), [""], n, c), features_of(table)
    for name, (record, features) in cases.items():
        for share in (0.1, 0.5):
            budget = float(round(share * record.n.sum()))
            found = compared(record, features, budget, options.seeds)
            said = ", ".join(f"{what} {value:.2f}" for what, value in found.items())
            print(f"{name}, {budget:,.0f} samples: {said}", flush=True)


if __name__ == "__main__":
    main()
