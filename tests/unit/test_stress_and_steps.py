"""synthesize.rest and measure.stress (REST), measure.by_steps (ProcBench)."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest

from operators.load import Load
from operators.measure.by_steps import MeasureBySteps
from operators.measure.stress import MeasureStress
from operators.transform.rest import SynthesizeRest
from operators.verify.exact import VerifyExact
from operators.verify.procedure import VerifyProcedure
from operators.verify.rest import VerifyRest
from schemas.contract import conform, validate
from schemas.datasets import Problem
from schemas.errors import BadInput
from schemas.measures import StepCurve, StressCurve


def problems(count: int) -> pl.DataFrame:
    rows = pl.DataFrame(
        {"prompt": [f"What is {n} + 0?" for n in range(count)], "answer": [str(n) for n in range(count)]}
    )
    return Load(source="x").normalise(rows.with_columns(problem_id=pl.Series([f"p{n}" for n in range(count)])))


def together(count: int, **settings: object) -> pl.DataFrame:
    return validate(SynthesizeRest(**settings).run(problems(count).lazy()), Problem, "test")  # type: ignore[arg-type]


@pytest.mark.parametrize("shuffle", [False, True])
def test_every_problem_stands_at_every_place_once(shuffle: bool) -> None:
    made = together(5, levels=[3], shuffle=shuffle)
    assert len(made) == 5
    places = [
        (number, part["problem_id"])
        for text in made["verification"]
        for number, part in enumerate(json.loads(text)["rest"], 1)
    ]
    assert sorted(places) == sorted((number, f"p{n}") for number in (1, 2, 3) for n in range(5))
    for text, name in made.select("verification", "problem_id").iter_rows():
        assert name == f"{json.loads(text)['rest'][-1]['problem_id']}/rest3", "the problem itself is last"
    for prompt in made["prompt"]:
        assert [f"Q{n}:" in prompt for n in (1, 2, 3, 4)] == [True, True, True, False]


def test_a_problem_never_meets_itself() -> None:
    assert len(together(3, levels=[1, 3])) == 6
    with pytest.raises(BadInput, match="level 4 asks that many"):
        together(3, levels=[4])


def drawn(made: pl.DataFrame, chance: dict[int, float], tokens: int = 50) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return samples of a model that is right at a place with some chance, and their verdicts."""
    rng = np.random.default_rng(0)
    rows: list[dict[str, object]] = []
    for key, name, text in made.select("problem_key", "problem_id", "verification").iter_rows():
        parts = json.loads(text)["rest"]
        said = [part["answer"] if rng.random() < chance[n] else "?" for n, part in enumerate(parts, 1)]
        lines = "\n".join(f"Q{n}: \\boxed{{{one}}}" for n, one in enumerate(said, 1))
        rows.append({"problem_key": key, "sample_index": 0, "problem_id": name, "completion": lines, "status": "ok"})
    samples = pl.DataFrame(rows).with_columns(thought_open=pl.lit(False))
    verdicts = VerifyRest(verifier=VerifyExact()).run(samples, made)
    return samples.with_columns(completion_tokens=tokens * pl.lit(1)), verdicts


def stress(verdicts: pl.DataFrame, samples: pl.DataFrame | None = None) -> pl.DataFrame:
    operator = MeasureStress()
    given = {"verdicts": conform(verdicts, operator.inputs["verdicts"], "v").lazy()}
    if samples is not None:
        given["samples"] = conform(samples, operator.inputs["samples"], "s").lazy()
    return validate(operator.run(**given), StressCurve, "test")


def test_curves_by_level_and_position() -> None:
    made = together(200, levels=[1, 3])
    samples, verdicts = drawn(made, {1: 0.9, 2: 0.6, 3: 0.3})
    found = stress(verdicts, samples)
    value = {
        row[:3]: row[3:6] for row in found.select("metric", "level", "position", "value", "low", "high").iter_rows()
    }
    for place, truth in ((1, 0.9), (2, 0.6), (3, 0.3), (0, 0.6)):
        centre, low, high = value["accuracy", 3, place]
        assert low <= truth <= high
        assert low < centre < high
        assert high - low < 0.2
    assert value["accuracy", 1, 0][0] == value["accuracy", 1, 1][0] == pytest.approx(0.9, abs=0.06)
    assert value["stress_score", 0, 0] == value["accuracy", 3, 0], "one level above 1"
    assert value["tokens", 3, 0] == (50.0, None, None)
    assert sum(value["tokens", 3, place][0] for place in (1, 2, 3)) == pytest.approx(50.0, abs=1.0)
    assert ("tokens", 1, 1) not in value, "a prompt of one problem has no places"
    assert "spread" not in found["metric"].to_list(), "there is one model"
    assert found.filter(metric="accuracy", level=3, position=0)["n"][0] == 600
    assert found.filter(metric="accuracy", level=3, position=2)["n"][0] == 200


