"""Features of problems: what they are read from, what they are worth, and that useless ones cost nothing."""

from __future__ import annotations

import tracemalloc

import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError

from operators.load import Load
from operators.measure.difficulty import Difficulty, Group, Prior, population
from operators.measure.features import features_of, own_facts, standard
from operators.measure.rates import RATES
from operators.policies.compute_optimal import ComputeOptimal
from operators.policies.named import ComputeOptimalSpec, policy_spec
from operators.policies.policy import Known, Outcomes, Setting
from operators.sample.sampling import Sampling
from pipelines.arms import Config, build
from schemas.errors import BadInput
from tests.benchmarks.difficulty import needs, recorded


def test_what_a_table_says() -> None:
    table = pl.DataFrame(
        {
            "problem_id": ["a", "b", "c", "d"],
            "level": ["easy", "hard", "hard", "easy"],
            "terms": [1.0, 2.0, None, 4.0],
            "embedding": [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [0.0, 0.0]],
            "prompt": ["What is 1 + 2?", "What is 345 * 678?", "Prove $\\pi$ is irrational.", "Say yes."],
            "n": [8, 8, 8, 8],
            "c": [1, 2, 3, 4],
        }
    )
    found = features_of(table)
    assert found.shape[0] == 4
    assert np.allclose(found.mean(axis=0), 0.0, atol=1e-4)
    assert np.allclose(found.std(axis=0), 1.0, atol=1e-4)
    assert (features_of(table.drop("n", "c")) == found).all(), "results aren't features"
    assert (features_of(table) == found).all()
    level = standard(np.array([[0.0], [1.0], [1.0], [0.0]]))[:, 0]
    assert any(np.allclose(column, level) or np.allclose(column, -level) for column in found.T)
    with pytest.raises(BadInput, match="no column says anything"):
        features_of(table.select("problem_id", "n", "c"))
    with pytest.raises(BadInput, match="no column says anything"):
        features_of(table.select("problem_id").with_columns(same=pl.lit("x")))


def test_a_text_too_many_to_be_a_level_is_left_out() -> None:
    names = [f"n{number}" for number in range(60)]
    table = pl.DataFrame({"problem_id": names, "name": names, "size": np.arange(60.0)})
    assert features_of(table).shape == (60, 1)


def test_difficulty_learns_what_features_tell() -> None:
    """Of problems that weren't sampled at all, the hard and the easy ones are told apart."""
    rng = np.random.default_rng(0)
    features = standard(rng.normal(size=(300, 8)))
    rates = 1.0 / (1.0 + np.exp(-(-2.0 + 1.5 * features[:, 2] + rng.normal(0, 0.5, 300))))
    drawn = np.where(np.arange(300) < 150, 8, 0)
    correct = rng.binomial(drawn, rates)
    difficulty = Difficulty(300, features=features)
    assert difficulty.trust == pytest.approx(0.1)
    difficulty.fit(drawn, correct)
    assert difficulty.trust > 0.99
    unseen = np.arange(150, 300)
    none = np.zeros(150, dtype=np.int64)
    shares = difficulty.posterior(none, none, unseen)
    assert np.corrcoef(shares @ RATES, rates[150:])[0, 1] > 0.8
    # the interval of each problem's own rate holds it
    places = shares.cumsum(axis=1)
    low, high = (RATES[(places > end).argmax(axis=1)] for end in (0.025, 0.975))
    assert ((low <= rates[150:]) & (rates[150:] <= high)).mean() > 0.88
    useless = Difficulty(300, features=standard(rng.normal(size=(300, 8))))
    useless.fit(drawn, correct)
    assert useless.trust < 0.2


def test_without_features_nothing_is_different() -> None:
    rng = np.random.default_rng(1)
    before = np.stack([np.full(50, 20), rng.binomial(20, 0.3, 50)], axis=1)
    drawn, correct = np.full(50, 6), rng.binomial(6, 0.2, 50)
    plain, more = Difficulty(50, before), Difficulty(50, before, features=np.zeros((50, 0)))
    for one in (plain, more):
        one.fit(drawn, correct)
    assert plain.trust == pytest.approx(more.trust)


def test_features_save_samples_and_useless_ones_cost_none() -> None:
    """A small part of tests.benchmarks.difficulty."""
    record, features = recorded(96, 60, 2.5, 0)
    order = np.random.default_rng(0).permutation(96)
    none, told, useless = (needs(record, given, 1_000, "marginal", 6)[1] for given in (None, features, features[order]))
    assert told < 0.85 * none
    assert useless == pytest.approx(none, rel=0.06)


