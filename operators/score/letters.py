"""How sure a model is of the letter that it chose, at the place where it says it."""

from __future__ import annotations

import json
import math
import re
from typing import Any, ClassVar

from pydantic import Field

from operators.asking import Tokens
from operators.engine import Engine, EngineError, ScoreRequest
from operators.score.scoring import Row, Scoring, name_of
from operators.select.classes import one_verifier
from schemas.datasets import SAMPLE_KEY, Problem, Verdict
from schemas.later import pl

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class ScoreLetters(Scoring):
    """Score answers to multiple choice by the probability of the chosen letter among the letters of all options.

    The letter is what ``verdicts`` read (``predicted_answer``), and its place the last one in the completion where it
    stands alone. Given the text up to there, each option's letter has a likelihood; the score is the softmax of the
    chosen one, ``step_scores`` are all log-likelihoods in the order of the options (``verification.choices``).
    """

    version: ClassVar[int] = 1
    inputs = {
        **Scoring.inputs,
        "problems": Problem.select("problem_key", "prompt", "messages", "tools", "verification"),
        "verdicts": Verdict.select("problem_key", "sample_index", "verifier", "predicted_answer"),
    }
    also = ("predicted_answer",)

    options: int = Field(default=10, ge=2, le=26)
    """How many options a question has at most."""

    async def ask(self, engine: Engine, **inputs: Any) -> pl.DataFrame:
        answers = one_verifier(inputs.pop("verdicts")).select(*SAMPLE_KEY, "predicted_answer")
        samples = inputs["samples"].join(answers, on=SAMPLE_KEY, how="left", maintain_order="left")
        return await super().ask(engine, problems=inputs["problems"], samples=samples)

    def most_tokens(self, prompt: Tokens, completion: Tokens) -> tuple[Tokens, Tokens]:
        return self.options * (prompt + completion), 0 * prompt

    async def score(self, engine: Engine, problem: Row, row: Row) -> Row:
        choices: list[Any] = json.loads(problem["verification"] or "{}").get("choices") or []
        letters = LETTERS[: len(choices)]
        if not 2 <= len(letters) <= self.options:
            raise EngineError(
                f"request {name_of(row)}: the question has {len(letters)} options, not 2 to {self.options}"
            )
        chosen = row["predicted_answer"]
        if chosen is None or len(chosen) != 1 or chosen not in letters:
            raise EngineError(f"request {name_of(row)}: '{chosen}' isn't one of the letters {letters}")
        places = list(re.finditer(rf"(?<![A-Za-z]){chosen}(?![A-Za-z])", row["completion"]))
        if not places:
            raise EngineError(f"request {name_of(row)}: the letter {chosen} isn't in the completion as it stands")
        before = await self.rendered(engine, problem) + row["completion"][: places[-1].start()]
        said = [
            (await engine.score(ScoreRequest(before, letter, "likelihood", request_id=name_of(row)))).score
            for letter in letters
        ]
        top = max(said)
        shares = [math.exp(one - top) for one in said]
        return {"score": shares[letters.index(chosen)] / sum(shares), "step_scores": said}
