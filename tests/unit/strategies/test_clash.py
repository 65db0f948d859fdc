"""Knowledge conflicts: what is elicited, what is dropped and why, what is asked, and what is made of it."""

from __future__ import annotations

import json
from typing import Any

import polars as pl
import pytest
from pydantic import ValidationError

from operators.engine import Request
from operators.measure.conflict import MeasureConflict
from operators.strategies.clash import COUNTER, DROPPED, MEMORY, UNCERTAIN, Clash
from operators.strategies.conflicts import amounts, names, same
from schemas.contract import polars_schema, validate
from schemas.datasets import Problem
from schemas.episodes import Episode
from schemas.errors import BadInput
from schemas.studies import Conflict
from tests.unit.strategies.literature import scripted
from tests.unit.strategies.playing import facts, played

YES, NO = -0.01, -9.0


def said(remembers: str = "8", keeps: str = "memory", entails: bool = True, again: str | None = None) -> Any:
    """Return what a model says that remembers an answer, and answers from what it remembers or from what it reads."""

    def say(request: Request) -> str:
        text = request.prompt
        if "from what you know:" in text:
            return f"{remembers}\nIt is proven that {remembers} is it."
        if "Answer from this" in text:
            return f"It is {remembers if again is None else again}."
        if "Write a short paragraph" in text:
            return f"Everybody says {text.partition('Answer: ')[2].partition(chr(10))[0]}. {request.seed}"
        lines = dict(line.split(". ", 1)[::-1] for line in text.splitlines() if line[1:3] == ". ")
        wanted = remembers if keeps == "memory" else "Uncertain" if keeps == "uncertain" else "7"
        if keeps == "first":
            shown = text.partition("\n\n")[0]
            wanted = remembers if "proven" in shown else "7"
        return lines[wanted]

    return say


def episode(say: Any, sure: float = YES, **fields: Any) -> tuple[list[dict[str, Any]], Any]:
    at, engine = scripted(say, {"yes": sure, "no": YES + NO - sure})
    return played(Clash(**fields), at), engine


def test_a_wrong_memory_is_held_against_the_truth() -> None:
    rows, engine = episode(said("8"))
    note = facts(rows)["note"]
    assert note["right"] == 0.0 and facts(rows)["counterfactual"] and facts(rows)["oracle"]
    assert {name: value for name, value in note.items() if name.startswith("said_")} == {
        f"said_{name}": MEMORY for name in Clash().conditions
    }
    passages = [one.prompt for one in engine.requests if "Write a short paragraph" in one.prompt]
    assert sum("Answer: 7" in one for one in passages) == 2  # 1:2 wants two against
    assert sum("Answer: 8" in one for one in passages) == 1  # 2:1 wants the evidence and another
    asked = {name: one.prompt for name, one in zip(Clash().conditions, engine.requests[-len(rows) :], strict=True)}
    assert "proven" not in asked["single"] and "Everybody says 7" in asked["single"]
    assert asked["memory_first"].index("proven") < asked["memory_first"].index("Everybody")
    assert asked["counter_first"].index("proven") > asked["counter_first"].index("Everybody")
    assert "sundial" in asked["irrelevant"] and "sundial" not in asked["random"]
    assert ["says 8" in asked[name] for name in ("2:1", "1:2")] == [True, False] and len(rows) == len(
        Clash().conditions
    )


def test_a_right_memory_is_held_against_another_object_that_its_evidence_does_not_name() -> None:
    rows, engine = episode(said("7", "uncertain"), conditions=("single",))
    assert facts(rows)["note"]["right"] == 1.0 and facts(rows)["note"]["said_single"] == UNCERTAIN
    [passage] = [one.prompt for one in engine.requests if "Write a short paragraph" in one.prompt]
    assert any(f"Answer: {other}\n" in passage for other in ("8", "B", "C"))


@pytest.mark.parametrize(
    ("say", "more", "why"),
    [
        (lambda _: "I don't know\nbut it may be 7", {}, "abstained"),
        (lambda _: "7", {}, "abstained"),
        (said("8"), {"sure": NO}, "not entailed"),
        (said("8", again="7"), {}, "unstable"),
        (said("7"), {"objects": "absent"}, "no counter answer"),
    ],
)  # fmt: skip
def test_what_can_not_be_used_is_dropped_and_said(say: Any, more: dict[str, Any], why: str) -> None:
    rows, _ = episode(say, **more)
    assert DROPPED[int(facts(rows)["note"]["dropped"]) - 1] == why and "counterfactual" not in facts(rows)
    assert facts(rows)["chosen"] is None and {row["completion"] for row in rows} == {""}


