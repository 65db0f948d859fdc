"""synthesize.pairs and measure.pairs: on models whose second-order calibration is known."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest

from operators.load import Load
from operators.measure.pairs import MeasurePairs, auc
from operators.transform.pairs import SynthesizePairs
from schemas.contract import conform, validate
from schemas.datasets import Problem
from schemas.errors import BadInput
from schemas.measures import PairCalibration

Alphas = list[tuple[float, ...]]


def verdicts(rows: list[tuple[str, int, str | None, bool]]) -> pl.DataFrame:
    table = pl.DataFrame(
        rows,
        schema={
            "problem_key": pl.String,
            "sample_index": pl.Int64,
            "predicted_answer": pl.String,
            "is_correct": pl.Boolean,
        },
        orient="row",
    )
    silent = pl.col("predicted_answer").is_null()
    return table.with_columns(status=pl.when(silent).then(pl.lit("unparseable")).otherwise(pl.lit("ok")))


def sampled(alphas: Alphas, n: int, each: int, seed: int, copies: float = 0.0) -> dict[str, pl.DataFrame]:
    """Return what a model says that is calibrated for pairs, each problem's chances being Dirichlet(alpha) to it.

    Its first answer y has the chance alpha_y / A, and a second one after it (alpha + 1_y) / (A + 1). With ``copies`` it
    repeats the first one beyond that.
    """
    rng = np.random.default_rng(seed)
    first: list[tuple[str, int, str | None, bool]] = []
    for number, alpha in enumerate(alphas):
        chances = np.array(alpha) / sum(alpha)
        said = rng.choice(len(alpha), n, p=chances)
        first += [(f"p{number:03}", index, str(answer), answer == 0) for index, answer in enumerate(said.tolist())]
    known = verdicts(first)
    about = pl.DataFrame({"prompt": [f"Question {i}?" for i in range(len(alphas))], "answer": ["0"] * len(alphas)})
    problems = Load(source="x").normalise(about).with_columns(
        problem_key=pl.Series([f"p{i:03}" for i in range(len(alphas))])
    )  # fmt: skip
    operator = SynthesizePairs(per_problem=n)
    pairs = operator.run(problems, conform(known, operator.inputs["verdicts"], "v"))
    validate(pairs, Problem, "test")
    second: list[tuple[str, int, str | None, bool]] = []
    for key, text in pairs.select("problem_key", "metadata").iter_rows():
        shown = json.loads(text)["pair"]
        alpha = np.array(alphas[int(shown["of"][1:])])
        alpha[int(shown["first"])] += 1
        chances = (1 - copies) * alpha / alpha.sum()
        chances[int(shown["first"])] += copies
        said = rng.choice(len(alpha), each * shown["times"], p=chances).tolist()
        second += [(key, index, str(answer), answer == 0) for index, answer in enumerate(said)]
    return {"verdicts": known, "pairs": pairs, "second": verdicts(second)}


def measure(tables: dict[str, pl.DataFrame], **settings: int) -> pl.DataFrame:
    operator = MeasurePairs(**settings)
    ready = {name: conform(table, operator.inputs[name], name).lazy() for name, table in tables.items()}
    return validate(operator.run(**ready), PairCalibration, "test")


def exact(alpha: tuple[float, ...]) -> float:
    """The variance of Dirichlet(alpha)'s chances, summed over answers."""
    total = sum(alpha)
    return sum(a * (total - a) / (total**2 * (total + 1)) for a in alpha)


ALPHAS: Alphas = [(1.0, 1.0), (5.0, 5.0), (0.5, 1.5, 2.0), (200.0, 200.0, 200.0), (9.0, 1.0)]


def test_the_estimate_is_the_variance_of_what_the_model_does_not_know() -> None:
    found = measure(sampled(ALPHAS, 2000, 8, 0))
    rows = dict(found.filter(metric="doubt").select("name", "value").iter_rows())
    for number, alpha in enumerate(ALPHAS):
        assert rows[f"p{number:03}"] == pytest.approx(exact(alpha), abs=0.02)
    assert rows[""] == pytest.approx(np.mean([exact(alpha) for alpha in ALPHAS]), abs=0.01)
    assert rows["p003"] == pytest.approx(0.0, abs=0.02), "random answers whose chances are known are no doubt"


