"""Bets as a table: what the sides of a debate bet behind each speech (strategy ``bets``)."""

from __future__ import annotations

import json
from typing import ClassVar

from operators.base import Operator
from operators.strategies.bets import OPPONENT, ROUNDS, SIDES
from operators.strategies.words import POLICY
from schemas.contract import polars_schema
from schemas.datasets import Sample
from schemas.later import pl
from schemas.studies import Bet

SPEAKERS = (POLICY, OPPONENT)


class CollectBets(Operator):
    """Make one row of each speech of a debate with bets; other samples give none."""

    version: ClassVar[int] = 1
    scope = "problem"
    inputs = {
        "samples": Sample.select(
            *("problem_key", "sample_index", "problem_id", "episode", "slot", "search_score", "reasoning", "status"),
            "episode_facts",
        ),
    }
    output = Bet

    experiment: str = ""
    """What these debates are called beside those of other experiments."""

    def run(self, samples: pl.DataFrame) -> pl.DataFrame:
        key = ["problem_key", "episode"]
        facts = pl.col("episode_facts").drop_nulls().first().over(key)
        rows = samples.filter(pl.col("episode").is_not_null()).sort(*key, "slot").with_columns(facts=facts)
        debates = rows.filter(pl.col("facts").str.json_path_match("$.strategy") == "bets", pl.col("status") == "ok")
        calls = [
            json.loads(told)["ends"][slot] for told, slot in debates.select("facts", "slot").iter_rows()
        ]  # fmt: skip
        place = pl.col("slot")
        table = debates.with_columns(
            experiment=pl.lit(self.experiment),
            debate=pl.format("{}/{}", "problem_id", "episode"),
            round=(place // len(SIDES)).replace_strict(dict(enumerate(ROUNDS)), return_dtype=pl.String),
            side=(place % len(SIDES)).replace_strict(dict(enumerate(SIDES)), return_dtype=pl.String),
            model=(place % len(SIDES)).replace_strict(dict(enumerate(SPEAKERS)), return_dtype=pl.String),
            bet=pl.col("search_score") * 100,
            call=pl.Series(calls, dtype=pl.String),
        )
        return table.select(pl.col(name).cast(dtype) for name, dtype in polars_schema(Bet).items())
