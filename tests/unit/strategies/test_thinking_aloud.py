"""Strategies of several views on one problem: approaches, options, likelihoods, reflections, evidence, prompts."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from operators.engine import Request
from operators.strategies.div_se import DivSe
from operators.strategies.hedged import Hedged
from operators.strategies.idiv_se import IdivSe
from operators.strategies.iep import Iep
from operators.strategies.oversample import Oversample, spread
from operators.strategies.prompt_choice import PromptChoice
from operators.strategies.reflect import Reflect
from operators.strategies.syzygy import KEYS, Syzygy
from operators.strategies.thinksum import ThinkSum
from operators.strategies.x_mbr import XMbr, chrf
from tests.unit.strategies.literature import Babbling, in_turn, scripted
from tests.unit.strategies.playing import chosen, facts, played, setting

CHOICES = "Which?\n(A) red\n(B) green\n(C) blue"


def note(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return facts(rows)["note"]


def asking(at: Any, prompt: str = CHOICES, **more: Any) -> Any:
    return replace(at, problem={**at.problem, "prompt": prompt, **more})


# -- approaches --------------------------------------------------------------------------------------------------------


def test_the_answer_of_most_approaches_wins_and_ties_go_to_the_first() -> None:
    at, engine = scripted(in_turn("\\boxed{1}", "\\boxed{2}", "\\boxed{2}", "\\boxed{1}", "\\boxed{3}"))
    rows = played(DivSe(), at)
    assert chosen(rows) == "\\boxed{1}" and [row["search_score"] for row in rows] == [1, 0, 0, 1, 0]
    assert len({request.prompt for request in engine.requests}) == 5


def test_an_approach_that_is_refused_leaves_the_majority_of_the_rest() -> None:
    class Refusing(Babbling):
        async def generate(self, request: Request) -> Any:
            self.refuse = float(request.request_id.endswith("0.0"))
            return await super().generate(request)

    rows = played(DivSe(), setting(Refusing()))
    assert rows[0]["status"] == "error" and sum(row["status"] == "ok" for row in rows) == 4
    assert not rows[0]["chosen"] and sum(row["chosen"] for row in rows) == 1


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("Approach 1: a\nApproach 2: b", ["a", "b"]),
        ("**Approach 1:** a\n\n## Approach #2. b\nApproach 4: c", ["a", "b\nApproach 4: c"]),
        ("first approach 1: a", []),
        ("Approach 2: a", []),
    ],
)
def test_parts_begin_with_their_numbers(text: str, parts: list[str]) -> None:
    assert IdivSe().parts(text) == parts


def test_the_answer_of_most_parts_is_the_row() -> None:
    said = "Approach 1: \\boxed{8}\nApproach 2: so \\boxed{7}\nApproach 3: \\boxed{7}"
    rows = played(IdivSe(), scripted(in_turn(said))[0])
    assert rows[0]["completion"] == "so \\boxed{7}" and note(rows) == {"parts": 3, "agreeing": 2}
    rows = played(IdivSe(), scripted(in_turn("just \\boxed{9}"))[0])
    assert rows[0]["completion"] == "just \\boxed{9}" and note(rows)["parts"] == 0


# -- options -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "last"),
    [
        (("contradicted", "contradicted", "contradicted"), ("red", "green", "blue")),
        (("entailed", "neutral", "neutral"), ("red", "green", "blue")),
        (("entailed", "contradicted", "neutral"), ("red", "blue")),
        (("contradicted", "entailed", "contradicted"), ()),
    ],
)
def test_what_is_contradicted_is_not_offered(labels: tuple[str, ...], last: tuple[str, ...]) -> None:
    at, engine = scripted(in_turn("1. x\n2. y\n3. z", *(f"Because, {label}" for label in labels), "The answer is (C)"))
    rows = played(Iep(), asking(at))
    if not last:
        assert rows[0]["completion"] == "The answer is (B)" and len(engine.requests) == 4
        return
    offered = engine.requests[-1].prompt.partition("What was found")[2]
    assert tuple(name for name in ("red", "green", "blue") if name in offered) == last
    assert "this would have to be true: y" in engine.requests[2].prompt


def test_options_are_labelled_by_likelihood_or_proposed() -> None:
    likely = {"red\nThen": 0.0}
    at, engine = scripted(in_turn("a\nb\nc", "done"), likely)

    def value(prompt: str, label: str) -> float:
        return -0.1 if ("red" in prompt) == (label == "contradicted") else -3.0

    async def score(request: Any) -> Any:
        from operators.engine import Scored

        about = request.prompt.partition("Suppose the answer is: ")[2]
        return Scored(value(about, request.completion), (), 1)

    engine.score = score  # type: ignore[method-assign]
    rows = played(Iep(likelihoods=True), asking(at))
    assert note(rows)["excluded"] == 1 and facts(rows)["scorer_passes"] == 9
    at, engine = scripted(in_turn("12\n14", "c\nd", "contradicted", "entailed"))
    rows = played(Iep(candidates=2), at)
    assert rows[0]["completion"] == "The answer is \\boxed{14}"


def test_likelihoods_are_summed_as_each_form_says() -> None:
    logs = [[math.log(p) for p in row] for row in ((0.2, 0.6), (0.4, 0.1))]

    def scores(by: Any) -> list[float]:
        return ThinkSum(by=by).scores(logs)

    assert [math.exp(one) for one in scores("mixture")] == pytest.approx([0.3, 0.35])
    assert [one / 2 for one in scores("product")] == pytest.approx([-1.2629, -1.4067], abs=1e-4)
    assert [math.exp(one) for one in scores("max")] == pytest.approx([0.4, 0.6])
    assert [math.exp(one) for one in scores("min")] == pytest.approx([0.2, 0.1])
    assert ThinkSum(by="mixture").scores([[-math.inf, 0.0], [0.0, -math.inf]]) == pytest.approx([math.log(0.5)] * 2)


@pytest.mark.parametrize(("by", "choice", "share"), [("mixture", 1, 0.35 / 0.65), ("product", 0, 0.08 / 0.14)])
def test_a_choice_is_taken_by_its_sum(by: Any, choice: int, share: float) -> None:
    probabilities = {"t1": (0.2, 0.6), "t2": (0.4, 0.1)}
    likely = {
        f"Consider: {thought}\n\nWhat is the answer?The answer is {word}": math.log(row[place])
        for thought, row in probabilities.items()
        for place, word in enumerate(("red", "green"))
    }
    at, _ = scripted(in_turn("1. t1\n2. t2"), likely)
    rows = played(ThinkSum(by=by), asking(at, "Which?\n(A) red\n(B) green"))
    assert rows[0]["completion"] == f"The answer is ({'AB'[choice]}) {('red', 'green')[choice]}"
    assert rows[0]["search_score"] == pytest.approx(share)


def test_a_thought_that_is_refused_is_dropped_for_all_choices() -> None:
    likely = {"t1\n\nWhat is the answer?The answer is red": -1.0, "t1\n\nWhat is the answer?The answer is green": -2.0}
    likely["t2\n\nWhat is the answer?The answer is green"] = 0.0
    at, _ = scripted(in_turn("t1\nt2"), likely)
    rows = played(ThinkSum(choices=("red", "green")), at)
    assert rows[0]["completion"] == "The answer is red" and note(rows)["dropped"] == 1
    at, _ = scripted(in_turn("\\boxed{7}"))
    assert chosen(played(ThinkSum(), at)) == "\\boxed{7}"


# -- one document, reflections -----------------------------------------------------------------------------------------


def test_a_document_gives_its_final_answer() -> None:
    document = json.dumps({**dict.fromkeys(KEYS, "x"), "final_answer": "7"})
    at, engine = scripted(in_turn(f"Here: {document}"))
    rows = played(Syzygy(guided=True), at)
    assert rows[0]["completion"].endswith("The answer is \\boxed{7}") and engine.requests[0].params.temperature == 0
    assert set((engine.requests[0].params.json_schema or {})["required"]) == set(KEYS)
    at, _ = scripted(in_turn('{"module": "x", "mapp ' + "w " * 30), max_tokens=8)
    rows = played(Syzygy(), at)
    assert note(rows) == {"truncated": 1, "unreadable": 1} and rows[0]["status"] == "ok"


def test_the_stages_of_a_document_can_be_calls() -> None:
    at, engine = scripted(in_turn("1. even", "s1", "s2", "s3", "the second, \\boxed{7}"))
    rows = played(Syzygy(split=True, solutions=3), at)
    assert chosen(rows) == "the second, \\boxed{7}" and len(engine.requests) == 5
    assert "1. even" in engine.requests[2].prompt and "2. s2" in engine.requests[4].prompt


def test_a_thought_is_improved_by_its_reflection() -> None:
    said = [
        "<thinking>t0</thinking><reflect>r0</reflect> a0", "better t1", " <reflect>r1</reflect> a1",
        "<thinking>t2</thinking>", " <reflect></reflect> a2", "all: \\boxed{7}",
    ]  # fmt: skip
    at, engine = scripted(in_turn(*said))
    rows = played(Reflect(), at)
    assert chosen(rows) == "all: \\boxed{7}" and note(rows)["rounds"] == 2
    assert engine.requests[2].prefix == "<thinking>better t1</thinking>\n"
    assert engine.requests[4].prefix == "<thinking>t2</thinking>\n" and "r1" in engine.requests[3].prompt
    assert engine.requests[5].prompt.count("1. a0") == engine.requests[5].prompt.count("3. a2") == 1
    at, engine = scripted(in_turn(*said))
    rows = played(Reflect(every=True), at)
    assert [row["status"] for row in rows] == ["ok", "ok", "ok", "none"] and rows[2]["chosen"]
    at, engine = scripted(in_turn("a0", "look again", "t1", "a1", "done"))
    played(Reflect(reviews=True, rounds=1, first=False), at)
    assert "look again" in engine.requests[2].prompt and "a0" not in engine.requests[4].prompt


# -- many draws --------------------------------------------------------------------------------------------------------


def test_other_answers_are_kept_first_then_other_texts() -> None:
    assert spread(["aaaa", "aaab", "zzzz", "aaaa"], ["1", "2", "1", "1"], 3) == [0, 1, 2]
    assert spread(["a", "b"], [None, None], 5) == [0, 1]
    at, _ = scripted(in_turn("\\boxed{1}", "so \\boxed{1}", "\\boxed{2}", "is \\boxed{2}", "\\boxed{2}"))
    rows = played(Oversample(draws=5, keep=2), at)
    assert [row["completion"] for row in rows] == ["\\boxed{1}", "is \\boxed{2}"] and rows[1]["chosen"]
    with pytest.raises(ValidationError, match="keep"):
        Oversample(draws=2, keep=3)


@pytest.mark.parametrize(("index", "language", "temperature"), [(0, "en", 0.0), (1, "en", 0.7), (2, "zh", 0.3)])
def test_the_first_draw_is_greedy_and_no_other(index: int, language: str, temperature: float) -> None:
    at, engine = scripted(in_turn("7"), index=index)
    rows = played(Hedged(temperatures={"zh": 0.3}), asking(at, metadata=json.dumps({"language": language})))
    assert engine.requests[0].params.temperature == temperature and note(rows)["greedy"] == (index == 0)
    assert [row["chosen"] for row in rows] == [index > 0], "the greedy one is no draw: pass@k and forecasts skip it"


def test_evidence_changes_what_is_chosen_and_is_no_row() -> None:
    said = ["\\boxed{1}", "\\boxed{1}", "\\boxed{2}"]
    at, engine = scripted(in_turn(*said))
    plain = XMbr(candidates=3, evidence=0, utility="exact")
    assert [row["search_score"] for row in played(plain, at)] == [0.5, 0.5, 0.0]
    at, engine = scripted(in_turn(*said, *["\\boxed{2}"] * 3))
    rows = played(plain.model_copy(update={"evidence": 3}), at)
    assert [row["search_score"] for row in rows] == pytest.approx([1 / 5, 1 / 5, 3 / 5]) and rows[2]["chosen"]
    assert "Answer in English" in engine.requests[3].prompt
    at, _ = scripted(in_turn(*said, *["\\boxed{2}"] * 3))
    rows = played(plain.model_copy(update={"evidence": 3, "evidence_weight": 1.0}), at)
    assert [row["search_score"] for row in rows] == pytest.approx([0.25, 0.25, 0.5])
    at, engine = scripted(in_turn("a", "b", "c", "<mark>8</mark>", "?", "<mark>2</mark>", "<mark>9</mark>"))
    rows = played(XMbr(candidates=2, evidence=1), at)
    assert [row["search_score"] for row in rows] == pytest.approx([(0.8 + 0.9) / 2, (0.8 + 0.2) / 2])


def test_ngrams_of_characters() -> None:
    assert chrf("a b c", "abc") == pytest.approx(1.0) and chrf("abc", "xyz") == 0.0 and chrf("", "x") == 0.0
    assert chrf("abcd", "abce") == chrf("abce", "abcd") == pytest.approx((3 / 4 + 2 / 3 + 1 / 2 + 0) / 4)


PROMPTS = ("{prompt} now", "Think: {prompt}")


@pytest.mark.parametrize(
    ("fields", "said", "likely", "prompt"),
    [
        ({"by": "likelihood"}, ["7"], {" nowQ": -3.0, "Think: Q": -2.0}, 1),
        ({"by": "likelihood"}, ["7"], {" nowQ": -1.0}, 0),
        ({"by": "probe"}, ["\\boxed{1}", "\\boxed{2}", "\\boxed{3}", "\\boxed{3}", "7"], {}, 1),
        ({"labelled": (("what is red", 0), ("Q and q", 1))}, ["7"], {}, 1),
    ],
)
def test_a_prompt_is_chosen_by_each_rule(fields: Any, said: list[str], likely: dict[str, float], prompt: int) -> None:
    at, engine = scripted(in_turn(*said), likely)
    rows = played(PromptChoice(prompts=PROMPTS, **fields), at)
    assert note(rows)["prompt"] == prompt and chosen(rows) == "7"
    assert engine.requests[-1].prompt == "<user>" + PROMPTS[prompt].replace("{prompt}", "Q")


def test_labels_must_be_of_prompts_that_are_there() -> None:
    with pytest.raises(ValidationError, match="labelled"):
        PromptChoice(prompts=PROMPTS)
    with pytest.raises(ValidationError, match="isn't there"):
        PromptChoice(prompts=PROMPTS, labelled=(("Q", 2),))
