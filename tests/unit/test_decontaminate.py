"""What is a leak, and what isn't: a question's own words, short questions, stock phrases, scripts without blanks."""

# ruff: noqa: RUF001  (Chinese has commas of its own)

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from operators.overlap.decontaminate import SynthesizeDecontaminate
from schemas.contract import polars_schema
from schemas.datasets import Sft
from schemas.messages import conversations

DICE = (
    "Two dice are rolled until a double shows. The expected number of rolls can be written as m/n where m and n are "
    "relatively prime positive integers. Find m+n."
)
RIVER = (
    "A ferry crosses a river of width 400 metres while the current drifts it sideways, so the captain steers "
    "upstream by an angle whose sine is one third."
)
CHINESE = "某工厂计划在三个月内生产五千台水泵，第一个月完成了计划的百分之三十五，第二个月比第一个月多生产二百台"
JAPANESE = (
    "太郎さんは池の周りを分速七十メートルで歩き、花子さんは反対方向に分速八十メートルで歩いて十二分後に出会いました"
)
KOREAN = "철수는 과수원에서 사과 백이십 개와 배 여든 개를 수확하여 상자마다 같은 개수씩 남김없이 나누어 담으려고 한다"


def found(folder: Path, benchmark: list[str], *asked: str, role: str = "user", **settings: object) -> list[str | None]:
    """Return why each row is left out; a row has one turn before the assistant's "ok"."""
    path = folder / "bench.jsonl"
    path.write_text("\n".join(json.dumps({"id": str(i), "question": text}) for i, text in enumerate(benchmark)))
    turns = [[{"role": role, "content": text}, {"role": "assistant", "content": "ok"}] for text in asked]
    table = pl.DataFrame(
        {
            "problem_key": [f"k{i:03d}" for i in range(len(asked))],
            "sample_index": [0] * len(asked),
            "problem_id": [f"p{i}" for i in range(len(asked))],
            "messages": conversations(pl.Series(turns)),
            "tools": [None] * len(asked),
            "completion_tokens": [1] * len(asked),
            "score": [1.0] * len(asked),
            "lineage": ["{}"] * len(asked),
        },
        schema=polars_schema(Sft),
    )
    operator = SynthesizeDecontaminate.model_validate({"benchmarks": (str(path),), **settings})
    return operator.run(table.lazy())["reason"].to_list()


def leaks(folder: Path, benchmark: list[str], *asked: str, **settings: object) -> list[bool]:
    return [reason is not None for reason in found(folder, benchmark, *asked, **settings)]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "clean",
    [
        "A bag holds three red and five blue marbles. The chance that two drawn marbles match can be written as m/n "
        "where m and n are relatively prime positive integers. Find m+n.",
        "The chance can be written in the form p/q, where p and q are relatively prime positive integers. Find p + q.",
    ],
)
def test_a_shipped_phrase_is_no_leak_whatever_its_letters(tmp_path: Path, clean: str) -> None:
    assert leaks(tmp_path, [DICE], clean, DICE, f"Here we go: {DICE} Be brief.") == [False, True, True]


def test_frames_of_prompts_and_contests_are_no_leaks(tmp_path: Path) -> None:
    frame = (
        "Each test contains multiple test cases. The first line contains the number of test cases t (1 <= t <= 10000). "
        "The description of the test cases follows. {} It is guaranteed that the sum of n over all test cases does not "
        "exceed 200000. For each test case, output a single integer."
    )
    one = frame.format("A frog jumps between lily pads of given heights and rests on every third pad it reaches.")
    other = frame.format("Bob sorts ribbons by colour.")
    assert leaks(tmp_path, [one], other, one) == [False, True]


def test_what_many_questions_of_the_benchmark_share_is_no_leak(tmp_path: Path) -> None:
    said = "assume throughout that the umpire of Lower Grimble applies every rule of the village game to the letter"
    asked = ["Who bats first?", "May the goat field?", "Is tea at four?", "Does rain end play?"]
    benchmark = [f"{one} Now {said}, and {two}" for one, two in zip(asked, [RIVER, "b", "c", "d"], strict=True)]
    alone, whole = f"My own question. Now {said}, and nothing else.", benchmark[0]
    assert leaks(tmp_path, benchmark, alone, whole, benchmark[2]) == [False, True, True]


