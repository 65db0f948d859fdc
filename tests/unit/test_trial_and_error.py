"""Wrong attempts, with their recognition, before the right trace."""

from __future__ import annotations

import json
from typing import Any

import polars as pl
import pytest

from operators.transform.trace import answer_keys
from operators.transform.trial_and_error import SynthesizeTrialAndError
from schemas.contract import conform
from tests.traces import TRACE, notes_of, sft, texts_of

# --- T1


def tried(*completions: tuple[str, bool], **columns: Any) -> dict[str, pl.DataFrame]:
    rows = [
        {
            "problem_key": "k0",
            "sample_index": index,
            "completion": text,
            "reasoning": None,
            "completion_tokens": 10,
            "completion_hash": index,
            "finish_reason": "stop",
            "status": "ok",
            "is_correct": right,
            "verifier": "v",
            **columns,
        }
        for index, (text, right) in enumerate(completions)
    ]
    table = pl.DataFrame(rows, schema_overrides={"reasoning": pl.String})
    inputs = SynthesizeTrialAndError.inputs
    return {
        "samples": conform(table.with_columns(problem_id=pl.lit("p0")), inputs["samples"], "samples"),
        "verdicts": conform(table.with_columns(problem_id=pl.lit("p0")), inputs["verdicts"], "verdicts"),
    }


def test_a_wrong_attempt_and_its_recognition_come_before_the_right_trace() -> None:
    others = tried(("3 + 4 is 8.\n\nTwice that: \\boxed{16}", False), (TRACE, True))
    operator = SynthesizeTrialAndError(share=1.0, recognitions=("No, {answer} is wrong.",))
    table = operator.run(sft(TRACE), **others)
    assert texts_of(table) == ["3 + 4 is 8.\n\nTwice that: 16\n\nNo, 16 is wrong.\n\n" + TRACE]
    assert notes_of(table)[0]["wrong"] == [0]
    assert answer_keys(texts_of(table)) == ["14"]
    thinking = operator.run(sft(f"<think>\n{TRACE}\n</think>\n\n\\boxed{{14}}"), **others)
    assert texts_of(thinking)[0].startswith("<think>\n3 + 4 is 8.")
    assert texts_of(thinking)[0].endswith("</think>\n\n\\boxed{14}")


def test_a_share_of_each_problems_rows_is_transformed() -> None:
    others = tried(("\\boxed{16}", False), ("\\boxed{17}", False), ("\\boxed{16}", False))
    table = SynthesizeTrialAndError(share=0.5, attempts=2).run(sft(*[TRACE] * 4), **others)
    changed = [text for text in texts_of(table) if text != TRACE]
    assert len(changed) == 2
    assert [("transformations" in json.loads(lineage)) for lineage in table["lineage"]].count(True) == 2
    untouched = SynthesizeTrialAndError(share=0.0).run(sft(TRACE), **others)
    assert texts_of(untouched) == [TRACE]


@pytest.mark.parametrize(
    "completions",
    [[(TRACE, True)], [("The answer is \\boxed{14}", False)], [("nothing", False)]],
)
def test_without_a_usable_wrong_attempt_a_trace_stays(completions: list[tuple[str, bool]]) -> None:
    operator = SynthesizeTrialAndError(share=1.0, extract=("boxed",))
    table = operator.run(sft(TRACE), **tried(*completions))
    assert texts_of(table) == [TRACE]
    assert notes_of(table)[0]["unchanged"] == "no wrong sample of the problem has another answer"


def test_cut_samples_are_no_attempts() -> None:
    others = tried(("\\boxed{16}", False), finish_reason="length")
    assert texts_of(SynthesizeTrialAndError(share=1.0).run(sft(TRACE), **others)) == [TRACE]
