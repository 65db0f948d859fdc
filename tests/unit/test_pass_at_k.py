"""pass@k against brute force, its intervals, and what it refuses."""

from __future__ import annotations

from itertools import combinations
from math import comb

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import hypergeom

from operators.measure.counts import Counts
from operators.measure.intervals import differences, new_problems, same_problems
from operators.measure.pass_at_k import PassAtK, estimate, pass_at_k, powers_of_two
from schemas import measures
from schemas.contract import conform, validate
from schemas.errors import BadInput

COUNTS = st.integers(1, 60).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n)))


def counts(**columns: list[object]) -> pl.LazyFrame:
    table = pl.DataFrame(columns)
    if "problem_id" not in table.columns:
        table = table.with_columns(problem_id=pl.int_range(pl.len()).cast(pl.String))
    return conform(table, Counts.select(), "test").lazy()


def verdicts(table: dict[str, list[object]]) -> pl.LazyFrame:
    return conform(pl.DataFrame(table), PassAtK.inputs["verdicts"], "test").lazy()


def measured(operator: PassAtK, **inputs: pl.LazyFrame) -> pl.DataFrame:
    return validate(operator.run(**inputs), measures.PassAtK, "test")


@given(st.integers(1, 9).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n))))
def test_equals_brute_force_over_all_subsets(case: tuple[int, int, int]) -> None:
    n, c, k = case
    hits = [any(index < c for index in subset) for subset in combinations(range(n), k)]
    assert abs(pass_at_k(n, c, k)[0, 0] - np.mean(hits)) < 1e-12


@given(COUNTS)
def test_never_falls_with_k_and_has_the_known_ends(case: tuple[int, int]) -> None:
    n, c = case
    curve = pass_at_k(n, c, np.arange(1, n + 1))[0]
    assert (np.diff(curve) >= -1e-12).all()
    assert abs(curve[0] - c / n) < 1e-12
    assert curve[-1] == float(c > 0)


def test_agrees_with_the_hypergeometric_distribution_at_ten_thousand_samples() -> None:
    n, c, k = np.full(6, 10_000), np.array([0, 1, 7, 500, 9_999, 10_000]), np.array([1, 10, 1_000, 10_000])
    expected = 1 - hypergeom.pmf(0, n[:, None], c[:, None], k[None, :])
    assert np.abs(pass_at_k(n, c, k) - expected).max() < 1e-9


def test_refuses_k_and_c_that_have_no_meaning() -> None:
    for n, c, k in [(4, 1, 5), (4, 1, 0), (4, 5, 1), (4, -1, 1)]:
        with pytest.raises(ValueError, match="must be in"):
            pass_at_k(n, c, k)


def test_powers_of_two_end_at_n() -> None:
    assert powers_of_two(1) == [1]
    assert powers_of_two(8) == [1, 2, 4, 8]
    assert powers_of_two(100) == [1, 2, 4, 8, 16, 32, 64, 100]


def test_coverage_is_the_mean_over_problems() -> None:
    table = measured(PassAtK(k=(1, 3)), counts=counts(n=[4, 4], c=[1, 0]))
    assert np.allclose(table["coverage"], [1 / 8, (1 - comb(3, 3) / comb(4, 3)) / 2])
    assert table["n_problems"].to_list() == [2, 2]
    assert table["note"][0] == "n = 4 for all 2 problems"


@settings(max_examples=25, deadline=None)
@given(st.lists(COUNTS, min_size=1, max_size=12))
def test_intervals_hold_the_estimate(cases: list[tuple[int, int]]) -> None:
    n, c = zip(*cases, strict=True)
    table = measured(PassAtK(bootstrap=100), counts=counts(n=list(n), c=list(c)))
    assert table["k"].to_list() == powers_of_two(min(n))
    assert (table["low"] <= table["coverage"] + 1e-12).all()
    assert (table["coverage"] <= table["high"] + 1e-12).all()


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    covered, trials, k = 0, 120, 8
    rates = rng.beta(0.5, 2.0, size=200_000)
    truth = float(np.mean(1 - (1 - rates) ** k))
    for trial in range(trials):
        c = rng.binomial(32, rng.choice(rates, size=50))
        row = (
            PassAtK(k=(k,), bootstrap=200, seed=trial).run(counts=counts(n=[32] * 50, c=c.tolist())).row(0, named=True)
        )
        covered += row["low"] <= truth <= row["high"]
    assert covered / trials >= 0.90


def test_the_same_seed_gives_the_same_interval() -> None:
    data = counts(n=[16] * 5, c=[0, 3, 8, 1, 16])
    assert PassAtK(seed=1).run(counts=data).equals(PassAtK(seed=1).run(counts=data))
    assert not PassAtK(seed=1).run(counts=data).equals(PassAtK(seed=2).run(counts=data))


def test_k_beyond_n_is_refused_with_the_problems_and_the_remedy() -> None:
    with pytest.raises(BadInput, match=r"k = 64 needs.*1 of 2 problems.*'short' \(n = 32\).*Ask for k <= 32") as error:
        PassAtK(k=(1, 64)).run(counts=counts(problem_id=["short", "long"], n=[32, 64], c=[1, 1]))
    assert "measure different problems at different k" in str(error.value)