def test_a_question_that_stands_in_the_benchmark_several_times_is_still_one(tmp_path: Path) -> None:
    copies = [RIVER, f"Question: {RIVER}", f"{RIVER} Answer:", f"Q. {RIVER} A."]
    assert leaks(tmp_path, copies, f"I was asked this. {RIVER}") == [True]


@pytest.mark.parametrize(
    ("text", "leak"),
    [
        ("Compute 17 + 25.\n\nPlease reason carefully.", True),
        ("Question: Compute 17+25\nAnswer:", True),
        ("Please compute $17 + 25$ and show your work", True),
        ("**Compute 17 + 25**", True),
        ("compute 17 + 25 = ?", True),
        ("I have a test tomorrow. Compute 17 + 25. Thanks!", True),
        ("Compute 17 * 25.", False),
        ("Compute 17 + 25 + 4.", False),
        ("Compute 17 + 256.", False),
        ("Compute 117 + 25.", False),
        ("Compute 3 * 17 + 25.", False),
    ],
)
def test_a_short_question_is_found_with_what_surrounds_it(tmp_path: Path, text: str, leak: bool) -> None:
    assert leaks(tmp_path, ["Compute 17 + 25."], text) == [leak]


def test_short_questions_of_words(tmp_path: Path) -> None:
    benchmark = ["Who painted the ceiling of the Sistine Chapel?", "Find x.", "What is the answer?"]
    texts = (
        "Who painted the ceiling of the Sistine Chapel? Answer in one word.",
        "A square has side x. Find x.",
        "The tea is cold. What is the answer?",
        "Who painted the ceiling of the Sistine Chapel and the Last Judgement?",
    )
    assert leaks(tmp_path, benchmark, *texts) == [True, False, False, False]
    [reason] = found(tmp_path, benchmark, texts[0])
    assert reason == f"contaminated: holds {tmp_path / 'bench.jsonl'} row 1 (id 0)"


def test_an_assistant_may_work_out_a_short_question_on_the_way(tmp_path: Path) -> None:
    text = "First we add. Compute 17 + 25. That is 42."
    assert leaks(tmp_path, ["Compute 17 + 25."], text, role="assistant") == [False]
    assert leaks(tmp_path, [RIVER], f"It says: {RIVER}", role="assistant") == [True]


@pytest.mark.parametrize("question", [CHINESE, JAPANESE, KOREAN])
def test_words_of_scripts_without_blanks_are_two_characters(tmp_path: Path, question: str) -> None:
    letters = [place for place, sign in enumerate(question) if sign.isalpha()]
    part = question[letters[3] : letters[3 + 26]]
    less = question[letters[3] : letters[3 + 24]]
    assert leaks(tmp_path, [question], f"前言 {part} 终", f"前言 {less} 终", question) == [True, False, True]


@pytest.mark.parametrize(
    ("question", "clean", "leak"),
    [
        (
            "求方程的解，请问满足条件的所有正整数解的个数是多少个",
            "某商店有苹果和梨，请问满足条件的所有正整数解的个数是多少个",
            "求方程的解，请问满足条件的所有正整数解的个数是多少个？请一步步推理。",
        ),
        (
            "計算せよ。三十七足す四十八はいくつか。",
            "次のうち正しいものはどれか。",
            "計算せよ。三十七足す四十八はいくつか。順を追って考えてください。",
        ),
        (
            "삼십칠 더하기 사십팔은 얼마입니까?",
            "다음 중 옳은 것은 무엇입니까?",
            "삼십칠 더하기 사십팔은 얼마입니까? 단계별로 생각해 보세요.",
        ),
        ("计算 17+25 的值。", "计算 17+26 的值。", "请计算 17+25 的值。请写出解题过程"),
    ],
)  # fmt: skip
def test_stock_phrases_and_short_questions_of_other_languages(
    tmp_path: Path, question: str, clean: str, leak: str
) -> None:
    assert leaks(tmp_path, [question], clean, leak) == [False, True]


def test_what_is_shared_is_quoted_without_blanks_where_none_are(tmp_path: Path) -> None:
    [reason] = found(tmp_path, [CHINESE], f"有一题：{CHINESE}，请问总共多少台？")
    assert reason == f'contaminated: "{CHINESE.replace("，", "")[:26]}" is in {tmp_path / "bench.jsonl"} row 1 (id 0)'
