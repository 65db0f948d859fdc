"""Preference pairs and process-reward rows, on hand-made samples."""

from __future__ import annotations

import json
from typing import Any

import polars as pl
import pytest

from operators.synthesize.preference import SynthesizePreference
from operators.synthesize.step_rewards import SynthesizeStepRewards
from schemas.contract import conform, validate
from schemas.conversation import spoken
from schemas.datasets import Preference, StepReward
from schemas.errors import BadInput
from schemas.identity import completion_hashes

PROBLEMS = conform(
    pl.DataFrame({"problem_key": ["a", "b"], "problem_id": ["A", "B"], "prompt": ["What is 1 + 1?", "And 2 + 2?"]}),
    SynthesizePreference.inputs["problems"],
    "problems",
)


def samples(*rows: dict[str, Any]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return samples and their verdicts; ``right`` says which are correct."""
    made: list[dict[str, Any]] = []
    judged: list[dict[str, Any]] = []
    for index, row in enumerate(rows):
        text = row.get("completion", f"text {index}")
        made.append(
            {
                "problem_key": row.get("problem_key", "a"),
                "sample_index": index,
                "completion": text,
                "reasoning": row.get("reasoning"),
                "completion_hash": completion_hashes([text])[0],
                "finish_reason": row.get("finish_reason", "stop"),
                "completion_tokens": row.get("tokens", 5),
                "mean_logprob": row.get("weight", -1.0),
                "run_id": "r",
                "status": "ok",
            }
        )
        judged.append(
            {
                "problem_key": row.get("problem_key", "a"),
                "sample_index": index,
                "verifier": "v",
                "is_correct": row["right"],
                "credit": float(row["right"]),
                "status": "ok",
            }
        )
    inputs = SynthesizePreference.inputs
    return (
        conform(pl.DataFrame(made, schema_overrides={"reasoning": pl.String}), inputs["samples"], "samples"),
        conform(pl.DataFrame(judged), inputs["verdicts"], "verdicts"),
    )


def pairs(*rows: dict[str, Any], scores: pl.DataFrame | None = None, **settings: Any) -> list[dict[str, Any]]:
    drawn, judged = samples(*rows)
    table = SynthesizePreference(**settings).run(PROBLEMS, drawn, judged, scores)
    return validate(table, Preference, "preferences").to_dicts()


def indices(found: list[dict[str, Any]]) -> list[tuple[int, int]]:
    lineage = [json.loads(row["lineage"]) for row in found]
    return sorted((row["chosen"], row["rejected"]) for row in lineage)


def test_the_surest_right_one_is_paired_with_the_hardest_wrong_one() -> None:
    rows = [
        {"right": right, "weight": weight}
        for right, weight in ((True, -2.0), (True, -0.5), (False, -3.0), (False, -0.1))
    ]
    found = pairs(*rows)
    assert indices(found) == [(0, 2), (1, 3)]
    first = next(row for row in found if json.loads(row["lineage"])["chosen"] == 1)
    assert spoken(first["prompt"]) == [{"role": "user", "content": "What is 1 + 1?"}]
    assert spoken(first["chosen"]) == [{"role": "assistant", "content": "text 1"}]
    assert spoken(first["rejected"]) == [{"role": "assistant", "content": "text 3"}]
    assert first["margin"] == -0.4


def test_margin_length_and_number_of_pairs() -> None:
    rows = [{"right": i < 3, "weight": -float(i), "tokens": (4, 40, 41, 5, 6, 70)[i]} for i in range(6)]
    assert indices(pairs(*rows)) == [(0, 3), (1, 4), (2, 5)]
    assert indices(pairs(*rows, margin=3.5)) == []
    assert indices(pairs(*rows, per_problem=2)) == [(0, 3), (1, 4)]
    assert indices(pairs(*rows, same_length=True)) == [(0, 3)]
    random = indices(pairs(*rows, rejected="random", seed=3))
    assert random == indices(pairs(*rows, rejected="random", seed=3)) and len(random) == 3


def test_what_makes_no_pairs() -> None:
    assert pairs({"right": True}, {"right": True}) == []
    assert pairs({"right": True}, {"right": False, "finish_reason": "length"}) == []
    same = [{"right": True, "completion": "x"}, {"right": True, "completion": "x"}, {"right": False}, {"right": False}]
    assert len(pairs(*same)) == 1, "equal texts are one"
    other = [{"right": True, "problem_key": "b"}, {"right": False, "problem_key": "a"}]
    assert pairs(*other) == []


def test_scores_weigh_and_reasoning_is_kept_or_dropped() -> None:
    rows = [{"right": True, "reasoning": "so"}, {"right": False, "reasoning": "hm"}, {"right": False}]
    scores = pl.DataFrame(
        {"problem_key": "a", "sample_index": [0, 1, 2], "scorer": "s", "score": [0.9, 0.2, 0.6], "status": "ok"}
    )
    scores = conform(scores, SynthesizePreference.inputs["scores"], "scores")
    [found] = pairs(*rows, scores=scores, system="Be brief.")
    assert indices([found]) == [(0, 2)] and round(found["margin"], 6) == 0.3
    assert spoken(found["prompt"])[0] == {"role": "system", "content": "Be brief."}
    assert found["chosen"][0]["content"] == "<think>\nso\n</think>\n\ntext 0"
    [dropped] = pairs(*rows, scores=scores, reasoning="drop")
    assert dropped["chosen"][0]["content"] == "text 0"


def test_step_rewards_label_each_step() -> None:
    drawn = pl.DataFrame(
        {
            "problem_key": ["a"] * 4,
            "sample_index": [0, 1, 2, 3],
            "completion": ["one\n\ntwo", "good\n\nbad\n\nworse", "only", "one\n\ntwo"],
            "completion_hash": [10, 11, 12, 10],
            "finish_reason": "stop",
            "status": "ok",
        }
    )
    steps = [[0.9, 0.8], [0.7, 0.4, 0.1], [0.2, 0.3], [0.9, 0.8]]
    scores = pl.DataFrame(
        {"problem_key": "a", "sample_index": [0, 1, 2, 3], "scorer": "prm", "step_scores": steps, "status": "ok"}
    )
    inputs = SynthesizeStepRewards.inputs
    tables = conform(drawn, inputs["samples"], "samples"), conform(scores, inputs["scores"], "scores")
    problems = PROBLEMS.select(inputs["problems"].names)
    found = validate(SynthesizeStepRewards().run(problems, *tables), StepReward, "step_rewards")
    assert found["sample_index"].to_list() == [0, 1], "a trace with another number of steps, and a copy, are left out"
    assert found["completions"].to_list() == [["one", "two"], ["good", "bad", "worse"]]
    assert found["labels"].to_list() == [[True, True], [True, False, False]]
    [one] = SynthesizeStepRewards(per_problem=1).run(problems, *tables)["sample_index"].to_list()
    assert one == 1, "labels that differ teach more"


def test_without_scores_the_outcome_labels_all_steps() -> None:
    drawn = pl.DataFrame(
        {
            "problem_key": ["a"] * 5,
            "sample_index": list(range(5)),
            "completion": ["one\n\ntwo", "three", "cut of", "bad\n\nworse", "unjudged"],
            "completion_hash": list(range(5)),
            "finish_reason": ["stop", "stop", "length", "stop", "stop"],
            "status": "ok",
        }
    )
    verdicts = pl.DataFrame(
        {
            "problem_key": "a",
            "sample_index": list(range(5)),
            "verifier": "v",
            "is_correct": [True, True, True, False, None],
            "status": ["ok"] * 4 + ["timeout"],
        }
    )
    inputs = SynthesizeStepRewards.inputs
    samples, judged = conform(drawn, inputs["samples"], "s"), conform(verdicts, inputs["verdicts"], "v")
    problems = PROBLEMS.select(inputs["problems"].names)
    found = SynthesizeStepRewards(per_problem=2).run(problems, samples, verdicts=judged)
    assert found["completions"].to_list() == [["one", "two"], ["bad", "worse"]], "good and bad ones in turn"
    assert found["labels"].to_list() == [[True, True], [False, False]]
    with pytest.raises(BadInput, match="needs labels"):
        SynthesizeStepRewards().run(problems, samples)
