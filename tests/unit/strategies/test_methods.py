"""What each method does that no other does, on scripts where it shows."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from typing import Any

import pytest
from pydantic import ValidationError

from operators.engine import Completion, Request
from operators.strategies.beam import Beam
from operators.strategies.best_of import BestOf
from operators.strategies.dvts import Dvts
from operators.strategies.entropic import Entropic
from operators.strategies.gibbs import Gibbs
from operators.strategies.joint import Joint
from operators.strategies.particles import Anneal, Particles
from operators.strategies.steps import StepRule
from operators.strategies.weighing import logit, shares_of
from operators.strategies.words import Node
from tests.unit.strategies.on_scripts import ENDS, GOLD, PATHS, boxes, calls, search
from tests.unit.strategies.playing import Wild, chosen, facts, played, scripted, setting, steps, tree

# -- best of N, and what must be the same as it ------------------------------------------------------------------------

ONE: Any = {"max_steps": 1}
SAME = [
    Beam(width=5, beam=1, rule=ONE),
    Dvts(width=5, beam=1, rule=ONE),
    Particles(width=5, rule=ONE, scorer="prm", resampling="systematic"),  # type: ignore[arg-type]
    Particles(width=5, rule=ONE, scorer="prm", ended="kept", weights="ratio"),  # type: ignore[arg-type]
    Entropic(width=5, rule=ONE, scorer="prm"),  # type: ignore[arg-type]
    Gibbs(width=5, rule=ONE, scorer="prm", sweeps=1),  # type: ignore[arg-type]
]


@pytest.mark.parametrize("strategy", SAME, ids=lambda strategy: strategy.public_name())
def test_of_one_step_every_search_is_best_of_n(strategy: Any) -> None:
    for index in range(5):
        plain = played(BestOf(width=5), setting(Wild(), index=index))
        rows = played(strategy, setting(Wild(), index=index))
        for row in (*plain, *rows):
            row.pop("episode_facts")
        assert rows == plain


@pytest.mark.parametrize(
    ("select", "expected"), [("best", "\\boxed{3}"), ("majority", "so \\boxed{0.5}"), ("weighted", "so \\boxed{0.5}")]
)
def test_best_of_chooses_by_score_or_by_votes(select: Any, expected: str) -> None:
    class Four(Wild):
        async def generate(self, request: Request) -> list[Completion]:
            texts = ["\\boxed{1/2}", "\\boxed{3}", "so \\boxed{0.5}", "nothing"]
            return [Completion(texts[int(request.request_id.rpartition(".")[2])], "stop", 1, 1)]

    scores = {"\\boxed{1/2}\n": 0.3, "\\boxed{3}\n": 0.55, "so \\boxed{0.5}\n": 0.4, "nothing\n": 0.2}
    at = setting(Four())
    at = type(at)(**{**vars(at), "engines": {"policy": Four(), "scorer": scripted({}, _stripped(scores))}})
    strategy = BestOf(width=4, select=select)
    if select == "majority":
        assert strategy.asks == () and chosen(played(strategy, at)) == "\\boxed{1/2}"
    else:
        assert chosen(played(strategy, at)) == expected


def _stripped(scores: dict[str, float]) -> dict[str, float]:
    return {text.rstrip("\n"): value for text, value in scores.items()}


# -- beam, dvts, look-ahead --------------------------------------------------------------------------------------------


def test_a_beam_finds_what_a_greedy_choice_misses() -> None:
    rows, _ = search(Beam, tree(2), PATHS | ENDS, width=8, beam=2)
    assert chosen(rows) == steps("BB") + "\\boxed{BB}"
    rows, _ = search(Dvts, tree(2), PATHS | ENDS, width=8, beam=8)
    assert chosen(rows).startswith("A")


def test_a_beam_fills_up_with_what_is_left_of_equal_texts() -> None:
    rows, at = search(Beam, tree(1, "A"), {}, width=4, beam=2)
    assert calls(at) == [f"{group}.{slot}" for group in range(2) for slot in range(4)]
    assert len(calls(at, "score")) == 2 and {row["completion"] for row in rows} == {"A\n\n\\boxed{A}"}


def test_a_beam_does_not_grow_what_has_ended() -> None:
    script = tree(2, ends={"A": "\\boxed{early}"})
    script["Q"] = ("A\n\n.", "B\n\n.")
    scores = PATHS | ENDS | {"A \\boxed{early}": 0.99}
    rows, at = search(Beam, script, scores, width=4, beam=2)
    assert chosen(rows) == "A\n\n\\boxed{early}"
    assert next(row["slot"] for row in rows if row["chosen"]) < 4
    assert all("early" not in call.lead for call in at.journal if call.kind == "generate")


@pytest.mark.parametrize("kind", [Beam, Dvts])
def test_paths_must_be_a_multiple_of_continuations(kind: Any) -> None:
    with pytest.raises(ValidationError, match="multiple"):
        kind(width=6, beam=4)


def test_a_beam_may_copy_what_has_ended_or_shrink() -> None:
    script = tree(2, ends={"A": "\\boxed{early}"})
    scores = PATHS | ENDS | {"A \\boxed{early}": 0.99}
    rows, _ = search(Beam, script, scores, width=8, beam=4, ended="kept")
    assert sum("early" in row["completion"] for row in rows) == 4  # it holds half of the places, and is copied
    rows, _ = search(Beam, script, scores, width=8, beam=4, ended="shrink")
    assert [row["status"] for row in rows] == ["ok"] * 2 + ["none"] * 6
    assert sorted(boxes(rows)[:2]) == ["BB", "early"]


def test_trees_never_share_a_node_and_fewer_trees_are_some_of_them() -> None:
    rows = played(Dvts(width=24, beam=4, siblings=True, rule={"max_steps": 4}), setting(Wild()))  # type: ignore[arg-type]
    assert all(row["lineage"] // 4 == row["slot"] // 4 for row in rows)
    columns = ("completion", "search_score", "completion_tokens", "finish_reason")
    for look in (0, 2):
        many = played(Dvts(width=24, beam=4, lookahead=look), setting(Wild()))
        few = played(Dvts(width=12, beam=4, lookahead=look), setting(Wild()))
        assert [[row[name] for name in columns] for row in few] == [[row[name] for name in columns] for row in many[:3]]


def test_siblings_that_live_are_unfinished() -> None:
    rows = played(Dvts(width=4, beam=4, siblings=True), setting(Wild(), index=2))
    assert {row["finish_reason"] for row in rows} > {"unfinished"} and len(rows) == 4


def test_looking_ahead_takes_the_child_whose_successor_is_better() -> None:
    scores = {"A": 0.9, "B": 0.5, "A A": 0.1, "B A": 0.8, "A A \\boxed{AA}": 0.1, "B A \\boxed{BA}": 0.8}
    script = {"Q": ("A\n\n.", "B\n\n."), "QA\n\n": ("A\n\n.",), "QB\n\n": ("A\n\n.",)}
    script |= {"QA\n\nA\n\n": ("\\boxed{AA}",), "QB\n\nA\n\n": ("\\boxed{BA}",)}
    plain, _ = search(Dvts, script, scores, width=8, beam=8)
    ahead, at = search(Dvts, script, scores, width=8, beam=8, lookahead=1)
    assert (boxes(plain), boxes(ahead)) == (["AA"], ["BA"])
    assert ahead[0]["completion_tokens"] == 3  # what was only looked at is no part of it
    assert len(calls(at)) > 3
    valued = {call.partition(".")[0] for call in facts(ahead)["scores"]}
    assert valued == {"0", "2", "4"}, "a child has the value of what it leads to; what was only looked at has none"


# -- particles ---------------------------------------------------------------------------------------------------------


def test_a_constant_scorer_and_systematic_draws_keep_every_particle() -> None:
    fields: Any = {"width": 4, "resampling": "systematic", "scorer": "constant"}
    for index in range(10):
        at = setting(Wild(), index=index)
        rows = played(Particles(**fields), at)
        assert [row["lineage"] for row in rows] == [0, 1, 2, 3] and facts(rows)["note"].get("ess_min", 4.0) == 4.0


@pytest.mark.parametrize("played_times", [500, pytest.param(20_000, marks=pytest.mark.long)])
def test_the_share_of_a_good_first_letter_is_what_its_odds_say(played_times: int) -> None:
    good, bad, width = 0.8, 0.4, 4
    weigh = {score: score / (1 - score) for score in (good, bad)}
    script = {"Q": ("A\n\n.", "B\n\n."), "QA\n\n": ("\\boxed{A}",), "QB\n\n": ("\\boxed{B}",)}
    engine = scripted(script, {"A": good, "B": bad})
    strategy = Particles(width=width, scorer=GOLD)
    shares = [
        sum(box == "A" for box in boxes(played(strategy, setting(engine, index=index)))) / width
        for index in range(played_times)
    ]
    expected = sum(
        math.comb(width, k) * 0.5**width * k * weigh[good] / (k * weigh[good] + (width - k) * weigh[bad])
        for k in range(width + 1)
    )
    mean = sum(shares) / played_times
    error = math.sqrt(sum((share - mean) ** 2 for share in shares) / played_times**2)
    assert abs(mean - expected) < 3 * error < 2 / math.sqrt(played_times)


def test_an_ended_particle_is_drawn_again_or_keeps_its_place() -> None:
    script = {"Q": ("\\boxed{early}", "B\n\n."), "QB\n\n": ("\\boxed{late}",)}
    engine = scripted(script, {"\\boxed{early}": 0.999, "B": 0.01, "B \\boxed{late}": 0.01})
    for index in range(5):
        kept, drawn = [
            boxes(played(Particles(width=6, scorer=GOLD, ended=ended), setting(engine, index=index)))
            for ended in ("kept", "resampled")
        ]
        assert 0 < kept.count("late") < 6 and drawn == ["early"] * 6


def test_ratios_divide_by_the_odds_at_the_last_draw() -> None:
    filter_ = Particles(weights="ratio")
    first = Node(text="a", parent=Node(), steps=1, score=0.8)
    second = Node(text="ab", parent=first, steps=2, score=0.9)
    waiting = Node(text="c", parent=Node(), steps=1, score=0.6, ended=True)
    assert filter_.logs([first], 1, 1.0, [0.0]) == [pytest.approx(logit(0.8))]
    assert filter_.logs([second, waiting], 2, 2.0, [0.0, -1.0]) == [
        pytest.approx((logit(0.9) - logit(0.8)) / 2), pytest.approx(-1.0)
    ]  # fmt: skip
    assert Particles().logs([second, waiting], 2, 2.0, [0.0, -1.0]) == [
        pytest.approx(logit(0.9) / 2), pytest.approx(logit(0.6) / 2)
    ]  # fmt: skip


def test_the_drawn_final_goes_by_the_last_weights() -> None:
    script = {"Q": ("\\boxed{A}", "\\boxed{B}")}
    engine = scripted(script, {"\\boxed{A}": 0.75, "\\boxed{B}": 0.5})
    strategy = Particles(width=2, scorer=GOLD, select="draw")
    drawn = Counter[str]()
    for index in range(400):
        rows = played(strategy, setting(engine, index=index))
        if sorted(boxes(rows)) == ["A", "B"]:
            drawn[chosen(rows)] += 1
    share = drawn["\\boxed{A}"] / drawn.total()
    assert abs(share - 0.75) < 3 * math.sqrt(0.75 * 0.25 / drawn.total())


def test_a_temperature_is_annealed_in_equal_steps() -> None:
    anneal = Anneal(start=4.0, end=1.0, rounds=4)
    assert [anneal.at(step) for step in (1, 2, 3, 4, 9)] == [4.0, 3.0, 2.0, 1.0, 1.0]
    assert Anneal(start=4.0, end=1.0, rounds=1).at(1) == 1.0


def test_entropic_temperatures() -> None:
    strategy = Entropic(rule=StepRule(max_steps=20))
    logs: list[float | None] = [logit(score) for score in (0.99, 0.5, 0.5, 0.5)]
    taus = [strategy.tau_at(step, logs) for step in (1, 4, 9, 10)]
    assert taus == pytest.approx([3.5809, 3.0155, 2.0731, 1.0], abs=5e-5)
    warm = shares_of([None if log is None else log / taus[0] for log in logs])
    assert warm == pytest.approx([0.546, 0.1513, 0.1513, 0.1513], abs=5e-4)
    assert shares_of(logs) == pytest.approx([0.9706, 0.0098, 0.0098, 0.0098], abs=5e-5)
    assert Entropic(by="base", rule=StepRule(max_steps=20)).tau_at(4, logs) == pytest.approx(1.8)
    pair: list[float | None] = [logit(0.99), logit(0.5)]
    entropy = -(0.99 * math.log(0.99) + 0.01 * math.log(0.01)) / math.log(2)
    assert Entropic(by="entropy", threshold=1.0, rule=StepRule(max_steps=10)).tau_at(1, pair) == pytest.approx(
        1 / (entropy + (1 - entropy) / 10)
    )
    assert strategy.tau_at(1, [0.0, 0.0]) == strategy.tau_at(1, [None, None]) == strategy.tau_at(1, [2.0]) == 1.0


# -- gibbs -------------------------------------------------------------------------------------------------------------


def test_a_reference_survives_every_sweep() -> None:
    for index in range(10):
        rows = played(Gibbs(width=2, sweeps=3), setting(Wild(), index=index))
        sweeps = [rows[0:2], rows[2:4], rows[4:6]]
        for before, after in itertools.pairwise(sweeps):
            assert after[-1]["completion"] in {row["completion"] for row in before}
        assert any(row["chosen"] for row in sweeps[-1])


def test_a_reference_weighs_what_it_weighed_at_that_depth() -> None:
    """A path that is poor at first and good in the end (.4, .99) doesn't draw others to it at depth 1."""
    script = tree(1, "AB")
    scores = {"A": 0.4, "B": 0.5, "A \\boxed{A}": 0.99, "B \\boxed{B}": 0.5}
    engine, seen = scripted(script, scores), list[str]()
    for index in range(250):
        at = setting(engine, index=index)
        rows = played(Gibbs(width=3, references=1, scorer=GOLD), at)
        fresh = [call.text.strip() for call in at.journal if call.call in ("2.0", "2.1")]  # type: ignore[attr-defined]
        if boxes(rows)[-1] == "A" and fresh == ["B", "B"]:
            seen += boxes(rows)[3:5]
    assert len(seen) > 40 and 0.1 < seen.count("A") / len(seen) < 0.5  # a quarter; of its final weight nearly all


