"""Reasoning pruning: the mixture fit against scipy's, and which paths are left out."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import minimize as scipy_minimize

from operators import operator_class
from operators.numeric import weibull
from operators.numeric.lbfgsb import minimize
from operators.prune import rpc
from operators.prune.rpc import EQUAL, FEW, NO_LOGPROBS, PRUNED, REASONS, PruneRpc, log_odds
from schemas.contract import conform, validate
from schemas.datasets import Path

Floats = NDArray[np.float64]


def seeded() -> Floats:
    """The 128 values of the specification's check."""
    rng = np.random.default_rng(7)
    return np.clip(np.concatenate([0.35 * rng.weibull(2, 60), 0.85 * rng.weibull(12, 68)]), 1e-6, 1)


def two_groups(rng: np.random.Generator, n: int) -> Floats:
    few = int(rng.integers(n // 5, 1 + 4 * n // 5))
    low = rng.uniform(0.2, 0.5) * rng.weibull(rng.uniform(1.5, 5), few)
    return np.clip(np.concatenate([low, rng.uniform(0.6, 0.9) * rng.weibull(rng.uniform(5, 25), n - few)]), 1e-6, 1)


def mixed(rng: np.random.Generator, count: int, largest: int) -> list[Floats]:
    """Problems of many shapes and sizes, whose fits are well determined or not."""
    shapes = [
        lambda n: two_groups(rng, n),
        lambda n: rng.beta(rng.uniform(1, 12), rng.uniform(1, 6), n),
        lambda n: np.exp(-rng.gamma(rng.uniform(1, 6), rng.uniform(0.05, 0.3), n)),
        lambda n: np.exp(-np.abs(rng.normal(rng.uniform(0.1, 1.0), rng.uniform(0.05, 0.4), n))),
        lambda n: np.exp(-rng.choice([0.1, 0.4, 1.1], n) * rng.uniform(0.9, 1.1, n)),
    ]
    sizes = np.exp(rng.uniform(math.log(8), math.log(largest), count)).astype(int)
    return [np.clip(shapes[index % len(shapes)](int(n)), 1e-6, 1) for index, n in enumerate(sizes)]


def table(*problems: Floats | list[float | None], **columns: list[object]) -> pl.DataFrame:
    """One problem per list of p (None: no log-probs)."""
    rows = [
        {
            "problem_id": f"p{number}",
            "sample_index": index,
            "mean_logprob": None if p is None else math.log(p) if p > 0 else -math.inf,
            "status": "ok",
        }
        for number, values in enumerate(problems)
        for index, p in enumerate(values)
    ]
    schema = {"problem_id": pl.String, "sample_index": pl.Int64, "mean_logprob": pl.Float64, "status": pl.String}
    return pl.DataFrame(rows, schema=schema).with_columns(pl.Series(k, v) for k, v in columns.items())


def pruned(samples: pl.DataFrame) -> pl.DataFrame:
    """What ``gristmill op prune.rpc`` does."""
    operator = PruneRpc()
    return validate(operator.run(samples=conform(samples, operator.inputs["samples"], "test")), Path, "test")


def fit_one(p: Floats) -> Floats:
    theta, succeeded = weibull.fit(np.log(np.sort(p)), np.array([len(p)]))
    assert succeeded.all()
    return theta[0]


def negative_log_likelihood(theta: Floats, p: Floats) -> tuple[float, Floats]:
    data = weibull.Table.pack(np.log(p), np.ones_like(p), np.array([len(p)]), len(p))
    value, gradient = data.evaluate(theta[None], np.array([0]))
    return float(value[0]), gradient[0]


def scipy_fit(p: Floats) -> Floats:
    bounds = list(zip(weibull.LOWER, weibull.UPPER, strict=True))
    return scipy_minimize(
        negative_log_likelihood, weibull.START, args=(p,), jac=True, bounds=bounds, method="L-BFGS-B"
    ).x


def by_definition(p: Floats, theta: Floats) -> NDArray[np.bool_]:
    """Prune by the densities themselves."""
    w, k1, l1, k2, l2 = theta
    with np.errstate(all="ignore"):
        f1, f2 = (k / s * (p / s) ** (k - 1) * np.exp(-((p / s) ** k)) for k, s in ((k1, l1), (k2, l2)))
    high, low = w * f1, (1 - w) * f2
    if l1 * math.gamma(1 + 1 / k1) < l2 * math.gamma(1 + 1 / k2):
        high, low = low, high
    return (high < low) & (p < p.mean())


def test_the_seeded_check_of_the_specification() -> None:
    p = seeded()
    theta = fit_one(p)
    assert np.round(theta, 3).tolist() == [0.497, 12.126, 0.860, 1.910, 0.376]
    assert round(negative_log_likelihood(theta, p)[0], 4) == -21.7448
    paths = pruned(table(p))
    out = paths.filter(~pl.col("kept"))
    assert (len(out), (out["sample_index"] < 60).sum()) == (56, 55)
    assert set(out["reason"]) == {PRUNED}
    assert set(out["weight"]) == {0.0}
    kept = paths.filter("kept")
    assert kept["reason"].null_count() == len(kept)
    assert np.allclose(kept["weight"], p[kept["sample_index"].to_numpy()], rtol=1e-12)


def test_gradient_is_the_derivative() -> None:
    p = seeded()
    theta = np.array([0.4, 9.0, 0.8, 2.5, 0.3])
    _, gradient = negative_log_likelihood(theta, p)
    for index in range(5):
        shift = np.eye(5)[index] * 1e-6
        ahead, behind = negative_log_likelihood(theta + shift, p)[0], negative_log_likelihood(theta - shift, p)[0]
        assert math.isclose(gradient[index], (ahead - behind) / 2e-6, rel_tol=1e-6, abs_tol=1e-5)


def test_agrees_with_scipy_problem_by_problem() -> None:
    problems = [np.sort(p) for p in mixed(np.random.default_rng(0), 20, 500)]
    logs, sizes = np.log(np.concatenate(problems)), np.array([len(p) for p in problems])
    ours, reasons = rpc.prune(logs, sizes)
    assert {REASONS[number] for number in reasons} == {None}
    theirs = np.concatenate([by_definition(p, scipy_fit(p)) for p in problems])
    assert 170 < theirs.sum() < len(theirs) / 2
    assert (ours != theirs).mean() <= 1e-3


def test_many_values_are_fitted_as_if_each_had_been_used_all_along() -> None:
    rng = np.random.default_rng(3)
    problems = [np.sort(two_groups(rng, n)) for n in (2_100, 9_000)]
    theta, _ = weibull.fit(np.log(np.concatenate(problems)), np.array([len(p) for p in problems]))
    for fitted, p in zip(theta, problems, strict=True):
        assert np.allclose(fitted, scipy_fit(p), rtol=1e-3)
        assert (by_definition(p, fitted) != by_definition(p, scipy_fit(p))).mean() <= 1e-3


def test_points_have_the_first_four_moments_of_their_values() -> None:
    sizes = np.array([3_000, 900])
    values = np.sort(np.random.default_rng(1).gamma(2, 0.3, 3_900)[None].reshape(-1))
    values[3_000:] = np.sort(np.random.default_rng(2).normal(-1, 0.2, 900))
    points, weights, counts = weibull.condense(values, sizes)
    assert (counts <= weibull.POINTS).all()
    assert (weights >= 0).all()
    firsts = [0, int(counts[0])]
    for power in range(4):
        whole, reduced = (
            np.add.reduceat(values**power, [0, 3_000]),
            np.add.reduceat(weights * points**power, firsts),
        )
        assert np.allclose(reduced, whole, rtol=1e-9)


@pytest.mark.parametrize("kind", ["two groups", "uniform", "u-shaped", "ties", "clipped", "narrow"])
def test_points_lead_where_all_values_lead(kind: str) -> None:
    rng = np.random.default_rng(5)
    draw = {
        "two groups": lambda: two_groups(rng, 4_000),
        "uniform": lambda: rng.uniform(1e-3, 1.0, 4_000),
        "u-shaped": lambda: rng.beta(0.5, 0.5, 4_000),
        "ties": lambda: np.round(rng.beta(8, 2, 4_000), 2),
        "clipped": lambda: rng.normal(0.9, 0.15, 4_000),
        "narrow": lambda: rng.normal(0.7, 0.01, 4_000),
    }[kind]
    p = np.sort(np.clip(draw(), 1e-3, 1.0))
    theta, succeeded = weibull.fit(np.log(p), np.array([len(p)]))
    assert succeeded.all()
    assert (by_definition(p, theta[0]) == by_definition(p, scipy_fit(p))).mean() >= 0.999


def test_log_odds_are_those_of_the_densities() -> None:
    p, theta = np.sort(seeded()), fit_one(seeded())
    w, k1, l1, k2, l2 = theta
    f1, f2 = (k / s * (p / s) ** (k - 1) * np.exp(-((p / s) ** k)) for k, s in ((k1, l1), (k2, l2)))
    odds = log_odds(np.log(p), np.array([len(p)]), theta[None])
    assert np.allclose(odds, np.log(w * f1) - np.log((1 - w) * f2))
    swapped = np.array([[1 - w, k2, l2, k1, l1]])
    assert np.allclose(odds, log_odds(np.log(p), np.array([len(p)]), swapped))


def test_samples_without_log_probs_stay_with_weight_one() -> None:
    values: list[float | None] = [*seeded().tolist(), None, None, None, None]
    samples = table(values)
    odd = pl.Series([math.nan, math.inf, -math.inf])
    samples = samples.with_columns(mean_logprob=pl.concat([samples["mean_logprob"][:-3], odd]))
    paths = pruned(samples)
    assert paths[128:].select("weight", "kept", "reason").rows() == [(1.0, True, NO_LOGPROBS)] * 4
    assert paths[:128].equals(pruned(table(seeded())))
    assert pruned(table([None])).select("weight", "kept", "reason").rows() == [(1.0, True, NO_LOGPROBS)]


def test_failed_samples_get_no_row() -> None:
    samples = table(seeded(), [0.5])
    status = ["ok"] * 127 + ["error"] * 2
    paths = pruned(samples.with_columns(status=pl.Series(status)))
    assert paths["sample_index"].to_list() == list(range(127))
    assert set(paths["problem_id"]) == {"p0"}


def test_few_or_equal_paths_are_not_pruned_and_say_so() -> None:
    paths = pruned(table([0.5], [0.1, 0.2, 0.3, 0.4, 0.5, 0.9, 0.9], [0.3] * 20, [0.3] * 7 + [None] * 3))
    assert paths["kept"].all()
    said = paths.group_by("problem_id", maintain_order=True).agg(pl.col("reason").unique(maintain_order=True))
    assert said["reason"].to_list() == [[FEW], [FEW], [EQUAL], [FEW, NO_LOGPROBS]]
    assert paths.filter(problem_id="p2")["weight"].to_list() == [math.exp(math.log(0.3))] * 20


def test_no_rows_give_no_rows() -> None:
    assert pruned(table()).is_empty()
    assert pruned(table([0.5], status=["error"])).is_empty()


def test_row_order_does_not_matter() -> None:
    samples = table(*mixed(np.random.default_rng(2), 6, 300), [None, 0.5])
    assert pruned(samples.sample(fraction=1, shuffle=True, seed=1)).equals(pruned(samples))


def test_problems_do_not_influence_each_other() -> None:
    rng = np.random.default_rng(4)
    problems = [*mixed(rng, 12, 400), two_groups(rng, 3_000)]
    together = pruned(table(*problems, [1e-300, 1.0] * 10, [0.2, None], [0.7] * 9))
    for number, p in enumerate(problems):
        alone = pruned(table(p))
        assert (
            together.filter(problem_id=f"p{number}")
            .drop("problem_key", "problem_id")
            .equals(alone.drop("problem_key", "problem_id"))
        )


def test_a_problem_whose_values_are_not_finite_fails_alone() -> None:
    def bowl(x: Floats, problems: NDArray[np.int64]) -> tuple[Floats, Floats]:
        value = ((x - 3) ** 2).sum(axis=1)
        value[problems == 1] = np.nan
        return value, 2 * (x - 3)

    start = np.full((3, 5), 1.0)
    points, succeeded = minimize(bowl, start, np.full(5, 0.0), np.array([2.0, *[np.inf] * 4]))
    assert succeeded.tolist() == [True, False, True]
    assert np.allclose(points[[0, 2]], [2, 3, 3, 3, 3])


def test_extreme_log_probs_are_pruned_or_explained() -> None:
    samples = table([0.5] * 24).with_columns(mean_logprob=pl.Series([-1e300, -800.0, -1e-300, 0.0, 5.0, 1e300] * 4))
    paths = pruned(samples)
    assert paths["weight"].is_finite().all()
    assert paths.filter(~pl.col("kept") & pl.col("reason").is_null()).is_empty()
    assert paths.filter(pl.col("sample_index") % 6 == 5)["kept"].all()


def test_it_has_a_public_name() -> None:
    assert operator_class("prune.rpc") is PruneRpc
    assert PruneRpc.public_name() == "prune.rpc"


PROBABILITIES = st.one_of(
    st.none(), st.floats(1e-9, 1.0), st.sampled_from([0.1, 0.5, 0.9, 1.0]), st.floats(0.8999, 0.9001)
)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.lists(PROBABILITIES, min_size=1, max_size=40), min_size=1, max_size=4))
def test_invariants(problems: list[list[float | None]]) -> None:
    paths = pruned(table(*problems))
    assert len(paths) == sum(len(values) for values in problems)
    for number, values in enumerate(problems):
        mine = paths.filter(problem_id=f"p{number}")
        known = [p for p in values if p is not None]
        assert mine["kept"].any()
        for row, p in zip(mine.iter_rows(named=True), values, strict=True):
            if row["kept"]:
                assert math.isclose(row["weight"], 1.0 if p is None else p, rel_tol=1e-12)
            else:
                assert p is not None
                assert p < sum(known) / len(known) + 1e-12
                assert (row["weight"], row["reason"]) == (0.0, PRUNED)
