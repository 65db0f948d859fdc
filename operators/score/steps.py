"""Scores of unfinished texts: what a strategy's scorer says of each beginning of a completion."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, field_validator

from operators.asking import Tokens
from operators.engine import Engine, EngineError
from operators.score.scoring import Row, Scoring, name_of
from operators.strategies.calls import MemoryJournal
from operators.strategies.episode import Episode
from operators.strategies.scorers import SCORER, Scorer, Truth
from operators.strategies.setting import Setting
from operators.strategies.words import POLICY, Node
from schemas.engine import SamplingParams
from schemas.identity import sample_seed


class ScoreSteps(Scoring):
    """Score every beginning of a completion that ends with a step, as a search would (``measure.scorer_steps``).

    ``step_scores`` has one value for each; ``score`` is the whole text's. The stage's engine plays the scorer's role.
    """

    version: ClassVar[int] = 1

    by: Scorer = Truth()
    """The scorer. One that asks nobody (certainty, random, constant) or knows the answer has nothing to measure."""
    separator: str = "\n\n"
    """Where a step ends."""
    most: int = Field(default=12, ge=1)
    """Beginnings of one completion that are scored at most: of more, so many evenly spread ones, the whole included."""
    seed: int = 0
    """Of scorers that draw (``rating``): the same seed asks the same."""

    @field_validator("by")
    @classmethod
    def _asks(cls, value: Scorer) -> Scorer:
        if value.asks is None:
            raise ValueError(f"scorer '{value.name}' asks no engine")
        return value

    @property
    def scorer_name(self) -> str:
        return self.scorer or self.by.name

    def most_tokens(self, prompt: Tokens, completion: Tokens) -> tuple[Tokens, Tokens]:
        # linear in both, so that tables of counts can be asked about, too
        base, each = self.by.most(0, 0), self.by.most(1, 1)
        read = base.prompt_tokens + base.scorer_tokens
        per_token = max(0, each.prompt_tokens + each.scorer_tokens - read)
        return self.most * (read + per_token * (prompt + completion)), 0 * prompt + self.most * base.completion_tokens

    async def score(self, engine: Engine, problem: Row, row: Row) -> Row:
        texts = self.prefixes(row["completion"])
        about = {**problem, "problem_id": row["problem_id"], "prompt": problem["prompt"]}
        engines = {POLICY: engine, SCORER: engine, self.by.asks or SCORER: engine}
        seed = sample_seed(self.seed, f"{row['problem_key']}/{row['completion_hash']}", 0)
        prompt = await self.rendered(engine, problem)
        setting = Setting(about, 0, seed, prompt, "", SamplingParams(), engines, MemoryJournal(), self.chat)
        nodes = [Node(text=text, steps=place) for place, text in enumerate(texts, 1)]
        values = [node.score for node in await self.by.judge(Episode(setting), nodes)]
        if values[-1] is None:
            raise EngineError(f"request {name_of(row)}: the scorer says nothing of the whole text")
        return {"score": values[-1], "step_scores": values}

    def prefixes(self, completion: str) -> list[str]:
        """Return the beginnings of a completion that end with a step, the whole one last; at least that."""
        parts = completion.split(self.separator)
        ends = [place for place in range(1, len(parts)) if parts[place - 1].strip()]
        texts = [self.separator.join(parts[:end]) + self.separator for end in ends]
        texts = [text for text in texts if text.rstrip() != completion.rstrip()] + [completion]
        if len(texts) <= self.most:
            return texts
        return [texts[(place + 1) * len(texts) // self.most - 1] for place in range(self.most)]
