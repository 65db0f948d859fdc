"""Transformations of traces: on hand-made traces with known results, and their laws on any."""

from __future__ import annotations

import json
import math
import random
import re
from itertools import pairwise
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from cluster.engines.scripted import ScriptedEngine
from operators.engine import Scored, ScoreRequest
from operators.reflections import PHRASES
from operators.transform.concise import SynthesizeConcise
from operators.transform.drop_trace import SynthesizeDropTrace
from operators.transform.interleave import SynthesizeInterleave, merge
from operators.transform.parallel import SynthesizeParallel, check, distance, sequential
from operators.transform.trace import answer_keys, cut_traces
from operators.transform.transformation import Transformation
from operators.transform.trial_and_error import SynthesizeTrialAndError
from schemas.contract import conform, validate
from schemas.datasets import Sft
from schemas.engine import ScriptedSpec

TRACE = (
    "First I add 3 and 4. That makes 7.\n\nWait, let me check this. 7 minus 4 is 3, fine.\n\n"
    "Then I double it. Twice 7 is 14.\n\nThe answer is \\boxed{14}."
)
SEARCH = (
    "create 1 1 c0 c4\ncreate 1 2 c1 c3\nclose 1 1 c0 c4\ncreate 2 2 c2 c2\nclose 1 2 c1 c3\ncreate 2 3 c3 c1\n"
    "close 2 2 c2 c2\nplan 1 1\nplan 1 2\nplan 2 2\nThe answer is \\boxed{3}."
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


def is_subsequence(part: str, whole: str) -> bool:
    rest = iter(whole.split())
    return all(word in rest for word in part.split())


# --- parts of a trace


def test_a_trace_is_cut_into_steps_and_what_states_the_answer() -> None:
    [trace] = cut_traces([TRACE])
    assert len(trace.steps) == 3
    assert trace.after == "The answer is \\boxed{14}."
    [tagged] = cut_traces([f"<think>\n{TRACE}\n</think>\n\nIt is 14."])
    assert (tagged.before, tagged.after, len(tagged.steps)) == ("<think>\n", "\n</think>\n\nIt is 14.", 4)
    [remark] = cut_traces(["One.\n\nTwo.\n\n#### 5\n\nI hope this helps!"])
    assert remark.after == "#### 5\n\nI hope this helps!"


@settings(deadline=None)
@given(st.lists(st.text(alphabet="ab 12.\n\\{}<>", max_size=30), max_size=6), st.sampled_from(["blank_line", "line"]))
def test_the_parts_of_a_trace_give_it_back(parts: list[str], rule: Any) -> None:
    text = "\n\n".join(parts)
    assert [trace.text for trace in cut_traces([text], rule)] == [text]


# --- dropping


def test_search_traces_lose_what_each_level_drops() -> None:
    whole = sft(SEARCH)
    [one] = texts_of(level(1).run(whole))
    assert "close" not in one
    assert one.count("create") == 4
    assert "create 2 2 c2 c2" in one
    [two] = texts_of(level(2).run(whole))
    assert not re.search(r"\bc\d", two)
    assert two.startswith("create 1 1\ncreate 1 2\ncreate 2 2\ncreate 2 3\nplan 1 1")
    [three] = texts_of(level(3, extra=1.0).run(whole))
    [four] = texts_of(level(4).run(whole))
    assert three == four == "plan 1 1\nplan 1 2\nplan 2 2\nThe answer is \\boxed{3}."
    on_one_line = SEARCH.replace("\n", " ")
    assert texts_of(level(2).run(sft(on_one_line)))[0].startswith("create 1 1 create 1 2 create 2 2 create 2 3 plan")


def test_reasoning_loses_checks_then_details_then_steps_then_all() -> None:
    whole = sft(TRACE)
    [one] = texts_of(level(1).run(whole))
    assert one == TRACE.replace("Wait, let me check this. 7 minus 4 is 3, fine.\n\n", "")
    [two] = texts_of(level(2).run(whole))
    assert two == "That makes 7.\n\nTwice 7 is 14.\n\nThe answer is \\boxed{14}."
    assert texts_of(level(3, extra=1.0).run(whole)) == texts_of(level(4).run(whole)) == ["The answer is \\boxed{14}."]
    thinking = f"<think>\n{TRACE}\n</think>\n\nIt is 14."
    assert texts_of(level(4).run(sft(thinking))) == ["<think>\n\n</think>\n\nIt is 14."]
    assert texts_of(level(0).run(whole)) == [TRACE]


def test_levels_are_drawn_with_their_probabilities_and_written_down() -> None:
    table = SynthesizeDropTrace(levels=(0.5, 0.0, 0.0, 0.0, 0.5)).run(sft(*[TRACE] * 400))
    levels = [note["level"] for note in notes_of(table)]
    assert set(levels) == {0, 4}
    assert 160 < levels.count(4) < 240
    changed = table.filter(pl.col("completion_tokens") < 100)
    assert len(changed) == levels.count(4)
    assert table.equals(SynthesizeDropTrace(levels=(0.5, 0.0, 0.0, 0.0, 0.5)).run(sft(*[TRACE] * 400)))


def test_probabilities_must_add_up() -> None:
    with pytest.raises(ValidationError, match=r"add up to 1; these come to 1\.5"):
        SynthesizeDropTrace(levels=(0.5, 0.5, 0.5, 0.0, 0.0))


STEP = st.sampled_from(
    ["I add 3 and 4. It is 7.", "Wait, is that right?", "So x = 2.", "create 1 2 c0 c3", "close 1 2 c0 c3", "Hmm. 5?"]
)


@given(st.lists(STEP, min_size=1, max_size=8), st.booleans(), st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_dropping_is_monotone_and_the_answer_survives(steps: list[str], tagged: bool, seed: int) -> None:
    body = "\n\n".join(steps)
    text = f"<think>\n{body}\n</think>\n\n\\boxed{{7}}" if tagged else f"{body}\n\nThe answer is \\boxed{{7}}."
    found = [texts_of(level(number, seed=seed).run(sft(text)))[0] for number in range(5)]
    assert answer_keys(found) == ["7"] * 5
    for less, more in zip(found[1:], found, strict=False):
        assert is_subsequence(less, more)


# --- ConCISE


class Sure(ScriptedEngine):
    """Is sure of the answer once the text says a given word."""

    def __init__(self, word: str, **fields: Any) -> None:
        super().__init__(ScriptedSpec(**fields))
        self.word = word

    async def score(self, request: ScoreRequest) -> Scored:
        assert request.completion == "14}"
        return Scored(math.log(0.9 if self.word in request.prompt else 0.2))


def test_confidence_is_put_where_a_reflection_begins() -> None:
    goes_on = "Then I double it. It is 14.\n\nThe answer is \\boxed{14}."
    engine = ScriptedEngine(ScriptedSpec(answers=(goes_on,)))
    table = SynthesizeConcise(phrases=("Sure.",)).run(engine, sft=sft(TRACE))
    assert texts_of(table) == [f"First I add 3 and 4. That makes 7.\n\nSure.\n\n{goes_on}"]
    assert notes_of(table) == [{"operator": "synthesize.concise 1", "injected": 1}]
    assert table["completion_tokens"].to_list() == [round(100 * len(texts_of(table)[0]) / len(TRACE))]


def test_a_continuation_that_doubts_is_interrupted_again() -> None:
    doubts = "Hmm, is it?\n\nThe answer is \\boxed{14}."
    engine = ScriptedEngine(ScriptedSpec(answers=(doubts,)))
    table = SynthesizeConcise(phrases=("Ok.",), injections=2).run(engine, sft=sft(TRACE))
    [text] = texts_of(table)
    assert text.count("Ok.") == 2
    assert notes_of(table)[0]["injected"] == 2


@pytest.mark.parametrize(
    ("answer", "trace", "reason"),
    [
        ("The answer is \\boxed{15}.", TRACE, "the answer would change"),
        ("long " * 80 + "\\boxed{14}", TRACE, "it wouldn't be shorter"),
        ("word " * 2000, TRACE, "the continuation has more than 1024 tokens"),
        ("any", "It is clear.\n\n\\boxed{14}", "no reflection in it"),
    ],
)
def test_what_concise_cannot_improve_stays_with_the_reason(answer: str, trace: str, reason: str) -> None:
    table = SynthesizeConcise().run(ScriptedEngine(ScriptedSpec(answers=(answer,))), sft=sft(trace))
    assert texts_of(table) == [trace]
    assert table["completion_tokens"].to_list() == [100]
    assert notes_of(table)[0]["unchanged"] == reason


def test_a_trace_ends_at_the_first_step_that_makes_the_model_sure() -> None:
    operator = SynthesizeConcise(method="stop")
    table = operator.run(Sure("That makes 7"), sft=sft(TRACE))
    assert texts_of(table) == ["First I add 3 and 4. That makes 7.\n\nThe answer is \\boxed{14}."]
    assert notes_of(table)[0] == {"operator": "synthesize.concise 1", "steps": 3, "kept": 1, "confidence": 0.9}
    thinking = f"<think>\n{TRACE}\n</think>\n\n\\boxed{{14}}"
    [text] = texts_of(operator.run(Sure("check this"), sft=sft(thinking)))
    assert text.startswith("<think>\nFirst I add")
    assert text.endswith("fine.\n\n\n</think>\n\n\\boxed{14}")
    late = operator.run(Sure("Twice"), sft=sft(TRACE))
    assert texts_of(late) == [TRACE]
    assert notes_of(late)[0]["unchanged"] == "never sure before its last step"


def test_a_failed_request_is_the_reason_and_loses_nothing() -> None:
    engine = ScriptedEngine(ScriptedSpec(fail_permanent=1.0))
    table = SynthesizeConcise().run(engine, sft=sft(TRACE))
    assert texts_of(table) == [TRACE]
    assert "refused" in notes_of(table)[0]["unchanged"]


def test_the_phrases_announce_no_reflection() -> None:
    assert not [phrase for phrase in PHRASES if re.search(SynthesizeConcise().reflection, phrase)]


# --- Multiverse

PARALLEL = (
    "Two parts.\n<Parallel>\n<Goal>\n<Outline>1: add</Outline>\n<Outline>2: double</Outline>\n</Goal>\n"
    "<Path>1: 3 and 4 are 7.</Path>\n<Path>2: Twice 7 is 14.</Path>\n<Conclusion>So 14.</Conclusion>\n</Parallel>\n"
    "The answer is \\boxed{14}."
)
NESTED = PARALLEL.replace("Twice 7 is 14.", PARALLEL.replace("The answer is \\boxed{14}.", ""))
TAG = re.compile(r"</?[A-Z][a-z]+>")


def test_well_formed_structure_passes() -> None:
    assert check(PARALLEL) is None
    assert check(NESTED) is None
    assert check("no tags at all, 3 < 4 > 2") is None
    assert sequential(PARALLEL).startswith("Two parts.\n\n1: add\n2: double")
    assert distance("<Path>abc</Path>", "abd") == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("<Goal><Outline>a</Outline></Goal>", "<Goal> can't stand outside of <Parallel>"),
        (PARALLEL.replace("<Path>2: Twice 7 is 14.</Path>\n", ""), "2 Outlines but 1 Paths"),
        (PARALLEL.replace("<Conclusion>So 14.</Conclusion>", ""), "a Parallel needs one Conclusion, last"),
        (PARALLEL.replace("</Goal>\n", "</Goal>\nand\n"), "text between the parts of a Parallel: 'and'"),
        (PARALLEL.replace("<Path>1", "<path>1"), "<path> isn't one of the tags"),
        (re.sub(r"(?s)<Outline>.*</Outline>\n", "", PARALLEL), "a Goal without an Outline"),
        ("<Parallel>", "<Parallel> isn't closed"),
    ],
)
def test_faults_are_named(text: str, fault: str) -> None:
    assert check(text) == fault


