"""Sampling policies, on problems whose rates are known; and coverage measured after a policy stopped at successes."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from operators.measure.difficulty import Difficulty
from operators.measure.flaws import best_tries, reward, tasks
from operators.measure.pass_at_k import PassAtK
from operators.measure.rates import RATES
from operators.measure.survival import first_success, interval
from operators.policies.compute_optimal import ComputeOptimal
from operators.policies.consistency import AdaptiveConsistency, BayesianStopping, EarlyStopping
from operators.policies.counting import Uniform, UntilCorrect
from operators.policies.marginal import Marginal
from operators.policies.named import POLICIES, policy_spec
from operators.policies.pets import Pets, certainty
from operators.policies.policy import Chunk, Outcomes, Policy, Setting
from operators.policies.shapes import Shapes
from operators.policies.with_flaws import WithFlaws
from schemas.errors import BadInput

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
SHAPE = (0.5, 0.2, 0.1, 0.1, 0.05, 0.03, 0.01, 0.01)


def play(policy: Policy, draw: Callable[[Chunk], Outcomes], budget: int, in_flight: int = 4) -> list[Chunk]:
    """Let a policy spend a budget; return what it handed out."""
    spent, handed = 0, list[Chunk]()
    while spent < budget and (chunks := policy.next(min(in_flight, budget - spent))):
        handed += chunks
        spent += sum(chunk.size for chunk in chunks)
        parts = [draw(chunk) for chunk in chunks]
        answers = [part.answers for part in parts if part.answers is not None]
        arms = [part.arms for part in parts if part.arms is not None]
        policy.observe(
            Outcomes(
                np.concatenate([part.problems for part in parts]),
                np.concatenate([part.correct for part in parts]),
                np.concatenate(answers) if answers else None,
                np.concatenate(arms) if arms else None,
            )
        )
    return handed


def coins(rates: Floats, seed: int = 0) -> Callable[[Chunk], Outcomes]:
    """Return samples that are accepted at each problem's rate."""
    rng = np.random.default_rng(seed)

    def draw(chunk: Chunk) -> Outcomes:
        return Outcomes(np.full(chunk.size, chunk.problem), rng.random(chunk.size) < rates[chunk.problem])

    return draw


def voters(shape: Floats, seed: int = 0) -> Callable[[Chunk], Outcomes]:
    rng = np.random.default_rng(seed)

    def draw(chunk: Chunk) -> Outcomes:
        answers = rng.choice(len(shape), chunk.size, p=shape)
        return Outcomes(np.full(chunk.size, chunk.problem), answers == 0, answers)

    return draw


@pytest.mark.parametrize("name", [name for name in POLICIES if name != "compute_optimal"])
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_no_policy_hands_out_more_than_it_may(name: str, data: st.DataObject) -> None:
    problems = data.draw(st.integers(1, 12))
    most = np.array(data.draw(st.lists(st.integers(0, 20), min_size=problems, max_size=problems)))
    policy = policy_spec({"name": name}).begin(Setting(most, np.ones(problems)))
    handed, capacity = np.zeros(problems, dtype=np.int64), data.draw(st.integers(1, 30))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    for _ in range(30):
        chunks = policy.next(capacity)
        assert sum(chunk.size for chunk in chunks) <= capacity
        for chunk in chunks:
            handed[chunk.problem] += chunk.size
            answers = rng.integers(0, 3, chunk.size)
            policy.observe(Outcomes(np.full(chunk.size, chunk.problem), answers == 0, answers))
    assert (handed <= most).all()
    assert (policy.counts.pending == 0).all() and (policy.counts.drawn == handed).all()


def test_the_same_outcomes_give_the_same_decisions() -> None:
    rates = np.linspace(0.01, 0.5, 30)
    runs = [play(Marginal(Setting.of(30, 100)), coins(rates, seed=3), 600) for _ in range(2)]
    assert runs[0] == runs[1]


def test_uniform_is_even_and_until_correct_stops() -> None:
    uniform = Uniform(Setting.of(7, 50))
    play(uniform, coins(np.full(7, 0.5)), 100)
    assert np.ptp(uniform.counts.drawn) <= 1
    stopping = UntilCorrect(Setting.of(7, 50), target=3)
    play(stopping, coins(np.full(7, 0.5)), 10_000, in_flight=1)
    assert (stopping.counts.correct == 3).all() and stopping.done().all()


