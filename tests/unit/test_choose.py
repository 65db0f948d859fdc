"""Which samples are chosen to train on, and what is said of the others."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from operators.synthesize.choose import SynthesizeChoose
from schemas.contract import conform, validate
from schemas.datasets import Path

WORDS = tuple(f"{first}{last}" for first in ("al", "be", "ga", "de", "ep") for last in ("ta", "mo", "ni", "ru"))


def tables(*rows: dict[str, Any]) -> tuple[pl.DataFrame, pl.DataFrame]:
    made: list[dict[str, Any]] = []
    for index, row in enumerate(rows):
        text = row.get("completion", f"{' '.join(WORDS[index % 7 :][:9])} {index}")
        usual = {
            **{"problem_key": "a", "sample_index": index, "problem_id": "p", "completion": text, "reasoning": None},
            **{"completion_hash": hash(text), "finish_reason": "stop", "completion_tokens": len(text)},
            **{"status": "ok", "is_correct": True, "verdict": "ok"},
        }
        made.append({**usual, **row})
    frame = pl.DataFrame(made, schema_overrides={"is_correct": pl.Boolean, "reasoning": pl.String})
    inputs = SynthesizeChoose.inputs
    verdicts = frame.select("problem_key", "sample_index", "is_correct", status="verdict", verifier=pl.lit("v"))
    return conform(frame, inputs["samples"], "samples"), conform(verdicts, inputs["verdicts"], "verdicts")


def reasons(operator: SynthesizeChoose, *rows: dict[str, Any]) -> list[str | None]:
    samples, verdicts = tables(*rows)
    found = validate(operator.run(samples, verdicts), Path, "choose")
    assert found.select("problem_key", "sample_index").equals(samples.select("problem_key", "sample_index"))
    assert found["kept"].equals(found["reason"].is_null()) and set(found["weight"]) <= {0.0, 1.0}
    return found["reason"].to_list()


def test_every_sample_that_is_left_out_has_its_reason() -> None:
    loop = "so we go on and on " * 12
    found = reasons(
        SynthesizeChoose(per_problem=2, max_tokens=100, script=("Latin",), must_match=r"\w"),
        {"completion": "the first right one"},
        {"is_correct": False},
        {"is_correct": None, "verdict": "unparseable"},
        {"is_correct": None, "verdict": "error"},
        {"status": "error", "is_correct": None, "verdict": "skipped"},
        {"finish_reason": "length"},
        {"completion_tokens": 101},
        {"completion": "<think> never closed"},
        {"completion": "..."},
        {"completion": loop, "completion_tokens": 99},
        {"completion": "答案是四十二 which is right"},
        {"completion": "the first right one"},
        {"completion": "another right one here"},
        {"completion": "one more than is wanted of it"},
    )
    assert found == [
        None, "wrong", "no answer", "not judged", "failed", "truncated", "too long", "broken format", "broken format",
        "repeats itself", "another script", "the same text as another", None, "beyond per_problem",
    ]  # fmt: skip


def test_what_comes_first() -> None:
    rows = [{"completion_tokens": tokens} for tokens in (9, 5, 7)]
    assert reasons(SynthesizeChoose(per_problem=1), *rows).index(None) == 1
    assert reasons(SynthesizeChoose(per_problem=1, prefer="first"), *rows).index(None) == 0
    samples, verdicts = tables(*rows)
    scores = pl.DataFrame(
        {"problem_key": "a", "sample_index": [0, 1, 2], "scorer": "r", "score": [0.1, 0.2, 0.3], "status": "ok"}
    )
    scored = conform(scores, SynthesizeChoose.inputs["scores"], "scores")
    found = SynthesizeChoose(per_problem=1, prefer="score").run(samples, verdicts, scored)
    assert found["kept"].to_list() == [False, False, True]


def test_traces_that_are_like_another_make_room_for_others() -> None:
    base = " ".join(WORDS)
    rows = [
        {"completion": base, "completion_tokens": 1},
        {"completion": f"{base} upsilon", "completion_tokens": 2},
        {"completion": " ".join(reversed(WORDS)), "completion_tokens": 3},
    ]
    plain = reasons(SynthesizeChoose(per_problem=2), *rows)
    assert plain == [None, None, "beyond per_problem"]
    unlike = reasons(SynthesizeChoose(per_problem=2, max_similarity=0.7), *rows)
    assert unlike == [None, "like another of the problem", None]
    assert reasons(SynthesizeChoose(per_problem=2, prefer="diverse"), *rows) == [None, "beyond per_problem", None]


def test_problems_are_chosen_by_their_pass_rate() -> None:
    always = [{"problem_key": "always"}, {"problem_key": "always", "completion": "other words"}]
    half = [{"problem_key": "half"}, {"problem_key": "half", "is_correct": False}]
    seldom = [{"problem_key": "rare"}, *[{"problem_key": "rare", "is_correct": False}] * 9]
    rows = [
        {**row, "sample_index": index, "completion": f"words of {key} {index}"}
        for key, group in (("always", always), ("half", half), ("rare", seldom))
        for index, row in enumerate(group)
    ]
    found = reasons(SynthesizeChoose(min_pass_rate=0.2, max_pass_rate=0.9), *rows)
    assert found[:2] == ["problem solved too often"] * 2
    assert found[2:4] == [None, "wrong"]
    assert found[4] == "problem solved too seldom"


def test_balance_keeps_fewer_of_easy_problems() -> None:
    easy = [{"problem_key": "easy"}] * 9 + [{"problem_key": "easy", "is_correct": False}]
    hard = [{"problem_key": "hard"}] * 4 + [{"problem_key": "hard", "is_correct": False}] * 12
    rows = [
        {**row, "sample_index": index, "completion": f"words of {index} {row['problem_key']}"}
        for group in (easy, hard)
        for index, row in enumerate(group)
    ]
    found = reasons(SynthesizeChoose(per_problem=4, balance=True), *rows)
    assert found[:10].count(None) == 1 and found[10:].count(None) == 3


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 5), st.sampled_from(["short", "first", "diverse"]), st.lists(st.booleans(), max_size=12))
def test_no_more_than_wanted_and_only_right_ones(per_problem: int, prefer: Any, right: list[bool]) -> None:
    if not right:
        return
    found = reasons(SynthesizeChoose(per_problem=per_problem, prefer=prefer), *({"is_correct": r} for r in right))
    kept = [index for index, reason in enumerate(found) if reason is None]
    assert len(kept) == min(per_problem, sum(right))
    assert all(right[index] for index in kept)


def test_a_pattern_that_is_none_is_refused() -> None:
    with pytest.raises(ValidationError, match="isn't a regular expression"):
        SynthesizeChoose(must_match="(")


@pytest.mark.parametrize(
    ("row", "broken"),
    [
        ({"completion": "Two and two.\n</think>\n\nIt is 4."}, False),
        ({"completion": "Two and two.\n</think>\n\nIt is 4.", "thought_open": True}, False),
        ({"completion": "[THINK]so[/THINK]It is 4."}, False),
        ({"completion": "It is 4, as `</think>` would say."}, False),
        ({"completion": "", "tool_calls": '[{"type": "function", "function": {"name": "f", "arguments": {}}}]'}, False),
        ({"completion": "Two and two is 4", "thought_open": True}, True),
        ({"completion": "One.\n</think>\n\n4\n</think>\n\n5"}, True),
        ({"completion": "One.\n</think>\n\n"}, True),
        ({"completion": "<think>One.</think>It<think>is 4."}, True),
        ({"completion": "a </think> b <think> c"}, True),
    ],
)
def test_a_thought_that_the_prompt_opened_is_no_broken_format(row: dict[str, Any], broken: bool) -> None:
    assert reasons(SynthesizeChoose(), row) == ["broken format" if broken else None]
