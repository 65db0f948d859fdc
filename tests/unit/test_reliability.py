"""measure.reliability and measure.bounds: what is counted over all subsets, by counting all subsets."""

from __future__ import annotations

from itertools import combinations
from math import ceil, comb

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.measure.bounds import MeasureBounds
from operators.measure.reliability import MeasureReliability, at_least
from schemas.contract import conform, validate
from schemas.errors import BadInput
from schemas.measures import Bounds, Reliability


@given(st.integers(1, 8), st.data())
def test_at_least_is_the_share_of_subsets(n: int, data: st.DataObject) -> None:
    c, k = data.draw(st.integers(0, n)), data.draw(st.integers(1, n))
    wanted = data.draw(st.integers(1, k))
    subsets = list(combinations([True] * c + [False] * (n - c), k))
    expected = sum(sum(subset) >= wanted for subset in subsets) / len(subsets)
    assert at_least(np.array([n]), np.array([c]), k, wanted)[0] == pytest.approx(expected, abs=1e-9)


def counts(*pairs: tuple[int, int]) -> pl.DataFrame:
    return pl.DataFrame(
        {"problem_id": [f"p{i}" for i in range(len(pairs))], "n": [n for n, _ in pairs], "c": [c for _, c in pairs]}
    )


def reliability(table: pl.DataFrame, **settings: object) -> pl.DataFrame:
    operator = MeasureReliability(**settings)  # type: ignore[arg-type]
    found = operator.run(counts=conform(table, operator.inputs["counts"], "c").lazy())
    return validate(found, Reliability, "test")


def value(found: pl.DataFrame, metric: str, k: int, tau: float) -> float:
    return found.filter(metric=metric, k=k, tau=tau)["value"][0]


def test_pass_hat_k_and_g_pass_by_hand() -> None:
    found = reliability(counts((8, 8), (8, 6), (8, 0)), k=[1, 4])
    assert value(found, "pass_hat_k", 1, 1.0) == pytest.approx((1 + 6 / 8) / 3)
    assert value(found, "pass_hat_k", 4, 1.0) == pytest.approx((1 + comb(6, 4) / comb(8, 4)) / 3)
    at = {wanted: sum(comb(6, j) * comb(2, 4 - j) for j in range(wanted, 5)) / comb(8, 4) for wanted in range(1, 5)}
    for tau in (0.25, 0.5, 0.75):
        assert value(found, "g_pass", 4, tau) == pytest.approx((1 + at[ceil(tau * 4)]) / 3)
    assert value(found, "mg_pass", 4, 0.5) == pytest.approx((1 + 2 / 4 * (at[3] + at[4])) / 3)
    assert (found["low"] <= found["value"]).all() and (found["value"] <= found["high"]).all()


def test_mg_pass_by_simulation_of_a_model_of_two_minds() -> None:
    """One that always or never solves a problem is stable, one that solves all half of the time isn't."""
    stable, shaky = counts(*[(16, 16), (16, 0)] * 20), counts(*[(16, 8)] * 40)
    ks = {"k": [1, 8]}
    assert value(reliability(stable, **ks), "pass_hat_k", 1, 1.0) == value(
        reliability(shaky, **ks), "pass_hat_k", 1, 1.0
    )
    assert value(reliability(stable, **ks), "pass_hat_k", 8, 1.0) == pytest.approx(0.5)
    assert value(reliability(shaky, **ks), "pass_hat_k", 8, 1.0) < 0.001
    assert (
        value(reliability(shaky, **ks), "mg_pass", 8, 0.5) < 0.2 < value(reliability(stable, **ks), "mg_pass", 8, 0.5)
    )


def test_intervals_are_about_problems_like_these() -> None:
    rng = np.random.default_rng(0)
    rates = rng.beta(2, 2, 200_000)
    truth = float((rates**4).mean())
    held = 0
    for seed in range(60):
        some = np.random.default_rng(seed).beta(2, 2, 40)
        c = np.random.default_rng(1000 + seed).binomial(8, some)
        row = (
            reliability(counts(*[(8, int(one)) for one in c]), k=[4], bootstrap=300)
            .filter(metric="pass_hat_k")
            .row(0, named=True)
        )
        held += row["low"] <= truth <= row["high"]
    assert held >= 55


