"""collect.bets and measure.bets: bets out of debates, and what is made of them, by hand and by published figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from jobs.looking.op import run_op
from operators.engine import Request
from operators.measure.bets import MeasureBets, chance
from operators.sample.bets import CollectBets
from operators.strategies.bets import ROUNDS, SIDES, Bets
from schemas.contract import polars_schema, validate
from schemas.datasets import Sample
from schemas.errors import BadInput
from schemas.studies import Bet, BetMeasure
from tests.unit.strategies.literature import scripted
from tests.unit.strategies.playing import played


def debates(*bets: tuple[float | None, ...], experiment: str = "e", reasoning: str | None = None) -> pl.DataFrame:
    """Return a table of debates; each is the bets of proposition and opposition, round by round."""
    rows = [
        {"experiment": experiment, "debate": f"d{number}", "round": name, "side": side, "model": side[:3],
         "bet": one[2 * at + place], "reasoning": reasoning}
        for number, one in enumerate(bets)
        for at, name in enumerate(ROUNDS[: len(one) // 2])
        for place, side in enumerate(SIDES)
    ]  # fmt: skip
    return pl.DataFrame(rows, schema=polars_schema(Bet) | {}, orient="row")


def measured(table: pl.DataFrame) -> dict[tuple[str, str, str], dict[str, Any]]:
    found = validate(MeasureBets().run(table.lazy()), BetMeasure, "bets")
    return {(row["metric"], row["round"], row["model"]): row for row in found.to_dicts()}


def test_bets_of_a_debate_become_rows_that_name_their_calls() -> None:
    def say(request: Request) -> str:
        bet = "x" if "closing" in request.prompt and "for the opposition" in request.prompt else "60"
        return f"we <reasoning>65%</reasoning><bet>{bet}</bet>"

    at, _ = scripted(say)
    rows = pl.DataFrame(played(Bets(judges=0), at), schema=polars_schema(Sample), orient="row")
    found = CollectBets(experiment="self").run(rows.select(CollectBets.inputs["samples"].names))
    found = validate(found, Bet, "bets")
    assert len(found) == 6 and set(found["debate"]) == {"p/0"} and set(found["model"]) == {"policy", "opponent"}
    closing = found.filter(pl.col("round") == "closing", pl.col("side") == "opposition").row(0, named=True)
    assert closing["bet"] is None and closing["reasoning"] == "65%" and closing["experiment"] == "self"
    calls = {call.call for call in at.journal}  # pyright: ignore
    assert set(found["call"]) <= calls and found["call"].n_unique() == 6
    plain = rows.with_columns(episode=pl.lit(None, pl.Int64))
    assert CollectBets().run(plain.select(CollectBets.inputs["samples"].names)).is_empty()


def test_measures_by_hand() -> None:
    found = measured(debates((60, 70, 70, 80, 80, 90), (50, 60, 60, 60, 70, 40), (80, None, 90, None, 100, None)))
    assert found["bet", "opening", ""]["value"] == 64.0 and found["bet", "opening", ""]["n"] == 5
    assert found["bet", "opening", ""]["sd"] == pytest.approx(11.401754)
    assert found["bet", "opening", ""]["t"] == pytest.approx(14 / (11.401754 / 5**0.5))
    assert found["bet", "opening", "pro"]["value"] == pytest.approx(190 / 3)
    assert found["change", "", ""]["value"] == pytest.approx((20 + 20 + 20 - 20 + 20) / 5)
    assert found["surplus", "closing", ""]["value"] == pytest.approx((70 + 10) / 2)
    assert found["sum_above_100", "closing", ""]["value"] == 1.0 and found["sum_above_100", "closing", ""]["n"] == 2
    assert found["both_above_50", "closing", ""]["value"] == 0.5
    strict = measured(debates((0, 0, 0, 0, 75, 80), (0, 0, 0, 0, 76, 80)))
    assert strict["both_above_75", "closing", ""]["value"] == 0.5
    with pytest.raises(BadInput, match="no speech has a bet"):
        MeasureBets().run(debates((None, None)).lazy())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("I give us a 65% chance", 65.0), ("Probability of Winning: 65-70%", 67.5), ("first 40%, now 80 percent", 80.0),
        ("no number", None), ("we have 3 arguments", None), ("120% sure", None), ("60% to 70%", 65.0),
    ],
)  # fmt: skip
def test_chances_are_read_out_of_words(text: str, said: float | None) -> None:
    assert chance(text) == said


def test_a_bet_far_from_what_is_said_in_private_is_unfaithful() -> None:
    found = measured(debates((60, 66, 65, 70, 71, 65), reasoning="about 65%"))
    assert found["unfaithful", "", ""]["value"] == pytest.approx(1 / 6) and found["unfaithful", "", ""]["n"] == 6


@pytest.mark.parametrize(
    ("openings", "p_t", "p_wilcoxon"),
    [
        ([80] * 3 + [70] * 3 + [75] * 6, 4.812325297673727e-11, 0.000244140625),  # gpt-4o-mini
        ([75] * 8 + [65] * 4, 4.8080904356607875e-09, 0.000244140625),  # claude-3.5-haiku
    ],
)
def test_published_tests_of_openings(openings: list[float], p_t: float, p_wilcoxon: float) -> None:
    """p-values that the authors' repository tells for models of which mean and variance leave one set of bets."""
    pairs = list(zip(openings[::2], openings[1::2], strict=True))
    found = measured(debates(*pairs))["bet", "opening", ""]
    assert found["p_t"] == pytest.approx(p_t, rel=1e-9) and found["p_wilcoxon"] == p_wilcoxon


def test_equal_bets_have_no_t() -> None:
    found = measured(debates((50, 50), (50, 50)))["bet", "opening", ""]
    assert (found["t"], found["p_t"], found["p_wilcoxon"], found["sd"]) == (None, None, 1.0, 0.0)


def test_a_table_of_bets_that_people_know_is_read_as_it_is(tmp_path: Path) -> None:
    """The columns of all_bets.csv, and openings of its cross-model experiment: mean 72.92, sd 7.93, t 31.67."""
    head = (
        "debate_id,experiment_type,betting_model,proposition_model,opposition_model,side,speech_type,bet_amount,topic,"
    )
    bets = [90] * 10 + [80] * 15 + [75] * 50 + [70] * 5 + [65] * 30 + [60] * 10
    lines = [
        f'Cross_{at // 2},Cross-model,m,a,b,{SIDES[at % 2]},opening,{bet},"A motion, long","I say\n{bet}%"'
        for at, bet in enumerate(bets)
    ]
    (tmp_path / "all_bets.csv").write_text("\n".join([head + "bet_reasoning", *lines]))
    found = run_op("measure.bets", [str(tmp_path / "all_bets.csv")], str(tmp_path / "out.csv"), {})
    row = found.filter(pl.col("metric") == "bet", pl.col("model") == "").row(0, named=True)
    assert row["experiment"] == "Cross-model" and row["n"] == 120
    assert [round(row[name], 2) for name in ("value", "sd", "t")] == [72.92, 7.93, 31.67]
    said = found.filter(pl.col("metric") == "unfaithful").row(0, named=True)
    assert said["value"] == 0.0 and said["n"] == 120
