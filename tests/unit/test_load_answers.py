"""What is asked and what is right: conversations lose their answer, golds and options are read, copies are settled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from operators.load import Load
from operators.load.checks import Notes
from schemas.errors import BadInput

Row = dict[str, Any]
Q, A = {"role": "user", "content": "Q"}, {"role": "assistant", "content": "so \\boxed{4}"}
SYSTEM, TOOL = {"role": "system", "content": "S"}, {"role": "tool", "content": "42", "tool_call_id": "c"}
CALL = {
    "role": "assistant",
    "content": "",
    "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
}


def load(path: Path, rows: list[Row], **settings: Any) -> tuple[list[Row], str]:
    """Return the problems of these rows, in their order, and all that was told."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    notes = Notes()
    problems = Load(source=str(path), **settings).read(notes).to_dicts()
    return problems, "\n".join(notes.sentences())


def said(problem: Row) -> list[tuple[str, str]] | None:
    return None if problem["messages"] is None else [(t["role"], t["content"]) for t in problem["messages"]]


@pytest.mark.parametrize(
    ("row", "roles"),
    [
        ({"messages": [Q, A]}, ["user"]),
        ({"messages": [SYSTEM, Q, A, A]}, ["system", "user"]),
        ({"messages": [Q, A, {"role": "user", "content": "More"}, A]}, ["user", "assistant", "user"]),
        ({"messages": [Q, CALL, TOOL, A]}, ["user", "assistant", "tool"]),
        ({"messages": [Q, CALL, TOOL]}, ["user", "assistant", "tool"]),
        ({"problem": "Q", "messages": [Q, A]}, None),
        ({"problem": "Q", "messages": [SYSTEM, Q, A]}, ["system", "user"]),
        ({"problem": "Q", "messages": [{"role": "user", "content": "Solve: Q"}, A]}, ["user"]),
        ({"problem": "Q", "messages": [Q]}, ["user"]),
        ({"conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]}, ["user"]),
        ({"prompt": json.dumps([Q, A])}, ["user"]),
        ({"messages": json.dumps([Q, A])}, ["user"]),
    ],
)
@pytest.mark.parametrize("kind", [".jsonl", ".parquet"])
def test_the_answer_is_never_shown(tmp_path: Path, row: Row, roles: list[str] | None, kind: str) -> None:
    if kind == ".parquet":
        pl.DataFrame([row], strict=False, infer_schema_length=None).write_parquet(tmp_path / "p.parquet")
        [problem] = Load(source=str(tmp_path / "p.parquet")).run().to_dicts()
    else:
        [problem], _ = load(tmp_path / "p.jsonl", [row])
    assert (roles is None) == (problem["messages"] is None)
    assert [role for role, _ in said(problem) or []] == (roles or [])
    assert problem["prompt"] in ("Q", "More")


def test_an_assistants_last_turn_is_continued_only_where_it_is_said(tmp_path: Path) -> None:
    rows = [{"messages": [Q, A]}, {"messages": [SYSTEM, Q, A]}]
    problems, told = load(tmp_path / "p.jsonl", rows, continue_last=True)
    assert [said(problem)[-1][0] for problem in problems] == ["assistant"] * 2  # pyright: ignore
    assert "isn't shown" not in told
    problems, told = load(tmp_path / "p.jsonl", rows)
    assert "2 rows whose 'messages' end with the assistant" in told and "load.continue_last=true" in told
    assert json.loads(problems[0]["metadata"])["cut_turns"] == [A]
    problems, _ = load(tmp_path / "p.jsonl", rows, answer_column="messages")
    assert [problem["answer"] for problem in problems] == ["4", "4"]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{"messages": [Q]}, {"messages": [A]}], ["row 2", "nobody asks anything"]),
        ([{"messages": [Q]}, {"messages": [{"role": "user"}]}], ["row 2", "turn 1 has no content"]),
        ([{"messages": "what?"}], ["row 1", "'messages'", "load.columns={messages: null}"]),
    ],
)
def test_conversations_that_ask_nothing_are_refused_with_their_row(
    tmp_path: Path, rows: list[Row], words: list[str]
) -> None:
    with pytest.raises(BadInput) as found:
        load(tmp_path / "p.jsonl", rows)
    assert all(word in str(found.value) for word in words), found.value