def test_what_can_not_be_measured() -> None:
    with pytest.raises(BadInput, match="k = 16 needs that many"):
        reliability(counts((8, 1), (16, 3)), k=[16])
    with pytest.raises(BadInput, match="depended on their results"):
        reliability(counts((8, 1), (16, 0)), stopped=True)
    with pytest.raises(BadInput, match="nothing to measure"):
        reliability(counts((0, 0)))


def rows() -> tuple[pl.DataFrame, pl.DataFrame]:
    """Two problems, four samples each; the shorter ones of the first are right."""
    right = [True, True, False, False, True, False, False, False]
    key = {"problem_key": ["a"] * 4 + ["b"] * 4, "sample_index": [0, 1, 2, 3] * 2}
    said = ["1", "1", "2", "3", "1", "2", "2", "2"]
    verdicts = pl.DataFrame({**key, "is_correct": right, "status": "ok", "predicted_answer": said})
    return verdicts, pl.DataFrame({**key, "completion_tokens": [10, 20, 30, 40, 50, 60, 70, 80]})


def bounds(verdicts: pl.DataFrame, samples: pl.DataFrame | None, **settings: object) -> pl.DataFrame:
    operator = MeasureBounds(**settings)  # type: ignore[arg-type]
    given = {"verdicts": conform(verdicts, operator.inputs["verdicts"], "v").lazy()}
    if samples is not None:
        given["samples"] = conform(samples, operator.inputs["samples"], "s").lazy()
    return validate(operator.run(**given), Bounds, "test")


def test_bounds_by_hand() -> None:
    found = bounds(*rows())
    mean = {
        (metric, n): (value, tokens)
        for metric, n, value, tokens in found.select("metric", "n", "value", "tokens").iter_rows()
    }
    assert mean["average", 1] == pytest.approx((0.375, 45))
    assert mean["best", 1] == pytest.approx(mean["average", 1])
    assert mean["worst", 1] == pytest.approx(mean["average", 1])
    assert mean["best", 2] == pytest.approx(((5 / 6 + 3 / 6) / 2, 90))
    assert mean["worst", 2] == pytest.approx(((1 / 6 + 0) / 2, 90))
    assert mean["best", 4] == (1.0, 180)
    assert mean["worst", 4] == (0.0, 180)
    assert mean["majority", 4] == (0.5, 180)
    assert mean["short", 1] == pytest.approx((0.75, 35))
    assert mean["long", 1] == pytest.approx((0.0, 55))


def test_bounds_of_each_problem_and_without_samples() -> None:
    each = bounds(*rows(), each=True).filter(problem_key="a", metric="best", n=2)
    assert each.select("value", "n_problems", "low").row(0) == (pytest.approx(5 / 6), 1, None)
    plain = bounds(rows()[0], None)
    assert {*plain["metric"]} == {"average", "best", "worst", "majority"}
    assert plain["tokens"].null_count() == len(plain)
    with pytest.raises(BadInput, match="nothing to measure"):
        bounds(rows()[0].with_columns(status=pl.lit("error")), None)


def test_lengths_are_compared_within_a_problem() -> None:
    """Hard problems take long, and length itself does nothing: the halves don't differ."""
    rng = np.random.default_rng(0)
    problems, n = 200, 8
    rate = rng.random(problems)
    right = rng.random((problems, n)) < rate[:, None]
    tokens = (1000 * (1.2 - rate[:, None]) * rng.uniform(0.8, 1.2, (problems, n))).astype(int)
    key = {
        "problem_key": np.repeat([f"p{i:03}" for i in range(problems)], n),
        "sample_index": np.tile(np.arange(n), problems),
    }
    verdicts = pl.DataFrame({**key, "is_correct": right.ravel(), "status": "ok", "predicted_answer": "x"})
    found = bounds(verdicts, pl.DataFrame({**key, "completion_tokens": tokens.ravel()}))
    short, long = (found.filter(metric=name)["value"][0] for name in ("short", "long"))
    assert short == pytest.approx(long, abs=0.03)