def test_marginal_without_hints_is_early_stopping_to_the_sample() -> None:
    rng = np.random.default_rng(1)
    rates = rng.beta(0.3, 5.0, 100)
    right = rng.random((100, 400)) < rates[:, None]
    drawn: list[list[int]] = []
    for policy in (Marginal(Setting.of(100, 400)), UntilCorrect(Setting.of(100, 400))):
        at = np.zeros(100, dtype=np.int64)

        def draw(chunk: Chunk, at: Ints = at) -> Outcomes:
            at[chunk.problem] += chunk.size
            some = right[chunk.problem, at[chunk.problem] - chunk.size : at[chunk.problem]]
            return Outcomes(np.full(chunk.size, chunk.problem), some)

        play(policy, draw, 2_500)
        drawn.append(policy.counts.drawn.tolist())
    assert drawn[0] == drawn[1]


def test_hints_pay_where_they_are_true_and_cost_little_where_not() -> None:
    rng = np.random.default_rng(2)
    rates = 1 / (1 + np.exp(-rng.normal(-4.0, 2.0, 120)))
    true = np.stack([np.full(120, 1_000), rng.binomial(1_000, rates)], axis=1)
    useful: dict[str, list[int]] = {"none": [], "true": [], "shuffled": []}
    for seed in range(3):
        given_ = {"none": None, "true": true, "shuffled": true[np.random.default_rng(seed).permutation(120)]}
        for name, before in given_.items():
            policy = Marginal(Setting.of(120, 1_000, before), target=4)
            play(policy, coins(rates, seed), 2_500, in_flight=8)
            useful[name].append(int(np.minimum(policy.counts.correct, 4).sum()))
    assert np.mean(useful["true"]) > 1.2 * np.mean(useful["none"])
    assert np.mean(useful["shuffled"]) > 0.95 * np.mean(useful["none"])


def test_difficulty_finds_the_rates_it_was_made_of() -> None:
    rng = np.random.default_rng(4)
    rates = 1 / (1 + np.exp(-rng.normal(-3.0, 1.5, 2_000)))
    drawn = np.full(2_000, 200)
    correct = rng.binomial(200, rates)
    known = Difficulty(2_000)
    known.fit(drawn, correct)
    assert known.plain[0] == pytest.approx(-3.0, abs=0.15) and np.exp(known.plain[2]) == pytest.approx(1.5, abs=0.1)
    means = known.posterior(drawn, correct, np.arange(2_000)) @ RATES
    assert np.mean((means - rates) ** 2) < np.mean((correct / drawn - rates) ** 2)


def test_consistency_rules_at_the_published_shape() -> None:
    # Adaptive-Consistency at .99 takes 44 samples where L = 3 Bayesian stopping, told the shape, takes 18
    shape = np.array(SHAPE)
    takes = {
        "adaptive": AdaptiveConsistency(Setting.of(400, 500), 0.99),
        "bayesian": BayesianStopping(Setting.of(400, 500), 0.01, Shapes.of([SHAPE])),
    }
    for policy in takes.values():
        play(policy, voters(shape), 100_000, in_flight=1)
    assert takes["adaptive"].counts.drawn.mean() == pytest.approx(44, abs=4)
    assert takes["bayesian"].counts.drawn.mean() == pytest.approx(18, abs=2)
    right = np.mean([votes.most_common(1)[0][0] == 0 for votes in takes["bayesian"].votes])
    assert right >= 0.975


def test_early_stopping_costs_what_its_formula_says() -> None:
    # Li et al. 2024: E[N] = w sum (i+1) q (1-q)^i + L (1-q)^(L/w-1), q = sum_a p_a^w
    shape, window, most = np.array([0.7, 0.2, 0.1]), 4, 40
    q, windows = float((shape**window).sum()), 10
    expected = window * sum((i + 1) * q * (1 - q) ** i for i in range(windows - 1)) + most * (1 - q) ** (windows - 1)
    policy = EarlyStopping(Setting.of(3_000, most), window)
    play(policy, voters(shape), 10**9, in_flight=4)
    assert policy.counts.drawn.mean() == pytest.approx(expected, rel=0.05)


