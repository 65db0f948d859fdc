"""Diversity of thought (Naik et al. 2023, "Diversity of Thought Improves Reasoning"): one call for each approach."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field

from operators.asking import at_most
from operators.strategies.answers import Answers
from operators.strategies.episode import Episode
from operators.strategies.strategy import Strategy
from operators.strategies.talking import retold, there
from operators.strategies.words import Ask, Bill, Node, Result
from operators.text import PromptTemplate
from schemas.later import pl

APPROACHES = (
    "Solve it by setting up equations with unknowns.",
    "Solve it by going through it step by step, from what is given.",
    "Solve it by working backwards from what is asked.",
    "Solve it as a teacher of mathematics who draws a table of the quantities.",
    "Solve it by trying possible answers and eliminating those that can't be.",
)


def read_approaches(value: Any) -> Any:
    """Return what is said of each approach, given a Parquet file of ``synthesize.approaches``, the best one first."""
    if not isinstance(value, str):
        return value
    if not Path(value).exists():
        raise ValueError(f"'{value}' is no file of synthesize.approaches")
    return tuple(pl.read_parquet(value).sort("rank")["said"])


Approaches = Annotated[tuple[str, ...], BeforeValidator(read_approaches), Field(min_length=1)]
"""What is said behind a problem, the most accurate first; or a Parquet file of ``synthesize.approaches``, of which the
content is the identity."""


class DivSe(Strategy):
    """Ask once for each approach, and take the answer of most; of equal votes the one whose approach stands first.

    Published at temperature 0, with approaches and personas that a model names most often for the data set, ordered by
    their accuracy on labelled problems: what ``synthesize.approaches`` writes. The control that the paper
    lacks is the same approach several times (at a temperature above 0).
    """

    version: ClassVar[int] = 1

    approaches: Approaches = APPROACHES
    """What is said behind the problem, the most accurate first; or the file of ``synthesize.approaches``."""
    template: PromptTemplate = "{prompt}\n\n{approach}"
    """A template, filled in with {prompt} and {approach}."""
    temperature: float | None = Field(default=None, ge=0.0)
    """By default that of the sampling stage."""
    answers: Answers = Answers()
    """How answers are read, for the vote."""

    @property
    def rows(self) -> int:
        return len(self.approaches)

    def worst(self, prompt: int, most: int) -> Bill:
        read = sum(prompt + at_most(self.template) + at_most(approach) for approach in self.approaches)
        return Bill(self.rows, read, 0, self.rows * most)

    async def play(self, ep: Episode) -> Result:
        prompts = [await ep.render(retold(ep, self.template, approach=approach)) for approach in self.approaches]
        said = await ep.generate([Ask(prompt=prompt, temperature=self.temperature) for prompt in prompts])
        finals = [Node.whole(one, slot) for slot, one in enumerate(said)]
        votes = self.answers.vote(ep, finals, [1.0] * len(finals))
        ep.note(agreeing=len(votes))
        found = next(iter(votes), next((place for place, node in enumerate(finals) if there([node])), None))
        finals = [
            replace(node, score=float(place in votes)) if there([node]) else node for place, node in enumerate(finals)
        ]
        return Result(tuple(finals), found, "nothing" if found is None else "done")