def test_references_leave_somebody_free() -> None:
    with pytest.raises(ValidationError, match="fewer"):
        Gibbs(width=2, references=2)
    with pytest.raises(ValidationError, match="multinomial"):
        Gibbs(resampling="systematic")


# -- joint thinking ----------------------------------------------------------------------------------------------------


class Thinks(Wild):
    """Says one thing with thinking, one without, and one where it doubts."""

    def __init__(self, thought: str, quick: str, again: str = "") -> None:
        super().__init__()
        self.said = {"0.0": thought, "0.1": quick, "1.0": again}
        self.prefixes: dict[str, str] = {}

    async def generate(self, request: Request) -> list[Completion]:
        call = request.request_id.rpartition("/")[2]
        self.prefixes[call] = request.prefix
        return [Completion(self.said[call], "stop", 1, 2)]


def test_joint_thinking_ends_where_both_ways_agree() -> None:
    engine = Thinks("hm </think> \\boxed{0.5}", "\\boxed{1/2}")
    rows = played(Joint(), setting(engine))
    assert chosen(rows) == "<think>\nhm </think> \\boxed{0.5}" and facts(rows)["ended_by"] == "agreed"
    assert engine.prefixes == {"0.0": "<think>\n", "0.1": "<think>\n\n</think>\n\n"} and facts(rows)["calls"] == 2


