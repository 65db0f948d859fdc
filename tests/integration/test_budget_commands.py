"""The commands around money: plan before it, simulate without it, cost after it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from cluster.storage.root import Root
from jobs.looking.cost import costs
from jobs.simulate import simulate
from jobs.simulate.abreast import replay_abreast, runs_abreast
from jobs.simulate.records import read_before, read_recorded
from jobs.simulate.replay import Question, replay_each
from jobs.simulate.simulation import Ask, cost_to_reach
from operators.measure.pass_at_k import pass_at_k
from operators.policies.named import GreedySpec, MarginalSpec, UniformSpec, UntilCorrectSpec
from schemas.errors import BadInput
from tests.commands import as_json, gristmill
from tests.integration.test_cli import math
from tests.support import write_problems

PRICES = "'*': {dollars_per_million_prompt_tokens: 1.0, dollars_per_million_completion_tokens: 10.0}\n"


def ask(source: Path, **settings: Any) -> dict[str, Any]:
    """Simulate and return the document."""
    usual: dict[str, Any] = {
        **{"root": ".", "policies": (), "settings": {}, "unit": "samples", "prices": None, "budget": None},
        **{"goal": "coverage", "target": None},
        **{"model": None, "prior": None, "prior_model": None, "seeds": 6, "in_flight": None, "compare": False},
        **{"out": None, "plot": None, "holdout": 0.0, "features": None},
    }
    return simulate(Ask(source=str(source), **{**usual, **settings}), as_json=True)


@pytest.fixture
def counts(tmp_path: Path) -> Path:
    """Two models on the same 60 problems, 400 samples each."""
    rng = np.random.default_rng(0)
    logits = rng.normal(-3.5, 2.0, 60)
    rates = {"small": 1 / (1 + np.exp(-logits)), "large": 1 / (1 + np.exp(-(logits + 1.0 + rng.normal(0, 0.3, 60))))}
    tables = [
        pl.DataFrame({"model": model, "problem_index": np.arange(60), "n": 400, "c": rng.binomial(400, rate)})
        for model, rate in rates.items()
    ]
    path = tmp_path / "counts.parquet"
    pl.concat(tables).write_parquet(path)
    return path


def test_uniform_is_what_the_counts_say_and_policies_need_less(counts: Path, tmp_path: Path) -> None:
    out, plot = tmp_path / "curves.parquet", tmp_path / "curves.html"
    document = ask(counts, model="small", compare=True, budget=6_000, out=str(out), plot=str(plot), seeds=12)
    policies = document["policies"]
    assert list(policies) == ["uniform", "until_correct", "greedy", "marginal", "oracle"]
    c = pl.read_parquet(counts).filter(pl.col("model") == "small")["c"].to_numpy()
    expected = float(pass_at_k(np.full(60, 400), c, [100])[:, 0].sum())
    assert policies["uniform"]["value"][-1] == pytest.approx(expected, abs=1.0)
    costs_ = {
        name: cost_to_reach(found["cost"], found["value"], 0.95 * expected) or float("inf")
        for name, found in policies.items()
    }
    assert costs_["oracle"] < costs_["marginal"] < costs_["uniform"]
    assert costs_["marginal"] < 1.05 * costs_["until_correct"]
    for found in policies.values():
        assert (np.diff(found["value"]) >= -1e-9).all() and (np.diff(found["cost"]) > 0).all()
        assert all(
            low <= value <= high + 1e-9
            for low, value, high in zip(found["low"], found["value"], found["high"], strict=True)
        )
    assert pl.read_parquet(out).columns == ["policy", "cost", "value", "low", "high"]
    assert "<script" in plot.read_text()


def test_replays_side_by_side_are_the_replays_one_by_one(counts: Path) -> None:
    """Marginal's values are computed in another order of sums, so equal ones may change places in the queue: how many,
    depends on the machine."""
    recorded = read_recorded(str(counts), ".", "small")
    before, _ = read_before(str(counts), ".", "large", recorded.problems)
    costs = np.geomspace(8, 1_200, 60)
    for in_flight, hints in ((3, None), (40, before)):
        question = Question(recorded, "yield", 2, "samples", 1_200, in_flight, hints, None, costs)
        for spec in (UniformSpec(), UntilCorrectSpec(target=2), GreedySpec(target=2), MarginalSpec(target=2), None):
            assert runs_abreast(question, spec)
            together, alone = replay_abreast(question, spec, [3, 4]), replay_each(question, spec, [3, 4])
            for one, other in zip(together, alone, strict=True):
                assert one.spent == other.spent
                apart = np.abs(one.values - other.values)
                close = 0.01 * one.values.max() if isinstance(spec, MarginalSpec) else 1e-9
                assert apart.mean() < close


def test_tokens_and_dollars_can_be_what_is_spent(counts: Path, tmp_path: Path) -> None:
    """Long problems cost ten times as much; whoever minds what a sample costs solves more for the same money."""
    rng = np.random.default_rng(5)
    long = np.arange(60) % 2 == 0
    table = pl.read_parquet(counts).filter(pl.col("model") == "small")
    table = table.with_columns(
        completion_tokens=pl.col("n") * pl.Series(np.where(long, 1000, 100)), prompt_tokens=pl.col("n") * 50
    )
    table.write_parquet(tmp_path / "priced.parquet")
    prices = tmp_path / "prices.yaml"
    prices.write_text(PRICES)
    tokens = ask(tmp_path / "priced.parquet", unit="tokens", budget=400_000, policies=["marginal"], seeds=4)
    dollars = ask(
        tmp_path / "priced.parquet", unit="dollars", prices=str(prices), budget=3.0, policies=["marginal"], seeds=4
    )
    for document, unit, budget in ((tokens, "tokens", 400_000), (dollars, "dollars", 3.0)):
        assert document["unit"] == unit
        for found in document["policies"].values():
            assert all(0.98 * budget < spent <= budget for spent in found["spent"]["values"])
        final = {name: found["final"]["mean"] for name, found in document["policies"].items()}
        assert final["marginal"] > final["uniform"] + 1
    with pytest.raises(BadInput, match="no price of tokens is known for model 'small'"):
        ask(tmp_path / "priced.parquet", unit="dollars")
    with pytest.raises(BadInput, match="has no column 'completion_tokens'"):
        ask(counts, model="small", unit="tokens")

    rows = pl.DataFrame(
        {
            "problem_id": np.repeat(["a", "b"], 50),
            "sample_index": np.tile(np.arange(50), 2),
            "is_correct": rng.random(100) < 0.2,
            "completion_tokens": np.repeat([30, 70], 50),
        }
    )
    rows.write_parquet(tmp_path / "samples.parquet")
    spent = ask(tmp_path / "samples.parquet", unit="tokens", seeds=2)["policies"]["uniform"]["spent"]["mean"]
    assert spent == pytest.approx(50 * 30 + 50 * 70, abs=70)


def test_another_models_counts_help(counts: Path) -> None:
    alone = ask(counts, model="small", policies=["marginal"], budget=1_500, goal="yield")
    helped = ask(
        counts, model="small", policies=["marginal"], budget=1_500, goal="yield", prior=str(counts), prior_model="large"
    )
    assert helped["policies"]["marginal"]["final"]["mean"] > 1.05 * alone["policies"]["marginal"]["final"]["mean"]
    assert helped["policies"]["uniform"] == alone["policies"]["uniform"], "the same samples in the same order"
    assert helped["target"] == 4


def test_compute_optimal_chooses_between_models(counts: Path) -> None:
    document = ask(counts, policies=["compute_optimal"], settings={"calibration": 4}, budget=3_000)
    assert set(document["policies"]) == {"uniform", "compute_optimal", "oracle"}


def test_votes_are_replayed_from_completions(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    rows = [
        {
            "problem_id": i,
            "sample_index": j,
            "answer": "ab",
            "completion": f"So the answer is {'a b' if ok else other}.",
        }
        for i in range(20)
        for j in range(12)
        for ok, other in [(rng.random() < 0.3 + 0.03 * i, rng.choice(["x", "y"]))]
    ]
    path = tmp_path / "samples.jsonl"
    pl.DataFrame(rows).write_ndjson(path)
    document = ask(path, goal="accuracy", compare=True)
    policies = document["policies"]
    assert {"consistency:adaptive", "consistency:early_stopping", "consistency:bayesian", "pets"} < set(policies)
    assert policies["consistency:adaptive"]["spent"]["mean"] < 0.95 * policies["uniform"]["spent"]["mean"]
    assert policies["oracle"]["final"]["mean"] >= policies["uniform"]["final"]["mean"] - 1e-9


def test_what_cannot_be_simulated_is_refused(counts: Path, tmp_path: Path) -> None:
    for settings, said in (
        ({}, "has several models: choose one with --model"),
        ({"model": "none"}, "has no model 'none'; it has large, small"),
        ({"model": "small", "policies": ["best"]}, "there is no policy 'best'"),
        ({"model": "small", "policies": ["pets"]}, "policy pets looks at answers"),
        ({"model": "small", "goal": "accuracy"}, "must have the samples' answers"),
        ({"model": "small", "policies": ["marginal"], "settings": {"taget": 2}}, "did you mean 'target'"),
    ):
        with pytest.raises(BadInput, match=said):
            ask(counts, **settings)
    bad = tmp_path / "bad.csv"
    pl.DataFrame({"problem_id": ["a"], "n": [3], "c": [5]}).write_csv(bad)
    with pytest.raises(BadInput, match=r"problem 'a' has c = 5 of n = 3"):
        ask(bad)


def test_plan_run_and_cost_of_a_budget(tmp_path: Path) -> None:
    write_problems(tmp_path / "problems.jsonl", 6)
    (tmp_path / "prices.yaml").write_text(PRICES)
    budget = ["--set", "run.budget.dollars=0.02", "--set", "run.prices=prices.yaml", "--set", "sample.max_tokens=64"]
    budget += ["--set", "sample.n=400", "--set", "sample.policy.name=uniform"]
    first = gristmill(*math("--json", *budget), cwd=tmp_path)
    assert first.returncode == 4, first.stderr
    document = json.loads(first.stdout)
    assert document["state"] == "budget reached" and document["spending"]["microdollars"] <= 20_000

    more = [part.replace("dollars=0.02", "dollars=0.05") for part in budget]
    target, *settings = math(*more)[1:-2]
    planned = as_json("plan", target, *[part for part in settings if part not in ("--runner", "local")], cwd=tmp_path)
    [sampling] = [stage for stage in planned["stages"] if "outlook" in stage]
    least, expected, most = sampling["outlook"]["affords"]
    assert 0 < least <= expected <= most and sampling["outlook"]["binds"] == "dollars"
    assert sampling["outlook"]["unit"] == "dollars" and len(sampling["outlook"]["points"]) >= 4

    found = as_json("cost", document["run_id"], cwd=tmp_path)
    spent = found["total"]
    assert spent["dollars"] == pytest.approx((spent["prompt_tokens"] + 10 * spent["completion_tokens"]) / 1e6)
    assert sum(part["samples"] for part in found["by_outcome"].values()) == spent["samples"]
    assert sum(part["dollars"] for part in found["by_difficulty"].values()) == pytest.approx(spent["dollars"])
    right = found["by_outcome"]["right"]["samples"]
    assert found["per"]["correct answer"]["count"] == right
    assert found["per"]["correct answer"]["dollars"] == pytest.approx(spent["dollars"] / right)
    shown = gristmill("cost", "latest", cwd=tmp_path)
    assert "one correct answer:" in shown.stdout and "$" in shown.stdout
    assert costs(Root.at(str(tmp_path / "gristmill-data")), _latest(tmp_path))["lost"]["samples"] == 0


def _latest(folder: Path) -> Any:
    from cluster.records.reader import find_run

    return find_run(Root.at(str(folder / "gristmill-data")), "latest")


def test_what_costs_nothing_comes_first_and_records_without_anything_are_refused(tmp_path: Path) -> None:
    table = {"problem_id": [f"p{i}" for i in range(16)], "n": 20, "c": 4, "dollars": [0.0] * 8 + [3.0] * 8}
    path = tmp_path / "counts.parquet"
    pl.DataFrame(table).write_parquet(path)
    policies = ask(path, unit="dollars", compare=True, seeds=2)["policies"]
    assert {name: found["value"][-1] for name, found in policies.items()} == dict.fromkeys(policies, 16.0)
    pl.DataFrame({**table, "dollars": 0.0}).write_parquet(path)
    with pytest.raises(BadInput, match="nothing to spend"):
        ask(path, unit="dollars", compare=True)
    pl.DataFrame({**table, "n": 0, "c": 0}).write_parquet(path)
    with pytest.raises(BadInput, match="has no samples"):
        ask(path, compare=True)


@pytest.mark.parametrize("told", ["features", "prior"])
def test_what_is_known_is_refused_where_nothing_would_come_of_it(counts: Path, told: str) -> None:
    settings = {"model": "small", "policies": ["until_correct"], told: str(counts)}
    with pytest.raises(BadInput, match=f"--{told} would change nothing: until_correct"):
        ask(counts, **settings)
