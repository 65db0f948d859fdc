"""What it takes to replay policies on recorded counts, and what each would have needed.

    python -m tests.benchmarks.simulate --data FILE.parquet [--budget 128000] [--seeds 20]

Twenty replays of uniform, until_correct and marginal for each model of the file (model, problem_index, n, c), without a
prior and with the model before it in the file as prior: CPU seconds, problems covered, and how many times fewer samples
than uniform each needed for the same coverage.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
import polars as pl

from jobs.simulate.abreast import replay_abreast
from jobs.simulate.records import read_before, read_recorded
from jobs.simulate.replay import Question
from jobs.simulate.simulation import cost_to_reach
from operators.policies.named import policy_spec

POLICIES = ("uniform", "until_correct", "marginal")


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--budget", type=int, default=128_000)
    parser.add_argument("--seeds", type=int, default=20)
    given: Any = parser.parse_args()
    models = pl.read_parquet(given.data)["model"].unique(maintain_order=True).to_list()
    print(f"{'model':14s}{'prior':14s}{'policy':16s}{'CPU s':>8s}{'covered':>9s}{'sd':>6s}{'fewer':>7s}")
    for number, model in enumerate(models):
        recorded = read_recorded(given.data, ".", model)
        for prior in (None, models[number - 1]):
            before = None if prior is None else read_before(given.data, ".", prior, recorded.problems)[0]
            flight = max(1, min(64, len(recorded.problems) // 16))
            costs = np.unique(np.round(np.geomspace(8, given.budget, 400)))
            question = Question(recorded, "coverage", 1, "samples", given.budget, flight, before, None, costs)
            total, even = 0.0, None
            for name in POLICIES:
                start = time.process_time()
                found = replay_abreast(question, policy_spec({"name": name}), list(range(given.seeds)))
                seconds = time.process_time() - start
                total += seconds
                final = np.array([one.final for one in found])
                mean = np.mean([one.values for one in found], axis=0)
                even = mean if even is None else even
                needs = cost_to_reach(costs.tolist(), mean.tolist(), float(even[-1]))
                fewer = "" if needs is None else f"{given.budget / needs:.2f}"
                row = f"{model:14s}{prior or 'none':14s}{name:16s}{seconds:8.1f}{final.mean():9.2f}"
                print(f"{row}{final.std(ddof=1):6.2f}{fewer:>7s}", flush=True)
            print(f"{'':44s}{total:8.1f} s of CPU together", flush=True)


if __name__ == "__main__":
    main()
