"""Likelihoods: what a model itself thinks of a completion, of its answer, or of whether it is true."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

from pydantic import Field

from operators.asking import Tokens, at_most
from operators.engine import Engine, EngineError, ScoreRequest
from operators.score.scoring import Row, Scoring, name_of
from operators.select.classes import one_verifier
from operators.text import fill
from schemas.datasets import SAMPLE_KEY, Verdict
from schemas.later import pl

_TRUE = (
    "Problem: {prompt}\n\nProposed answer: {completion}\n\nIs the proposed answer:\n (A) True\n (B) False\n"
    "Answer with the letter alone."
)


class ScoreLikelihood(Scoring):
    """Score every completion by its log-prob under a model, in nats; any engine that gives log-probs of a text will do.

    ``of``:

    * ``sample``: the whole completion, given the problem.
    * ``answer``: the answer's tokens at their last place in the completion, given all that is before them. Needs
      ``verdicts`` (for ``predicted_answer``); where the answer isn't written as it was read, there is no score.
    * ``truth``: P(True) of the self-evaluation (Kadavath et al. 2022), a probability: the model is shown the problem
      and the completion, and the score is what it gives to ``yes`` among ``yes`` and ``no``.
    """

    version: ClassVar[int] = 1
    inputs = {
        **Scoring.inputs,
        "verdicts": Verdict.select("problem_key", "sample_index", "verifier", "predicted_answer"),
    }
    optional = frozenset({"verdicts"})
    also = ("predicted_answer",)

    of: Literal["sample", "answer", "truth"] = "sample"
    """What is scored: the completion, the answer in it, or P(True) of the self-evaluation."""
    per_token: bool = False
    """Give the mean over the tokens instead of the sum."""
    template: str = _TRUE
    """The template of ``of = "truth"``, filled in with {prompt} and {completion}."""
    yes: str = "A"
    """The word for "right" of the self-evaluation."""
    no: str = "B"
    """The word for "wrong" of the self-evaluation."""
    cue: str = Field(default="(")
    """What the reply begins with, before ``yes`` or ``no``."""

    async def ask(self, engine: Engine, **inputs: Any) -> pl.DataFrame:
        samples, verdicts = inputs["samples"], inputs.pop("verdicts", None)
        if verdicts is None or self.of != "answer":
            samples = samples.with_columns(predicted_answer=pl.lit(None, dtype=pl.String))
        else:
            answers = one_verifier(verdicts).select(*SAMPLE_KEY, "predicted_answer")
            samples = samples.join(answers, on=SAMPLE_KEY, how="left", maintain_order="left")
        return await super().ask(engine, problems=inputs["problems"], samples=samples)

    def most_tokens(self, prompt: Tokens, completion: Tokens) -> tuple[Tokens, Tokens]:
        if self.of == "truth":
            return 2 * (prompt + completion + at_most(self.template)), 0 * prompt
        return prompt + completion, 0 * prompt

    async def score(self, engine: Engine, problem: Row, row: Row) -> Row:
        if self.of == "truth":
            return {"score": await self._truth(engine, problem, row)}
        before, text = "", row["completion"]
        if self.of == "answer":
            answer = row["predicted_answer"]
            place = -1 if not answer else text.rfind(answer)
            if place < 0:
                raise EngineError(f"request {name_of(row)}: the answer {answer!r} isn't in the completion as it stands")
            before, text = text[:place], answer
        if not text:
            raise EngineError(f"request {name_of(row)}: the completion is empty")
        prompt = await self.rendered(engine, problem)
        found = await engine.score(ScoreRequest(prompt + before, text, "likelihood", request_id=name_of(row)))
        return {"score": found.score / max(1, len(found.steps)) if self.per_token else found.score}

    async def _truth(self, engine: Engine, problem: Row, row: Row) -> float:
        text = fill(self.template, {"prompt": problem["prompt"], "completion": row["completion"]})
        prompt = await engine.render([{"role": "user", "content": text}], chat=self.chat) + self.cue
        said = [
            (await engine.score(ScoreRequest(prompt, reply, "likelihood", request_id=name_of(row)))).score
            for reply in (self.yes, self.no)
        ]
        return 1.0 / (1.0 + math.exp(min(700.0, said[1] - said[0])))