def test_certainty_is_the_chance_that_the_leader_leads() -> None:
    rng = np.random.default_rng(0)
    for votes in ((), (1,), (3, 1), (10, 9), (20, 3, 1)):
        draws = rng.dirichlet(np.array([*votes, 0]) + 1.0, 200_000) if votes else np.ones((1, 1))
        assert certainty(votes) == pytest.approx(np.mean(draws.argmax(axis=1) == 0), abs=0.01)
    assert certainty((5,)) > certainty((3,)) > certainty((3, 2))


def test_pets_leaves_out_what_is_clear() -> None:
    rng = np.random.default_rng(5)

    def draw(chunk: Chunk) -> Outcomes:
        sure = chunk.problem < 5
        answers = rng.choice(2, chunk.size, p=[1.0, 0.0] if sure else [0.55, 0.45])
        return Outcomes(np.full(chunk.size, chunk.problem), answers == 0, answers)

    policy = Pets(Setting.of(10, 1_000))
    play(policy, draw, 300)
    assert policy.counts.drawn[:5].max() < 10 < policy.counts.drawn[5:].min()


@pytest.mark.parametrize(
    ("wrong", "best", "worth"), [(-0.7, 3, 0.5246), (-1.0, 2, 0.4724), (-2.0, 1, 0.3388), (-0.1, 81, 0.6879)]
)
def test_with_flaws_stops_where_another_draw_costs_more_than_it_brings(wrong: float, best: int, worth: float) -> None:
    given_ = tasks([0.58, 0.42], [0.87, 0.13], 1.0, 0.75)
    assert best_tries(given_, 1.0, wrong)[0] == best
    assert reward(given_, best, 1.0, wrong)[best] == pytest.approx(worth, abs=1e-4)
    types = np.array([[0.58, 0.87], [0.42, 0.13]])
    policy = WithFlaws(Setting.of(20, 200), 1.0, 0.75, 1.0, wrong, types)
    play(policy, coins(np.zeros(20)), 10_000, in_flight=1)
    assert (policy.counts.drawn == best).all()


def test_compute_optimal_chooses_by_difficulty_on_the_other_fold() -> None:
    # one arm is better on easy problems, the other on hard ones
    rng = np.random.default_rng(6)
    easy = np.arange(100) < 60
    rates = np.stack([np.where(easy, 0.8, 0.0), np.where(easy, 0.5, 0.1)], axis=1)

    def draw(chunk: Chunk) -> Outcomes:
        accepted = rng.random(chunk.size) < rates[chunk.problem, chunk.arm]
        return Outcomes(np.full(chunk.size, chunk.problem), accepted, None, np.full(chunk.size, chunk.arm))

    policy = ComputeOptimal(Setting.of(100, 200), arms=2, calibration=20, target=10**6)
    play(policy, draw, 100 * 100, in_flight=16)
    assert policy.choice is not None
    assert (policy.counts.pending == 0).all() and (policy.given == policy.drawn).all()
    assert (policy.choice[easy] == 0).mean() > 0.95 and (policy.choice[~easy] == 1).mean() > 0.95
    assert (policy.given[easy, 0] > 60).mean() > 0.95


def test_compute_optimal_weighs_what_draws_of_an_arm_were_seen_to_cost() -> None:
    rng = np.random.default_rng(3)

    def chosen(costs: list[float], given: Floats | None = None) -> list[int]:
        def draw(chunk: Chunk) -> Outcomes:
            accepted = rng.random(chunk.size) < (0.3, 0.6)[chunk.arm]
            return Outcomes(np.full(chunk.size, chunk.problem), accepted, None, np.full(chunk.size, chunk.arm))

        policy = ComputeOptimal(Setting.of(50, 100), arms=2, calibration=20, target=10**6, arm_cost=given)
        for arm, cost in enumerate(costs):
            policy.learn_cost(arm, cost)
        play(policy, draw, 50 * 45, in_flight=16)
        assert policy.choice is not None
        return np.bincount(policy.choice, minlength=2).tolist()

    assert chosen([])[1] == 50, "what isn't known is the same"
    assert chosen([10.0, 12.0])[1] == 50, "twice as good for a little more"
    assert chosen([10.0, 80.0])[0] == 50, "a search that takes eight times as much isn't worth it"
    assert chosen([10.0, 80.0], np.array([1.0, 1.0]))[1] == 50, "what was given goes before what is seen"