def test_what_problems_say_of_themselves() -> None:
    metadata = [
        '{"level": "hard", "difficulty": {"terms": 4}, "answer": 7, "solved": true, "list": [1, 2]}',
        '{"level": "easy", "difficulty": {"terms": 2}, "answer": 8}',
        None,
    ]
    problems = pl.DataFrame({"prompt": ["a", "b", "c"], "task_type": "math", "metadata": metadata})
    found = own_facts(problems)
    assert found.columns == ["prompt", "task_type", "metadata difficulty.terms", "metadata level", "metadata solved"]
    assert found["metadata difficulty.terms"].to_list() == [4.0, 2.0, None]
    assert features_of(found).shape[0] == 3


def night(seed: int, problems: int, at: float, worth: float) -> Group:
    """Return a night of problems whose mean log odds are ``at``; the first of 6 features is worth so much."""
    rng = np.random.default_rng(seed)
    features = standard(rng.normal(size=(problems, 6)))
    rates = 1.0 / (1.0 + np.exp(-(at + worth * features[:, 0] + rng.normal(0, 0.7, problems))))
    return Group(np.full(problems, 12), rng.binomial(12, rates), features)


def test_nights_hand_on_what_they_have_in_common() -> None:
    """Before anything is sampled tonight, the features tell; the more nights agree, the narrower is the prior."""
    nights = [night(seed, 150, at, 1.5) for seed, at in enumerate((-2.4, -1.6, -2.2, -1.8))]
    tonight = night(9, 200, -2.0, 1.5)
    assert tonight.features is not None
    alone = Difficulty(200, features=tonight.features)
    told = Difficulty(200, features=tonight.features, groups=nights)
    assert alone.trust == pytest.approx(0.1) and told.trust == pytest.approx(0.9)
    nothing, everyone = np.zeros(200, dtype=np.int64), np.arange(200)
    rates = [one.posterior(nothing, nothing, everyone) @ RATES for one in (alone, told)]
    assert np.ptp(rates[0]) < 1e-9 < np.ptp(rates[1])
    assert np.corrcoef(rates[1], tonight.correct / tonight.drawn)[0, 1] > 0.6
    assert told.start[0] == pytest.approx(-2.0, abs=0.3) and told.start[2] == pytest.approx(1.5, abs=0.35)
    prior = Prior.of(1, 6)
    one, four = (population(prior, [prior], 1, nights[:count])[1][0] for count in (1, 4))
    assert one.spread == pytest.approx(prior.spread), "one night says where, not how far nights are apart"
    apart = [population(prior, [prior], 1, [each])[1][0].mean[0] for each in nights]
    assert four.mean[0] == pytest.approx(np.mean(apart))
    assert four.spread[0] == pytest.approx(np.sqrt((9.0 + 4 * np.var(apart)) / 4)), "(s0^2 + squares) / J"
    assert four.spread[1] == prior.spread[1], "sources are of the problems at hand"


def test_nights_whose_features_say_nothing_are_no_reason_to_believe_them() -> None:
    nights = [night(seed, 150, -2.0, 0.0) for seed in range(3)]
    assert Difficulty(150, features=nights[0].features, groups=nights[1:]).trust == pytest.approx(0.1)


def test_a_million_words_are_held_a_block_at_a_time() -> None:
    """Components are found by evenly spaced rows, and tell the same of all others."""
    rng = np.random.default_rng(0)
    kinds = [["add", "sum", "plus"], ["prove", "lemma", "theorem"]]
    which = rng.integers(0, 2, 9_000)
    texts = [" ".join(rng.choice(kinds[kind], 5)) for kind in which.tolist()]
    tracemalloc.start()
    found = features_of(pl.DataFrame({"prompt": texts}))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.shape[0] == 9_000
    assert max(abs(np.corrcoef(column, which)[0, 1]) for column in found.T) > 0.95
    assert peak < 80e6, "all at once are 37 MB for counts alone, and five times that on the way"
    again = features_of(pl.DataFrame({"prompt": texts}))
    assert (again == found).all()