@pytest.mark.parametrize(
    ("answer", "gold", "more"),
    [
        (["3", "5"], "3", {"answers": {"any": ["3", "5"]}}),
        (["3", "3"], "3", {}),
        ([7], "7", {}),
        ([3, 0.5], "3", {"answers": {"any": ["3", "0.5"]}}),
        ({"value": "3", "aliases": ["three"]}, "3", {"answers": {"any": ["3", "three"]}}),
        ({"any": ["a", "b"]}, "a", {"answers": {"any": ["a", "b"]}}),
        ({"all": ["a", "b"]}, "a, b", {"answers": {"all": ["a", "b"]}}),
        ({"text": ["so"], "answer_start": [3]}, "so", {}),
        ([{"text": "x", "aliases": ["y"]}], "x", {"answers": {"any": ["x", "y"]}}),
        ([None, "", "x"], "x", {}),
        ([], None, {}),
        ({}, None, {}),
        ("", None, {}),
        ("  ", None, {}),
        (None, None, {}),
        (float("nan"), None, {}),
        ("NaN", None, {}),
        (True, "true", {}),
        ("[1, 2]", "[1, 2]", {}),
    ],
)
def test_golds_as_data_sets_write_them(tmp_path: Path, answer: Any, gold: str | None, more: Row) -> None:
    first, _ = load(tmp_path / "p.jsonl", [{"question": "q", "answer": answer}, {"question": "r", "answer": "7"}])
    assert (first[0]["answer"], json.loads(first[0]["verification"] or "{}")) == (gold, more)
    assert first[1]["answer"] == "7"


def test_what_is_no_gold_is_counted_and_said(tmp_path: Path) -> None:
    rows = [{"question": "a", "answer": float("nan")}, {"question": "b", "answer": ""}, {"question": "c", "answer": 42}]
    problems, told = load(tmp_path / "p.jsonl", rows)
    assert [row["answer"] for row in problems] == [None, None, "42"]
    assert "2 of 3 problems have no answer (the first is row 1)" in told
    _, told = load(tmp_path / "p.jsonl", [{"question": "a", "lösung": "1"}, {"question": "b", "lösung": "2"}])
    assert "NO PROBLEM HAS AN ANSWER" in told and "lösung" in told and "load.answer_column" in told


def test_whole_numbers_that_gaps_made_floats_are_whole_again(tmp_path: Path) -> None:
    pl.DataFrame({"question": ["a", "b"], "answer": [float("nan"), 42.0]}).write_parquet(tmp_path / "p.parquet")
    assert Load(source=str(tmp_path / "p.parquet")).run()["answer"].to_list() == [None, "42"]
    pl.DataFrame({"question": ["a", "b"], "answer": [1.5, 42.0]}).write_parquet(tmp_path / "p.parquet")
    assert Load(source=str(tmp_path / "p.parquet")).run()["answer"].to_list() == ["1.5", "42.0"]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"question": "a", "answer": {"grade": 1}}, ["row 1", "'answer'", "'grade'", "load.answer_column"]),
        (
            {"question": "a", "choices": ["x", "y"], "answer": "z"},
            ["row 1", "'answer' is 'z'", "none of its 2 options"],
        ),
        ({"question": "a", "choices": ["x", "y"], "answer": 7}, ["row 1", "'7'", "none of its 2 options"]),
        ({"question": "a", "choices": ["2", "0", "1"], "answer": "0"}, ["row 1", "write letters"]),
    ],
)
def test_an_answer_that_cannot_be_read_is_refused_with_its_row(tmp_path: Path, row: Row, words: list[str]) -> None:
    with pytest.raises(BadInput) as found:
        load(tmp_path / "p.jsonl", [row])
    assert all(word in str(found.value) for word in words), found.value


def test_options_that_the_prompt_shows_already_are_not_repeated(tmp_path: Path) -> None:
    row = {"question": "Which?\n(A) red\n(B) blue", "options": ["red", "blue"], "answer": "B"}
    [problem], _ = load(tmp_path / "p.jsonl", [row])
    assert (problem["prompt"], problem["answer"]) == (row["question"], "B")


def test_copies_are_refused_left_out_or_kept(tmp_path: Path) -> None:
    rows = [{"id": i, "question": "Q" if i < 3 else "R", "answer": "1"} for i in (1, 2, 3)]
    with pytest.raises(BadInput, match=r"same content in rows \[1, 2\].*load.duplicates=first.*=keep"):
        load(tmp_path / "p.jsonl", rows)
    first, told = load(tmp_path / "p.jsonl", rows, duplicates="first")
    assert [row["problem_id"] for row in first] == ["1", "3"]
    assert "1 row left out: the content of an earlier row (load.duplicates=first) (row 2)" in told
    kept, _ = load(tmp_path / "p.jsonl", rows, duplicates="keep")
    assert len({row["problem_key"] for row in kept}) == len({row["prompt_key"] for row in kept}) == 3
    alone, _ = load(tmp_path / "q.jsonl", rows[:1], duplicates="keep")
    assert alone[0]["problem_key"] == kept[0]["problem_key"]  # whatever else is in the file
    nameless, _ = load(tmp_path / "p.jsonl", [{"question": "Q"}] * 3, duplicates="keep")
    assert [row["problem_id"][12:] for row in nameless] == ["", "-2", "-3"]