def test_policies_know_their_settings() -> None:
    for name in POLICIES:
        assert policy_spec({"name": name}).name == name
    with pytest.raises(BadInput, match="there is no policy 'best'"):
        policy_spec({"name": "best"})
    with pytest.raises(ValueError, match="must sum to 1"):
        policy_spec({"name": "with_flaws", "types": [[0.5, 0.1], [0.2, 0.3]]})


def test_handing_out_stays_cheap_with_many_problems() -> None:
    policy = Marginal(Setting.of(20_000, 100))
    draw = coins(np.random.default_rng(0).beta(0.5, 5.0, 20_000))
    began = time.process_time()
    handed = play(policy, draw, 20_000, in_flight=256)
    assert (time.process_time() - began) / len(handed) < 0.005, "milliseconds, not a pass over all problems"


def verdicts(rates: Floats, policy: Policy, budget: int, seed: int) -> pl.DataFrame:
    rows: list[tuple[int, int, bool]] = []
    at = np.zeros(len(rates), dtype=np.int64)
    flip = coins(rates, seed)

    def draw(chunk: Chunk) -> Outcomes:
        outcomes = flip(chunk)
        for correct in outcomes.correct.tolist():
            rows.append((chunk.problem, int(at[chunk.problem]), correct))
            at[chunk.problem] += 1
        return outcomes

    play(policy, draw, budget)
    table = pl.DataFrame(rows, schema=["problem", "sample_index", "is_correct"], orient="row")
    return table.with_columns(problem_key=pl.col("problem").cast(pl.String), status=pl.lit("ok"), verifier=pl.lit("v"))


def test_coverage_after_stopping_at_successes_has_no_bias() -> None:
    rates = np.random.default_rng(7).beta(0.4, 3.0, 150)
    truth = {k: float((1 - (1 - rates) ** k).mean()) for k in (1, 4, 8)}
    found: dict[int, list[float]] = {k: [] for k in truth}
    naive: list[float] = []
    inside = 0
    for seed in range(24):
        table = verdicts(rates, UntilCorrect(Setting.of(150, 12)), 10_000, seed)
        measured = PassAtK(k=tuple(truth), stopped=True).merge(PassAtK().partial(verdicts=table))
        for k, coverage, low, high in measured.select("k", "coverage", "low", "high").iter_rows():
            found[k].append(coverage)
            inside += low <= truth[k] <= high
        counts = table.group_by("problem").agg(c=pl.col("is_correct").sum(), n=pl.len())
        naive.append(float((counts["c"] / counts["n"]).mean()))  # pyright: ignore[reportArgumentType]
    for k, values in found.items():
        assert np.mean(values) == pytest.approx(truth[k], abs=0.015), k
    assert np.mean(naive) > truth[1] + 0.05, "c/n is far off"
    assert inside >= 0.9 * 72
    assert "Kaplan-Meier" in measured["note"][0]  # pyright: ignore[reportPossiblyUnboundVariable]


def test_survival_where_everything_or_nothing_is_solved() -> None:
    n, none = np.array([5, 9, 7]), np.zeros(3, dtype=np.int64)
    k = np.array([1, 5])
    low, high = interval(n, none, k, 1_000, 0)
    assert (first_success(n, none, k) == 0).all() and (low == 0).all() and (high > 0.5).all()
    k, solved = np.array([1, 2, 100]), np.array([1, 2, 2])
    low, high = interval(n, solved, k, 1_000, 0)
    assert first_success(n, solved, k).tolist() == pytest.approx([1 / 3, 1.0, 1.0])
    assert high[1] == 1.0 and 0 < low[1] < 1
    with pytest.raises(BadInput, match=r"no unsolved problem has more than 9 samples"):
        first_success(n, none, np.array([10]))


def test_other_problems_of_the_kind_say_where_to_begin() -> None:
    rng = np.random.default_rng(8)
    rates = 1 / (1 + np.exp(-rng.normal(-5.0, 1.0, 400)))
    similar = np.stack([np.full(400, 500), rng.binomial(500, rates)], axis=1)
    known = Difficulty(10, similar=similar)
    assert known.start[0] == pytest.approx(-5.0, abs=0.2) and np.exp(known.start[2]) == pytest.approx(1.0, abs=0.15)
    nothing = np.zeros(10, dtype=np.int64)
    mean = known.posterior(nothing, nothing, np.arange(10)) @ RATES
    assert mean == pytest.approx(rates.mean(), rel=0.25)
