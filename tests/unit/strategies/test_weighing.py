"""Weights, draws by weights, and which node is the best."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.strategies.weighing import best, distinct, ess, multinomial, ranked, systematic, weights
from operators.strategies.words import Node

SCORES = [0.9, 0.8, 0.5, 0.1]


class Uniforms:
    """As much of an episode as weighing needs: a number that is always the same, or by name."""

    def __init__(self, uniform: float | Callable[[str], float] = 0.5) -> None:
        self.noted: dict[str, float] = {}
        self._uniform = uniform

    def uniform(self, name: str) -> float:
        return self._uniform(name) if callable(self._uniform) else self._uniform

    def note(self, **numbers: float) -> None:
        self.noted |= numbers


def _weights(scores: list[float | None], tau: float = 1.0, ep: Any = None) -> list[float]:
    return weights(ep or Uniforms(), scores, tau)  # type: ignore[arg-type]


def test_weights_are_odds() -> None:
    found = _weights([*SCORES])
    assert found == pytest.approx([0.637795, 0.283465, 0.070866, 0.007874], abs=5e-7)
    assert ess(found) == pytest.approx(2.031616, abs=5e-7)
    assert _weights([*SCORES], 2.0) == pytest.approx([0.473684, 0.315789, 0.157895, 0.052632], abs=5e-7)


def test_no_score_weighs_nothing_and_no_scores_weigh_the_same() -> None:
    ep = Uniforms()
    assert _weights([None, 0.5, 0.5], ep=ep) == [0.0, 0.5, 0.5] and not ep.noted
    assert _weights([None, None], ep=ep) == [0.5, 0.5] and ep.noted == {"degenerate": 1}
    assert _weights([1.0, 1.0, 0.0], 0.001) == pytest.approx([0.5, 0.5, 0.0])


@pytest.mark.parametrize(
    ("u", "count", "expected"),
    [(0.0, 4, [0, 0, 0, 1]), (0.999, 4, [0, 0, 1, 3]), (0.5, 8, [0, 0, 0, 0, 0, 1, 1, 2])],
)
def test_systematic_positions_are_equally_spaced(u: float, count: int, expected: list[int]) -> None:
    assert systematic(Uniforms(u), _weights([*SCORES]), count, "x") == expected  # type: ignore[arg-type]


@given(st.integers(1, 64), st.floats(1e-9, 1 - 1e-9))
def test_systematic_draws_of_equal_weights_take_each_once(count: int, u: float) -> None:
    shares = [1.0 / count] * count
    assert systematic(Uniforms(u), shares, count, "x") == list(range(count))  # type: ignore[arg-type]


@given(
    st.lists(st.one_of(st.none(), st.floats(0.0, 1.0)), min_size=1, max_size=12),
    st.integers(1, 20),
    st.floats(0.0, 1.0, exclude_max=True),
    st.sampled_from([0.05, 1.0, 3.0]),
)
def test_draws_take_only_what_weighs(scores: list[float | None], count: int, u: float, tau: float) -> None:
    shares = _weights(scores, tau)
    assert math.fsum(shares) == pytest.approx(1.0)
    for draw in (systematic, multinomial):
        places = draw(Uniforms(u), shares, count, "x")  # type: ignore[arg-type]
        assert len(places) == count and all(shares[place] > 0 for place in places)
    met = [systematic(Uniforms(u), shares, count, "x").count(place) for place in range(len(shares))]  # type: ignore[arg-type]
    assert all(abs(times - count * share) < 1 + 1e-6 for times, share in zip(met, shares, strict=True))


def test_multinomial_draws_have_numbers_of_their_own() -> None:
    numbers = {"x/0": 0.0, "x/1": 0.7, "x/2": 0.95, "x/3": 0.9999}
    assert multinomial(Uniforms(numbers.__getitem__), _weights([*SCORES]), 4, "x") == [0, 1, 2, 3]  # type: ignore[arg-type]


def _final(score: float | None, tokens: int = 1, finish: str = "stop") -> Node:
    return Node(text=str(score), ended=True, finish=finish, score=score, tokens=tokens)


def test_the_best_is_the_one_with_the_largest_score() -> None:
    assert best([_final(0.3), _final(None), _final(0.7)]) == 2
    assert best([_final(0.7, 5), _final(0.7, 3), _final(0.7, 3)]) == 1
    assert best([_final(0.9, finish="length"), _final(0.1)]) == 1
    assert best([_final(None, finish="stop"), _final(0.1, finish="cap")]) == 1
    assert best([_final(None), _final(None)]) is None and best([]) is None
    assert ranked([_final(0.1), _final(0.7, 5), _final(None), _final(0.7, 3)]) == [1, 3, 0, 2]


def test_of_equal_texts_the_first_stays() -> None:
    nodes = [Node(text="a", slot=0), Node(text="b", slot=1), Node(text="a", slot=2)]
    assert [node.slot for node in distinct(nodes)] == [0, 1]
