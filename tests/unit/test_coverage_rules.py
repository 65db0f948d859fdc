"""Coverage by what n depended on: nothing, results, or results and hints; on problems whose rates are known."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray
from scipy import stats

from operators.measure.counts import Drawn, hints_of
from operators.measure.difficulty import Difficulty, hints, log_odds
from operators.measure.features import standard
from operators.measure.forecast import MeasureForecast
from operators.measure.pass_at_k import PassAtK, of_each
from operators.measure.survival import first_success, interval
from operators.measure.tail import expected
from operators.policies.counting import UntilCorrect
from operators.policies.marginal import Marginal
from operators.policies.policy import Known, Outcomes, Policy, Setting
from schemas import measures
from schemas.contract import validate
from schemas.errors import BadInput

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def keys(count: int) -> list[str]:
    return [f"p{number:04d}" for number in range(count)]


def verdicts(problems: Ints, right: NDArray[np.bool_], lost: NDArray[np.bool_] | None = None) -> pl.DataFrame:
    """Return verdicts in the order in which they came; of lost ones nobody knows whether they are right."""
    gone = np.zeros(len(right), dtype=np.bool_) if lost is None else lost
    return pl.DataFrame(
        {
            "problem_key": [f"p{number:04d}" for number in problems.tolist()],
            "is_correct": [None if out else bool(yes) for yes, out in zip(right, gone, strict=True)],
            "status": np.where(gone, "timeout", "ok"),
            "verifier": "v",
        }
    ).with_columns(sample_index=pl.int_range(pl.len()).over("problem_key"))


def rules(count: int, policy: str, odds: list[list[float | None]] | None = None) -> pl.DataFrame:
    """Return the rows in which a run says by what rule it samples so many problems."""
    rule = json.dumps({"policy": {"name": policy}, "n": 100})
    return pl.DataFrame(
        {"problem_key": keys(count), "count": 0, "reason": "rule", "rule": rule, "hints": odds},
        schema_overrides={"problem_key": pl.String, "rule": pl.String, "hints": pl.List(pl.Float64)},
    )


def before(n: Ints, c: Ints, model: str | None = None) -> pl.DataFrame:
    table = pl.DataFrame({"problem_key": keys(len(n)), "n": n, "c": c})
    return table.with_columns(model=pl.lit(model, pl.String))


def play(policy: Policy, rates: Floats, budget: int, seed: int) -> pl.DataFrame:
    """Let a policy spend a budget on coins, and return the verdicts."""
    rng = np.random.default_rng(seed)
    problems: list[Ints] = []
    right: list[NDArray[np.bool_]] = []
    spent = 0
    while spent < budget and (chunks := policy.next(8)):
        some = np.concatenate([np.full(chunk.size, chunk.problem) for chunk in chunks])
        problems.append(some)
        right.append(rng.random(len(some)) < rates[some])
        policy.observe(Outcomes(some, right[-1]))
        spent += len(some)
    return verdicts(np.concatenate(problems), np.concatenate(right))


def coverage(operator: PassAtK, **tables: pl.DataFrame) -> pl.DataFrame:
    return validate(operator.merge(operator.partial(**tables)), measures.PassAtK, "test")


@pytest.mark.parametrize("gone", [1, 21, 120, 199])
def test_rows_that_are_lost_are_no_stopping_rule(gone: int) -> None:
    rng = np.random.default_rng(1)
    rates = rng.beta(0.6, 1.5, 30)
    rates[3] = 0.0
    problems = np.repeat(np.arange(30), 200)
    right = rng.random(6_000) < rates[problems]
    lost = np.zeros(6_000, dtype=np.bool_)
    lost[3 * 200 + rng.permutation(200)[:gone]] = True
    kept = pl.DataFrame({"p": problems, "right": right}).filter(pl.Series(~lost)).group_by("p").agg(pl.mean("right"))
    whole = coverage(PassAtK(k=(1, 10)), verdicts=verdicts(problems, right))
    table = coverage(PassAtK(k=(1, 200 - gone, 200)), verdicts=verdicts(problems, right, lost))
    assert table["coverage"][0] == pytest.approx(kept["right"].mean(), abs=1e-12)
    assert table["coverage"][0] == pytest.approx(whole["coverage"][0], abs=0.05)
    last = table.row(-1, named=True)
    assert last["most"] - last["least"] == pytest.approx(1 / 30), "of one problem it isn't known"
    assert last["least"] <= last["coverage"] <= last["most"] and "width" in last["note"]
    assert table["least"][0] is None and "Kaplan" not in table["note"][0]


def test_random_losses_leave_the_unbiased_estimator() -> None:
    rng = np.random.default_rng(2)
    rates = np.concatenate([np.full(10, 0.1), np.full(10, 0.4)])
    problems = np.repeat(np.arange(20), 50)
    found: list[list[float]] = []
    for _ in range(12):
        table = verdicts(problems, rng.random(1_000) < rates[problems], rng.random(1_000) < 0.2)
        found.append(coverage(PassAtK(k=(1, 20), bootstrap=100), verdicts=table)["coverage"].to_list())
    truth = [(1 - (1 - rates) ** k).mean() for k in (1, 20)]
    assert np.mean(found, axis=0) == pytest.approx(truth, abs=0.01)
    assert np.std(found, axis=0)[0] < 0.02, "all samples are used, not only the first right ones"


def test_the_recorded_rule_decides() -> None:
    rates = np.random.default_rng(3).beta(0.4, 3.0, 150)
    truth = float(rates.mean())
    found: dict[str, list[float]] = {"recorded": [], "said": [], "not recorded": [], "denied": []}
    for seed in range(6):
        table = play(UntilCorrect(Setting.of(150, 12)), rates, 10_000, seed)
        log = rules(150, "until_correct")
        for name, operator, tables in (
            ("recorded", PassAtK(k=(1,), bootstrap=100), {"allocations": log}),
            ("said", PassAtK(k=(1,), bootstrap=100, stopped=True), {}),
            ("not recorded", PassAtK(k=(1,), bootstrap=100), {}),
            ("denied", PassAtK(k=(1,), bootstrap=100, stopped=False), {"allocations": log}),
        ):
            row = coverage(operator, verdicts=table, **tables).row(0, named=True)
            found[name].append(row["coverage"])
            assert ("Kaplan-Meier" in row["note"]) == (name in ("recorded", "said"))
    assert found["recorded"] == found["said"] and found["not recorded"] == found["denied"]
    assert np.mean(found["recorded"]) == pytest.approx(truth, abs=0.015)
    assert np.mean(found["not recorded"]) > truth + 0.05, "which is why it is recorded"


def test_uniform_isn_t_a_stopping_rule_and_bare_counts_may_have_one() -> None:
    rng = np.random.default_rng(4)
    table = verdicts(np.repeat(np.arange(10), 8), rng.random(80) < 0.3)
    assert "Kaplan" not in coverage(PassAtK(), verdicts=table, allocations=rules(10, "uniform"))["note"][0]
    counts = pl.DataFrame({"problem_id": keys(3), "n": [4, 9, 9], "c": [1, 1, 0], "model": [None] * 3})
    counts = counts.cast({"model": pl.String})
    found = coverage(PassAtK(k=(1, 4, 9), stopped=True), counts=counts)
    assert found["coverage"].to_list() == pytest.approx([0.0, 1 / 3, 2 / 3])
    with pytest.raises(BadInput, match="give 'verdicts'"):
        coverage(PassAtK(k=(1,), stopped=True), counts=counts.with_columns(c=pl.col("c") * 2))


def test_larger_k_is_bounded_up_to_the_median_n_and_refused_beyond() -> None:
    counts = pl.DataFrame({"problem_id": keys(5), "n": [10, 40, 40, 40, 80], "c": [0, 3, 0, 40, 1]})
    counts = counts.with_columns(model=pl.lit(None, pl.String))
    row = coverage(PassAtK(k=(40,)), counts=counts).row(0, named=True)
    assert row["most"] - row["least"] == pytest.approx(1 / 5)
    assert row["least"] == pytest.approx((0 + 1 + 0 + 1 + 0.5) / 5)
    assert row["low"] <= row["least"] and row["high"] >= row["most"], "whatever the missing samples are"
    with pytest.raises(BadInput, match=r"k = 41 needs .* 4 of 5 problems.*Ask for k <= 10, for k <= 40 to get bounds"):
        coverage(PassAtK(k=(1, 41)), counts=counts)


def test_hints_that_chose_whom_to_sample_are_modelled() -> None:
    rng = np.random.default_rng(5)
    hint = rng.normal(0.0, 1.5, 120)
    rates = 1 / (1 + np.exp(-(-4.0 + 1.4 * hint + rng.normal(0.0, 1.0, 120))))
    n, c = np.full(120, 2_000), rng.binomial(2_000, 1 / (1 + np.exp(-(-4.0 + 1.4 * hint))))
    k = (1, 8, 32)
    truth = np.array([(1 - (1 - rates) ** size).mean() for size in k])
    errors: list[Floats] = []
    naive: list[Floats] = []
    held = 0
    for seed in range(4):
        policy = Marginal(Setting(np.full(120, 1_000), np.ones(120), Known(np.stack([n, c], axis=1))))
        table = play(policy, rates, 2_000, seed)
        operator = PassAtK(k=k, bootstrap=400)
        found = coverage(operator, verdicts=table, before=before(n, c))
        assert found["n_problems"].to_list() == [120] * 3
        errors.append(found["coverage"].to_numpy() - truth)
        held += ((found["low"].to_numpy() <= truth) & (truth <= found["high"].to_numpy())).sum()
        log = rules(120, "marginal", log_odds(np.stack([n, c], axis=1)).tolist())
        by_log = coverage(operator, verdicts=table, allocations=log)
        assert by_log.drop("note").equals(found.drop("note"))
        plain = coverage(PassAtK(k=(1, 8), bootstrap=100, stopped=True), verdicts=table, allocations=rules(0, ""))
        naive.append(plain["coverage"].to_numpy() - truth[:2])
    assert np.abs(np.mean(errors, axis=0)).max() < 0.025
    assert np.mean(naive, axis=0)[1] > 0.05, "those that were given up aren't like the others"
    assert held >= 11


def test_features_that_chose_whom_to_sample_are_modelled() -> None:
    """Nothing is believed of features beforehand, nor by the measure: here the first of 6 makes problems harder."""
    rng = np.random.default_rng(11)
    features = standard(rng.normal(size=(120, 6)))
    rates = 1 / (1 + np.exp(-(-4.0 - 1.6 * features[:, 0] + rng.normal(0.0, 0.8, 120))))
    k = (1, 8, 32)
    truth = np.array([(1 - (1 - rates) ** size).mean() for size in k])
    log = rules(120, "marginal", features.tolist())
    said = json.dumps({"policy": {"name": "marginal"}, "n": 100, "told": "0123456789", "features": 6})
    log = log.with_columns(rule=pl.lit(said))
    errors: list[Floats] = []
    held = 0
    for seed in range(4):
        policy = Marginal(Setting(np.full(120, 1_000), np.ones(120), Known(features=features)))
        table = play(policy, rates, 2_000, seed)
        found = coverage(PassAtK(k=k, bootstrap=400), verdicts=table, allocations=log)
        assert found["n_problems"].to_list() == [120] * 3
        errors.append(found["coverage"].to_numpy() - truth)
        held += ((found["low"].to_numpy() <= truth) & (truth <= found["high"].to_numpy())).sum()
    assert np.abs(np.mean(errors, axis=0)).max() < 0.025
    assert held >= 11
    told = Drawn.of(PassAtK().partial(verdicts=table, allocations=log).sort("problem_id"), None).hints
    assert told is not None and told.odds.shape == (120, 0) and (told.features == features).all()


def test_features_of_two_runs_are_not_one() -> None:
    """A later run's problems were told something else: what its first feature means isn't what the other's did."""
    said = [json.dumps({"policy": {"name": "marginal"}, "told": told, "features": 1}) for told in ("aaaa", "bbbb")]
    log = rules(4, "", [[-1.0, 0.5], [1.0, 0.25], [2.0, 0.0], [None, 1.0]])
    log = log.with_columns(rule=pl.Series([said[0], said[0], said[1], said[1]]))
    rows = verdicts(np.arange(4), np.ones(4, np.bool_))
    hint = Drawn.of(PassAtK().partial(verdicts=rows, allocations=log).sort("problem_id"), None).hints
    assert hint is not None
    assert hint.odds[:3, 0].tolist() == [-1.0, 1.0, 2.0] and np.isnan(hint.odds[3, 0])
    assert hint.features.tolist() == [[0.5, 0.0], [0.25, 0.0], [0.0, 0.0], [0.0, 1.0]]


