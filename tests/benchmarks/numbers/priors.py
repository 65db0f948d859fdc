"""What other models' counts save ``marginal``: samples to the coverage that 1,000 of every problem reach.

    python -m tests.benchmarks.numbers.priors --data DIR --simulations 20

1/x of those samples are needed, by the mean curve of replays of the counts. Cases: an oracle that knows every rate; no
prior; each other model; all of them at once, each a source whose strength is learned; each of them shuffled over
problems, by several shuffles; one shuffled beside the others. ``to_none`` is x over the x without a prior (the same
samples in the same order), and ``error`` the standard error of that by replays drawn with replacement.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from jobs.simulate.abreast import replay_abreast
from jobs.simulate.records import Recorded
from jobs.simulate.replay import Question
from jobs.simulate.simulation import cost_to_reach
from operators.measure.pass_at_k import estimate
from operators.policies.named import AnyPolicy, MarginalSpec
from tests.benchmarks.numbers.models import Floats, Ints, grid, parser, read_counts

UNIFORM = 1000
"""Samples of every problem whose expected coverage is the goal."""
IN_FLIGHT = 8
SHUFFLES = 4
"""Of each other model's counts; the replays are shared out among them."""
AGAIN = 200
"""Replays drawn with replacement."""


class Case(NamedTuple):
    """What a policy is told: counts by some sources, [problems, (sources,) 2], in several versions; None of no use."""

    name: str
    spec: AnyPolicy | None
    before: tuple[Ints | None, ...] = (None,)


def cases(others: dict[str, Ints]) -> list[Case]:
    """Return the cases.

    Args:
        others: model -> n and c of the same problems, shape [problems, 2].
    """
    marginal = MarginalSpec()
    found = [Case("oracle", None), Case("no prior", marginal)]
    found += [Case(name, marginal, (counts,)) for name, counts in others.items()]
    orders = [np.random.default_rng(1000 + number) for number in range(SHUFFLES)]
    shuffled = {name: tuple(counts[rng.permutation(len(counts))] for rng in orders) for name, counts in others.items()}
    found += [Case(f"{name} shuffled", marginal, versions) for name, versions in shuffled.items()]
    if len(others) > 1:
        first, *rest = others
        beside = [others[name] for name in rest]
        found.append(Case("all", marginal, (np.stack(list(others.values()), axis=1),)))
        mixed = tuple(np.stack([version, *beside], axis=1) for version in shuffled[first])
        found.append(Case(f"all, {first} shuffled", marginal, mixed))
    return found


def curves(case: Case, n: Ints, c: Ints, costs: Floats, simulations: int) -> Floats:
    """Return the problems solved at each cost in each replay: [replays, costs]."""
    recorded = Recorded([str(number) for number in range(len(n))], [""], n[:, None], c[:, None])
    found: list[Floats] = []
    for number, before in enumerate(case.before):
        seeds = list(range(number, simulations, len(case.before)))
        question = Question(recorded, "coverage", 1, "samples", float(costs[-1]), IN_FLIGHT, before, None, costs)
        found += [one.values for one in replay_abreast(question, case.spec, seeds)]
    order = np.argsort(np.concatenate([np.arange(n, simulations, len(case.before)) for n in range(len(case.before))]))
    return np.stack(found)[order]


def one_in(values: Floats, costs: Floats, goal: float) -> float:
    """Return x, from curves [replays, costs]; 1 where the goal isn't reached."""
    needed = cost_to_reach(costs.tolist(), values.mean(axis=0).tolist(), goal)
    return float(costs[-1]) / (needed or float(costs[-1]))


def main() -> None:
    chosen = parser(__doc__, 20).parse_args()
    counts = read_counts(chosen)
    rng = np.random.default_rng(chosen.seed)
    rows: list[tuple[object, ...]] = []
    for model, (n, c) in counts.items():
        goal = float(estimate(n, c, np.array([UNIFORM])).sum())
        costs = np.unique(np.round(np.geomspace(8, UNIFORM * len(n), 400)))
        others = {name: np.stack(pair, axis=1) for name, pair in counts.items() if name != model}
        plain = None
        for case in cases(others):
            found = curves(case, n, c, costs, chosen.simulations)
            plain = found if case.name == "no prior" else plain
            row = (model, case.name, one_in(found, costs, goal))
            if plain is None:
                rows.append((*row, None, None))
                continue
            drawn = rng.integers(0, len(found), (AGAIN, len(found)))
            again = [one_in(found[some], costs, goal) / one_in(plain[some], costs, goal) for some in drawn]
            rows.append((*row, row[2] / one_in(plain, costs, goal), float(np.std(again))))
    grid(rows, ["model", "prior", "one_in", "to_none", "error"])


if __name__ == "__main__":
    main()
