"""Transformations of traces: on hand-made traces with known results, and their laws on any."""

from __future__ import annotations

import json
import math
import random
import re
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
from operators.transform.parallel import SynthesizeParallel
from operators.transform.trace import answer_keys, cut_traces
from operators.transform.transformation import Transformation
from schemas.engine import ScriptedSpec
from tests.traces import PARALLEL, STEP, TRACE, level, notes_of, sft, texts_of

SEARCH = (
    "create 1 1 c0 c4\ncreate 1 2 c1 c3\nclose 1 1 c0 c4\ncreate 2 2 c2 c2\nclose 1 2 c1 c3\ncreate 2 3 c3 c1\n"
    "close 2 2 c2 c2\nplan 1 1\nplan 1 2\nplan 2 2\nThe answer is \\boxed{3}."
)


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