def test_unserved_problems_count_and_forecasts_know_the_hints() -> None:
    rng = np.random.default_rng(6)
    easy = np.arange(40) < 20
    c = np.where(easy, 900, 0)
    table = verdicts(np.repeat(np.flatnonzero(easy), 3), rng.random(60) < 0.9)
    known = before(np.full(40, 1_000), c)
    found = coverage(PassAtK(k=(1,)), verdicts=table, before=known).row(0, named=True)
    assert found["n_problems"] == 40 and "20 of the 40 problems got no sample" in found["note"]
    assert found["least"] == pytest.approx(0.45, abs=0.06) and found["most"] == pytest.approx(0.95, abs=0.06)
    assert found["least"] < found["coverage"] < found["most"]
    operator = MeasureForecast(k=(10,), draws=400)
    rows = operator.merge(operator.partial(verdicts=table, before=known))
    assert rows["method"].to_list() == ["combined"] and rows["low"][0] < rows["coverage"][0] < rows["high"][0]


def test_sources_are_learned_each_with_its_worth() -> None:
    rng = np.random.default_rng(7)
    true = rng.normal(0.0, 1.0, 300)
    rates = 1 / (1 + np.exp(-(-2.0 + 1.5 * true)))
    near = np.stack([np.full(300, 500), rng.binomial(500, 1 / (1 + np.exp(-(true - 3.0))))], axis=1)
    other = near[rng.permutation(300)]
    known = Difficulty(300, np.stack([near, other], axis=1))
    known.fit(np.full(300, 40), rng.binomial(40, rates))
    assert known.hinted[1] > 0.7 and abs(known.hinted[2]) < 0.1 and known.trust > 0.99
    alone = Difficulty(300, other)
    alone.fit(np.full(300, 40), rng.binomial(40, rates))
    assert alone.trust < 0.2, "a shuffled source isn't believed"