@pytest.mark.parametrize("columns", [{"answer": "b", "metadata": None}, {"b": "answer", "metadata": None}])
def test_columns_are_named_or_left_out(tmp_path: Path, columns: dict[str, str | None]) -> None:
    rows = [{"question": "Q", "answer": "1", "b": "2", "metadata": "{'x'}"}]
    [problem], _ = load(tmp_path / "p.jsonl", rows, columns=columns)
    assert (problem["answer"], json.loads(problem["metadata"])) == ("2", {"answer": "1"})
    [problem], _ = load(tmp_path / "p.jsonl", rows)
    assert json.loads(problem["metadata"]) == {"b": "2", "metadata": "{'x'}"}
    with pytest.raises(BadInput, match="has no column 'c'"):
        load(tmp_path / "p.jsonl", rows, columns={"answer": "c"})
    with pytest.raises(BadInput, match=r"load.columns: neither 'b' nor 'c' is something"):
        load(tmp_path / "p.jsonl", rows, columns={"b": "c"})


def test_an_answer_within_an_object_is_named_by_its_path(tmp_path: Path) -> None:
    rows = [{"question": "Q", "info": {"gt": ["1", "2"]}}, {"question": "R", "info": {"gt": ""}}]
    problems, _ = load(tmp_path / "p.jsonl", rows, answer_column="info.gt")
    assert [row["answer"] for row in problems] == ["1", None]
    with pytest.raises(BadInput, match="has no column 'inf'; did you mean 'info'"):
        load(tmp_path / "p.jsonl", rows, answer_column="inf.gt")


def test_two_shapes_of_verification_stand_in_one_file(tmp_path: Path) -> None:
    shapes: list[Row] = [
        {"code": {"inputs": ["1"], "outputs": ["2"]}},
        {"code": {"inputs": [["1", "2"]], "outputs": [["3"]]}},
        {"code": {"tests": ["assert f() == 1"]}},
        {"code": {"tests": "assert f() == 1"}},
        {"choices": ["a", "b"], "choice": 0},
    ]
    rows = [{"prompt": f"q{i}", "verification": shape} for i, shape in enumerate(shapes)]
    problems, _ = load(tmp_path / "p.jsonl", rows)
    assert [json.loads(row["verification"]) for row in problems] == shapes


def test_a_row_says_itself_how_it_is_checked_whatever_others_have(tmp_path: Path) -> None:
    rows: list[Row] = [
        {"prompt": "f", "test_list": ["assert f() == 1"]},
        {"prompt": "g", "verification": {"code": {"tests": "assert g() == 2"}}},
        {"prompt": "2 + 2", "answer": "4"},
        {"prompt": "Which?", "choices": ["x", "y"], "answer": "y"},
        {"prompt": "So?", "choices": ["x", "y"], "verification": {"choices": ["x", "y"], "choice": 0}},
    ]
    problems, told = load(tmp_path / "p.jsonl", rows)
    assert [json.loads(row["verification"] or "{}") for row in problems] == [
        {"code": {"tests": "assert f() == 1"}},
        {"code": {"tests": "assert g() == 2"}},
        {},
        {"choices": ["x", "y"], "choice": 1},
        {"choices": ["x", "y"], "choice": 0},
    ]
    assert [row["task_type"] for row in problems][:4] == ["code", "code", "math", "choice"]
    assert problems[4]["prompt"] == "So?" and "no answer" not in told


