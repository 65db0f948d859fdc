"""Trees whose places are answers, actions or sub-questions: adaptive branching, rStar, STOC-TOT."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from typing import Any

import pytest

from operators.engine import Request
from operators.strategies.ab_mcts import AbMcts, Arm
from operators.strategies.rstar import RStar
from operators.strategies.stoc_tot import StocTot, overlap
from tests.unit.strategies.literature import in_turn, scripted
from tests.unit.strategies.playing import chosen, facts, played


def note(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return facts(rows)["note"]


# -- adaptive branching ------------------------------------------------------------------------------------------------


def test_what_is_believed_of_an_arm() -> None:
    assert Arm([0.5, 0.7]).posterior() == pytest.approx((0.4, 3, 3, 0.12))
    assert Arm().posterior() == (0.0, 1.0, 1.0, 0.1)


def test_draws_follow_what_is_believed() -> None:
    class Draws:
        def uniform(self, name: str) -> float:
            return random.Random(name).random()

    arm = Arm([0.5, 0.7] * 20)
    m, _, _, _ = arm.posterior()
    found = [arm.draw(Draws(), f"{at}") for at in range(2000)]  # type: ignore[arg-type]
    assert sum(found) / len(found) == pytest.approx(m, abs=0.01)


def _from_root(helps: bool) -> float:
    """Return the share of answers from the root where refining helps, or hurts."""

    def say(request: Request) -> str:
        depth = request.prompt.count("Look for mistakes")
        return f"depth {depth}"

    def worth(text: str) -> float:
        depth = int(text.rpartition("depth ")[2].split()[0])
        return min(1.0, 0.3 + 0.3 * depth) if helps else max(0.0, 0.5 - 0.4 * depth)

    shares: list[float] = []
    for index in range(12):
        at, engine = scripted(say, index=index)

        async def score(request: Any) -> Any:
            from operators.engine import Scored

            return Scored(worth(request.prompt), (), 1)

        engine.score = score  # type: ignore[method-assign]
        scorer: Any = {"name": "reward", "squash": "none"}
        rows = played(AbMcts(budget=16, scorer=scorer), at)
        shares.append(note(rows)["from_root"] / 16)
    return sum(shares) / len(shares)


def test_refinement_is_chosen_where_it_helps() -> None:
    assert _from_root(True) < 0.5 < 0.7 < _from_root(False)


# -- rStar -------------------------------------------------------------------------------------------------------------


def test_ends_are_worth_the_share_of_sampled_answers_and_the_critic_has_a_say() -> None:
    rests = ["\\boxed{7}", "\\boxed{8}", "\\boxed{7}", "\\boxed{7}"]

    def say(request: Request) -> str:
        slot = int(request.request_id.rpartition(".")[2])
        if "Complete this solution" in request.prompt:
            return "so \\boxed{8}" if request.prompt.endswith("so") else "so \\boxed{7}"
        if "Go on to the end" in request.prompt:
            return "so " + rests[slot % 4]
        return "a smaller step" if "only the next step" in request.prompt else "restated"

    at, engine = scripted(say)
    rows = played(RStar(rollouts=6, depth=2, votes=4, mutual=False), at)
    assert rows[0]["search_score"] == 0.75 and rows[0]["completion"].endswith("\\boxed{7}")
    at, engine = scripted(say)
    rows = played(RStar(rollouts=6, depth=2, votes=4, keep="strict"), at)
    assert note(rows)["kept"] < note(rows)["candidates"] or note(rows)["kept"] == 0
    begun = [one.prompt.rpartition(":\n")[2] for one in engine.requests if "Complete this solution" in one.prompt]
    assert len(begun) == 4 * note(rows)["candidates"]


def test_no_walk_sees_what_is_right() -> None:
    at, _ = scripted(lambda _: "nothing at all")
    rows = played(RStar(rollouts=2, depth=2, votes=2), at)
    assert rows[0]["status"] == "ok" and rows[0]["completion"] == "" and facts(rows)["ended_by"] == "nothing"
    assert "answer" not in at.problem


def test_actions_follow_what_came_before() -> None:
    at, engine = scripted(lambda request: f"text {len(engine.requests)}")
    played(RStar(rollouts=8, depth=3, votes=1, mutual=False), at)
    anew = [one.prompt for one in engine.requests if "Answer its last question anew" in one.prompt]
    assert anew and all("text" in prompt for prompt in anew)
    assert sum("Restate this problem" in one.prompt for one in engine.requests) == 1


# -- STOC-TOT ----------------------------------------------------------------------------------------------------------

PASSAGES = ["Ada was born in London.", "London lies on the Thames."]


def asking(at: Any) -> Any:
    metadata = json.dumps({"passages": PASSAGES})
    return replace(at, problem={**at.problem, "prompt": "Which river was Ada born at?", "metadata": metadata})


def say(chances: dict[str, int], final: str = "the Thames", listed: str = "") -> Any:
    def said(request: Request) -> str:
        prompt = request.prompt
        if "List up to" in prompt:
            return (
                "DONE"
                if "Q: " in prompt
                else listed or "1. Where was Ada born?\n2. where was ada born\n3. Who was Ada?"
            )
        if "How likely" in prompt:
            return next(f"<chance>{value}</chance>" for key, value in chances.items() if key in prompt)
        if "Give the final answer alone" in prompt:
            return final + (" river" if request.request_id.endswith("r1") else "")
        return "in London" if "Where" in prompt else "born"

    return said


def test_paraphrases_are_dropped_and_the_most_probable_path_answers() -> None:
    assert overlap("Where was Ada born?", "where was ada born") == 1.0
    at, engine = scripted(say({"Q: Where": 90, "Q: Who": 40}))
    rows = played(StocTot(paths=2), asking(at))
    assert sum("in a few words" in one.prompt for one in engine.requests) == 2
    assert [row["search_score"] for row in rows] == [0.9, 0.4] and rows[0]["chosen"] and chosen(rows) == "the Thames"
    assert PASSAGES[1] in engine.requests[0].prompt


def test_chances_multiply_along_a_path() -> None:
    at, _ = scripted(in_turn("one?", "a", "<chance>50</chance>", "two?", "b", "<chance>40</chance>", "the Thames"))
    rows = played(StocTot(depth=2, paths=1), asking(at))
    assert rows[0]["search_score"] == pytest.approx(0.2)


def test_an_answer_in_other_words_is_asked_for_once_more() -> None:
    at, engine = scripted(say({"Q: ": 50}, "Mississippi", "1. Where?"))
    rows = played(StocTot(paths=1), asking(at))
    assert note(rows)["ungrounded"] == 1 and sum("Give the final" in one.prompt for one in engine.requests) == 2
    at, engine = scripted(say({"Q: ": 50}, "yes", "1. Where?"))
    assert note(played(StocTot(paths=1), asking(at)))["ungrounded"] == 0


@pytest.mark.parametrize("select", ["best", "draw"])
def test_paths_without_any_chance_are_equal(select: Any) -> None:
    at, _ = scripted(say({"Q: ": 0}))
    rows = played(StocTot(select=select, paths=2), asking(at))
    assert chosen(rows) == "the Thames" and rows[0]["search_score"] == 0.0