def test_hints_are_the_same_however_the_tables_are_cut() -> None:
    known = pl.concat(
        [before(np.array([10, 10, 0, 5]), np.array([1, 9, 0, 2]), "b"), before(np.array([8]), np.array([4]), "a")]
    )
    rows = verdicts(np.repeat(np.arange(5), 4), np.arange(20) % 3 == 0)
    operator = PassAtK(k=(1,), bootstrap=100)
    whole = operator.partial(verdicts=rows, before=known)
    pieces = [
        operator.partial(
            verdicts=rows.filter(pl.col("problem_key") == key), before=known.filter(pl.col("problem_key") == key)
        )
        for key in reversed(keys(5))
    ]
    assert operator.merge(pl.concat(pieces)).equals(operator.merge(whole))
    told = hints_of(whole.sort("problem_id"))
    assert told is not None
    odds = told.odds
    assert odds is not None and odds.shape == (5, 2)
    assert np.isnan(odds[1:, 0]).all() and np.isnan(odds[[2, 4], 1]).all() and odds[0, 0] == 0.0
    assert (hints(odds)[[2, 4]] == 0).all()


def test_numbers_of_each_problem_are_compared_where_both_have_them() -> None:
    counts = pl.DataFrame({"problem_id": keys(3), "n": [4, 8, 8], "c": [1, 4, 0], "model": [None] * 3})
    partial = PassAtK().partial(counts=counts.cast({"model": pl.String}))
    plain = Drawn.of(partial, None)
    assert of_each(plain, 5) is None and of_each(plain, 1) == pytest.approx([0.25, 0.5, 0.0])
    stopped = Drawn.of(partial.with_columns(c=pl.col("c").clip(0, 1)), True)
    assert of_each(stopped, 4) == pytest.approx([1.0, 0.0, 0.0]) and of_each(stopped, 9) is None