@pytest.mark.parametrize("dtype", [pl.List(pl.Float64), pl.List(pl.Int64), pl.Array(pl.Float32, 2)])
def test_embeddings_are_what_they_are_whatever_holds_them(dtype: pl.DataType) -> None:
    rows = [[1.0, 0.0], [0.0, 2.0], [1.0, 1.0], [5.0, 3.0]]
    known = pl.DataFrame({"e": pl.Series(rows, dtype=pl.List(pl.Float64))})
    assert np.allclose(features_of(pl.DataFrame({"e": pl.Series(rows).cast(dtype)})), features_of(known), atol=1e-5)
    lacking = features_of(pl.DataFrame({"e": [*rows, None]}))
    assert np.isfinite(lacking).all()
    assert len(lacking) == 5
    odd = features_of(pl.DataFrame({"e": [[1.0, float("nan")], [0.0, 2.0], [3.0, float("inf")]]}))
    assert np.isfinite(odd).all()


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([[1.0], [1.0, 2.0]], "equally long"),
        ([["a"], ["b"]], "lists of numbers"),
        ([[], []], "lists of numbers"),
    ],
)
def test_lists_that_are_no_embeddings(rows: list[object], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        features_of(pl.DataFrame({"e": rows}))


@pytest.mark.parametrize(
    "table",
    [
        {"prompt": ["one problem", "one problem"]},
        {"level": [None, None, None]},
        {"level": [float("nan")] * 3},
        {"embedding": pl.Series([None, None], dtype=pl.List(pl.Float64))},
    ],
)
def test_tables_that_say_nothing(table: dict[str, object]) -> None:
    with pytest.raises(BadInput, match="no column says anything"):
        features_of(pl.DataFrame(table))


@pytest.mark.parametrize("prompts", [[], ["one problem"]])
def test_nothing_tells_a_single_problem_from_others(prompts: list[str]) -> None:
    table = pl.DataFrame({"prompt": pl.Series(prompts, dtype=pl.String), "level": pl.Series([1.0] * len(prompts))})
    features = features_of(table)
    assert features.shape == (len(prompts), 0)
    if prompts:
        policy = policy_spec({"name": "marginal"}).begin(Setting(np.array([4]), np.ones(1), Known(features=features)))
        assert policy.next(2)[0].problem == 0


@pytest.mark.parametrize("name", ["greedy", "marginal", "with_flaws"])
def test_what_is_known_beforehand_says_where_policies_begin(name: str) -> None:
    """Features that another night's counts showed to tell difficulty: the first sample goes to the easiest."""
    rng = np.random.default_rng(0)
    seen, here = (standard(rng.normal(size=(size, 1))) for size in (400, 40))
    drawn = np.full(400, 20)
    night = Group(drawn, rng.binomial(drawn, 1.0 / (1.0 + np.exp(2.0 - 2.0 * seen[:, 0]))), seen)
    known = Known(features=here, groups=[night])
    settings = {"value_wrong": 0.0} if name == "with_flaws" else {}
    policy = policy_spec({"name": name, **settings}).begin(Setting(np.full(40, 10), np.ones(40), known))
    first = [policy.next(1)[0].problem for _ in range(3)]
    assert set(first) <= set(np.argsort(-here[:, 0])[:6].tolist())


def test_compute_optimal_bins_by_what_is_known_beside_its_calibration() -> None:
    """Two calibration samples tell little; features tell which problems are hard, for which the other arm is better."""
    rng = np.random.default_rng(1)
    features = standard(rng.normal(size=(300, 1)))
    hard = features[:, 0] < 0
    rates = np.where(hard[:, None], [0.02, 0.3], [0.9, 0.6])

    def right(known: Known) -> float:
        policy = ComputeOptimal(Setting(np.full(300, 50), np.ones(300), known), arms=2, calibration=2)
        draws = np.random.default_rng(2)
        while policy.choice is None:
            for chunk in policy.next(64):
                accepted = draws.random(chunk.size) < rates[chunk.problem, chunk.arm]
                number = np.full(chunk.size, chunk.problem)
                policy.observe(Outcomes(number, accepted, arms=np.full(chunk.size, chunk.arm)))
        return float((policy.choice == hard).mean())

    assert right(Known(features=features)) > right(Known()) + 0.03


@pytest.mark.parametrize("name", ["uniform", "until_correct", "consistency", "pets"])
def test_a_policy_without_use_of_a_prior_says_why(name: str) -> None:
    for told in ({"features": "problems"}, {"before": "counts.csv"}, {"nights": ["one"]}):
        with pytest.raises(ValidationError, match=f"would change nothing: {name}"):
            policy_spec({"name": name, **told})
    assert policy_spec({"name": name}).as_logged()["name"] == name


@pytest.mark.parametrize("name", ["greedy", "compute_optimal"])
def test_what_later_versions_added_is_logged_where_it_is_used(name: str) -> None:
    assert not {"before", "features", "nights"} & policy_spec({"name": name}).as_logged().keys()
    assert policy_spec({"name": name, "features": "problems"}).as_logged()["features"] == "problems"


def test_the_arms_know_what_the_pipeline_is_told() -> None:
    config = Config(load=Load(source="p.jsonl"), features="problems", before=("night.csv",), calibration=4)
    policies = [
        stage.operator.policy for stage in build(config).stages.values() if isinstance(stage.operator, Sampling)
    ]
    assert len(policies) == 2
    for policy in policies:
        assert isinstance(policy, ComputeOptimalSpec)
        assert (policy.features, policy.before, policy.arms) == ("problems", ("night.csv",), 2)
