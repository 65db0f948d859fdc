"""Strategies beside plain sampling at an equal bill: one N* for all problems, and nothing that leaks success."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError

from operators.measure.equal_bill import MeasureEqualBill
from operators.measure.plain_curve import MeasurePlainCurve
from schemas.contract import polars_schema, validate
from schemas.datasets import Contract, Sample, Score, Verdict
from schemas.episodes import Episode, EqualBill, PlainCurve
from schemas.errors import BadInput
from schemas.prices import Prices

PROBLEMS, PLAIN, EPISODES = 60, 32, 3


def _table(rows: list[dict[str, Any]], contract: type[Contract]) -> pl.LazyFrame:
    return pl.DataFrame(rows, schema=polars_schema(contract)).lazy()


def _verdict(key: str, index: int, answer: int, **more: Any) -> dict[str, Any]:
    text = str(answer)
    return {
        "problem_key": key, "sample_index": index, "verifier": "v", "problem_id": key, "predicted_answer": text,
        "answer_key": text, "is_correct": answer == 1, "status": "ok", "seconds": 0.0, **more,
    }  # fmt: skip


class World:
    """Plain samples of problems that differ, and episodes that an arm makes of samples of its own.

    Args:
        tokens: tokens that an episode takes, given what it chose.
        votes: samples of an episode, whose majority it chooses.
    """

    def __init__(self, votes: int = 4, tokens: Any = None, scores: bool = False) -> None:
        rng = np.random.default_rng(0)
        rates = rng.beta(1.0, 1.5, PROBLEMS)
        plain, samples, judged, episodes, scored = ([] for _ in range(5))

        def draw(rate: float) -> int:
            return 1 if rng.random() < rate else int(rng.integers(2, 9))

        for number, rate in enumerate(rates):
            key = f"p{number:02}"
            for index in range(PLAIN):
                answer = draw(rate)
                plain.append(_verdict(key, index, answer))
                samples.append(
                    {"problem_key": key, "sample_index": index, "problem_id": key, "status": "ok", "prompt_tokens": 10,
                     "completion_tokens": 20}
                )  # fmt: skip
                scored.append(
                    {
                        "problem_key": key,
                        "sample_index": index,
                        "scorer": "s",
                        "score": float(answer == 1),
                        "status": "ok",
                    }
                )
            for episode in range(EPISODES):
                answers = [draw(rate) for _ in range(votes)]
                best = max(answers, key=answers.count)
                right = best == 1
                judged += [
                    _verdict(key, votes * episode + slot, answer, episode=episode, chosen=slot == answers.index(best))
                    for slot, answer in enumerate(answers)
                ]
                numbers = dict.fromkeys(("cached_prompt_tokens", "scorer_tokens", "lineages", "distinct_texts"), 0)
                written = 20 * votes if tokens is None else tokens(right)
                episodes.append(
                    {"problem_key": key, "episode": episode, "problem_id": key, "strategy": "x", "rows": votes,
                     "finals": votes, "chosen": 0, "ended_by": "done", "oracle": False, "calls": votes, "note": "{}",
                     "prompt_tokens": 10 * votes, "completion_tokens": written, "scorer_passes": votes, **numbers}
                )  # fmt: skip
        self.inputs = {
            "samples": _table(samples, Sample), "verdicts": _table(plain, Verdict),
            "episodes_arm": _table(episodes, Episode), "verdicts_arm": _table(judged, Verdict),
        }  # fmt: skip
        if scores:
            self.inputs["scores"] = _table(scored, Score)

    def compared(self, **settings: Any) -> dict[tuple[str, str], dict[str, Any]]:
        found = MeasureEqualBill(arms=("arm",), bootstrap=200, **settings).run(**self.inputs)
        validate(found, EqualBill, "compared")
        return {(row["unit"], row["method"]): row for row in found.to_dicts()}


def test_votes_of_four_are_worth_votes_of_four() -> None:
    found = World().compared()
    assert set(found) == {(u, m) for u in ("completion_tokens", "tokens") for m in ("majority", "coverage")}
    for row in found.values():
        assert row["n_equal"] == pytest.approx(4.0) and abs(row["difference"]) < 0.05
        assert row["low"] < 0 < row["high"] and row["n_problems"] == PROBLEMS


def test_what_an_episode_paid_where_it_was_right_does_not_leak() -> None:
    """An arm that stops early where it is right is compared at its mean bill, the same for all problems."""
    found = World(tokens=lambda right: 40 if right else 120).compared()["completion_tokens", "majority"]
    assert 2.5 < found["n_equal"] < 5.5 and found["low"] < 0.02


def test_accuracy_is_between_those_of_the_whole_numbers_around() -> None:
    world = World(tokens=lambda right: 50)
    at = {n: World(tokens=lambda right, n=n: 20 * n).compared()["completion_tokens", "majority"] for n in (2, 3)}
    between = world.compared()["completion_tokens", "majority"]
    assert between["n_equal"] == pytest.approx(2.5)
    assert between["baseline"] == pytest.approx((at[2]["baseline"] + at[3]["baseline"]) / 2)


def test_a_bill_of_more_or_less_than_there_is_is_told() -> None:
    dear = World(tokens=lambda right: 20 * PLAIN + 20).compared()["completion_tokens", "majority"]
    assert dear["baseline"] is None and "draw more" in dear["note"] and dear["n_equal"] == PLAIN + 1
    cheap = World(tokens=lambda right: 5).compared()["completion_tokens", "majority"]
    assert cheap["n_equal"] == 0.25 and "compared with one" in cheap["note"]
    one = World(tokens=lambda right: 20).compared()["completion_tokens", "majority"]
    assert cheap["baseline"] == one["baseline"]


def test_best_of_n_pays_for_its_scores() -> None:
    found = World(scores=True).compared()
    assert found["completion_tokens", "best_of_n"]["n_equal"] == pytest.approx(4.0)
    assert found["tokens", "best_of_n"]["n_equal"] == pytest.approx(2.0)
    passes = found["scorer_passes", "best_of_n"]
    assert passes["n_equal"] == 4.0 and ("scorer_passes", "majority") not in found
    assert passes["difference"] < 0  # that scorer knows the answer
    coverage = found["completion_tokens", "coverage"]["baseline"]
    assert found["completion_tokens", "best_of_n"]["baseline"] == pytest.approx(coverage, abs=0.03)


def test_nothing_plain_is_nothing_to_compare_with() -> None:
    world = World()
    world.inputs["verdicts"] = world.inputs["verdicts"].with_columns(is_correct=pl.lit(None, pl.Boolean))
    with pytest.raises(BadInput, match="sampled plainly"):
        world.compared()
    with pytest.raises(ValidationError, match="name of its own"):
        MeasureEqualBill(arms=("a", "a"))


POLICY = {"dollars_per_million_prompt_tokens": 1.0, "dollars_per_million_completion_tokens": 4.0}
SCORER = {"dollars_per_million_prompt_tokens": 0.5, "dollars_per_million_completion_tokens": 0.0}


def _pays(world: World, roles: dict[str, list[int]] | None, ended: str = "done") -> World:
    told = None if roles is None else json.dumps(roles)
    world.inputs["episodes_arm"] = world.inputs["episodes_arm"].with_columns(
        roles=pl.lit(told, pl.String), ended_by=pl.lit(ended)
    )
    return world


def test_dollars_are_each_role_s_own() -> None:
    """A plain sample costs 10 + 4 * 20 = 90; an episode 3 * 90 of the policy's, and 180 of a scorer's tokens at 0.5."""
    paid = {"policy": [30, 0, 60], "scorer": [180, 0, 0]}
    found = _pays(World(), paid).compared(prices={"policy": POLICY, "scorer": SCORER})
    row = found["dollars", "majority"]
    assert row["bill"] == pytest.approx(360e-6) and row["n_equal"] == pytest.approx(4.0)
    assert row["baseline"] == pytest.approx(found["tokens", "majority"]["baseline"])
    dearer = _pays(World(), paid).compared(
        prices={"policy": POLICY, "scorer": SCORER, "arm/scorer": {**SCORER, "dollars_per_million_prompt_tokens": 1.0}}
    )
    assert dearer["dollars", "majority"]["n_equal"] == pytest.approx(5.0)
    cached = _pays(World(), {"policy": [40, 20, 60]}).compared(
        prices={"policy": {**POLICY, "dollars_per_million_cached_prompt_tokens": 0.5}}
    )
    assert cached["dollars", "majority"]["bill"] == pytest.approx(270e-6)


def test_dollars_nobody_knows_are_not_made_up() -> None:
    for roles in ({"policy": [30, 0, 60], "scorer": [1, 0, 0]}, None):
        row = _pays(World(), roles).compared(prices={"policy": POLICY})["dollars", "majority"]
        assert row["bill"] is None and row["baseline"] is None and "price of a role" in row["note"]
    with pytest.raises(ValidationError, match="prices of tokens"):
        MeasureEqualBill(prices={"policy": Prices(dollars_per_gpu_hour=1.0)})


def test_who_stops_by_what_came_out_is_compared_with_who_stops_likewise() -> None:
    """An arm that draws until a right one, four at most, is plain sampling that stops: no gain, and no loss."""

    def until(stop: Any) -> World:
        world = World(votes=1)
        rng = np.random.default_rng(1)
        rates = np.random.default_rng(0).beta(1.0, 1.5, PROBLEMS)
        drawn: list[int] = []
        right: list[bool] = []
        for rate in np.repeat(rates, EPISODES):
            answers = [1 if rng.random() < rate else int(rng.integers(2, 9)) for _ in range(6)]
            taken, good = stop(answers)
            drawn.append(20 * taken)
            right.append(good)
        judged = world.inputs["verdicts_arm"].with_columns(is_correct=pl.Series(right))
        world.inputs |= {"verdicts_arm": judged}
        world.inputs["episodes_arm"] = world.inputs["episodes_arm"].with_columns(completion_tokens=pl.Series(drawn))
        return world

    def right(answers: list[int]) -> tuple[int, bool]:
        at = next((place for place, answer in enumerate(answers) if answer == 1), len(answers) - 1)
        return at + 1, answers[at] == 1

    def agreed(answers: list[int]) -> tuple[int, bool]:
        at = next((place for place, one in enumerate(answers) if one in answers[:place]), None)
        return (len(answers), answers[0] == 1) if at is None else (at + 1, answers[at] == 1)

    for stop, ended, rule in ((right, "first_right", "until_right"), (agreed, "agreed", "until_agreed")):
        found = _pays(until(stop), None, ended).compared()
        row = found["completion_tokens", rule]
        assert row["low"] < 0 < row["high"] and abs(row["difference"]) < 0.08, row
        assert 3.5 < row["n_equal"] < 10
        assert ("completion_tokens", rule) not in _pays(until(stop), None).compared()


def test_a_rule_that_never_takes_as_much_is_told() -> None:
    found = _pays(World(tokens=lambda right: 20 * 12), None, "agreed").compared()["completion_tokens", "until_agreed"]
    assert "stops before" in found["note"] and found["n_equal"] == PLAIN and found["baseline"] is not None


def test_the_curve_of_plain_sampling() -> None:
    inputs = {name: table for name, table in World(scores=True).inputs.items() if not name.endswith("_arm")}
    found = MeasurePlainCurve(bootstrap=100, prices={"policy": POLICY, "scorer": SCORER}).run(**inputs)
    validate(found, PlainCurve, "curve")
    rows = {(row["unit"], row["method"], row["n"]): row for row in found.to_dicts()}
    assert rows["dollars", "majority", 8]["bill"] == pytest.approx(8 * 90e-6)
    assert rows["dollars", "best_of_n", 8]["bill"] == pytest.approx(8 * 105e-6)
    assert rows["tokens", "best_of_n", 8]["bill"] == 2 * rows["tokens", "majority", 8]["bill"] == 8 * 60
    for n in (1, 2, 8, PLAIN):
        coverage, stopping = rows["completion_tokens", "coverage", n], rows["completion_tokens", "until_right", n]
        assert coverage["accuracy"] == stopping["accuracy"] and stopping["bill"] <= coverage["bill"] == 20 * n
        assert coverage["low"] <= coverage["accuracy"] <= coverage["high"]
    verdicts = inputs["verdicts"].collect()
    c = verdicts.group_by("problem_key").agg(pl.col("is_correct").sum())["is_correct"].to_numpy()
    second = 1 + (1 - c / PLAIN).mean()  # of at most two, whoever's first is wrong draws the other
    assert rows["completion_tokens", "until_right", 2]["bill"] == pytest.approx(20 * second)
    assert rows["completion_tokens", "coverage", 1]["accuracy"] == pytest.approx(
        rows["completion_tokens", "majority", 1]["accuracy"], abs=0.02
    )
