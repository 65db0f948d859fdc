"""score.letters and measure.mcq_confidence: with scripted likelihoods, by hand."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import numpy as np
import polars as pl
import pytest

from operators.measure.mcq_confidence import MeasureMcqConfidence, ece
from operators.score.letters import ScoreLetters
from schemas.contract import conform, validate
from schemas.datasets import Score
from schemas.errors import BadInput
from schemas.measures import McqConfidence
from tests.drift.tools import Parrot

LIKELIHOODS = {"A": math.log(0.6), "B": math.log(0.3), "C": math.log(0.1)}


class Scripted(Parrot):
    """Gives letters fixed likelihoods and remembers what stood before them."""

    def __init__(self) -> None:
        self.before: list[str] = []

    async def score(self, request: Any) -> Any:
        self.before.append(request.prompt)
        found = await super().score(request)
        return type(found)(LIKELIHOODS[request.completion], (), 1)


def letters(completions: list[str], said: list[str | None]) -> tuple[pl.DataFrame, Scripted]:
    engine, operator = Scripted(), ScoreLetters(chat=False)
    keys = [f"p{i}" for i in range(len(said))]
    key = {"problem_key": keys, "sample_index": 0}
    samples = pl.DataFrame({**key, "problem_id": keys, "completion": completions, "status": "ok"})
    verdicts = pl.DataFrame({**key, "verifier": "v", "predicted_answer": said})
    problems = pl.DataFrame({"problem_key": keys, "prompt": "Which?", "verification": '{"choices": ["x", "y", "z"]}'})
    tables = {"samples": samples, "verdicts": verdicts, "problems": problems}
    ready = {name: conform(table, operator.inputs[name], name) for name, table in tables.items()}
    return validate(asyncio.run(operator.ask(engine, **ready)), Score, "test"), engine


def test_the_probability_of_the_chosen_letter_at_its_last_place() -> None:
    found, engine = letters(["B", "A Banana? No: (C) it is", "none", "All"], ["B", "C", None, "A"])
    assert found["score"].to_list()[:2] == pytest.approx([0.3, 0.1])
    assert found["step_scores"][0].to_list() == pytest.approx([LIKELIHOODS[one] for one in "ABC"], rel=1e-6)
    assert found["status"].to_list() == ["ok", "ok", "error", "error"]
    assert "isn't in the completion as it stands" in found["detail"][3]
    assert any(text.endswith("A Banana? No: (") for text in engine.before)


def arms(n: int = 3) -> dict[str, pl.DataFrame]:
    """Four questions: at once half are right and the model isn't sure, after reasoning three are and it is."""
    keys = [f"p{i}" for i in range(4)]

    def one(right: list[bool], sure: list[float]) -> tuple[pl.DataFrame, pl.DataFrame]:
        key = {"problem_key": keys, "sample_index": 0}
        verdicts = pl.DataFrame({**key, "is_correct": right, "status": "ok"})
        return verdicts, pl.DataFrame({**key, "scorer": "letters", "score": sure})

    direct, direct_scores = one([True, True, False, False], [0.7, 0.5, 0.4, 0.3])
    reasoned, reasoned_scores = one([True, True, True, False], [1.0, 0.9, 0.9, 0.8])
    about = pl.DataFrame({"problem_key": keys, "metadata": ['{"subject": "law"}', '{"subject": "law"}', None, None]})
    return {
        "direct": direct, "direct_scores": direct_scores,
        "reasoned": reasoned, "reasoned_scores": reasoned_scores, "problems": about,
    }  # fmt: skip


def measure(tables: dict[str, pl.DataFrame], **settings: Any) -> pl.DataFrame:
    operator = MeasureMcqConfidence(**settings)
    ready = {name: conform(table, operator.inputs[name], name).lazy() for name, table in tables.items()}
    return validate(operator.run(**ready), McqConfidence, "test")


def test_means_by_hand() -> None:
    found = measure(arms(), by="subject")
    value = {row[:3]: row[3] for row in found.select("subject", "metric", "arm", "value").iter_rows()}
    assert value["", "accuracy", "direct"] == 0.5
    assert value["", "accuracy", "difference"] == pytest.approx(0.25)
    assert value["", "confidence", "direct"] == pytest.approx(0.475)
    assert value["", "confidence", "difference"] == pytest.approx(0.9 - 0.475)
    assert value["", "confidence_right", "reasoned"] == pytest.approx(2.8 / 3)
    assert value["", "confidence_wrong", "difference"] == pytest.approx(0.8 - 0.35)
    assert value["", "brier", "direct"] == pytest.approx((0.09 + 0.25 + 0.16 + 0.09) / 4)
    assert value["law", "accuracy", "direct"] == 1.0
    assert value["law", "confidence_wrong", "direct"] is None
    row = found.filter(subject="", metric="confidence", arm="difference").row(0, named=True)
    assert 0.3 <= row["low"] < row["value"] < row["high"] <= 0.5 + 1e-9
    assert row["n_problems"] == 4


def test_ece_by_hand() -> None:
    assert ece(np.array([0.95, 0.92, 0.31]), np.array([1.0, 0.0, 0.0])) == pytest.approx((0.87 + 0.31) / 3)
    assert ece(np.array([1.0, 1.0]), np.array([1.0, 1.0])) == 0.0


def test_differences_hold() -> None:
    """Reasoning adds .2 to the confidence of every question; the interval of the difference holds that."""
    held = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        keys = [f"p{i}" for i in range(50)]
        base = rng.uniform(0.2, 0.7, 50)
        tables: dict[str, pl.DataFrame] = {}
        for arm, more in (("direct", 0.0), ("reasoned", 0.2)):
            key = {"problem_key": keys, "sample_index": 0}
            tables[arm] = pl.DataFrame({**key, "is_correct": rng.random(50) < 0.5, "status": "ok"})
            sure = np.clip(base + more + rng.normal(0, 0.1, 50), 0, 1)
            tables[f"{arm}_scores"] = pl.DataFrame({**key, "scorer": "s", "score": sure})
        row = measure(tables, bootstrap=300).filter(metric="confidence", arm="difference").row(0, named=True)
        held += row["low"] <= 0.2 <= row["high"]
    assert held >= 35


def test_questions_of_one_arm_alone_are_left_out() -> None:
    tables = arms()
    with pytest.raises(BadInput, match="in both arms"):
        measure({**tables, "direct": tables["direct"].with_columns(problem_key=pl.lit("x") + pl.col("problem_key"))})
