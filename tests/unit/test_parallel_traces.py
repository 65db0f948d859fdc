"""Traces with branches that go side by side: what is well formed, and what a model makes of a plain one."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest

from cluster.engines.scripted import ScriptedEngine
from operators.transform.parallel import SynthesizeParallel, check, distance, sequential
from schemas.engine import ScriptedSpec
from tests.traces import PARALLEL, notes_of, sft, texts_of

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