@pytest.mark.parametrize(
    ("final", "several", "error", "check"),
    [
        (["3,4"], True, None, {"answers": {"all": ["3", "4"]}}),
        ("3,4", True, None, {"answers": {"all": ["3", "4"]}}),
        (["$(1,2),(3,4)$"], True, "", {"answers": {"all": ["(1,2)", "(3,4)"]}}),
        (["$-1$,$\\frac{1}{2}$"], True, None, {"answers": {"all": ["$-1$", "$\\frac{1}{2}$"]}}),
        (["3; 4"], "True", None, {"answers": {"all": ["3", "4"]}}),
        (["3,4"], False, None, {}),
        (
            ["0.1,0.2"],
            True,
            "0.1,0.2",
            {"answers": {"all": ["0.1", "0.2"]}, "math": {"tolerance": {"absolute": [0.1, 0.2]}}},
        ),
        (["3", "4"], True, "1e-1", {"answers": {"all": ["3", "4"]}, "math": {"tolerance": {"absolute": 0.1}}}),
        (["3"], False, 0.5, {"math": {"tolerance": {"absolute": 0.5}}}),
        (["3"], True, None, {}),
    ],
)
def test_several_answers_in_one_text_are_asked_for_where_the_set_says_so(
    tmp_path: Path, final: Any, several: Any, error: Any, check: Row
) -> None:
    row = {"question": "q", "final_answer": final, "is_multiple_answer": several, "error": error}
    [problem], _ = load(tmp_path / "p.jsonl", [row])
    assert json.loads(problem["verification"] or "{}") == check


@pytest.mark.parametrize("error", ["0.1,0.2,0.3", "about 1", "-1"])
def test_an_error_that_does_not_fit_its_answers_is_refused(tmp_path: Path, error: str) -> None:
    row = {"question": "q", "final_answer": ["3,4"], "is_multiple_answer": True, "error": error}
    with pytest.raises(BadInput, match=r"row 1: 'error' is .*one for each of the 2 answers.*error: null"):
        load(tmp_path / "p.jsonl", [row])


@pytest.mark.parametrize("written", [json.dumps, str, lambda value: value])
def test_answers_of_reward_functions_in_objects_and_in_their_texts(tmp_path: Path, written: Any) -> None:
    rows = [
        {"prompt": [{**Q, "content": text}], "reward_model": written({"style": "rule", "ground_truth": gold})}
        for text, gold in (("Q", "5"), ("R", "7"))
    ]
    problems, _ = load(tmp_path / "p.jsonl", rows)
    assert [row["answer"] for row in problems] == ["5", "7"]
    [problem], _ = load(tmp_path / "p.jsonl", [{"prompt": "Q", "extra_info": written({"index": 0, "answer": "7"})}])
    assert problem["answer"] == "7"
    tests = json.dumps({"inputs": ["1"], "outputs": ["2"]})
    row = {"prompt": [Q], "reward_model": written({"style": "rule", "ground_truth": tests})}
    [problem], _ = load(tmp_path / "p.jsonl", [row])
    assert (problem["answer"], json.loads(problem["verification"])["code"]["inputs"]) == (None, ["1"])


def test_a_mark_with_nothing_behind_it_is_no_gold(tmp_path: Path) -> None:
    rows = [{"question": text, "answer": text} for text in ("Add.\n#### ", "####", "Add.\n#### 4", "#### x\ny")]
    problems, told = load(tmp_path / "p.jsonl", rows)
    assert [row["answer"] for row in problems] == [None, None, "4", "#### x\ny"]
    assert "2 rows whose 'answer' is empty" in told and "2 of 4 problems have no answer" in told


def test_where_else_an_answer_might_be_is_told(tmp_path: Path) -> None:
    rows = [
        {"problem": "q", "answer": None, "solution": "so \\boxed{4}"},
        {"problem": "r", "answer": "5", "solution": "x"},
    ]
    problems, told = load(tmp_path / "p.jsonl", rows)
    assert [row["answer"] for row in problems] == [None, "5"]
    assert "1 row without 'answer' that have 'solution': load.answer_column=solution" in told
    problems, _ = load(tmp_path / "p.jsonl", [{**row, "answer": None} for row in rows])
    assert problems[0]["answer"] == "4"  # a column without any value is none


@pytest.mark.parametrize(
    ("key", "check"),
    [
        ("A,C", {"all": ["A", "C"]}),
        ("AC", {"all": ["A", "C"]}),
        ("C, A", {"all": ["A", "C"]}),
        ("(A) and (C)", {"all": ["A", "C"]}),
        ("a;c", {"all": ["A", "C"]}),
        (["B", "C"], {"any": ["B", "C"]}),
        ("['B', 'C']", {"any": ["B", "C"]}),
        ([1, 2], {"any": ["B", "C"]}),
        ("x", {"any": ["A", "D"]}),  # an option that is there twice
        (3, {"any": ["A", "D"]}),
    ],
)
def test_several_right_options(tmp_path: Path, key: Any, check: Row) -> None:
    [problem], _ = load(tmp_path / "p.jsonl", [{"question": "q", "choices": [" x", "y", "z\n", "x"], "answer": key}])
    about = json.loads(problem["verification"])
    assert about == {"choices": ["x", "y", "z", "x"], "answers": check}
    assert problem["answer"] == ("A, C" if "all" in check else check["any"][0])
    assert problem["prompt"] == "q\n\nA. x\nB. y\nC. z\nD. x"