@pytest.mark.parametrize(
    ("said", "expected", "named"),
    [
        (("a</think>\\boxed{4}", "\\boxed{5}", "so</think>\\boxed{6}"), "\\boxed{6}", ("4 and 5",)),
        (("a</think>nothing", "\\boxed{5}", "so</think>\\boxed{6}"), "\\boxed{6}", ("none and 5",)),
        (("a</think>\\boxed{4}", "\\boxed{5}", "never ends"), "\\boxed{4}", ("4 and 5",)),
        (("nothing", "\\boxed{5}", "never ends"), "\\boxed{5}", ("none and 5",)),
        (("nothing", "nothing", "so</think>\\boxed{6}"), "\\boxed{6}", ()),
    ],
)
def test_joint_thinking_thinks_again_where_they_differ(
    said: tuple[str, str, str], expected: str, named: tuple[str, ...]
) -> None:
    engine = Thinks(*said)
    rows = played(Joint(), setting(engine))
    assert chosen(rows).endswith(expected) and facts(rows)["calls"] == 3 and facts(rows)["note"]["rounds"] == 2
    assert all(one in engine.prefixes["1.0"] for one in named)
    assert bool(named) == ("candidate" in engine.prefixes["1.0"])


def test_joint_thinking_without_any_answer_found_nothing() -> None:
    rows = played(Joint(), setting(Thinks("a", "b", "c")))
    assert facts(rows)["ended_by"] == "nothing" and facts(rows)["chosen"] is None and rows[0]["chosen"]
