"""What each method that searches a tree does and no other: rebase, astar, mcts, trees of thoughts."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.engine import Completion, Request
from operators.strategies.astar import AStar
from operators.strategies.mcts import Mcts
from operators.strategies.rebase import Rebase, allot
from operators.strategies.steps import StepRule
from operators.strategies.tot_bfs import TotBfs
from operators.strategies.tot_dfs import TotDfs
from operators.strategies.tree import Place, promise
from operators.strategies.words import Node
from tests.unit.strategies.on_scripts import ENDS, GOLD, PATHS, boxes, calls, search
from tests.unit.strategies.playing import Wild, chosen, facts, played, scripted, setting, steps, tree

# -- rebase ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scores", "count", "expected"),
    [
        ([0.9, 0.8, 0.5, 0.1], 16, [10, 5, 1, 0]),
        ([0.5] * 5, 16, [4, 3, 3, 3, 3]),
        ([0.9, 0.8, 0.5, 0.1], 3, [2, 1, 0, 0]),
        ([None, None], 3, [2, 1]),
        ([0.9], 7, [7]),
    ],
)
def test_children_are_shared_out_by_reward(scores: list[float | None], count: int, expected: list[int]) -> None:
    assert allot(scores, count, 0.2) == expected


@given(
    st.lists(st.floats(0.0, 1.0), min_size=1, max_size=20),
    st.integers(0, 64),
    st.sampled_from([0.001, 0.2, 1.0, 50.0]),
)
def test_all_children_are_shared_out(scores: list[float], count: int, tau: float) -> None:
    found = allot(sorted(scores, reverse=True), count, tau)
    assert sum(found) == count and min(found) >= 0


def test_an_ended_node_takes_one_of_the_width() -> None:
    script = tree(2, ends={"A": "\\boxed{early}"})
    rows, at = search(Rebase, script, PATHS | ENDS, width=8)
    assert sum(row["status"] == "ok" for row in rows) == 8
    counts = Counter(call.call.partition(".")[0] for call in at.journal if call.kind == "generate")
    early = sum("early" in row["completion"] for row in rows)
    assert counts["0"] == counts["1"] == 8 and early and counts["2"] == 8 - early


# -- astar -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scores", "total"), [((0.5,), 0.5), ((0.5, 0.7), 0.5), ((0.5, 0.7, 0.6), 0.6), ((0.5, 0.4, 0.6), 0.6)]
)
def test_a_path_costs_its_first_step_and_all_drops(scores: tuple[float, ...], total: float) -> None:
    node, strategy = Node(), AStar()
    for score in scores:
        node = Node(parent=node, score=score, steps=node.steps + 1)
    assert strategy.so_far(node) + strategy.to_go(node) == pytest.approx(total)


def test_astar_turns_back_where_a_promise_breaks() -> None:
    script = {"Q": ("A\n\n.", "B\n\n."), "QA\n\n": ("A\n\n.",), "QB\n\n": ("\\boxed{BB}",)}
    rows, _ = search(AStar, script, {"A": 0.9, "B": 0.7, "A A": 0.2, "B \\boxed{BB}": 0.8}, branch=8)
    assert boxes(rows) == ["BB"] and facts(rows)["calls"] == 3


def test_astar_writes_to_the_end_what_it_has_no_expansions_for() -> None:
    rows, at = search(AStar, tree(3), {}, branch=8, expansions=2, width=2)
    assert facts(rows)["ended_by"] == "cap" and [row["finish_reason"] for row in rows] == ["stop"] * 2
    assert len({call.partition(":")[0] for call in calls(at)}) == 2 + 2


def test_ties_are_broken_by_depth() -> None:
    at = setting(scripted(tree(3)))
    rows = played(AStar(scorer="constant", branch=2), at)  # type: ignore[arg-type]
    assert facts(rows)["calls"] == 4 and len(rows[0]["completion"].split()) == 4


# -- mcts --------------------------------------------------------------------------------------------------------------


def test_puct() -> None:
    parent = Place(Node(), visits=10)
    known = [(0.6, 4, 0.5), (0.7, 5, 0.3), (0.2, 1, 0.2)]
    found = [promise(parent, Place(Node(), prior, visits, q * visits), 19652, 1.25) for q, visits, prior in known]
    assert found == pytest.approx([0.99546, 0.89773, 0.59546], abs=5e-6)


def test_walks_go_as_a_simulation_by_hand_does() -> None:
    leaves = {"AA": 0.3, "AB": 0.6, "BA": 0.5, "BB": 0.2}
    inner = {"A": 0.7, "B": 0.4}
    script = {
        "Q": ("A\n\n.", "B\n\n."),
        "QA\n\n": ("\\boxed{AA}", "\\boxed{AB}"),
        "QB\n\n": ("\\boxed{BA}", "\\boxed{BB}"),
    }
    scores = inner | {f"{path[0]} \\boxed{{{path}}}": value for path, value in leaves.items()}
    strategy = Mcts(scorer=GOLD, prior="uniform", branch=12, paths=8)
    rows = played(strategy, setting(scripted(script, scores)))

    visits, totals = Counter[str](), Counter[str]()

    def up(parent: str, child: str) -> float:
        own = inner.get(child, leaves.get(child, 0.0))
        mean = totals[child] / visits[child] if visits[child] else own
        weight = math.log((visits[parent] + 19653) / 19652) + 1.25
        return mean + weight * math.sqrt(visits[parent]) / (1 + visits[child]) * 0.5

    ends: list[str] = []
    for _ in range(8):
        way = [""]
        while len(way[-1]) < 2:
            way.append(max((way[-1] + letter for letter in "AB"), key=lambda child: up(way[-1], child)))
        for place in way:
            visits[place] += 1
            totals[place] += leaves[way[-1]]
        ends.append(way[-1])
    found = [box for box, row in zip(boxes(rows), rows, strict=True) if row["status"] == "ok"]
    assert len(set(ends)) > 2 and found == list(dict.fromkeys(ends))


def test_an_expansion_drops_what_was_cut_and_tries_again() -> None:
    class Cut(Wild):
        async def generate(self, request: Request) -> list[Completion]:
            self.asked.append(request.request_id)
            if len(self.asked) < 3:
                return [Completion("a b", "length", 1, 2) for _ in range(request.n)]
            return [Completion("\\boxed{1}", "stop", 1, 1) for _ in range(request.n)]

    engine = Cut()
    rows = played(Mcts(paths=2, branch=3), setting(engine))
    assert len(engine.asked) == 3 + 1 and boxes(rows) == ["1", ""] and rows[1]["status"] == "none"
    engine = Wild(most=True)
    rows = played(Mcts(paths=2, branch=2), setting(engine))
    assert len([call for call in engine.asked if not call.startswith("s/")]) >= 3
    assert rows[0]["search_score"] == 0.0 and rows[0]["finish_reason"] == "unfinished"


def test_moves_go_to_where_most_walks_went() -> None:
    rows, _ = search(Mcts, tree(2), PATHS | ENDS, paths=12, branch=8, scheme="moves")
    assert len(rows) == 1 and boxes(rows) == ["BB"]


# -- trees of thoughts -------------------------------------------------------------------------------------------------


def test_breadth_first_keeps_the_best_of_a_level() -> None:
    rows, _ = search(TotBfs, tree(2), PATHS | ENDS, keep=2, branch=6, rule={"max_steps": 3})
    assert chosen(rows) == steps("BB") + "\\boxed{BB}" and len(rows) == 2


def test_proposals_are_the_lines_of_a_reply() -> None:
    class Lists(Wild):
        async def generate(self, request: Request) -> list[Completion]:
            if request.prompt != "Q":
                return [Completion("1. add\n- subtract\n\n(3) guess\nmore", "stop", 1, 6)]
            return [Completion("\\boxed{" + request.prefix.strip() + "}", "stop", 1, 1)]

    scores = {"subtract": 0.9, "add": 0.2, "guess": 0.3, "subtract \\boxed{subtract}": 0.9, "guess \\boxed{guess}": 0.1}
    at = setting(Lists())
    at = type(at)(**{**vars(at), "engines": {"policy": Lists(), "scorer": scripted({}, scores)}})
    strategy = TotBfs(scorer=GOLD, propose="list", branch=3, keep=2, rule=StepRule(max_steps=2))
    rows = played(strategy, at)
    assert boxes(rows) == ["subtract", "guess"] and [row["completion_tokens"] for row in rows] == [2, 2]


def test_votes_name_one_and_whole_numbers_are_read() -> None:
    class Votes(Wild):
        async def generate(self, request: Request) -> list[Completion]:
            if request.prompt != "Q":
                said = ["**BEST: 10**", "best is 1? no. BEST: 10", "none", "BEST: 1", "BEST: 77"]
                return [Completion(said[int(request.request_id.rpartition(".")[2])], "stop", 1, 1)]
            return [Completion(f"\\boxed{{{child}}}", "stop", 1, 1) for child in range(request.n)]

    rows = played(TotBfs(evaluate="vote", branch=12, keep=2), setting(Votes()))
    assert boxes(rows) == ["9", "0"] and [row["search_score"] for row in rows] == [0.4, 0.2]


def test_drawn_levels_without_any_value_are_drawn_evenly() -> None:
    scorer: Any = {"name": "constant", "value": 0.0}
    first = [played(TotBfs(draw=True, keep=1, branch=2, scorer=scorer), setting(scripted(tree(1)), index=index))
             for index in range(40)]  # fmt: skip
    assert {box for rows in first for box in boxes(rows)} == {"A", "B"}


def test_depth_first_goes_back_where_nothing_can_come_of_it() -> None:
    scores = PATHS | ENDS | {"A A": 0.0, "A B": 0.0}
    rows, at = search(TotDfs, tree(2), scores, branch=8, paths=1)
    assert boxes(rows)[0] == "BB" and len(calls(at)) == 8 * 4
    rows, _ = search(TotDfs, tree(2), scores, branch=8, paths=2, threshold=None)
    assert all(box.startswith("A") for box in boxes(rows))
    rows, _ = search(TotDfs, tree(3), {}, branch=2, limit=1)
    assert rows[0]["finish_reason"] == "stop" and rows[0]["status"] == "ok"