@pytest.mark.parametrize("key", ["B", "(B)", "B.", "b", "B) two", "(B) two", "B. two", "two", " Two ", 1, "1", ["B"]])
def test_one_option_in_all_its_names(tmp_path: Path, key: Any) -> None:
    for choices in (["one", "two"], ["A) one", "B) two"], "A. one B. two", {"A": "one", "B": "two"}):
        [problem], _ = load(tmp_path / "p.jsonl", [{"question": "q", "choices": choices, "answer": key}])
        assert problem["answer"] == "B" and json.loads(problem["verification"])["choices"] == ["one", "two"]


def test_options_of_one_text_are_shown_once_where_the_order_is_ours(tmp_path: Path) -> None:
    wrong = {"Incorrect Answer 1": "4", "Incorrect Answer 2": "5", "Incorrect Answer 3": "5\n"}
    [problem], _ = load(tmp_path / "p.jsonl", [{"Question": "q", "Correct Answer": " 4 ", **wrong}])
    about = json.loads(problem["verification"])
    assert sorted(about["choices"]) == ["4", "5"] and about["choices"][about["choice"]] == "4"
    assert about["choices"]["AB".index(problem["answer"])] == "4"


def test_options_that_the_question_only_happens_to_contain_are_shown(tmp_path: Path) -> None:
    row = {"question": "What is 1 + 2 + 3?", "choices": ["1", "2", "3"], "answer": 2}
    [problem], _ = load(tmp_path / "p.jsonl", [row])
    assert problem["prompt"].endswith("A. 1\nB. 2\nC. 3")


def test_options_without_a_key_are_counted_as_problems_without_an_answer(tmp_path: Path) -> None:
    rows = [{"question": n, "choices": ["x", "y"], "answer": key} for n, key in (("q", None), ("r", "A"), ("s", ""))]
    _, told = load(tmp_path / "p.jsonl", rows)
    assert "2 of 3 problems have no answer (the first is row 1)" in told


def test_what_is_not_shown_is_told(tmp_path: Path) -> None:
    rows: list[Row] = [
        {"question": "q", "answer": "1", "image_1": {"bytes": None, "path": "a.png"}, "context": {"sentences": ["s"]}},
        {"question": "r", "answer": "1", "image_1": None, "context": {"sentences": ["s"]}},
    ]
    _, told = load(tmp_path / "p.jsonl", rows)
    assert "1 row with 'image_1', which isn't shown to the model" in told and "'context' isn't shown" in told


def test_the_keys_of_problems_that_were_loaded_before_stay_as_they_were(tmp_path: Path) -> None:
    """Stored data is found by these: a change here orphans every store there is."""
    rows: list[Row] = [
        {"question": "Q", "answer": "Work\n#### 1,234"},
        {"question": 'a "quoted"\n\u2028line \\frac', "answer": "1.50"},
        {"messages": [SYSTEM, Q], "answer": "2"},
        {"prompt": "f", "verification": {"code": {"tests": "assert f()"}}},
    ]
    found = [load(tmp_path / "p.jsonl", [row])[0][0]["problem_key"] for row in rows]
    assert found == [
        "cc70b84e3da56f0d0e343233d6db87a5",
        "8380b43ff1e93019ccfd1a48939f0217",
        "9f23412512b2cfe6c98836abbef401ea",
        "8570de5135bc60752115b67a8313b92a",
    ]


@pytest.mark.parametrize(
    ("target", "value", "kept"),
    [
        ("tools", [{"name": "f"}], [{"type": "function", "function": {"name": "f"}}]),
        ("verification", {"code": {"tests": "assert f()"}}, {"code": {"tests": "assert f()"}}),
        ("metadata", {"level": 3}, {"level": 3}),
        ("task_type", "code", "code"),
        ("system", "S", None),
    ],
)
def test_every_part_can_be_named(tmp_path: Path, target: str, value: Any, kept: Any) -> None:
    rows = [{"question": "q", "answer": "1", "mine": value}]
    for columns in ({target: "mine"}, {"mine": target}):
        [problem], _ = load(tmp_path / "p.jsonl", rows, columns=columns)
        if target == "system":
            assert said(problem) == [("system", "S"), ("user", "q")]
        else:
            assert problem[target] == kept or json.loads(problem[target]) == kept
        assert target == "metadata" or problem["metadata"] is None