@pytest.mark.parametrize("whole", [PARALLEL, NESTED])
def test_every_single_mutation_of_a_tag_is_rejected(whole: str) -> None:
    tags = list(TAG.finditer(whole))
    kinds = sorted({tag[0] for tag in tags})
    mutants = 0
    for tag in tags:
        for other in ("", tag[0] * 2, tag[0].lower(), tag[0].upper(), tag[0].replace(">", " >"), *kinds):
            if other == tag[0]:
                continue
            mutants += 1
            assert check(whole[: tag.start()] + other + whole[tag.end() :]) is not None, (tag, other)
    for first, second in pairwise(tags):
        if first[0] != second[0]:
            mutants += 1
            between = whole[first.end() : second.start()]
            swapped = whole[: first.start()] + second[0] + between + first[0] + whole[second.end() :]
            assert check(swapped) is not None, (first, second)
    assert mutants > 200


ORIGINAL = "Two parts.\n\n1: 3 and 4 are 7.\n\n2: Twice 7 is 14.\n\nSo 14.\n\nThe answer is \\boxed{14}."


def test_a_rewritten_trace_that_is_close_and_well_formed_is_kept() -> None:
    table = SynthesizeParallel().run(ScriptedEngine(ScriptedSpec(answers=(PARALLEL,))), sft=sft(ORIGINAL))
    assert texts_of(table) == [PARALLEL]
    assert 0.0 < notes_of(table)[0]["distance"] <= 0.4
    thinking = SynthesizeParallel().run(
        ScriptedEngine(ScriptedSpec(answers=(PARALLEL,))), sft=sft(f"<think>\n{ORIGINAL}\n</think>\n\n\\boxed{{14}}")
    )
    assert texts_of(thinking) == [f"<think>\n{PARALLEL}\n</think>\n\n\\boxed{{14}}"]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (PARALLEL.replace("</Path>\n<Con", "<Con"), "<Conclusion> can't stand in <Path>"),
        (PARALLEL.replace("{14}", "{15}"), "the answer would change"),
        (ORIGINAL, "nothing in it is marked as parallel"),
        (PARALLEL + " and so on" * 60, "too far from the original"),
    ],
)
def test_a_rewritten_trace_that_fails_leaves_the_original(answer: str, reason: str) -> None:
    table = SynthesizeParallel().run(ScriptedEngine(ScriptedSpec(answers=(answer,))), sft=sft(ORIGINAL))
    assert texts_of(table) == [ORIGINAL]
    assert reason in notes_of(table)[0]["unchanged"]


