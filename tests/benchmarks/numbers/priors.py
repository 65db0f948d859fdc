"""What other models' counts save ``marginal``: samples to the coverage that 1,000 of every problem should reach.

    python -m tests.benchmarks.numbers.priors --data DIR --simulations 8

1/x of those samples are needed. Cases: an oracle that knows every rate; no prior; each other model; all of them at
once, each a source whose strength is learned; one of them shuffled over problems; one shuffled beside the others.
"""

from __future__ import annotations

import numpy as np

from operators.policies.marginal import Marginal
from operators.policies.oracle import Oracle
from operators.policies.policy import Outcomes, Policy, Setting
from tests.benchmarks.numbers.models import Floats, Ints, grid, parser, read_counts

UNIFORM = 1000
"""Samples of every problem whose expected coverage is the goal."""
IN_FLIGHT = 8


def samples_to(policy: Policy, rates: Floats, goal: int, rng: np.random.Generator) -> int:
    """Return how many samples a policy needs to solve ``goal`` problems; what uniform takes where it doesn't."""
    solved, spent = np.zeros(len(rates), dtype=np.bool_), 0
    while spent < UNIFORM * len(rates) and (chunks := policy.next(IN_FLIGHT)):
        problems = np.concatenate([np.full(chunk.size, chunk.problem) for chunk in chunks])
        right = rng.random(len(problems)) < rates[problems]
        solved[problems[right]] = True
        spent += len(problems)
        if solved.sum() >= goal:
            return spent
        policy.observe(Outcomes(problems, right))
    return UNIFORM * len(rates)


def priors(others: dict[str, Ints], seed: int) -> dict[str, Ints | None]:
    """Return the cases: name -> counts by the sources that a policy is told of.

    Args:
        others: model -> n and c of the same problems, shape [problems, 2].
    """
    first, *rest = others
    mixed = others[first][np.random.default_rng(1000 + seed).permutation(len(others[first]))]
    return {
        "no prior": None,
        **others,
        "all": np.stack(list(others.values()), axis=1),
        f"{first} shuffled": mixed,
        f"all, {first} shuffled": np.stack([mixed, *(others[name] for name in rest)], axis=1),
    }


def main() -> None:
    chosen = parser(__doc__, 8).parse_args()
    counts = read_counts(chosen)
    rows: list[tuple[object, ...]] = []
    for model, (n, c) in counts.items():
        rates, most = c / n, UNIFORM * len(n)
        goal = round(float(-np.expm1(UNIFORM * np.log1p(-np.minimum(rates, 1 - 1e-12))).sum()))
        others = {name: np.stack(pair, axis=1) for name, pair in counts.items() if name != model}
        needed: dict[str, list[int]] = {}
        for number in range(chosen.simulations):
            policies: dict[str, Policy] = {"oracle": Oracle(Setting(n, np.ones(len(n))), rates)}
            for name, before in priors(others, number).items():
                policies[name] = Marginal(Setting(n, np.ones(len(n)), before))
            for name, policy in policies.items():
                rng = np.random.default_rng(chosen.seed + number)
                needed.setdefault(name, []).append(samples_to(policy, rates, goal, rng))
        for name, samples in needed.items():
            saved = most / np.array(samples)
            error = float(saved.std(ddof=1) / np.sqrt(len(saved))) if len(saved) > 1 else None
            row = (most / float(np.mean(samples)), float(np.exp(np.log(saved).mean())), error)
            rows.append((model, name, *row))
    grid(rows, ["model", "prior", "one_in", "geometric", "standard_error"])


if __name__ == "__main__":
    main()
