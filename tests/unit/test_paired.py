"""measure.paired: six problems by hand, and intervals that hold."""

from __future__ import annotations

from itertools import product

import numpy as np
import polars as pl
import pytest
from scipy import stats

from operators.measure.paired import MeasurePaired, bootstrap, mcnemar
from schemas.contract import conform, validate
from schemas.errors import BadInput
from schemas.measures import Paired
from schemas.prices import Prices

FIRST = [[1, 1], [1, 0], [1, 1], [1, 1], [0, 0], [1, 1]]
SECOND = [[0, 0], [0, 0], [1, 1], [0, 1], [1, 1], [0, 0]]
"""Whether the two samples of six problems are right. Majorities (ties: the first one): 1 1 1 1 0 1 and 0 0 1 0 1 0."""


def verdicts(right: list[list[int]]) -> pl.DataFrame:
    rows = [
        (f"p{p}", s, bool(hit), "good" if hit else f"bad{s}")
        for p, some in enumerate(right)
        for s, hit in enumerate(some)
    ]
    return pl.DataFrame(rows, schema=["problem_key", "sample_index", "is_correct", "predicted_answer"], orient="row")


def samples(tokens: list[int]) -> pl.DataFrame:
    rows = [(f"p{p}", s, 100, 40, n) for p, n in enumerate(tokens) for s in range(2)]
    names = ["problem_key", "sample_index", "prompt_tokens", "cached_prompt_tokens", "completion_tokens"]
    return pl.DataFrame(rows, schema=names, orient="row")


def compare(tables: dict[str, pl.DataFrame], **settings: object) -> pl.DataFrame:
    operator = MeasurePaired(**settings)  # type: ignore[arg-type]
    ready = {name: conform(table, operator.inputs[name], name).lazy() for name, table in tables.items()}
    return validate(operator.run(**ready), Paired, "test")


def test_six_problems_by_hand() -> None:
    row = compare({"first": verdicts(FIRST), "second": verdicts(SECOND)}).row(0, named=True)
    assert (row["first"], row["second"]) == (4.5 / 6, 2.5 / 6)
    assert row["difference"] == pytest.approx(-2 / 6)
    # p0, p1, p3 and p5 are right in the first alone, p4 in the second alone: 2 (C(5,0) + C(5,1)) / 2^5
    assert (row["lost"], row["won"]) == (4, 1)
    assert row["p_value"] == pytest.approx(2 * (1 + 5) / 32)
    # the bootstrap's own distribution: all 6^6 draws
    apart = [-1.0, -0.5, 0.0, -0.5, 1.0, -1.0]
    every = np.array([sum(draw) / 6 for draw in product(apart, repeat=6)])
    low, high = np.quantile(every, [0.025, 0.975])
    assert (row["low"], row["high"]) == (pytest.approx(low, abs=1e-9), pytest.approx(high, abs=1e-9))
    assert row["worse"] is False
    assert row["tokens_ratio"] is None


@pytest.mark.parametrize(("lost", "won"), [(0, 0), (1, 0), (5, 0), (3, 9), (7, 7)])
def test_mcnemar_is_the_binomial_test(lost: int, won: int) -> None:
    expected = stats.binomtest(lost, lost + won).pvalue if lost + won else 1.0
    assert mcnemar(lost, won) == pytest.approx(expected)
    assert mcnemar(lost, won) == mcnemar(won, lost)


def test_tasks_are_sorted_by_loss_and_a_sure_loss_is_marked() -> None:
    tables = {"first": verdicts(FIRST), "second": verdicts(SECOND)}
    about = pl.DataFrame(
        {
            "problem_key": [f"p{p}" for p in range(6)],
            "task_type": ["math"] * 6,
            "metadata": ['{"kind": "x"}'] * 2 + ['{"kind": "y"}'] * 3 + [None],
        }
    )
    found = compare({**tables, "problems": about}, by="kind")
    assert found.select("rank", "task", "n_problems", "worse").rows() == [
        (0, "all", 6, False),
        (1, "x", 2, True),
        (2, "y", 3, False),
    ]
    assert found["difference"].to_list() == pytest.approx([-1 / 3, -0.75, 0.5 / 3])
    assert compare({**tables, "problems": about})["task"].to_list() == ["all"], "one task says nothing more"


def test_ratios_of_tokens_and_dollars() -> None:
    prices = Prices(
        dollars_per_million_prompt_tokens=1.0,
        dollars_per_million_cached_prompt_tokens=0.5,
        dollars_per_million_completion_tokens=10.0,
    )
    tables = {"first": verdicts(FIRST), "second": verdicts(SECOND)}
    tables |= {"first_samples": samples([10] * 6), "second_samples": samples([20, 40, 20, 40, 20, 40])}
    row = compare(tables, first_prices=prices, second_prices=prices).row(0, named=True)
    assert row["tokens_ratio"] == pytest.approx(3.0)
    assert row["dollars_ratio"] == pytest.approx((60 + 20 + 300) / (60 + 20 + 100))


def test_only_problems_of_both_count() -> None:
    first = pl.concat([verdicts(FIRST), verdicts([[1, 1]]).with_columns(problem_key=pl.lit("other"))])
    assert compare({"first": first, "second": verdicts(SECOND)})["n_problems"].to_list() == [6]
    unknown = verdicts(SECOND).with_columns(is_correct=pl.lit(None, pl.Boolean))
    with pytest.raises(BadInput, match="judged in both"):
        compare({"first": first, "second": unknown})


def test_intervals_hold() -> None:
    held = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        rates = rng.beta(2, 2, 60)
        apart = (rng.binomial(4, np.clip(rates - 0.1, 0, 1), 60) - rng.binomial(4, rates, 60)) / 4
        truth = float(np.mean(np.clip(np.random.default_rng(9).beta(2, 2, 10_000) - 0.1, 0, 1))) - 0.5
        low, high = bootstrap(apart, 500, 0)
        held += low <= truth <= high
    assert 0.9 <= held / 300 <= 0.99