def test_intervals_hold_and_estimates_have_no_bias() -> None:
    held, of, off = 0, 0, []
    for seed in range(40):
        found = measure(sampled(ALPHAS, 24, 4, seed), bootstrap=300)
        for number, alpha in enumerate(ALPHAS):
            row = found.filter(metric="doubt", name=f"p{number:03}").row(0, named=True)
            held += row["low"] <= exact(alpha) <= row["high"]
            of += 1
            off.append(row["value"] - exact(alpha))
    assert held / of >= 0.9
    assert np.mean(off) == pytest.approx(0.0, abs=0.02)


def test_a_model_that_copies_has_more_doubt() -> None:
    plain, copying = (
        measure(sampled(ALPHAS, 200, 4, 1, copies)).filter(metric="doubt", name="") for copies in (0, 0.4)
    )
    assert copying["low"][0] > plain["high"][0] - 0.1
    assert copying["value"][0] > plain["value"][0] + 0.1


def test_doubt_finds_errors_that_entropy_does_not() -> None:
    """Half of the problems are known to be random, and their majority is right; the others aren't known at all."""
    rng = np.random.default_rng(0)
    alphas: Alphas = [(220.0, 180.0) if number % 2 else (0.9, 1.1) for number in range(60)]
    tables = sampled(alphas, 60, 3, 0)
    wrong = rng.random(60) < np.where(np.arange(60) % 2, 0.02, 0.6)
    key = pl.col("problem_key").str.slice(1).cast(pl.Int64)
    flags = pl.Series([not one for one in wrong.tolist()])
    right = tables["verdicts"].select(key).to_series().to_list()
    tables["verdicts"] = tables["verdicts"].with_columns(is_correct=pl.Series([flags[number] for number in right]))
    found = measure(tables, bootstrap=300)
    rows = {row["name"]: row for row in found.filter(metric="auc").iter_rows(named=True)}
    assert {*rows} == {"doubt", "entropy", "agreement"}
    assert rows["doubt"]["value"] > 0.75 > 0.7 > rows["entropy"]["value"]
    assert all(row["low"] <= row["value"] <= row["high"] for row in rows.values())
    assert rows["doubt"]["n_problems"] == 60


def test_pairs_show_each_answer_as_often_as_it_was_given() -> None:
    rows = [("a", 0, "7", True), ("a", 1, "8", False), ("a", 2, "7", True), ("a", 3, None, False), ("a", 4, "7", True)]
    problems = Load(source="x").normalise(pl.DataFrame({"prompt": ["What?"], "answer": ["7"]}))
    problems = problems.with_columns(problem_key=pl.lit("a"))
    operator = SynthesizePairs(per_problem=4, template="{prompt} First: {first}. Second?")
    found = operator.run(problems, conform(verdicts(rows), operator.inputs["verdicts"], "v"))
    shown = {json.loads(text)["pair"]["first"]: json.loads(text)["pair"]["times"] for text in found["metadata"]}
    assert shown == {"7": 2, "8": 1}
    assert sorted(found["prompt"]) == ["What? First: 7. Second?", "What? First: 8. Second?"]
    assert found["answer"].to_list() == ["7", "7"], "the right answer is what it was"
    with pytest.raises(ValueError, match="must contain"):
        SynthesizePairs(template="{prompt}")


def test_auc_by_hand() -> None:
    score, wrong = np.array([0.1, 0.4, 0.4, 0.9]), np.array([False, True, False, True])
    assert auc(score, wrong) == pytest.approx((1 + 0.5 + 2) / 4)
    assert auc(-score, wrong) == pytest.approx(1 - 3.5 / 4)


def test_nothing_to_measure() -> None:
    tables = sampled(ALPHAS[:1], 4, 1, 0)
    with pytest.raises(BadInput, match="second answer"):
        measure({**tables, "second": tables["second"].clear()})
