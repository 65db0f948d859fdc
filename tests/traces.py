"""Rows for training whose traces are transformed, and what became of them."""

from __future__ import annotations

import json
from typing import Any

import polars as pl
from hypothesis import strategies as st

from operators.transform.drop_trace import SynthesizeDropTrace
from schemas.contract import conform, validate
from schemas.datasets import Sft

TRACE = (
    "First I add 3 and 4. That makes 7.\n\nWait, let me check this. 7 minus 4 is 3, fine.\n\n"
    "Then I double it. Twice 7 is 14.\n\nThe answer is \\boxed{14}."
)
PARALLEL = (
    "Two parts.\n<Parallel>\n<Goal>\n<Outline>1: add</Outline>\n<Outline>2: double</Outline>\n</Goal>\n"
    "<Path>1: 3 and 4 are 7.</Path>\n<Path>2: Twice 7 is 14.</Path>\n<Conclusion>So 14.</Conclusion>\n</Parallel>\n"
    "The answer is \\boxed{14}."
)


def sft(*texts: str, **columns: Any) -> pl.DataFrame:
    rows = [
        {
            "problem_key": f"k{index // 4}",
            "sample_index": index % 4,
            "problem_id": f"p{index // 4}",
            "messages": [{"role": "user", "content": "Solve it."}, {"role": "assistant", "content": text}],
            "completion_tokens": 100,
            "score": None,
            "lineage": json.dumps({"problem_key": f"k{index // 4}", "sample_index": index % 4}),
            **columns,
        }
        for index, text in enumerate(texts)
    ]
    return conform(pl.DataFrame(rows, schema_overrides={"score": pl.Float64}), Sft.select(), "sft")


def texts_of(table: pl.DataFrame) -> list[str]:
    return [messages[-1]["content"] for messages in validate(table, Sft, "test")["messages"].to_list()]


def notes_of(table: pl.DataFrame) -> list[dict[str, Any]]:
    return [json.loads(lineage)["transformations"][-1] for lineage in table["lineage"]]


def level(number: int, **fields: Any) -> SynthesizeDropTrace:
    return SynthesizeDropTrace(levels=tuple(float(at == number) for at in range(5)), **fields)


STEP = st.sampled_from(
    ["I add 3 and 4. It is 7.", "Wait, is that right?", "So x = 2.", "create 1 2 c0 c3", "close 1 2 c0 c3", "Hmm. 5?"]
)