def test_a_passage_that_proves_nothing_is_written_once_more_and_costs_what_was_said() -> None:
    at, engine = scripted(said("8"))
    engine.likely = {"yes": NO, "no": YES}
    engine.likely |= {f"{about}\n\nDoes the text above say that this answer is right? Answer yes or no.{word}": value
                      for about in ("Answer: 8",) for word, value in (("yes", YES), ("no", NO))}  # fmt: skip
    engine.likely = dict(sorted(engine.likely.items(), key=lambda one: -len(one[0])))
    strategy = Clash(conditions=("1:2",), passage_tokens=400)
    rows = played(strategy, at)
    note = facts(rows)["note"]
    assert DROPPED[int(note["dropped"]) - 1] == "counter memory not entailed" and facts(rows)["counterfactual"]
    written = [one for one in engine.requests if "Write a short paragraph" in one.prompt and "Answer: 7" in one.prompt]
    assert len(written) == 4 and len({one.seed for one in written}) == 4
    worst = strategy.worst(1, 400)
    told = facts(rows)
    assert told["calls"] <= worst.calls and told["scorer_passes"] == worst.passes == 10
    assert told["prompt_tokens"] <= worst.prompt_tokens and told["scorer_tokens"] <= worst.scorer_tokens


def test_conditions_are_named_or_amounts() -> None:
    assert [amounts(name) for name in ("single", "random", "3:1")] == [(0, 1), (1, 1), (3, 1)]
    with pytest.raises(ValidationError, match="'both' is no condition"):
        Clash(conditions=("both",))
    assert names("It is Rome, Italy.", "rome") and not names("Romeo", "Rome") and names("K2 is", "K2")
    assert same("1/2", "0.5") and same(" Paris.", "paris") and not same("Paris", None)


def noted(*notes: dict[str, Any], known: str = "common") -> tuple[pl.DataFrame, pl.DataFrame]:
    rows = [
        {"problem_key": f"k{at}", "episode": 0, "strategy": "clash", "note": json.dumps(note)}
        for at, note in enumerate(notes)
    ]
    problems = [{"problem_key": f"k{at}", "metadata": json.dumps({"known": known})} for at in range(len(notes))]
    schema = {name: polars_schema(Episode)[name] for name in ("problem_key", "episode", "strategy", "note")}
    about = {name: polars_schema(Problem)[name] for name in ("problem_key", "metadata")}
    return pl.DataFrame(rows, schema=schema), pl.DataFrame(problems, schema=about)


def test_memorisation_ratios_by_hand() -> None:
    def note(first: int, last: int, right: float = 1.0) -> dict[str, Any]:
        return {"right": right, "dropped": 0, "said_memory_first": first, "said_counter_first": last}

    episodes, problems = noted(
        note(MEMORY, COUNTER), note(MEMORY, COUNTER), note(MEMORY, MEMORY), note(COUNTER, UNCERTAIN, 0.0),
        note(0, COUNTER, 0.0), {"dropped": 1},
    )  # fmt: skip
    found = MeasureConflict(by="known").run(episodes.lazy(), problems.lazy())
    validate(found, Conflict, "conflict")
    told = {(row["about"], row["metric"], row["condition"]): row for row in found.to_dicts()}
    value = {key: row["value"] for key, row in told.items()}
    assert value["", "kept", ""] == pytest.approx(5 / 6) and value["", "dropped", "abstained"] == pytest.approx(1 / 6)
    assert value["", "memorised", "memory_first"] == 0.75 and value["", "memorised", "counter_first"] == 0.25
    assert value["", "order", ""] == 0.5
    assert value["", "unreadable", "memory_first"] == 0.2 and value["", "uncertain", "counter_first"] == 0.2
    flips = told["", "flips", "counter_first memory_first"]
    assert flips["value"] == pytest.approx(2 / 3) and flips["n"] == 3 and flips["p_value"] == 0.5
    assert value["memory right", "memorised", "counter_first"] == pytest.approx(1 / 3)
    assert value["memory wrong", "memorised", "counter_first"] == 0.0
    assert told["common", "kept", ""]["n"] == 6
    everything = told["", "memorised", "memory_first"]
    assert 0.0 <= everything["low"] < 0.75 <= everything["high"] <= 1.0
    with pytest.raises(BadInput, match="no episode of the strategy clash"):
        MeasureConflict().run(episodes.lazy().filter(pl.lit(False)))
