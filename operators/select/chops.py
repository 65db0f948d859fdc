"""CHOPS, checklisted one-pass selection: a judge writes a checklist for the problem, then picks among all answers."""

from __future__ import annotations

import random
import re
from typing import Any, ClassVar

from pydantic import Field, field_validator

from operators.asking import AskingOperator
from operators.engine import Engine, EngineError, Request
from operators.select.classes import class_votes, one_verifier
from operators.select.selection import VERDICTS, Selection, as_answers, problems_of, rank
from operators.text import fill
from schemas.datasets import Problem, Sample
from schemas.engine import SamplingParams
from schemas.identity import sample_seed
from schemas.later import pl

_WRITE = (
    "Write a short checklist of what a right answer to this problem must fulfil, one item a line. Don't solve it.\n\n"
    "Problem:\n{prompt}"
)
_PICK = (
    "Pick the best of {n} answers to a problem by the checklist.\n\nProblem:\n{prompt}\n\nChecklist:\n{checklist}\n\n"
    "{answers}\n\nEnd with one line: BEST: the number of the best answer"
)
Table = dict[str, Any]


class SelectChops(Selection, AskingOperator, SamplingParams):
    """Let a model pick, ``votes`` times, each time seeing all candidates at once, in another order.

    Khairi et al. 2025, "When Life Gives You Samples". Candidates are the completions that first gave each answer, the
    most frequent answers first. Confidence is the share of the readable votes; where no vote can be read the most
    frequent answer is taken, with the share of its samples. A problem with one answer isn't asked about.
    """

    version: ClassVar[int] = 1
    inputs = {
        "verdicts": VERDICTS,
        "samples": Sample.select("problem_key", "sample_index", "completion"),
        "problems": Problem.select("problem_key", "prompt"),
    }

    candidates: int = Field(default=16, ge=2)
    """Answers shown at once, at most."""
    characters: int = Field(default=2000, ge=50)
    """Shown of a completion: its end, where it is longer."""
    votes: int = Field(default=3, ge=1)
    """How often the model is asked about each problem, each time with the candidates in another order."""
    max_tokens: int = Field(default=512, ge=1)
    """The most tokens of a vote."""
    seed: int = 0
    """Base seed of checklists, votes and orders."""
    template_checklist: str = _WRITE
    """A template, filled in with {prompt}."""
    template: str = _PICK
    """A template, filled in with {prompt}, {checklist}, {answers} and {n}."""
    best: str = r"(?i)BEST\W+(\d+)"
    """How a vote names its choice: the first group of this regular expression's last match."""
    chat: bool = True
    """The model is asked through its chat template; else the prompt is its text."""
    tools: ClassVar[tuple[str, ...]] = ("engine",)

    @field_validator("best")
    @classmethod
    def _has_a_group(cls, value: str) -> str:
        if re.compile(value).groups < 1:
            raise ValueError("the regular expression needs a group for the number")
        return value

    async def ask(self, engine: Engine, **inputs: Any) -> pl.DataFrame:
        """Return one row per problem of ``verdicts``."""
        verdicts = one_verifier(inputs["verdicts"])
        classes = class_votes(verdicts)
        shown = classes.group_by("problem_key", maintain_order=True).head(self.candidates)
        completions = inputs["samples"].rename({"sample_index": "first_index"})
        shown = shown.join(completions, on=["problem_key", "first_index"], how="left", maintain_order="left")
        prompts = dict(inputs["problems"].select("problem_key", "prompt").iter_rows())
        tables: list[tuple[str, list[Table]]] = [
            (str(key), table.to_dicts())
            for (key,), table in shown.group_by("problem_key", maintain_order=True)
            if len(table) > 1
        ]
        checklists = await self.ask_each(
            engine, [key for key, _ in tables], lambda key: self._checklist(engine, key, prompts.get(key, ""))
        )
        questions = [
            (key, prompts.get(key, ""), "" if isinstance(checklist, EngineError) else checklist, rows, vote)
            for (key, rows), checklist in zip(tables, checklists, strict=True)
            for vote in range(self.votes)
        ]
        picked = await self.ask_each(engine, questions, lambda question: self._vote(engine, *question))
        votes = [
            (question[0], choice)
            for question, choice in zip(questions, picked, strict=True)
            if isinstance(choice, int) and choice >= 0
        ]
        schema = {"problem_key": pl.String, "answer_class": pl.Int64}
        counts = pl.DataFrame(votes, schema=schema, orient="row").group_by(*schema).agg(pl.len().alias("weight"))
        weighed = (
            classes.drop("weight")
            .join(counts, on=list(schema), how="left")
            .with_columns(pl.col("weight").cast(pl.Float64))
        )
        # one vote is worth more than any number of samples, which decide between equals
        weighed = weighed.with_columns(weight=pl.col("weight") + pl.col("votes") / (2.0 * (pl.col("votes").sum() + 1)))
        totals = counts.group_by("problem_key").agg(pl.col("weight").sum().alias("total"))
        problems = problems_of(verdicts).join(totals, on="problem_key", how="left")
        found = rank(problems.with_columns(pl.col("total").cast(pl.Float64)), weighed)
        first, second = (pl.col(name).floor() / pl.col("total") for name in ("weight", "runner_up_weight"))
        return as_answers(found, self.method, first, second)

    async def _checklist(self, engine: Engine, key: str, problem: str) -> str:
        text = fill(self.template_checklist, {"prompt": problem})
        prompt = await engine.render([{"role": "user", "content": text}], chat=self.chat)
        seed = sample_seed(self.seed, key, 0)
        [answer] = await engine.generate(Request(prompt, self.params, seed, request_id=f"{key}/checklist"))
        return answer.text.strip()

    async def _vote(self, engine: Engine, key: str, problem: str, checklist: str, rows: list[Table], vote: int) -> int:
        """Return the answer class that one vote picks, -1 where none can be read."""
        seed = sample_seed(self.seed, key, vote + 1)
        order = random.Random(seed).sample(rows, len(rows))
        answers = "\n\n".join(f"Answer {i}:\n{self._text(row)}" for i, row in enumerate(order, 1))
        places = {"prompt": problem, "checklist": checklist, "answers": answers, "n": str(len(order))}
        prompt = await engine.render([{"role": "user", "content": fill(self.template, places)}], chat=self.chat)
        [answer] = await engine.generate(Request(prompt, self.params, seed, request_id=f"{key}/{vote}"))
        named = re.findall(self.best, answer.text)
        number = int(named[-1] if isinstance(named[-1], str) else named[-1][0]) if named else 0
        return int(order[number - 1]["answer_class"]) if 1 <= number <= len(order) else -1

    def _text(self, row: Table) -> str:
        text = str(row["completion"] or row["answer"])
        return text if len(text) <= self.characters else "..." + text[-self.characters :]