def test_what_is_marked_already_is_checked_without_asking() -> None:
    broken = PARALLEL.replace("<Goal>", "")
    engine = ScriptedEngine(ScriptedSpec(fail_permanent=1.0))
    table = SynthesizeParallel().run(engine, sft=sft(PARALLEL, broken))
    assert [note["unchanged"] for note in notes_of(table)] == [
        "it is parallel already",
        "<Outline> can't stand in <Parallel>",
    ]


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


# --- EAST

CHUNKS = [["Der Hund", "The dog"], ["schlief", "slept"], ["gestern", ""], ["lange.", "long yesterday."]]


def about(**metadata: Any) -> pl.DataFrame:
    row = {"problem_key": "k0", "prompt": "?", "metadata": json.dumps(metadata)}
    return pl.DataFrame([row])


def interleaved(alignment: Any, engine: ScriptedEngine | None = None, **fields: Any) -> pl.DataFrame:
    metadata = {"source": "Der Hund schlief gestern lange."}
    known = about(**metadata) if alignment is None else about(**metadata, alignment=alignment)
    operator = SynthesizeInterleave(**fields)
    engine = engine or ScriptedEngine(ScriptedSpec(fail_permanent=1.0))
    return operator.run(engine, sft=sft("The dog slept long yesterday."), problems=known)


