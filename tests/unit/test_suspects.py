"""Finding the problems that kill engines: every guilty one, no innocent one, in few deaths."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from cluster.stages.suspects import Suspects


def search(problems: int, guilty: set[int]) -> tuple[set[int], int]:
    """Give all problems to one engine after another until it lives; return who was found, and how many engines died."""
    suspects, found, deaths = Suspects(), set[int](), 0
    todo = set(range(problems))
    while True:
        trial = suspects.next_trial()
        given_now = trial - found if trial else todo - found - suspects.waiting
        if any(key in guilty for key in given_now):
            deaths += 1
            culprit = suspects.on_died(given_now, trial)
            if culprit is not None:
                found.add(culprit)
        elif trial:
            suspects.on_survived(trial)
        else:
            return found, deaths


@given(st.integers(1, 64), st.data())
def test_exactly_the_guilty_are_found(problems: int, data: st.DataObject) -> None:
    guilty = data.draw(st.sets(st.integers(0, problems - 1), max_size=4))
    found, deaths = search(problems, guilty)
    assert found == guilty
    # each guilty problem costs one way down and one look at what is left
    assert deaths <= (len(guilty) or 0) * (math.ceil(math.log2(problems)) + 3) + (1 if guilty else 0)


def test_one_death_makes_nobody_suspect() -> None:
    suspects = Suspects()
    assert suspects.on_died({0, 1}) is None
    assert not suspects.next_trial()


def test_a_problem_that_killed_twice_but_in_company_is_tried_alone_first() -> None:
    suspects = Suspects()
    suspects.on_died({0, 1})
    assert suspects.on_died({0, 2}) is None
    assert suspects.waiting == {0}
    trial = suspects.next_trial()
    assert trial == {0}
    assert suspects.waiting == {0}, "nobody else may be given it while it is tried"
    assert suspects.on_died(trial, trial) == 0
    assert not suspects.waiting