def test_tokens_by_position_go_by_headings() -> None:
    made = together(3, levels=[2])
    text = "Q1: " + "a" * 16 + "\nQ2: " + "b" * 55  # 20, a line's end, 59: headings are a part's own
    samples = made.select("problem_key", "problem_id").with_columns(
        sample_index=pl.lit(0), completion=pl.lit(text), completion_tokens=pl.lit(160), status=pl.lit("ok")
    )
    _, verdicts = drawn(made, {1: 1.0, 2: 1.0})
    tokens = stress(verdicts, samples).filter(metric="tokens", level=2).sort("position")
    assert tokens["position"].to_list() == [0, 1, 2] and tokens["n"].to_list() == [3, 3, 3]
    assert tokens["value"].to_list() == [160.0, 42.0, 118.0]
    without = samples.with_columns(completion=pl.lit("Q1: 5"))
    assert stress(verdicts, without).filter(metric="tokens")["position"].to_list() == [0]


def test_the_spread_over_models() -> None:
    """Two models that are .9 and .3 right at level 2, and alike at level 1."""
    made = together(120, levels=[1, 2])
    parts = []
    for place, chance in enumerate((0.9, 0.3)):
        samples, verdicts = drawn(made, {1: chance, 2: chance})
        alone = made["verification"].str.count_matches("problem_id") == 1
        keys = made.filter(alone)["problem_key"].implode()
        right = pl.when(pl.col("problem_key").is_in(keys)).then(True).otherwise(pl.col("is_correct"))
        parts.append(
            (
                samples.with_columns(worker=pl.lit(f"m{place}"), sample_index=pl.lit(place)),
                verdicts.with_columns(sample_index=pl.lit(place, pl.Int64), is_correct=right),
            )
        )
    samples, verdicts = (pl.concat(some) for some in zip(*parts, strict=True))
    found = stress(verdicts, samples).filter(metric="spread").sort("level")
    assert found["level"].to_list() == [1, 2]
    assert found["value"][0] == 0.0
    truth = 0.6 / np.sqrt(2)
    assert found["low"][1] <= truth <= found["high"][1] and found["value"][1] == pytest.approx(truth, abs=0.06)


def test_missing_answers_are_wrong_and_counted() -> None:
    made = together(20, levels=[2])
    samples, _ = drawn(made, {1: 1.0, 2: 1.0})
    cut = samples.with_columns(completion=pl.col("completion").str.split("\n").list.first().str.replace("Q1: ", ""))
    verdicts = VerifyRest(verifier=VerifyExact()).run(cut.drop("completion_tokens"), made)
    found = stress(verdicts)
    assert found.filter(metric="accuracy", level=2, position=1)["value"][0] == 1.0
    assert found.filter(metric="accuracy", level=2, position=2)["value"][0] == 0.0
    assert found.filter(metric="missing", level=2)["value"].to_list() == [0.5, 0.0, 1.0]
    assert found.filter(metric="tokens").is_empty()


def test_what_was_verified_as_it_is_has_level_one() -> None:
    plain = pl.DataFrame(
        {
            "problem_key": ["a", "b"],
            "sample_index": 0,
            "verifier": "verify.exact",
            "problem_id": ["a", "b"],
            "is_correct": [True, False],
            "status": "ok",
        }
    )
    found = stress(plain)
    assert found.filter(metric="accuracy", level=1, position=0)["value"].to_list() == [0.5]
    with pytest.raises(BadInput, match="nothing to measure"):
        stress(plain.with_columns(status=pl.lit("error")))


def by_steps(texts: list[str], golds: list[list[str]]) -> pl.DataFrame:
    """Judge one completion of each procedure and measure."""
    keys = [f"p{n}" for n in range(len(golds))]
    about = pl.DataFrame(
        {
            "problem_key": keys, "problem_id": keys, "prompt": "?", "answer": None, "task_type": "steps",
            "verification": [json.dumps({"steps": gold}) for gold in golds],
        },
        schema_overrides={"answer": pl.String},
    )  # fmt: skip
    about = about.with_columns(messages=pl.lit(None))
    samples = pl.DataFrame(
        {
            "problem_key": keys,
            "sample_index": 0,
            "problem_id": keys,
            "completion": texts,
            "status": "ok",
            "thought_open": False,
        }
    )
    verifier, operator = VerifyProcedure(), MeasureBySteps()
    verdicts = verifier.run(samples, about.select(verifier.inputs["problems"].names))
    ready = {
        "verdicts": conform(verdicts, operator.inputs["verdicts"], "v").lazy(),
        "problems": conform(about, operator.inputs["problems"], "p").lazy(),
    }
    return validate(operator.run(**ready), StepCurve, "test")


def test_prefix_sequence_and_final_by_number_of_steps() -> None:
    long = [str(n) for n in range(20)]
    found = by_steps(
        ['["a", "b"]', '["x", "B"]', "no steps at all", json.dumps(long[:10])],
        [["a", "b"], ["a", "b"], ["a", "b"], long],
    )
    value = {(metric, steps): one for metric, steps, one in found.select("metric", "steps", "value").iter_rows()}
    assert value["sequence", "2"] == pytest.approx(1 / 3)
    assert value["prefix", "2"] == pytest.approx(1 / 3)
    assert value["final", "2"] == pytest.approx(2 / 3), "the second got there by another way"
    assert value["prefix", "20"] == 0.5
    assert value["final", "20"] == 0.0
    assert value["prefix", "short"] == value["prefix", "2"]
    assert value["prefix", "long"] == value["prefix", "20"]
    assert value["prefix", "all"] == pytest.approx((1 + 0 + 0 + 0.5) / 4)
    assert ("prefix", "medium") not in value
    assert found.filter(metric="prefix", steps="2")["n_problems"].to_list() == [3]