def test_given_chunks_alternate_with_their_tokens() -> None:
    table = interleaved(CHUNKS, merged={"low": 1}, read_token="<r>", write_token="<w>")
    assert texts_of(table) == ["Der Hund<r>The dog<w>schlief<r>slept<w>gestern lange.<r>long yesterday.<w>"]
    [turns] = table["messages"].to_list()
    assert turns[0]["content"] == "Translate simultaneously, with low latency."
    assert notes_of(table)[0]["chunks"] == 3


def test_higher_latency_reads_more_at_once() -> None:
    pairs = [(read, written) for read, written in CHUNKS]
    assert merge(pairs, 2) == [("Der Hund schlief", "The dog slept"), ("gestern lange.", "long yesterday.")]
    assert merge(pairs, 4) == [("Der Hund schlief gestern lange.", "The dog slept long yesterday.")]
    drawn = {notes_of(interleaved(CHUNKS, seed=seed))[0]["latency"] for seed in range(30)}
    assert drawn == {"low", "medium", "high"}


def test_an_engine_is_asked_for_chunks_that_are_not_given() -> None:
    said = "Here:\nDer Hund ||| The dog\nschlief gestern lange. ||| slept long yesterday.\n"
    table = interleaved(None, ScriptedEngine(ScriptedSpec(answers=(said,))), merged={"low": 1})
    assert texts_of(table)[0].startswith("Der Hund<|end-of-read|>The dog<|end-of-write|>schlief")