@pytest.mark.parametrize(("solved", "problems"), [(0, 8), (1, 8), (3, 8), (8, 8), (20, 128)])
def test_where_nothing_was_given_up_intervals_of_first_successes_are_clopper_and_pearson_s(
    solved: int, problems: int
) -> None:
    first = np.where(np.arange(problems) < solved, 5, 0)
    low, high = interval(np.where(first > 0, 5, 50), first, np.array([5, 50]), 40_000, 0)
    theirs = stats.binomtest(solved, problems).proportion_ci()
    assert low == pytest.approx([theirs.low] * 2, abs=8e-3) and high == pytest.approx([theirs.high] * 2, abs=8e-3)


@pytest.mark.parametrize("problems", [8, 30])
def test_intervals_hold_where_few_problems_are_solved_and_some_given_up(problems: int) -> None:
    rng = np.random.default_rng(9)
    k, held = np.array([1, 10, 30]), np.zeros(3)
    rates = rng.beta(0.3, 2.0, 20_000)
    truth = (1 - (1 - rates[:, None]) ** k).mean(axis=0)
    for seed in range(200):
        draws = rng.geometric(rng.choice(rates, problems))
        most = rng.integers(10, 60, problems)
        most[0] = 60
        first = np.where(draws <= most, draws, 0)
        low, high = interval(np.minimum(draws, most), first, k, 400, seed)
        held += (low <= truth) & (truth <= high)
    assert (held / 200).min() >= 0.93


def test_survival_and_posteriors_are_those_of_scipy() -> None:
    rng = np.random.default_rng(8)
    p = rng.beta(0.5, 3.0, 80)
    draws, most = rng.geometric(np.maximum(p, 1e-6)), rng.integers(1, 40, 80)
    first, n = np.where(draws <= most, draws, 0), np.minimum(draws, most)
    theirs = stats.ecdf(stats.CensoredData(uncensored=n[first > 0], right=n[first == 0])).sf
    k = np.arange(1, 30)
    assert first_success(n, first, k) == pytest.approx(1 - theirs.evaluate(k), abs=1e-12)
    theta = (np.array([0.4]), np.array([5.0]), np.array([0.1]))
    n, c = np.array([10, 10, 3]), np.array([0, 4, 0])
    found = expected(theta, n, c, np.array([7]))[0, :, 0]
    never = 0.1 / (0.1 + 0.9 * stats.betabinom.pmf(0, n, 0.4, 5.0))
    share = 1 - stats.betabinom.pmf(0, 7, 0.4 + c, 5.0 + n - c)
    assert found == pytest.approx(np.where(c == 0, 1 - never, 1.0) * share, abs=1e-9)
