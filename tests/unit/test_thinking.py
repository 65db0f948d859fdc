"""What is judged is what stands outside of thinking, whatever marks it."""

from __future__ import annotations

import polars as pl
import pytest

from operators.thinking import answer_text, answers_only, opens_thought
from operators.verify.choice import VerifyChoice
from operators.verify.exact import VerifyExact
from operators.verify.procedure import VerifyProcedure

HARMONY = "<|channel|>analysis<|message|>It is 42.<|end|><|start|>assistant<|channel|>final<|message|>43<|return|>"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("It is 43.", "It is 43."),
        ("<think>42</think>43", "43"),
        ("<thinking>42</thinking> 43", "43"),
        ("<THINK>42</THINK>43", "43"),
        ("[THINK]42[/THINK]43", "43"),
        ("<reasoning>42</reasoning><answer>43</answer>", "<answer>43</answer>"),
        ("\N{WHITE BULLET}" + "\u25c1think\u25b742\u25c1/think\u25b743", "\N{WHITE BULLET}\n43"),
        ("<|begin_of_thought|>42<|end_of_thought|>43", "43"),
        ("It is 42, I think.</think>43", "43"),
        ("<think>41</think>43<think>42</think>", "43"),
        ("<think><think>41</think>42</think>43", "43"),
        ("<think>42</think>43</think>\n", "43</think>"),
        ("<think>42</thinking>43", "43"),
        ("<think></think>43", "43"),
        ("<think>42", None),
        ("43, or is it? <think>42", None),
        ("[THINK]42", None),
        (HARMONY, "43"),
        ("<|channel|>final <|constrain|>json<|message|>43", "43"),
        ("<|channel|>analysis<|message|>42", None),
        ("<think>I shall close with '</think>'. 42</think>43", "43"),
        ("<think>42</think>text.split('<think>')", "text.split('<think>')"),
        ("<think >42</think >43", "43"),
        ('<think type="long" budget=3>42</think>43', "43"),
        ("<thinking time='3s'>42", None),
        ("<THINK lang=en>42</THINK\n>43", "43"),
        ("<think/>43", "43"),
        ("I <think that 42 > 41> 43", "I <think that 42 > 41> 43"),
        ("text.split('<think >') # 43", "text.split('<think >') # 43"),
        ("<thoughts>42</thoughts>43", "43"),
        ("<|channel>thought\n42<channel|>43<turn|>", "43"),
        ("<|channel>thought\n42", None),
        (HARMONY.removeprefix("<|channel|>"), "43"),
        ("analysis<|message|>42", None),
        ("final<|message|>43<|return|>", "43"),
        ("<|start|>assistant<|message|>43<|end|>", "43"),
        ("<|channel|>commentary to=functions.sum<|message|>{}<|call|>", None),
        ("analysisWe need 42.assistantfinal43", "43"),
        ("analysisWe need 42.", None),
        ("<think>```\n42\n```</think>43", "43"),
        ("<think>It is '42'</think>43", "43"),
        ("analysis of it: 43", "analysis of it: 43"),
        ("43<|im_end|>\n", "43"),
        ("43</s>", "43"),
    ],
)
def test_what_is_said(text: str, said: str | None) -> None:
    found = answer_text(text)
    assert (found and found.strip()) == said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("42", None),
        ("42</think>43", "43"),
        ("", None),
        ("<think>42</think>43", "43"),
        ("42</think >43", "43"),
        ("42<|end|><|start|>assistant<|channel|>final<|message|>43", "43"),
        ("<|message|>42", None),
        ("42.assistantfinal43", "43"),
    ],
)
def test_a_thought_that_the_prompt_opened(text: str, said: str | None) -> None:
    assert answer_text(text, thought_open=True) == said


def test_prompts_that_open_a_thought() -> None:
    assert opens_thought("<|im_start|>assistant\n<think>\n")
    assert opens_thought("<|start|>assistant<|channel|>analysis<|message|>")
    assert opens_thought("<think budget=3 >\n")
    assert opens_thought("<|turn>model\n<|channel>thought\n")
    assert not opens_thought("<|im_start|>assistant\n<think>\n\n</think>\n\n")
    assert not opens_thought("What does <think> mean?")


def rows(texts: list[str], **columns: object) -> pl.DataFrame:
    table = pl.DataFrame(
        {"problem_key": "p", "sample_index": range(len(texts)), "problem_id": "p", "completion": texts}
    )
    return table.with_columns(status=pl.lit("ok"), **{name: pl.lit(value) for name, value in columns.items()})


def test_rows_keep_their_order_and_columns() -> None:
    samples = rows(["<think>1</think>2", "3", "<think>4", "3"], thought_open=False)
    found = answers_only(samples)
    assert found.columns == samples.columns
    assert found["completion"].str.strip_chars().to_list() == ["2", "3", "", "3"]
    assert answers_only(found).equals(found)


def test_who_says_that_the_thought_is_open() -> None:
    turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "<think>\n"}]
    problems = pl.DataFrame({"problem_key": ["p"], "messages": [turns]})
    texts = ["it is 42", "it is 42</think>43"]
    assert answers_only(rows(texts), problems)["completion"].to_list() == ["", "43"]
    assert answers_only(rows(texts, thought_open=True))["completion"].to_list() == ["", "43"]
    # the engine has set the thought apart, so the sample says no
    assert answers_only(rows(texts, thought_open=False), problems)["completion"].to_list() == ["it is 42", "43"]


def test_verifiers_judge_the_answer_alone() -> None:
    texts = ["<think>The answer is A</think>The answer is B", "<think>The answer is A", "The answer is A"]
    problems = pl.DataFrame({"problem_key": "p", "problem_id": "p", "answer": ["A"], "verification": [None]})
    problems = problems.with_columns(pl.col("verification").cast(pl.String))
    for verifier in (VerifyExact(), VerifyChoice()):
        assert verifier.run(rows(texts), problems)["is_correct"].to_list() == [False, False, True]
    steps = ["<think>1. a</think>1. b", "<think>1. a", "1. a"]
    golds = problems.with_columns(answer=pl.lit("1. a"))
    assert VerifyProcedure().run(rows(steps), golds)["is_correct"].to_list() == [False, False, True]
