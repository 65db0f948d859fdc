"""measure.holdout: questions that hang on earlier answers, and what they do to a holdout that is asked plainly."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.load import Load
from operators.load.held_out import held_out, part_of
from operators.measure.holdout import MeasureHoldout
from operators.numeric.thresholdout import Thresholdout
from schemas.contract import validate
from schemas.errors import BadInput
from schemas.measures import HoldoutAnswer
from tests.benchmarks.holdout import adaptive, replay


def test_a_thousand_adaptive_questions_on_pure_noise() -> None:
    """Nothing is there to be found: what plain reuse finds is beyond any bound, and Thresholdout's answers aren't."""
    about = Thresholdout(budget=5)
    bound = about.bound(1000)
    found = [replay(problems=1000, questions=1000, seed=seed, about=about) for seed in range(3)]
    for one in found:
        assert one.asked == 1000
        assert one.false_discoveries == 0
        assert one.largest_error <= bound
        assert one.plain_error > bound
        assert one.plain_false_discoveries > 10


def test_the_answers_that_are_the_holdout_s_are_paid_for() -> None:
    answers = adaptive(problems=1000, questions=1000, seed=0, about=Thresholdout(budget=5))
    statuses = [told.status for told, _ in answers]
    assert statuses.count("differs") == 5
    assert statuses[-1] == "budget spent"
    assert {"holds", "differs"} <= {*statuses[: statuses.index("budget spent")]}


def test_the_bound_is_what_counting_gives() -> None:
    """By hand, for one question and a budget of one: 1 + 102 series of answers."""
    about = Thresholdout(tolerance=0.08, budget=1, questions=1, risk=0.05)
    s = 0.08 / (96 * math.log(80))
    chance = math.sqrt((math.log(1 + 102) + math.log(80)) / (2 * 500))
    noise = math.log(2 * 4 / 0.05) * s
    assert about.bound(500) == pytest.approx(chance + 0.06 + 6 * noise)
    assert about.bound(10**9) < 0.08  # the theorem's tolerance
    assert about.bound(2000) < about.bound(500)
    assert Thresholdout(budget=5).bound(500) < Thresholdout(budget=10).bound(500)


@given(st.floats(0, 1), st.floats(0, 1), st.integers(0, 999), st.integers(0, 9))
def test_an_answer_is_one_of_the_two_means(tuning: float, holdout: float, asked: int, spent: int) -> None:
    told = Thresholdout().ask(tuning, holdout, asked, spent)
    assert told == Thresholdout().ask(tuning, holdout, asked, spent)
    assert told.value is not None
    if abs(tuning - holdout) < 0.04:
        assert told == (tuning, "holds")
    if abs(tuning - holdout) > 0.08:
        assert told.status == "differs"
        assert abs(told.value - holdout) < 0.01


def answers(tuned: float, unseen: float, problems: int = 400, method: str = "tuned") -> pl.DataFrame:
    """Answers of a method that is right this often on the problems it was tuned on, and that often on others."""
    keys = pl.Series("problem_key", [f"p{number}" for number in range(problems)])
    out = held_out(keys, 0.2).to_numpy()
    rank = np.where(out, np.cumsum(out) / out.sum(), np.cumsum(~out) / (~out).sum())
    right = rank <= np.where(out, unseen, tuned)
    return pl.DataFrame({"problem_key": keys, "method": method, "is_correct": right})


def ask(table: pl.DataFrame, asked: pl.DataFrame | None = None, **settings: object) -> pl.DataFrame:
    operator = MeasureHoldout(**settings)  # type: ignore[arg-type]
    found = operator.run(answers=table.lazy(), asked=None if asked is None else asked.lazy())
    return validate(found, HoldoutAnswer, "test")


def test_what_holds_and_what_does_not() -> None:
    both = pl.concat([answers(0.7, 0.69, method="a"), answers(0.9, 0.6, method="b")])
    holds, differs = ask(both).iter_rows(named=True)
    assert (holds["status"], holds["left"]) == ("holds", 10)
    assert holds["answer"] == holds["tuning"] == pytest.approx(0.7, abs=0.01)
    assert (differs["status"], differs["left"]) == ("differs", 9)
    assert differs["answer"] == pytest.approx(0.6, abs=0.03)
    assert differs["n_tuning"] + differs["n_holdout"] == 400
    assert 60 <= differs["n_holdout"] <= 100


def test_the_same_question_costs_nothing_and_a_spent_budget_says_so() -> None:
    log = ask(answers(0.9, 0.5), budget=2)
    again = ask(answers(0.9, 0.5), log, budget=2)
    assert (again["answer"][0], again["left"][0]) == (log["answer"][0], 1)
    assert (again["number"][0], again["note"][0]) == (1, "asked before")
    log = pl.concat([log, ask(answers(0.85, 0.5), log, budget=2)])
    assert log["left"].to_list() == [1, 0]
    spent = ask(answers(0.8, 0.8), log, budget=2)
    assert spent["status"].to_list() == ["budget spent"]
    assert spent["answer"].to_list() == [None]
    assert "hold out new problems" in spent["note"][0]
    known = ask(answers(0.9, 0.5), pl.concat([log, spent]), budget=2)
    assert known["answer"].to_list() == log["answer"][:1].to_list(), "what was answered stays known"


def test_a_difference_to_a_baseline() -> None:
    table = pl.concat([answers(0.9, 0.5, method="tuned"), answers(0.6, 0.6, method="plain")])
    found = ask(table, baseline="plain").row(0, named=True)
    assert found["name"] == "tuned - plain"
    assert found["tuning"] == pytest.approx(0.3, abs=0.01)
    assert found["answer"] == pytest.approx(-0.1, abs=0.03)
    assert found["status"] == "differs"


def test_verdicts_are_a_question_for_each_verifier() -> None:
    rows = pl.DataFrame(
        {
            "problem_key": [f"p{number // 2}" for number in range(200)],
            "sample_index": [number % 2 for number in range(200)],
            "verifier": "v",
            "is_correct": [number % 2 == 0 for number in range(200)],
            "status": "ok",
        }
    )
    found = MeasureHoldout().run(verdicts=rows.lazy())
    assert found.select("name", "tuning", "answer", "status").rows() == [("v", 0.5, 0.5, "holds")]


def test_what_can_not_be_asked() -> None:
    with pytest.raises(BadInput, match="nothing to ask about"):
        ask(answers(0.5, 0.5), methods="other")
    with pytest.raises(BadInput, match="baseline = 'x'"):
        ask(answers(0.5, 0.5), baseline="x")
    with pytest.raises(BadInput, match="none is held out"):
        ask(answers(0.5, 0.5).filter(~held_out(pl.Series([f"p{n}" for n in range(400)]), 0.2)))
    with pytest.raises(BadInput, match=r"needs 'answers' or 'verdicts'"):
        MeasureHoldout().run()


def test_a_problem_stays_on_its_side() -> None:
    keys = pl.Series("problem_key", [f"k{number}" for number in range(5000)])
    out = held_out(keys, 0.2)
    assert out.mean() == pytest.approx(0.2, abs=0.02)
    assert (held_out(keys.reverse(), 0.2).reverse() == out).all()
    assert not (out & ~held_out(keys, 0.3)).any()
    table = keys.to_frame()
    assert len(part_of(table, 0.2, "tuning")) + len(part_of(table, 0.2, "holdout")) == 5000
    assert part_of(table, 0.0, "all").equals(table)
    assert part_of(table, 0.0, "holdout").is_empty()


def test_load_takes_one_part(tmp_path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "p.jsonl"
    path.write_text("".join(f'{{"prompt": "What is {n} + 1?", "answer": "{n + 1}"}}\n' for n in range(100)))
    whole = Load(source=str(path)).run()
    parts = {name: Load(source=str(path), holdout=0.2, part=name) for name in ("all", "tuning", "holdout")}
    keys = {name: set(load.run()["problem_key"]) for name, load in parts.items()}
    assert keys["all"] == set(whole["problem_key"])
    assert keys["tuning"] | keys["holdout"] == keys["all"]
    assert not keys["tuning"] & keys["holdout"]
    assert 8 <= len(keys["holdout"]) <= 35
    in_pieces = [key for batch in parts["tuning"].batches(lambda _: None) for key in batch["problem_key"]]
    assert set(in_pieces) == keys["tuning"]
    assert len({load.id() for load in parts.values()}) == 3
    with pytest.raises(BadInput, match=r"load\.holdout"):
        Load(source=str(path), part="tuning").run()
