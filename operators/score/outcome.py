"""Outcome rewards: one score for each whole completion."""

from __future__ import annotations

from typing import Any, ClassVar

import polars as pl

from operators.asking import AskingOperator
from operators.engine import Engine, EngineError, Scored, ScoreRequest
from schemas import datasets
from schemas.contract import polars_schema
from schemas.datasets import Problem, Score


class ScoreOutcome(AskingOperator):
    """Score every completion with a reward model: a sequence classifier over the conversation and its answer.

    With one label the score is the model's own reward, with several the last one's probability. Each distinct
    completion of a problem is scored once.
    """

    version: ClassVar[int] = 1
    scope = "sample"
    inputs = {
        "problems": Problem.select("problem_key", "prompt", "messages"),
        "samples": datasets.Sample.select(
            "problem_key", "sample_index", "problem_id", "completion", "completion_hash", "status"
        ),
    }
    output = Score

    scorer: str = "outcome"
    """Name in the ``scorer`` column."""
    system: str | None = None
    chat: bool = True
    """Apply the reward model's chat template; otherwise the turns are joined as plain text."""

    async def ask(self, engine: Engine, **inputs: Any) -> pl.DataFrame:
        problems: pl.DataFrame = inputs["problems"]
        samples: pl.DataFrame = inputs["samples"]
        asked = {row["problem_key"]: row for row in problems.iter_rows(named=True)}
        keys = ["problem_key", "completion_hash"]
        distinct = samples.filter(pl.col("status") == "ok").unique(keys, maintain_order=True)
        # neighbours in length cost the same, and the samples of a problem share their beginning
        distinct = distinct.sort("problem_key", pl.col("completion").str.len_bytes(), maintain_order=True)

        async def one(row: dict[str, Any]) -> Scored:
            turns = self._conversation(asked[row["problem_key"]], row["completion"])
            prompt = await engine.render(turns, chat=self.chat, answered=True)
            return await engine.score(ScoreRequest(prompt, "", "reward", request_id=_name(row)))

        rows = list(distinct.iter_rows(named=True))
        answers = await self.ask_each(engine, rows, one)
        scores = distinct.select(keys).with_columns(
            score=pl.Series([a.score if isinstance(a, Scored) else None for a in answers], dtype=pl.Float64),
            detail=pl.Series([str(a) if isinstance(a, EngineError) else None for a in answers], dtype=pl.String),
        )
        found = samples.join(scores, on=keys, how="left", maintain_order="left").with_columns(
            scorer=pl.lit(self.scorer),
            step_scores=pl.lit(None, dtype=pl.List(pl.Float32)),
            status=pl.when(pl.col("status") != "ok").then(pl.lit("skipped"))
            .when(pl.col("score").is_null()).then(pl.lit("error"))
            .otherwise(pl.lit("ok")),
        )  # fmt: skip
        return found.select(list(polars_schema(Score)))

    def _conversation(self, problem: dict[str, Any], completion: str) -> list[dict[str, str]]:
        turns: list[dict[str, str]] = list(problem["messages"] or [{"role": "user", "content": problem["prompt"]}])
        if self.system is not None and turns[0]["role"] != "system":
            turns.insert(0, {"role": "system", "content": self.system})
        return [*turns, {"role": "assistant", "content": completion}]


def _name(row: dict[str, Any]) -> str:
    return f"{row['problem_key']}/{row['sample_index']}"
