"""Approaches for diversity of thought (Naik et al. 2023): what ways a model knows to go about a kind of problems."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

from pydantic import Field, field_validator

from operators.asking import AskingOperator
from operators.base import AnyOperator, Operator
from operators.engine import Engine, EngineError, Request
from operators.strategies.verdicts import judged
from operators.text import PromptTemplate, fill
from operators.verify.math import VerifyMath
from schemas.contract import polars_schema
from schemas.datasets import Problem
from schemas.engine import SamplingParams
from schemas.errors import BadInput
from schemas.identity import sample_seed
from schemas.later import asyncio, pl
from schemas.studies import Approach

Row = dict[str, Any]


class SynthesizeApproaches(AskingOperator):
    """Have a model name approaches and personas, and order pairs of them by how often they are right.

    ``asked`` problems are shown, each in a call of its own; what is named most often is taken. Each pair of a persona
    and an approach then answers ``held_out`` other problems at temperature 0, and the best ``approaches`` pairs are
    kept, of each approach the best persona. The first ``examples`` problems that were shown are solved in each one's
    style; what doesn't come to the right answer is no example. The paper publishes neither numbers of problems.
    """

    version: ClassVar[int] = 1
    scope = "dataset"
    inputs = {"problems": Problem.select()}
    output = Approach

    approaches: int = Field(default=5, ge=1)
    """How many are kept."""
    personas: int = Field(default=2, ge=0)
    """Personas that are tried, the most frequent ones, beside nobody in particular."""
    asked: int = Field(default=10, ge=1)
    """Problems that the model is asked about."""
    held_out: int = Field(default=50, ge=0)
    """Problems with a known answer that pairs are judged on; 0: approaches as often as they are named, without."""
    examples: int = Field(default=0, ge=0)
    """Solved problems that are given with each approach that is kept."""
    seed: int = 0
    """The seed by which problems are drawn, and of the engine."""
    name: PromptTemplate = (
        "{prompt}\n\nDon't solve it. Name up to five different approaches to problems like this one, and up to five "
        "kinds of people who would be good at them. A line each, as\nApproach: ...\nPersona: ..."
    )
    """How approaches and personas are asked for, with {prompt}."""
    approach: str = "Solve it by this approach: {approach}."
    """How an approach is asked for in a prompt, with {approach}."""
    persona: str = "You are {persona}."
    """How a persona is introduced, with {persona}; it stands before the approach."""
    verify: AnyOperator = VerifyMath()
    """What judges the answers that an approach leads to."""
    max_tokens: Annotated[int, Field(ge=1)] = 512
    """The most tokens of a reply."""
    temperature: float = Field(default=0.7, ge=0.0)
    """The temperature of the calls that name approaches."""

    @property
    def tools(self) -> tuple[str, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return tuple(sorted({"engine", *self.verify.tools}))

    @field_validator("verify")
    @classmethod
    def _asks_nobody(cls, value: Operator) -> Operator:
        if "engine" in value.tools:
            raise ValueError(f"{value.public_name()} asks an engine of its own: take a verifier that asks none")
        return value

    def run(self, engine: Engine, **inputs: Any) -> pl.DataFrame:
        return asyncio.run(self.ask(engine, **inputs))

    async def ask(self, engine: Engine, **inputs: Any) -> pl.DataFrame:
        """Return the approaches, the best first.

        Raises:
            BadInput: too few problems, or no approach was named.
        """
        rows: list[Row] = inputs["problems"].sort("problem_key").collect().to_dicts()
        if len(rows) < self.asked + bool(self.held_out):
            raise BadInput(f"synthesize.approaches: {self.asked} problems are shown and others held out; there are "
                           f"{len(rows)}")  # fmt: skip
        random.Random(self.seed).shuffle(rows)
        shown, others = rows[: self.asked], rows[self.asked : self.asked + self.held_out]
        said = await self._answers(engine, [(row, self.name, self.temperature) for row in shown])
        named = {kind: Counter(_named(said, kind)) for kind in ("Approach", "Persona")}
        if not named["Approach"]:
            raise BadInput("synthesize.approaches: the model named no approach ('Approach: ...') for any problem")
        taken = [name for name, _ in named["Approach"].most_common(self.approaches)]
        people = ["", *(name for name, _ in named["Persona"].most_common(self.personas))] if others else [""]
        pairs = [(approach, persona) for approach in taken for persona in people]
        tools = {name: inputs[name] for name in self.verify.tools}
        right = await self._right(engine, pairs, others, tools)
        table = [self._row(pair, named["Approach"][pair[0]], hits) for pair, hits in zip(pairs, right, strict=True)]
        order = sorted(table, key=lambda row: -(row["accuracy"] or 0.0))  # stable: then as often as they were named
        best = list({row["approach"]: row for row in reversed(order)}.values())[::-1][: self.approaches]
        best.sort(key=lambda row: -(row["accuracy"] or 0.0))
        for rank, row in enumerate(best, 1):
            row["rank"] = rank
            row["said"] += await self._examples(engine, row["said"], shown[: self.examples], tools)
        return pl.DataFrame(best, schema=polars_schema(Approach))

    def _row(self, pair: tuple[str, str], named: int, hits: Sequence[float]) -> Row:
        mean = sum(hits) / len(hits) if hits else None
        about = {"approach": pair[0], "persona": pair[1], "named": named, "said": self._said(*pair)}
        return {**about, "accuracy": mean, "n": len(hits)}

    def _said(self, approach: str, persona: str) -> str:
        told = fill(self.persona, {"persona": persona}) if persona else ""
        return " ".join([*([told] if told else []), fill(self.approach, {"approach": approach})])

    async def _right(
        self, engine: Engine, pairs: Sequence[tuple[str, str]], rows: Sequence[Row], tools: Row
    ) -> list[list[float]]:
        """Return, for each pair, whether each problem is answered rightly."""
        asks = [(row, "{prompt}\n\n" + self._said(*pair), 0.0) for pair in pairs for row in rows]
        said = await self._answers(engine, asks)
        right = [self._is_right(row, text, tools) for (row, _, _), text in zip(asks, said, strict=True)]
        count = len(rows)
        return [[float(one) for one in right[at * count : (at + 1) * count]] for at in range(len(pairs))]

    async def _examples(self, engine: Engine, said: str, rows: Sequence[Row], tools: Row) -> str:
        found = await self._answers(engine, [(row, "{prompt}\n\n" + said, 0.0) for row in rows])
        kept = [(row, text) for row, text in zip(rows, found, strict=True) if self._is_right(row, text, tools)]
        return "".join(f"\n\nFor example:\n{row['prompt']}\n\n{text}" for row, text in kept)

    def _is_right(self, row: Row, text: str, tools: Row) -> bool:
        return bool(text) and judged(self.verify, row, [text], tools) == [True]

    async def _answers(self, engine: Engine, asks: Sequence[tuple[Row, str, float]]) -> list[str]:
        """Return what is said to each (problem, template, temperature); nothing where it is refused."""

        async def one(place: int) -> str:
            row, template, temperature = asks[place]
            text = fill(template, {"prompt": row["prompt"]})
            prompt = await engine.render([{"role": "user", "content": text}])
            params = SamplingParams(max_tokens=self.max_tokens, temperature=temperature)
            seed = sample_seed(self.seed, f"{row['problem_key']}/{template}", 0)
            request = Request(prompt, params, seed, 1, f"{row['problem_key']}/{place}", row["problem_id"])
            [completion] = await engine.generate(request)
            return completion.text

        found = await self.ask_each(engine, range(len(asks)), one)
        return ["" if isinstance(text, EngineError) else text for text in found]


def _named(texts: Sequence[str], kind: str) -> list[str]:
    """Return what texts name, each once a text, in one case and without marks around it."""
    found: list[str] = []
    for text in texts:
        lines = re.findall(rf"(?im)^\W*{kind}\b\W*(.+)$", text)
        names = [re.sub(r"\s+", " ", line).strip(" .*_\"'`").casefold() for line in lines]
        found += dict.fromkeys(name for name in names if name)
    return found
