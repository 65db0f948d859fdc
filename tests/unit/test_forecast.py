"""Forecasts of coverage: populations that are known, and odd counts."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from operators.measure.combined import straight, weights
from operators.measure.forecast import MeasureForecast, beta_binomial, power_law, saturates_at, ttspm
from operators.measure.pass_at_k import pass_at_k
from schemas.contract import validate
from schemas.errors import BadInput
from schemas.measures import Forecast


def forecast(n: list[int] | np.ndarray, c: list[int] | np.ndarray, *k: int, **fields: int) -> pl.DataFrame:
    table = pl.DataFrame(
        {"problem_id": [f"p{i:04d}" for i in range(len(n))], "n": n, "c": c},
        schema={"problem_id": pl.String, "n": pl.Int64, "c": pl.Int64},
    ).with_columns(model=pl.lit(None, pl.String))
    operator = MeasureForecast(k=k, **{"bootstrap": 20, **fields})
    return validate(operator.run(counts=table.lazy(), verdicts=None), Forecast, "test")


def row(table: pl.DataFrame, method: str, k: int) -> dict[str, float]:
    return table.filter((pl.col("method") == method) & (pl.col("k") == k)).row(0, named=True)


POPULATIONS = {
    "beta": lambda rng, m: rng.beta(0.3, 6.0, m),
    "thin tail": lambda rng, m: np.exp(np.minimum(rng.normal(-4.5, 1.5, m), -0.1)),
    "easy and hard": lambda rng, m: np.where(rng.random(m) < 0.4, rng.beta(4, 2, m), rng.beta(0.25, 40, m)),
    "some never": lambda rng, m: np.where(rng.random(m) < 0.15, 0.0, rng.beta(0.4, 8.0, m)),
}


@pytest.mark.parametrize("name", POPULATIONS)
def test_intervals_hold_what_comes(name: str) -> None:
    """Over populations of several kinds: 100 samples of 150 problems foretell 1,000."""
    inside, errors = [], []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        p = POPULATIONS[name](rng, 150)
        first, later = rng.binomial(100, p), rng.binomial(900, p)
        found = row(forecast(np.full(150, 100), first, 1000, draws=1000), "tail", 1000)
        truth = ((first + later) > 0).mean()
        inside.append(found["low"] - 1e-9 <= truth <= found["high"] + 1e-9)
        errors.append(found["coverage"] - truth)
    # the third tail is thinner than a power law, which the model doesn't know
    assert np.mean(inside) >= (0.65 if name == "thin tail" else 0.85)
    assert np.abs(np.mean(errors)) < (0.08 if name == "thin tail" else 0.04)


def test_what_was_drawn_is_measured_not_forecast() -> None:
    n, c = np.array([100, 100, 200]), np.array([3, 0, 10])
    found = forecast(n, c, 1, 50, 100)
    for k in (1, 50, 100):
        wanted = pass_at_k(n, c, [k]).mean()
        for method in ("tail", "beta_binomial", "power_law", "ttspm"):
            assert row(found, method, k)["coverage"] == pytest.approx(wanted)


def test_more_samples_never_forecast_less() -> None:
    rng = np.random.default_rng(1)
    c = rng.binomial(100, rng.beta(0.3, 10, 60))
    found = forecast(np.full(60, 100), c, 100, 200, 1000, 10_000, 1_000_000).filter(pl.col("method") == "tail")
    assert (found["coverage"].diff().drop_nulls() >= -1e-9).all()
    assert found["coverage"][0] == pytest.approx((c > 0).mean())


@pytest.mark.parametrize("c", [[0, 0, 0, 0], [50, 50, 50, 50], [0, 50, 0, 50], [1, 0, 0, 0]])
def test_extreme_counts_have_finite_forecasts(c: list[int]) -> None:
    found = forecast([50] * 4, c, 500)
    assert {"tail", "beta_binomial"} <= {*found["method"]}
    tail = row(found, "tail", 500)
    assert (np.array(c) > 0).mean() <= tail["coverage"] <= 1
    assert tail["low"] <= tail["coverage"] <= tail["high"]
    if not any(c):
        assert tail["high"] > tail["low"]  # nothing was solved, and nobody knows that nothing will be


def test_models_are_forecast_apart_and_counts_may_be_unequal() -> None:
    table = pl.DataFrame(
        {"problem_id": ["a", "b", "a", "b"], "n": [10, 30, 10, 10], "c": [0, 3, 5, 9], "model": ["x", "x", "y", "y"]}
    )
    found = MeasureForecast(bootstrap=20).run(counts=table.lazy(), verdicts=None)
    assert found.filter(pl.col("model") == "x")["k"].unique().sort().to_list() == [60, 150, 300]
    assert found.filter(pl.col("model") == "y")["k"].unique().sort().to_list() == [20, 50, 100]
    with pytest.raises(BadInput, match="nothing to forecast from"):
        forecast([0], [0])


def test_the_published_forecasts_are_theirs() -> None:
    rng = np.random.default_rng(0)
    p = rng.beta(0.5, 3.0, 4000)
    n, c, k = np.full(4000, 200), rng.binomial(200, p), np.array([1000])
    from scipy.special import betaln

    exact = 1 - np.exp(betaln(0.5, 3.0 + 1000) - betaln(0.5, 3.0))
    assert beta_binomial(n, c, k) == pytest.approx(exact, abs=0.01)
    assert power_law(n, c, k) == pytest.approx(exact, abs=0.03)
    alike = rng.binomial(200, 0.01, 4000)
    assert ttspm(n, alike, np.array([50, 1000])) == pytest.approx(1 - 0.99 ** np.array([50, 1000]), abs=0.02)


def test_saturation_is_where_a_sample_adds_less_than_epsilon() -> None:
    limit, p, epsilon = 0.8, 0.02, 1e-4
    at = saturates_at(limit, p, epsilon)

    def gain(k: int) -> float:
        return limit * p * (1 - p) ** k

    assert gain(at) <= epsilon < gain(at - 1)
    assert saturates_at(0.5, 1e-6, 1e-4) == 0


def test_few_samples_are_followed_along_a_power_law_and_many_by_all_three() -> None:
    assert weights(10) == pytest.approx([0, 0, 1]) and weights(100) == pytest.approx([0, 0, 1])
    assert weights(1_000) == pytest.approx([1 / 3] * 3) and weights(10**6) == pytest.approx([1 / 3] * 3)
    assert weights(316) == pytest.approx([1 / 6, 1 / 6, 2 / 3], abs=1e-3)
    k = np.array([1, 4, 20, 100])
    law = np.exp(-np.exp(1.5 - 0.3 * np.log(k)))
    assert straight(k, law, np.array([10_000])) == pytest.approx(np.exp(-np.exp(1.5) * 10_000**-0.3))
    assert np.isnan(straight(k, np.zeros(4), k)).all() and np.isnan(straight(k, np.ones(4), k)).all()


@pytest.mark.parametrize("n", [100, 1_000])
def test_the_combined_forecast_holds_what_comes(n: int) -> None:
    inside, errors = [], []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        p = rng.beta(0.3, 12.0, 128)
        first = rng.binomial(n, p)
        truth = ((first + rng.binomial(9 * n, p)) > 0).mean()
        found = row(forecast(np.full(128, n), first, 10 * n, draws=1000), "combined", 10 * n)
        inside.append(found["low"] <= truth <= found["high"])
        errors.append(found["coverage"] - truth)
    assert np.mean(inside) >= 0.8 and np.mean(np.abs(errors)) < 0.05


@pytest.mark.parametrize(("target", "cap"), [(1, 100), (4, 200)])
def test_samples_stopped_at_successes_are_no_tail_of_hard_problems(target: int, cap: int) -> None:
    errors: dict[str, list[float]] = {"tail": [], "combined": [], "taken for unstopped": []}
    for seed in range(3):
        rng = np.random.default_rng(seed)
        p = rng.beta(0.3, 6.0, 150)
        right = rng.random((150, cap)) < p[:, None]
        so_far = right.cumsum(axis=1)
        problem, index = np.nonzero(so_far - right < target)
        table = pl.DataFrame(
            {"problem_key": [f"p{i:04d}" for i in problem], "sample_index": index, "is_correct": right[problem, index]}
        ).with_columns(verifier=pl.lit("v"), status=pl.lit("ok"))
        solved = so_far[:, -1] > 0
        truth = (solved | (rng.binomial(9 * cap, p) > 0)).mean()
        for name, stopped in (("tail", True), ("combined", True), ("taken for unstopped", False)):
            operator = MeasureForecast(k=(10 * cap,), bootstrap=20, draws=400, stopped=stopped)
            found = operator.merge(operator.partial(verdicts=table))
            assert stopped or {*found["method"]} >= {"tail", "combined", "beta_binomial"}
            errors[name].append(row(found, "combined" if name == "combined" else "tail", 10 * cap)["coverage"] - truth)
    assert abs(np.mean(errors["tail"])) < 0.06 and abs(np.mean(errors["combined"])) < 0.06
    assert np.mean(errors["taken for unstopped"]) < np.mean(errors["tail"]) - 0.02