def test_unequal_n_stops_at_the_smallest_and_says_so() -> None:
    table = measured(PassAtK(), counts=counts(n=[8, 32, 128], c=[1, 2, 3]))
    assert table["k"].to_list() == [1, 2, 4, 8]
    assert "n = 8 to 128 over 3 problems" in table["note"][0]


def test_verdicts_that_say_nothing_leave_n() -> None:
    table = measured(
        PassAtK(),
        verdicts=verdicts(
            {
                "problem_id": ["a"] * 6 + ["b"] * 3 + ["c"] * 2,
                "sample_index": [0, 1, 2, 3, 4, 5, 0, 1, 2, 0, 1],
                "is_correct": [True, False, False, None, None, None, True, True, False, None, None],
                "status": ["ok", "ok", "unparseable", "timeout", "error", "skipped", "ok", "ok", "ok", "ok", "ok"],
            }
        ),
    )
    assert table["k"].to_list() == [1, 2, 3]
    assert abs(table["coverage"][0] - (1 / 3 + 2 / 3) / 2) < 1e-12
    note = table["note"][0]
    assert "n = 3 for all 2 problems" in note
    assert "1 problem(s) without any usable verdict left out" in note
    assert "1 timeout, 1 error, 1 skipped, 2 without a known answer" in note


def test_nothing_to_measure_is_refused() -> None:
    for inputs in (
        {},
        {"counts": counts(n=[0], c=[0])},
        {"verdicts": verdicts({"problem_id": [], "sample_index": []})},
    ):
        with pytest.raises(BadInput, match=r"measure\.pass_at_k"):
            PassAtK().run(**inputs)


def test_counts_that_cannot_be_are_refused() -> None:
    with pytest.raises(BadInput, match=r"c = 5 correct of n = 4"):
        PassAtK().run(counts=counts(n=[4], c=[5]))
    with pytest.raises(BadInput, match="more than once"):
        PassAtK().run(counts=counts(problem_id=["a", "a"], n=[4, 4], c=[1, 1]))


def test_models_are_pooled_and_named() -> None:
    table = measured(PassAtK(k=(1,)), counts=counts(problem_id=["a", "a"], n=[4, 4], c=[1, 3], model=["x", "y"]))
    assert abs(table["coverage"][0] - 0.5) < 1e-12
    assert "2 models pooled" in table["note"][0]


def test_nothing_or_everything_solved_leaves_an_interval() -> None:
    for c, low, high in (([0] * 8, 0.0, 0.369), ([8] * 8, 0.631, 1.0)):  # Clopper and Pearson's, of 8 problems
        row = measured(PassAtK(k=(1,), bootstrap=20_000), counts=counts(n=[8] * 8, c=c)).row(0, named=True)
        assert (row["low"], row["high"]) == pytest.approx((low, high), abs=0.01)
        assert row["same_low"] <= row["coverage"] <= row["same_high"]
        assert 0 < row["same_high"] - row["same_low"] < row["high"] - row["low"]


@pytest.mark.parametrize(("problems", "widest"), [(8, 0.8), (30, 0.5)])
def test_intervals_of_new_and_of_these_problems_hold_their_truths(problems: int, widest: float) -> None:
    rng = np.random.default_rng(5)
    rates = rng.beta(0.3, 6.0, 128)  # most have no right sample among ten
    for n, simulations in ((10, 300), (100, 300)):
        k = np.unique([1, n // 2, n])
        each = estimate(np.full(n + 1, n), np.arange(n + 1), k)
        truth = (1 - (1 - rates[:, None]) ** k).mean(axis=0)
        held = np.zeros(len(k))
        for number in range(simulations):
            values = each[rng.binomial(n, rng.choice(rates, problems))]
            low, high = new_problems(values, values, 400, number)
            held += (low <= truth) & (truth <= high)
            assert (high - low < widest).all()
        assert (held / simulations >= 0.93).all(), (n, held / simulations)
    mine, held, count = rng.choice(rates, problems), 0, 25
    n, k = np.full(problems, 100), np.array([8])
    truth = (1 - (1 - mine) ** 8).mean()
    for number in range(count):
        c = rng.binomial(100, mine)
        low, high = np.quantile(same_problems(n, c, k, 200, number), [0.025, 0.975])
        values = estimate(n, c, k)
        wide = new_problems(values, values, 400, number)
        assert high - low < (wide[1] - wide[0])[0]
        held += low <= truth <= high
    assert held >= 0.8 * count


def test_a_few_problems_stand_for_many() -> None:
    rng = np.random.default_rng(6)
    c = rng.binomial(20, rng.beta(0.5, 2.0, 6_000))
    many = same_problems(np.full(6_000, 20), c, np.array([1, 8]), 400, 0)
    some = same_problems(np.full(1_500, 20), c[:1_500], np.array([1, 8]), 400, 0)
    assert many.mean(axis=0) == pytest.approx(estimate(np.full(6_000, 20), c, np.array([1, 8])).mean(axis=0), abs=0.01)
    assert np.std(many, axis=0) == pytest.approx(0.5 * np.std(some, axis=0), rel=0.25)


def test_differences_are_paired() -> None:
    rng = np.random.default_rng(7)
    hard = rng.beta(0.5, 1.0, 200)
    one, other = rng.binomial(50, hard) / 50, rng.binomial(50, np.minimum(hard + 0.03, 1)) / 50
    low, high = differences((other - one)[:, None], 1_000, 0)
    assert 0.0 < low[0] < 0.03 < high[0] and high[0] - low[0] < 0.05
