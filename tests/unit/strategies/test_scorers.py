"""Scorers: what gives a text its value, whom it asks, and what that takes."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from operators.engine import Completion, EngineError, Request, Scored, ScoreRequest
from operators.strategies.beam import Beam
from operators.strategies.episode import Episode
from operators.strategies.scorers import NodeScorer, Scorer
from operators.strategies.strategy import Strategy
from operators.strategies.words import Node
from schemas.errors import BadInput
from tests.unit.strategies.playing import PROBLEM, Wild, facts, played, setting

BUILD: TypeAdapter[NodeScorer] = TypeAdapter(Scorer)


class Judge(Wild):
    """Answers by what a request ends with; keeps what it was asked."""

    def __init__(self, **told: Any) -> None:
        super().__init__()
        self.told, self.requests = told, list[ScoreRequest]()

    async def generate(self, request: Request) -> list[Completion]:
        text = self.told["words"][request.request_id.rpartition(".")[2]]
        return [Completion(text, "stop", 1, 1)]

    async def score(self, request: ScoreRequest) -> Scored:
        self.requests.append(request)
        found = next(value for key, value in self.told.items() if (request.prompt + request.completion).endswith(key))
        if found is None:
            raise EngineError("too long")
        return Scored(min(found), tuple(found), 7) if isinstance(found, tuple) else Scored(found, (), 7)


def _scores(scorer: Any, engine: Wild, *nodes: Node, ep: Episode | None = None) -> list[float | None]:
    made = BUILD.validate_python(scorer)
    return [node.score for node in asyncio.run(made.judge(ep or Episode(setting(engine)), nodes))]


@pytest.mark.parametrize(
    ("reduce", "value"), [("last", 0.8), ("min", 0.5), ("prod", 0.9 * 0.5 * 0.8), ("mean", 2.2 / 3)]
)
def test_prm_makes_one_value_of_the_steps(reduce: str, value: float) -> None:
    engine = Judge(**{"c<t>": (0.9, 0.5, 0.8)})
    scorer = {"name": "prm", "reduce": reduce, "step_tag": "<t>"}
    assert _scores(scorer, engine, Node(text="a\n\nb\n\n\nc\n\n")) == [pytest.approx(value)]
    assert engine.requests[0].completion == "a<t>b<t>c<t>"


def test_prm_whole_shows_one_step_in_one_line() -> None:
    engine = Judge(**{"c<t>": (0.25,)})
    assert _scores({"name": "prm", "reduce": "whole", "step_tag": "<t>"}, engine, Node(text="a\n\nb\nc\n\n")) == [0.25]
    assert engine.requests[0].completion == "a b c<t>"


def test_what_is_refused_or_not_a_number_has_no_value() -> None:
    engine = Judge(**{"a\n": None, "b\n": (0.5, 0.5), "c\n": (math.nan,), "d\n": (1.5,)})
    assert _scores("prm", engine, *[Node(text=text) for text in "abcd"]) == [None, None, None, 1.0]


def test_the_same_text_is_scored_once_and_what_failed_never() -> None:
    engine, nodes = Judge(**{"a\n": (0.5,), "b\n": (0.1,)}), [Node(text="a"), Node(text="a\n\n"), Node(text="b")]
    ep = Episode(setting(engine))
    assert _scores("prm", engine, *nodes, Node(text="z", finish="error"), Node(), ep=ep) == [0.5, 0.5, 0.1, None, None]
    assert _scores("prm", engine, Node(text="a"), ep=ep) == [0.5]
    assert len(engine.requests) == 2 and (ep.bill.passes, ep.bill.scorer_tokens) == (2, 14)


def test_a_node_that_a_cap_ended_keeps_its_score() -> None:
    assert _scores("prm", Judge(), Node(text="a", finish="cap", score=0.4)) == [0.4]


def test_reward_is_squashed() -> None:
    engine = Judge(good=2.0, bad=-2000.0)
    assert _scores("reward", engine, Node(text="good"), Node(text="bad")) == pytest.approx([1 / (1 + math.exp(-2)), 0])
    assert engine.requests[0].prompt.endswith("Q good")  # the whole conversation
    assert _scores({"name": "reward", "temperature": 4}, Judge(good=2.0), Node(text="good")) == [
        pytest.approx(1 / (1 + math.exp(-0.5)))
    ]
    assert _scores({"name": "reward", "squash": "none"}, Judge(good=0.75), Node(text="good")) == [0.75]


def test_truth_is_the_share_of_yes() -> None:
    engine = Judge(**{"(A": (math.log(0.3),), "(B": (math.log(0.1),)})
    ep = Episode(setting(engine))
    assert _scores("truth", engine, Node(text="a"), ep=ep) == [pytest.approx(0.75)]
    assert ep.bill.passes == 2 and "Solution so far: a" in engine.requests[0].prompt


def test_rating_is_the_mean_of_words_and_asked_for_once() -> None:
    words = {"0": "I am Sure", "1": "maybe impossible, no: likely", "2": "who knows"}
    ep = Episode(setting(Judge(words=words)))
    assert _scores("rating", Judge(), Node(text="a"), Node(text="a"), ep=ep) == [pytest.approx(0.5)] * 2
    assert _scores("rating", Judge(), Node(text="a"), ep=ep) == [pytest.approx(0.5)] and ep.bill.calls == 3


def test_rating_by_other_words() -> None:
    words = {"0": "yes", "1": "yes"}
    scorer = {"name": "rating", "votes": 2, "words": {"yes": 0.9, "no": 0.0}}
    assert _scores(scorer, Wild(), Node(text="a"), ep=Episode(setting(Judge(words=words)))) == [pytest.approx(0.9)]


def test_certainty_is_about_the_last_step_and_asks_nobody() -> None:
    nodes = [Node(text="a", step_logprob=-0.5), Node(text="b", step_logprob=None), Node(text="c", step_logprob=0.1)]
    assert _scores("certainty", Judge(), *nodes) == [pytest.approx(math.exp(-0.5)), None, 1.0]


def test_controls() -> None:
    ep = Episode(setting(Judge()))
    first, other, again = _scores("random", Judge(), Node(text="a"), Node(text="b"), Node(text="a"), ep=ep)
    assert first == again != other and first is not None and 0 <= first < 1
    assert _scores({"name": "constant", "value": 0.25}, Judge(), Node(text="a")) == [0.25]


def test_a_verdict_is_asked_of_ended_texts_and_kept_in_the_journal() -> None:
    scorer = {"name": "verdict", "verifier": "verify.exact"}
    engine = Wild()
    at = setting(engine)
    about = {**PROBLEM, "answer": "7", "task_type": "math", "verification": None}
    ep = Episode(type(at)(**{**vars(at), "problem": about}))
    nodes = [Node(text="\\boxed{7}", ended=True), Node(text="\\boxed{8}", ended=True), Node(text="\\boxed{7}")]
    assert _scores(scorer, engine, *nodes, ep=ep) == [1.0, 0.0, 0.5]
    calls = [call for call in at.journal if call.kind == "verdict"]  # type: ignore[attr-defined]
    assert [call.value for call in calls] == [1.0, 0.0] and all(call.call.startswith("s/") for call in calls)
    assert ep.bill.parts == (0, 0, 0, 0, 0, 0)
    again = Episode(setting(engine, calls))  # without the answer: the journal has what is needed
    assert _scores(scorer, engine, *nodes[:2], ep=again) == [1.0, 0.0]


def test_a_verifier_that_needs_what_an_episode_has_not_is_refused() -> None:
    with pytest.raises(BadInput, match=r"verify\.math needs workers"):
        _scores({"name": "verdict", "verifier": "verify.math"}, Wild(), Node(text="a", ended=True))
    with pytest.raises(ValidationError, match="isn't a verifier"):
        BUILD.validate_python({"name": "verdict", "verifier": "select.majority"})


def test_an_oracle_marks_its_episode() -> None:
    strategy = Beam(width=2, beam=1, scorer={"name": "verdict", "verifier": "verify.exact"})  # type: ignore[arg-type]
    assert strategy.shows_answers and strategy.asks == () and not Beam().shows_answers
    at = setting(Wild())
    rows = played(strategy, type(at)(**{**vars(at), "problem": {**PROBLEM, "answer": "1", "verification": None}}))
    assert facts(rows)["oracle"] is True


@pytest.mark.parametrize(
    ("scorer", "asks", "passes", "calls"),
    [("prm", ("scorer",), 1, 0), ("reward", ("scorer",), 1, 0), ("truth", (), 2, 0), ("rating", (), 0, 3),
     ("certainty", (), 0, 0), ("random", (), 0, 0), ("constant", (), 0, 0)],
)  # fmt: skip
def test_a_scorer_says_whom_it_asks_and_what_it_takes(
    scorer: str, asks: tuple[str, ...], passes: int, calls: int
) -> None:
    strategy: Strategy = Beam(scorer=scorer)  # type: ignore[arg-type]
    assert strategy.asks == asks
    most = BUILD.validate_python(scorer).most(10, 20)
    assert (most.passes, most.calls) == (passes, calls)
    assert bool(strategy.cautions) == (scorer in ("truth", "rating"))


def test_a_critic_of_its_own_plays_where_it_is_named() -> None:
    strategy = Beam(scorer={"name": "truth", "role": "critic"})  # type: ignore[arg-type]
    assert strategy.asks == ("critic",) and not strategy.cautions
    critic, policy = Judge(**{"(A": (-1.0,), "(B": (-1.0,)}), Wild()
    at = setting(policy)
    ep = Episode(type(at)(**{**vars(at), "engines": {"policy": policy, "critic": critic}}))
    assert _scores({"name": "truth", "role": "critic"}, policy, Node(text="a"), ep=ep) == [0.5]
    assert len(critic.requests) == 2 and not policy.asked