@pytest.mark.parametrize(
    ("alignment", "reason"),
    [
        ([["Der Hund", "The dog"]], "the chunks don't give the source back"),
        ([["Der Hund schlief gestern lange.", "The cat"]], "the chunks don't give the target back"),
        (["a", "b"], "its alignment isn't a list of [source chunk, target chunk]"),
    ],
)
def test_chunks_that_lose_text_leave_the_row(alignment: Any, reason: str) -> None:
    table = interleaved(alignment)
    assert texts_of(table) == ["The dog slept long yesterday."]
    assert notes_of(table)[0]["unchanged"] == reason


# --- what all have in common


def test_transformations_add_up_and_a_share_is_drawn_by_row() -> None:
    table = sft(*[TRACE] * 40)
    some = level(2, share=0.5)
    once = some.run(table)
    touched = [("transformations" in json.loads(lineage)) for lineage in once["lineage"]]
    assert 10 < sum(touched) < 30
    shuffled = some.run(table.sample(fraction=1.0, shuffle=True, seed=1))
    assert once.equals(shuffled.sort("problem_key", "sample_index"))
    twice = SynthesizeConcise().run(ScriptedEngine(ScriptedSpec(answers=("\\boxed{14}",))), sft=once)
    names = [[entry["operator"] for entry in json.loads(lineage)["transformations"]] for lineage in twice["lineage"]]
    assert ["synthesize.drop_trace 1", "synthesize.concise 1"] in names


@given(st.lists(STEP, min_size=1, max_size=6), st.integers(0, 9))
@settings(max_examples=15, deadline=None)
def test_the_answer_survives_whatever_a_model_says(steps: list[str], seed: int) -> None:
    text = "\n\n".join([*steps, "The answer is \\boxed{7}."])
    draws = random.Random(seed)
    said = "\n\n".join([*draws.choices(steps, k=3), draws.choice(["\\boxed{7}", "\\boxed{8}", "I don't know"])])
    engine = ScriptedEngine(
        ScriptedSpec(
            answers=(
                said,
                PARALLEL,
            )
        )
    )
    operators: list[Transformation] = [SynthesizeConcise(seed=seed), SynthesizeParallel(seed=seed)]
    for operator in operators:
        table = operator.run(engine, sft=sft(text))  # type: ignore[call-arg]
        assert answer_keys(texts_of(table)) == ["7"]
