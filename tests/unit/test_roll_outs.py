"""Step labels from roll-outs: prefixes out, labels back."""

from __future__ import annotations

import json
from typing import Any

import polars as pl
import pytest

from cluster.engines.scripted import ScriptedEngine
from operators.load import Load
from operators.sample.sampling import Example, Sampling
from operators.transform.roll_outs import SynthesizeRollOutRewards, SynthesizeRollOuts
from schemas.contract import conform, validate
from schemas.conversation import spoken
from schemas.datasets import Problem, StepReward
from schemas.engine import ScriptedSpec
from schemas.errors import BadInput

RIGHT = "Add.\n\nGet 7.\n\n\\boxed{7}"
WRONG = "Add.\n\nGet 8.\n\n\\boxed{8}"


def prefixes(*texts: tuple[str, bool], **fields: Any) -> pl.DataFrame:
    about = {"problem_key": "k", "problem_id": "p", "prompt": "3 + 4?", "answer": "7", "task_type": "math"}
    problems = pl.DataFrame([{**about, "metadata": '{"own": 1}'}])
    rows = pl.DataFrame(
        [
            {"problem_key": "k", "problem_id": "p", "sample_index": index, "completion": text, "is_correct": right}
            for index, (text, right) in enumerate(texts)
        ]
    ).with_columns(finish_reason=pl.lit("stop"), status=pl.lit("ok"), verifier=pl.lit("v"))
    operator = SynthesizeRollOuts(**fields)
    tables = {"problems": problems, "samples": rows, "verdicts": rows}
    ready = {name: conform(tables[name], columns, name) for name, columns in operator.inputs.items()}
    return validate(operator.run(**ready), Problem, "test")


def labelled(problems: pl.DataFrame, right: dict[str, list[bool]], **fields: Any) -> pl.DataFrame:
    keys = dict(problems.select("problem_id", "problem_key").iter_rows())
    rows = [
        {"problem_key": keys[name], "problem_id": name, "sample_index": index, "is_correct": value}
        for name, values in right.items()
        for index, value in enumerate(values)
    ]
    verdicts = pl.DataFrame(rows).with_columns(verifier=pl.lit("v"), status=pl.lit("ok"))
    operator = SynthesizeRollOutRewards(**fields)
    tables = {"problems": problems, "verdicts": verdicts}
    ready = {name: conform(tables[name], columns, name).lazy() for name, columns in operator.inputs.items()}
    return validate(operator.run(**ready), StepReward, "test")


def test_every_prefix_is_a_problem_that_the_assistant_has_begun() -> None:
    table = prefixes((RIGHT, True))
    table = table.sort("problem_id")
    assert table["problem_id"].to_list() == ["p/0/1", "p/0/2"]
    first, second = table["messages"].to_list()
    assert spoken(first) == [{"role": "user", "content": "3 + 4?"}, {"role": "assistant", "content": "Add.\n\n"}]
    assert second[-1]["content"] == "Add.\n\nGet 7.\n\n"
    known = [json.loads(text) for text in table["metadata"]]
    assert known[0]["own"] == 1
    assert known[0]["roll_out"][0]["steps"] == ["Add.", "Get 7.", "\\boxed{7}"]
    assert table["answer"].to_list() == ["7", "7"]


def test_right_and_wrong_traces_come_in_turn_and_bare_answers_not_at_all() -> None:
    texts = [(RIGHT, True), (RIGHT + " ", True), ("So.\n\n\\boxed{7}", True), (WRONG, False), ("\\boxed{8}", False)]
    table = prefixes(*texts, per_problem=2)
    traces = {(trace["sample_index"]) for text in table["metadata"] for trace in json.loads(text)["roll_out"]}
    assert traces == {0, 3}
    assert prefixes(("\\boxed{7}", True)).is_empty()


def test_steps_are_good_where_a_roll_out_reaches_the_answer() -> None:
    table = prefixes((RIGHT, True), (WRONG, False))
    assert set(table["problem_id"]) == {"p/0/1", "p/0/2", "p/1/2"}  # both begin with "Add."
    found = labelled(table, {"p/0/1": [False, True], "p/0/2": [True, True], "p/1/2": [False, False]})
    assert found["completions"].to_list() == [["Add.", "Get 7.", "\\boxed{7}"], ["Add.", "Get 8.", "\\boxed{8}"]]
    assert found["labels"].to_list() == [[True, True, True], [True, False, False]]
    assert found["prompt"].to_list() == ["3 + 4?"] * 2
    soft = labelled(
        table,
        {"p/0/1": [False, True, False], "p/0/2": [True, True, False], "p/1/2": [False]},
        estimate="soft",
    )
    assert soft["labels"].to_list() == [[False, True, True], [False, False, False]]


def test_a_trace_with_a_step_that_nobody_judged_is_left_out() -> None:
    table = prefixes((RIGHT, True))
    assert labelled(table, {"p/0/1": [True]}).is_empty()


def test_problems_that_are_no_prefixes_are_named() -> None:
    table = prefixes((RIGHT, True)).with_columns(metadata=pl.lit("{}"))
    with pytest.raises(BadInput, match="problem 'p/0/1' isn't a prefix of a trace"):
        SynthesizeRollOutRewards().check_problems(table)


@pytest.mark.parametrize("chat", [True, False])
def test_sampling_goes_on_where_the_assistant_has_begun(chat: bool) -> None:
    table = prefixes((RIGHT, True))
    few_shot = (Example(prompt="1 + 1?", completion="2"),)
    operator = Sampling(n=1, chat=chat, separator="\n", few_shot=few_shot)
    engine = ScriptedEngine(ScriptedSpec(answers=("[{prompt}]",)))
    first = operator.run(table.select("problem_key", "problem_id", "prompt", "messages"), engine)["completion"][0]
    if chat:
        assert first == "[<|user|>\n1 + 1?\n<|assistant|>\n2\n<|user|>\n3 + 4?\n<|assistant|>\nAdd.\n\n]"
    else:
        assert first == "[1 + 1?2\n3 + 4?Add.\n\n]"


def test_prefixes_can_be_loaded_from_a_file(tmp_path: Any) -> None:
    table = prefixes((RIGHT, True))
    table.write_parquet(tmp_path / "prefixes.parquet")
    again = validate(Load(source=str(tmp_path / "prefixes.parquet"), continue_last=True).run(), Problem, "test")
    assert again.select("problem_key", "problem_id", "messages").equals(
        table.select("problem_key", "problem_id", "messages")
    )
    assert [json.loads(text)["roll_out"] for text in again["metadata"]] == [
        json.loads(text)["roll_out"] for text in table["metadata"]
    ]
