"""A language model as a judge that scores: by a rubric, or by a checklist of yes-or-no questions."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, ClassVar

from pydantic import Field, model_validator

from operators.asking import Tokens, at_most
from operators.engine import Engine, Request
from operators.score.scoring import Row, Scoring, name_of
from operators.text import fill
from schemas.engine import SamplingParams
from schemas.identity import digest, sample_seed

_RUBRIC = (
    "Rate an answer to a problem by this rubric.\n\nRubric:\n{rubric}\n\nProblem:\n{prompt}\n\nAnswer:\n"
    "{completion}\n\nThink briefly. End with one line: SCORE: a whole number from {low} to {high}"
)
_CHECKLIST = (
    "Check an answer to a problem against each question.\n\nProblem:\n{prompt}\n\nAnswer:\n{completion}\n\n"
    "Questions:\n{checklist}\n\nReply with one line for each question: its number, a colon, and YES or NO"
)


class ScoreJudge(Scoring, SamplingParams):
    """Score every completion from 0 to 1 with a judge's mean over ``votes``.

    With a ``checklist`` a vote is the share of its items that get a yes (an item without a readable reply is left out,
    ``detail`` counts what each item got); otherwise it is the number that the judge gives by the ``rubric``, between
    ``low`` and ``high``. Two levels are the default: rankings from more are not identifiable without priors where
    judges err ("Judging LLMs on a Simplex").
    """

    version: ClassVar[int] = 1

    rubric: str = "0: the answer is wrong, or doesn't follow from its reasoning. 1: the answer is right."
    """What the judge is told of the marks, where there is no checklist."""
    low: int = 0
    """The lowest mark."""
    high: int = 1
    """The highest mark."""
    checklist: tuple[str, ...] = ()
    """Questions to be answered with yes or no; with them the rubric isn't used."""
    votes: Annotated[int, Field(ge=1)] = 3
    """How often the judge is asked about each completion."""
    max_tokens: int = Field(default=256, ge=1)
    """The most tokens of a vote."""
    seed: int = 0
    """Base seed of the votes."""
    template: str = _RUBRIC
    """A template, filled in with {prompt}, {completion}, {rubric}, {low} and {high}."""
    template_checklist: str = _CHECKLIST
    """A template, filled in with {prompt}, {completion} and {checklist}."""

    @model_validator(mode="after")
    def _low_is_lower(self) -> ScoreJudge:
        if self.low >= self.high:
            raise ValueError("low must be below high")
        return self

    def most_tokens(self, prompt: Tokens, completion: Tokens) -> tuple[Tokens, Tokens]:
        words = max(at_most(self.template), at_most(self.template_checklist)) + at_most(self.rubric)
        words += at_most(self.system or "") + sum(at_most(item) for item in self.checklist)
        return self.votes * (prompt + completion + words), 0 * prompt + self.votes * self.max_tokens

    async def score(self, engine: Engine, problem: Row, row: Row) -> Row:
        listed = "\n".join(f"{number}. {item}" for number, item in enumerate(self.checklist, 1))
        places = {
            "prompt": problem["prompt"],
            "completion": row["completion"],
            "rubric": self.rubric,
            "low": str(self.low),
            "high": str(self.high),
            "checklist": listed,
        }
        text = fill(self.template_checklist if self.checklist else self.template, places)
        turns = [] if self.system is None else [{"role": "system", "content": self.system}]
        prompt = await engine.render([*turns, {"role": "user", "content": text}], chat=self.chat)
        replies: list[str] = []
        for vote in range(self.votes):
            seed = sample_seed(self.seed, f"{row['problem_key']}/{digest(row['completion'])}", vote)
            [answer] = await engine.generate(Request(prompt, self.params, seed, request_id=f"{name_of(row)}/{vote}"))
            replies.append(answer.text)
        return self._by_checklist(replies) if self.checklist else self._by_rubric(replies)

    def _by_rubric(self, replies: list[str]) -> Row:
        found = [number for number in map(self.read, replies) if number is not None]
        if not found:
            return {"detail": f"none of {len(replies)} votes can be read"}
        shares = [(number - self.low) / (self.high - self.low) for number in found]
        return {"score": sum(shares) / len(shares), "detail": f"votes: {', '.join(map(str, found))}"}

    def read(self, reply: str) -> int | None:
        """Return the number that a vote ends in; None where there is none on the scale."""
        numbers = re.findall(r"(?i)SCORE\W*?(-?\d+)(?![\d.]*\d)", reply)
        number = int(numbers[-1]) if numbers else None
        return number if number is not None and self.low <= number <= self.high else None

    def _by_checklist(self, replies: list[str]) -> Row:
        got: dict[int, list[bool]] = {number: [] for number in range(1, len(self.checklist) + 1)}
        shares: list[float] = []
        for reply in replies:
            said = self.read_checklist(reply)
            for number, yes in said.items():
                got[number].append(yes)
            if said:
                shares.append(sum(said.values()) / len(said))
        if not shares:
            return {"detail": f"none of {len(replies)} votes can be read"}
        told: dict[str, Any] = {item: f"{sum(got[i])}/{len(got[i])}" for i, item in enumerate(self.checklist, 1)}
        return {"score": sum(shares) / len(shares), "detail": json.dumps(told, ensure_ascii=False)}

    def read_checklist(self, reply: str) -> dict[int, bool]:
        """Return number -> yes, of the questions that a vote answers."""
        found = re.findall(r"(?im)^\W*(\d+)\W+.*?\b(YES|NO)\b", reply)
        return {int(number): word.upper() == "YES" for number, word in found if 1 <= int(number) <= len(self.checklist)}
