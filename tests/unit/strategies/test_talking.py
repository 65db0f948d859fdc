"""Strategies that talk: revisions, forced thoughts, cascades, debates, aggregation, threads, forks, workers."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from operators.engine import Request
from operators.strategies.aggregate import Aggregate
from operators.strategies.best_of import BestOf
from operators.strategies.bets import Bets
from operators.strategies.cascade import Cascade
from operators.strategies.debate import Debate
from operators.strategies.early import Early
from operators.strategies.force import Force
from operators.strategies.multiverse import Multiverse
from operators.strategies.revise import Revise
from operators.strategies.spawn import Spawn
from operators.strategies.step_cascade import StepCascade
from operators.strategies.talking import last_object, options, said_last, spoken_part, tagged
from operators.strategies.workers import Workers
from tests.unit.strategies import playing
from tests.unit.strategies.literature import Babbling, in_turn, scripted
from tests.unit.strategies.playing import chosen, facts, played, setting

VERDICT: Any = {"name": "verdict", "verifier": "verify.exact"}


def note(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return facts(rows)["note"]


def known(at: Any, answer: str) -> Any:
    """Return a setting whose strategy sees the answer."""
    more = {"answer": answer, "task_type": "math", "verification": None, "tools": None, "metadata": None}
    return replace(at, problem={**at.problem, **more})


# -- reading -----------------------------------------------------------------------------------------------------------


def test_the_last_readable_mark_counts() -> None:
    assert tagged("<bet>1</bet> no <bet> 22 </bet>", "bet") == "22"
    assert tagged("<bet>1 <bet>2</bet>", "bet") == "2"
    assert tagged("<bet></bet>", "bet") is tagged("<bet>3", "bet") is None
    assert last_object('a {"b": {"c": 1}} then {"d": 2} {broken') == {"d": 2}
    assert last_object("{{}") == {} and last_object("none") is None
    assert options("Which?\n(A) four\nB. five\n C) six ") == {"A": "four", "B": "five", "C": "six"}
    assert options("A. Then") == {}
    assert said_last("Yes, but no.", ("yes", "no")) == "no" and said_last("not", ("yes", "no")) is None
    assert spoken_part("<think>a</think> b </think> c") == "c" and spoken_part(" x ") == "x"


# -- revise ------------------------------------------------------------------------------------------------------------


def test_a_chain_ends_with_its_first_right_attempt() -> None:
    at, engine = scripted(in_turn("so \\boxed{1}", "so \\boxed{2}", "so \\boxed{3}"))
    rows = played(Revise(length=6, stop="first_right", scorer=VERDICT), known(at, "3"))
    assert len(engine.requests) == 3 and chosen(rows) == "so \\boxed{3}" and facts(rows)["oracle"]
    assert "\\boxed{1}" in engine.requests[2].prompt and "\\boxed{2}" in engine.requests[2].prompt
    assert [turn["role"] for turn in rows[0]["turns"]] == ["assistant", "user", "assistant", "user", "assistant"]
    assert note(rows) == {"attempts": 3, "changed": 2, "mended": 1, "spoiled": 0}


def test_a_revision_that_spoils_is_counted() -> None:
    at, _ = scripted(in_turn("\\boxed{3}", "\\boxed{4}", "\\boxed{3}"))
    rows = played(Revise(length=3, scorer=VERDICT), known(at, "3"))
    assert note(rows)["spoiled"] == note(rows)["mended"] == 1


def test_a_chain_ends_where_the_same_answer_comes_twice() -> None:
    at, engine = scripted(in_turn("\\boxed{1}", "\\boxed{1/2}", "\\boxed{0.5}", "no"))
    played(Revise(length=4, stop="same_twice"), at)
    assert len(engine.requests) == 3


def test_an_attempt_sees_the_newest_ones_as_many_as_there_is_room_for() -> None:
    at, engine = scripted(lambda request: f"\\boxed{{{len(engine.requests)}}}")
    played(Revise(length=4, context=2), at)
    assert [engine.requests[3].prompt.count(f"{{{old}}}") for old in (1, 2, 3)] == [0, 1, 1]
    at, engine = scripted(lambda request: f"\\boxed{{{len(engine.requests)}}}")
    engine.info = replace(engine.info, context=400 + 20)
    played(Revise(length=4), at)
    assert [engine.requests[3].prompt.count(f"{{{old}}}") for old in (1, 2, 3)] == [0, 0, 1]


def test_a_critic_is_heard_and_may_end_it() -> None:
    def say(request: Request) -> str:
        if "Look for mistakes" in request.prompt:
            return "the sum is off" if "{2}" not in request.prompt else "All fine.\nNO MISTAKE."
        return "\\boxed{2}" if "the sum is off" in request.prompt else "\\boxed{1}"

    at, engine = scripted(say)
    rows = played(Revise(feedback="critic", stop="clean"), at)
    assert chosen(rows) == "\\boxed{2}" and len(engine.requests) == 4


def test_of_equal_votes_the_newest_attempt_wins_and_every_attempt_can_be_a_row() -> None:
    at, _ = scripted(in_turn("\\boxed{1}", "\\boxed{2}", "\\boxed{2}", "\\boxed{1}"))
    rows = played(Revise(select="majority", every=True), at)
    assert [row["chosen"] for row in rows] == [False, False, False, True]


def test_verdicts_are_asked_of_a_verifier_alone() -> None:
    with pytest.raises(ValidationError, match="verdict"):
        Revise(stop="first_right")
    with pytest.raises(ValidationError, match="critic"):
        Revise(stop="clean")


# -- force, early ------------------------------------------------------------------------------------------------------


def test_one_word_is_put_where_the_thought_would_close() -> None:
    at, engine = scripted(in_turn("a b</think> 1", "c d</think> 2", "The answer is 2"))
    rows = played(Force(), at)
    assert rows[0]["completion"] == "<think>\na bWaitc d\n</think>\n\nThe answer is 2" and len(engine.requests) == 3


def test_a_thought_has_no_more_tokens_than_it_may() -> None:
    at, engine = scripted(lambda request: "w " * 100 if "</think>" not in request.prefix else "7")
    rows = played(Force(waits=5, max_think=20, answer_tokens=9), at)
    assert [request.params.max_tokens for request in engine.requests] == [20, 9]
    assert rows[0]["completion"].endswith("</think>\n\nFinal answer: 7") and note(rows)["cut"]
    at, engine = scripted(in_turn("w w", "w w w", "w", "7"))
    rows = played(Force(waits=0, min_think=6, max_think=20), at)
    assert [request.params.max_tokens for request in engine.requests[:3]] == [20, 18, 15] and note(rows)["waits"] == 2
    at, engine = scripted(in_turn("w w", "  </think>", "7"))
    played(Force(waits=9), at)
    assert len(engine.requests) == 3


def test_a_text_ends_once_its_answer_is_sure_twice_in_a_row() -> None:
    answers = ["3}", "4}", "7}", "7 }", "9}"]

    def say(request: Request) -> str:
        if request.prefix.endswith("boxed{"):
            return answers[request.prefix.count("s\n\n") + request.prefix.endswith("s\n\n\n\n") - 1 - 0]
        return "s\n\n"

    at, _ = scripted(say, {"7}": -0.1, "3}": -0.1, "4}": -2.0, "9}": -0.1})
    rows = played(Early(from_step=1), at)
    assert note(rows)["early"] == 1 and rows[0]["completion"].endswith("The final answer is \\boxed{7}")


# -- cascade -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("third", "calls"), [("\\boxed{0.5}", 3), ("\\boxed{4}", 4)])
def test_a_large_model_is_asked_where_the_small_one_disagrees(third: str, calls: int) -> None:
    at, engine = scripted(in_turn("\\boxed{1/2}", "\\boxed{3}", third, "large \\boxed{9}"))
    rows = played(Cascade(), at)
    assert len(engine.requests) == calls and note(rows)["accepted"] == (calls == 3)
    assert chosen(rows) == ("\\boxed{1/2}" if calls == 3 else "large \\boxed{9}")


def test_a_draft_is_shown_where_it_is_wanted() -> None:
    at, engine = scripted(in_turn("\\boxed{1}", "\\boxed{9}"))
    played(Cascade(samples=1, threshold=1.0, by="score", scorer="certainty", show_draft=True), at)  # type: ignore[arg-type]
    assert "<assistant>\\boxed{1}<user>That is a colleague" in engine.requests[1].prompt


def test_the_large_model_writes_the_steps_that_score_too_little() -> None:
    script = {"Q": ("a\n\nx",), "a\n\n": ("bad\n\nx",), "a\n\nlarge\n\n": ("\\boxed{7}",)}
    at, engine = scripted(lambda request: script[request.prefix or "Q"][0])
    large = scripted(lambda request: "large\n\nx")[1]
    scorer = playing.scripted({}, {"a": 0.9, "a bad": 0.1, "\\boxed{7}": 0.8})
    at = replace(at, engines={"policy": engine, "large": large, "scorer": scorer})
    rows = played(StepCascade(scorer={"name": "prm", "reduce": "whole", "step_tag": "#"}), at)  # type: ignore[arg-type]
    assert rows[0]["completion"] == "a\n\nlarge\n\n\\boxed{7}" and note(rows) == {"steps": 3, "large": 1}
    assert large.requests[0].prefix == "a\n\n"


# -- debate, bets, aggregate -------------------------------------------------------------------------------------------


def test_agents_see_the_others_last_answers_and_ties_go_to_the_round_before() -> None:
    said = ["\\boxed{1}", "\\boxed{2}", "\\boxed{2}", "\\boxed{4}", "\\boxed{1}", "\\boxed{2}"]
    at, engine = scripted(in_turn(*said))
    rows = played(Debate(), at)
    assert chosen(rows) == "\\boxed{2}" and note(rows) == {"agree_0": 2, "agree_1": 1, "changed": 2}
    prompt = engine.requests[3].prompt
    assert prompt.startswith("<user>Q<assistant>\\boxed{1}<user>") and prompt.count("Agent: \\boxed{2}") == 2
    at, engine = scripted(in_turn("\\boxed{1}", "\\boxed{2}"))
    rows = played(Debate(agents=1), at)
    assert "Check your solution" in engine.requests[1].prompt and chosen(rows) == "\\boxed{2}"


def test_bets_are_private_and_unreadable_ones_are_asked_again() -> None:
    def say(request: Request) -> str:
        if "Which side" in request.prompt:
            return "<winner>Opposition</winner> <confidence>70</confidence>"
        side = "pro" if "for the proposition" in request.prompt else "con"
        bet = "60" if side == "pro" else "none" if request.request_id.endswith("0.1") else "80"
        return f"{side} speaks <reasoning>secret</reasoning><bet>{bet}</bet>"

    at, engine = scripted(say)
    rows = played(Bets(judges=2), at)
    assert [row["completion"] for row in rows] == ["pro speaks", "con speaks"] * 3 and rows[5]["chosen"]
    assert [row["search_score"] for row in rows] == [0.6, 0.8] * 3 and rows[0]["reasoning"] == "secret"
    assert note(rows)["unreadable"] == 1 and len(engine.requests) == 9
    assert (note(rows)["confident"], note(rows)["confidence"]) == (2, 140)
    speeches = [one.prompt for one in engine.requests if "Which side" not in one.prompt]
    assert not any("secret" in prompt or "60" in prompt for prompt in speeches)
    assert speeches[3].count("con speaks") == 1 and speeches[-1].count("speaks") == 4
    at, engine = scripted(say)
    played(Bets(mode="public", judges=0), at)
    assert any("(bet: 60.0)" in one.prompt for one in engine.requests)


def test_one_round_of_aggregation_is_best_of_n() -> None:
    plain = played(BestOf(width=4, select="majority"), setting(Babbling()))
    rows = played(Aggregate(widths=(4,)), setting(Babbling()))
    assert [{**row, "episode_facts": None} for row in rows] == [{**row, "episode_facts": None} for row in plain]


def test_answers_are_made_of_distinct_answers_of_the_round_before() -> None:
    said = ["<think>x</think> m0", "m1", " ", "m3", *(f"\\boxed{{{slot}}}" for slot in range(5))]
    at, engine = scripted(in_turn(*said))
    played(Aggregate(widths=(4, 5), show=2), at)
    for request in engine.requests[4:]:
        shown = [name for name in ("m0", "m1", "m3") if name in request.prompt]
        assert len(shown) == 2 and "<think>" not in request.prompt
    at, engine = scripted(in_turn(*said))
    played(Aggregate(widths=(4, 5), show=None), at)
    assert len({request.prompt for request in engine.requests[4:]}) == 1
    at, engine = scripted(in_turn(" ", "", "\\boxed{1}"))
    played(Aggregate(widths=(2, 1)), at)
    assert engine.requests[2].prompt == "Q"


# -- spawn, multiverse, workers ----------------------------------------------------------------------------------------


def test_children_bring_back_their_results_alone() -> None:
    blocks = [
        "<spawn>" + "".join(f"<thread>{name}{number}</thread>" for number in range(3)) + "</spawn>" for name in "ab"
    ]

    def say(request: Request) -> str:
        if "<spawn>" in request.prompt or request.prompt == "Q":
            found = request.prefix.count("</results>")
            return ["first ", "then ", "so \\boxed{7}"][found] + ("" if found == 2 else blocks[found] + " more")
        return f"long work on {request.prompt}\n\nfound {request.prompt.removeprefix('<user>')}"

    for _ in range(3):
        at, engine = scripted(say)
        rows = played(Spawn(), at)
        assert [call.call for call in at.journal] == ["0.0", "1.0", "1.1", "1.2", "2.0", "3.0", "3.1", "3.2", "4.0"]  # pyright: ignore
    text = rows[0]["completion"]
    assert text.startswith("first <results>\n1. found a0\n2. found a1") and text.endswith("so \\boxed{7}")
    assert not any("long work" in request.prompt + request.prefix for request in engine.requests)
    assert note(rows)["blocks"] == 2 and note(rows)["children"] == 6


@pytest.mark.parametrize(
    ("said", "text"),
    [
        (["x<results> 1", "<thread>m</thread></spawn>", "r", "y"], "x<results>\n1. r\n</results>\ny"),
        (["x</spawn>", "y"], "x</spawn><results>\n1. not understood\n</results>\ny"),
        (["x<spawn> </spawn>", "y"], "x<spawn> </spawn>y"),
        (["<spawn><thread>m</thread><thread>m</thread></spawn>", "r", "y"], "<results>\n1. r\n2. r\n</results>\ny"),
        (
            ["<spawn><thread>m</thread><thread>n</thread><thread>o</thread></spawn>", "r", "s", "y"],
            "<results>\n1. r\n2. s\n3. not run\n</results>\ny",
        ),
        (
            ["<spawn><thread>m</thread></spawn>", "r", "<spawn><thread>n</thread></spawn>", "y"],
            "<results>\n1. r\n</results>\n<results>\n1. not run\n</results>\ny",
        ),
        (["<spawn><thread>m</thread></spawn>", "w " * 9, "y"], "<results>\n1. no result\n</results>\ny"),
    ],
)
def test_blocks_that_are_odd(said: list[str], text: str) -> None:
    at, engine = scripted(in_turn(*said))
    rows = played(Spawn(max_children=2, max_rounds=1, child_tokens=8), at)
    assert rows[0]["completion"] == text and len(engine.requests) == len(said)


def test_paths_see_the_goal_and_not_each_other() -> None:
    goal = "<Parallel><Goal><Outline>1: a</Outline><Outline>2: b</Outline></Goal>"

    def say(request: Request) -> str:
        if request.prefix.endswith("<Conclusion>"):
            return "both</Conclusion></Parallel> \\boxed{7}"
        last = request.prefix[-2:]
        return {"1:": " one</Path>x", "2:": " two"}.get(last, f"start {goal} x")

    at, engine = scripted(say)
    rows = played(Multiverse(), at)
    paths = "\n<Path>1: one</Path>\n<Path>2: two</Path>\n<Conclusion>both</Conclusion></Parallel> \\boxed{7}"
    assert rows[0]["completion"] == f"start {goal}{paths}" and note(rows) == {"blocks": 1, "paths": 2}
    assert engine.requests[2].prefix == f"start {goal}\n<Path>2:"
    at, engine = scripted(in_turn("<Goal><Outline>1: a</Outline></Goal>", "then 7"))
    rows = played(Multiverse(), at)
    assert rows[0]["completion"].endswith("</Goal>then 7") and note(rows)["blocks"] == 0


def test_workers_see_each_others_steps_once() -> None:
    at, engine = scripted(in_turn("I add.\n\nx", "I check.\n\n", "so \\boxed{7}.\n\n", "or \\boxed{8}.\n\n"))
    rows = played(Workers(), at)
    view = engine.requests[3].prompt
    assert view.count("Alice [1]: I add.") == 1 and view.count("Bob [1]: I check.") == 1
    assert rows[0]["completion"].endswith("Bob [2]: or \\boxed{8}.\n\nAlice [2]: so \\boxed{7}.")
    assert note(rows)["conflict"] == 1 and note(rows)["pairs"] == 2


def test_turns_of_tokens_join_to_the_same_step() -> None:
    words = "a b c d. "
    at, engine = scripted(lambda request: " " + " ".join((words * 9).split()[len(request.prefix.split()) :]))
    rows = played(Workers(chunk=2, turns=2, names=("A", "B"), finish_tokens=0), at)
    assert [request.prefix for request in engine.requests[2:]] == ["a b", "a b"]
    assert "B (goes on): a b" in engine.requests[2].prompt and rows[0]["status"] == "ok"


def test_the_answer_is_asked_for_where_no_step_had_it() -> None:
    at, engine = scripted(in_turn("I add.\n\n", "# no", "7} indeed"))
    rows = played(Workers(turns=1), at)
    assert engine.requests[2].params.temperature == 0 and rows[0]["completion"].endswith("\\boxed{7} indeed")
    assert json.loads(rows[0]["episode_facts"])["calls"] == 3
