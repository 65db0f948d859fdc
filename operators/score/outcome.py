"""Outcome rewards: one score for each whole completion."""

from __future__ import annotations

from typing import ClassVar

from operators.engine import Engine, ScoreRequest
from operators.score.scoring import Row, Scoring, name_of


class ScoreOutcome(Scoring):
    """Score every completion with a reward model: a sequence classifier over the conversation and its answer.

    With one label the score is the model's own reward (a logit: see ``transform`` of ``select.weighted``), with several
    the last one's probability.
    """

    version: ClassVar[int] = 1

    async def score(self, engine: Engine, problem: Row, row: Row) -> Row:
        prompt = await self.rendered(engine, problem, row["completion"])
        return {"score": (await engine.score(ScoreRequest(prompt, "", "reward", request_id=name_of(row)))).score}
