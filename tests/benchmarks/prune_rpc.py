"""prune.rpc against the loop of its paper: a Weibull mixture per problem, fitted by scipy's L-BFGS-B.

    python -m tests.benchmarks.prune_rpc
    python -m tests.benchmarks.prune_rpc --problems 500 --samples 128 --share 1 --exact-gradients    # agreement

Problems have two groups of paths, or a skewed one. The loop runs on ``--share`` of the problems and is scaled; on these
the pruned paths are compared. scipy takes gradients by finite differences, as in the paper's code; with
``--exact-gradients`` it is given them, which is faster and finds the optimum more closely.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import gamma

from operators.prune.rpc import PruneRpc

Floats = NDArray[np.float64]
START, LEAST = np.array([0.5, 1.0, 1.0, 1.5, 2.0]), 0.01
LARGEST = 300.0
"""Beyond this exp() would overflow in the line search's longer steps."""
BOUNDS = [(0.2, 0.8), *[(LEAST, None)] * 4]


def problem(rng: np.random.Generator, n: int) -> Floats:
    """Return p of one problem's paths."""
    if rng.random() < 0.3:
        return np.clip(rng.beta(rng.uniform(1, 12), rng.uniform(1, 6), n), 1e-6, 1)
    few = int(rng.integers(n // 5, 1 + 4 * n // 5))
    low = rng.uniform(0.2, 0.5) * rng.weibull(rng.uniform(1.5, 5), few)
    return np.clip(np.concatenate([low, rng.uniform(0.6, 0.9) * rng.weibull(rng.uniform(5, 25), n - few)]), 1e-6, 1)


def log_density(p: Floats, k: float, scale: float) -> Floats:
    log = np.log(p / scale)
    return np.log(k / scale) + (k - 1) * log - np.exp(np.minimum(k * log, LARGEST))


def loss(theta: Floats, p: Floats) -> float:
    w, k1, l1, k2, l2 = theta
    return -float(np.logaddexp(np.log(w) + log_density(p, k1, l1), np.log1p(-w) + log_density(p, k2, l2)).sum())


def gradient(theta: Floats, p: Floats) -> Floats:
    w, *shapes = theta
    logs = np.stack([np.log(w) + log_density(p, *shapes[:2]), np.log1p(-w) + log_density(p, *shapes[2:])])
    share = np.exp(logs - np.logaddexp(*logs))
    parts = [share[0].sum() / w - share[1].sum() / (1 - w)]
    for mine, (k, scale) in zip(share, (shapes[:2], shapes[2:]), strict=True):
        log = np.log(p / scale)
        z = np.exp(np.minimum(k * log, LARGEST))
        parts += [(mine * (1 / k + log * (1 - z))).sum(), (mine * k / scale * (z - 1)).sum()]
    return -np.array(parts)


def by_scipy(p: Floats, exact: bool) -> NDArray[np.bool_]:
    """Return which paths are pruned, as the definition has it."""
    jac = gradient if exact else None
    found = minimize(loss, START, args=(p,), jac=jac, bounds=BOUNDS, method="L-BFGS-B")
    w, k1, l1, k2, l2 = found.x
    high = np.log(w) + log_density(p, k1, l1), np.log1p(-w) + log_density(p, k2, l2)
    swap = l1 * gamma(1 + 1 / k1) < l2 * gamma(1 + 1 / k2)
    odds = (high[1] - high[0]) if swap else (high[0] - high[1])
    return (odds < 0) & (p < p.mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=int, default=200)
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--share", type=float, default=0.1)
    parser.add_argument("--exact-gradients", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    values = [problem(rng, arguments.samples) for _ in range(arguments.problems)]
    table = pl.concat(
        pl.DataFrame({"problem_key": f"p{i:05d}", "sample_index": np.arange(len(p)), "mean_logprob": np.log(p)})
        for i, p in enumerate(values)
    ).with_columns(problem_id=pl.col("problem_key"), status=pl.lit("ok"))
    loop = max(1, round(arguments.share * arguments.problems))
    ratios: list[float] = []
    for number in range(arguments.rounds):
        times: list[float] = []
        for _ in range(3):  # a run is so short that one measurement is mostly the machine's mood
            began = time.perf_counter()
            paths = PruneRpc().run(table)
            times.append(time.perf_counter() - began)
        ours = float(np.median(times))
        began = time.perf_counter()
        theirs = [by_scipy(p, arguments.exact_gradients) for p in values[:loop]]
        scipys = (time.perf_counter() - began) * arguments.problems / loop
        ratios.append(scipys / ours)
        print(f"round {number + 1}: ours {ours:6.2f} s, the loop {scipys:7.1f} s (scaled), {ratios[-1]:.0f} times")
    ordered = ~paths.sort("problem_key", "sample_index")["kept"].to_numpy()
    mine = [ordered[i * arguments.samples : (i + 1) * arguments.samples] for i in range(loop)]
    same = float(np.mean([np.mean(a == b) for a, b in zip(mine, theirs, strict=True)]))
    print(f"the same decision on {same:.3%} of {loop * arguments.samples:,} paths of {loop} problems")
    print(f"median {np.median(ratios):.0f} times faster [{min(ratios):.0f}, {max(ratios):.0f}]")


if __name__ == "__main__":
    main()
