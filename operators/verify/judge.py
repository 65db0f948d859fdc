"""A language model as judge: is a completion's answer right? One bit, from several votes.

More levels than two are not identifiable without priors where judges err ("Judging LLMs on a Simplex"), so a judgement
is right or wrong. What a judge's own mistakes do to a number is ``measure.verifier_audit``'s business.
"""

from __future__ import annotations

import time
from typing import Annotated, Any, ClassVar

from pydantic import Field, field_validator

from operators.asking import AskingOperator, Tokens, at_most
from operators.engine import Engine, EngineError, Request
from operators.text import fill, said_last
from operators.thinking import answer_text, answers_only, opens_thought
from operators.verify.verdicts import SAMPLES, predicted
from schemas.contract import complete
from schemas.datasets import Problem, Verdict
from schemas.engine import SamplingParams
from schemas.identity import digest, sample_seed
from schemas.later import pl

_ASK = (
    "Two answers to the same problem are given. Do they come to the same final answer?\n\nProblem:\n{prompt}\n\n"
    "Answer 1:\n{first}\n\nAnswer 2:\n{second}\n\nThink briefly. End with one line: VERDICT: SAME or VERDICT: DIFFERENT"
)
_ASK_ALONE = (
    "Is this answer to the problem right?\n\nProblem:\n{prompt}\n\nAnswer:\n{candidate}\n\nThink briefly. End with one "
    "line: VERDICT: RIGHT or VERDICT: WRONG"
)

ANSWER = 64
"""Tokens of an expected answer, where money is kept for judging."""


class VerifyJudge(AskingOperator, SamplingParams):
    """Ask a model whether each completion is right, ``votes`` times, and go with the majority.

    Half of the votes see the expected answer first, half the candidate (position swap), since judges favour one place.
    Problems without an expected answer are asked about the candidate alone. Each distinct completion of a problem is
    judged once. ``credit`` is the share of the readable votes that say yes; a tie, or no readable vote, is
    ``unparseable`` and neither right nor wrong; ``detail`` counts the votes.
    """

    version: ClassVar[int] = 2
    scope = "sample"
    inputs = {
        "samples": SAMPLES,
        "problems": Problem.select("problem_key", "prompt", "messages", "answer"),
    }
    output = Verdict

    max_tokens: int = Field(default=256, ge=1)
    """The most tokens of a vote."""
    votes: Annotated[int, Field(ge=1)] = 3
    """How often the judge is asked about each completion."""
    seed: int = 0
    """Base seed of the votes."""
    swap: bool = True
    """Show the expected answer first in one half of the votes, second in the other."""
    template: str = _ASK
    """A template, filled in with {prompt}, and {first} and {second} for the two answers."""
    template_alone: str = _ASK_ALONE
    """The template for problems without an expected answer, filled in with {prompt} and {candidate}."""
    system: str | None = None
    """A system prompt for the judge."""
    yes: str = r"(?i)VERDICT\W+(?:SAME|RIGHT|CORRECT|YES)\b"
    """What a vote for "right" ends in (a regular expression)."""
    no: str = r"(?i)VERDICT\W+(?:DIFFERENT|WRONG|INCORRECT|NO)\b"
    """What a vote for "wrong" ends in (a regular expression)."""
    chat: bool = True
    """Ask the judge through its chat template; otherwise the prompt is plain text."""

    @field_validator("template")
    @classmethod
    def _has_places(cls, value: str) -> str:
        if "{first}" not in value or "{second}" not in value:
            raise ValueError("the template must contain {first} and {second}")
        return value

    async def ask(self, engine: Engine, **inputs: Any) -> pl.DataFrame:
        began = time.perf_counter()
        samples = answers_only(inputs["samples"], inputs["problems"])
        about = {row["problem_key"]: row for row in inputs["problems"].iter_rows(named=True)}
        asked = samples.filter((pl.col("status") == "ok") & (pl.col("completion").str.strip_chars() != ""))
        distinct = asked.select("problem_key", "completion").unique(maintain_order=True).sort("problem_key")
        questions = [(key, text, vote) for key, text in distinct.iter_rows() for vote in range(self.votes)]

        async def one(question: tuple[str, str, int]) -> bool | None:
            key, text, vote = question
            prompt = await engine.render(self.conversation(about[key], text, vote), chat=self.chat)
            seed = sample_seed(self.seed, f"{key}/{digest(text)}", vote)
            [answer] = await engine.generate(Request(prompt, self.params, seed, request_id=f"{key}/{vote}"))
            said = answer_text(answer.text, opens_thought(prompt) and answer.reasoning is None)
            return None if said is None else self.read(said)

        answers = await self.ask_each(engine, questions, one)
        counted = [self._count(answers[at : at + self.votes]) for at in range(0, len(answers), self.votes)]
        schema = {"is_correct": pl.Boolean, "credit": pl.Float64, "judged": pl.String, "detail": pl.String}
        judged = distinct.with_columns(pl.DataFrame(counted, schema=schema, orient="row"))
        found = predicted(samples, inputs["problems"].select("problem_key", "answer"), ("boxed", "hashes", "phrase"))
        rows = found.join(judged, on=["problem_key", "completion"], how="left", maintain_order="left")
        empty = (pl.col("status") == "ok") & pl.col("judged").is_null()
        rows = rows.with_columns(
            verifier=pl.lit(self.public_name()),
            answer_key=pl.col("predicted_answer").str.to_lowercase().str.replace_all(r"\s+", ""),
            is_correct=pl.when(empty).then(False).otherwise("is_correct"),
            status=pl.when(pl.col("status") != "ok")
            .then(pl.lit("skipped"))
            .otherwise(pl.col("judged").fill_null("unparseable")),
            seconds=pl.lit((time.perf_counter() - began) / max(1, len(rows)), dtype=pl.Float32),
        )
        return complete(rows, Verdict)

    def most_tokens(self, prompt: Tokens, completion: Tokens) -> tuple[Tokens, Tokens]:
        words = max(at_most(self.template), at_most(self.template_alone)) + at_most(self.system or "") + ANSWER
        return self.votes * (prompt + completion + words), 0 * prompt + self.votes * self.max_tokens

    def conversation(self, problem: dict[str, Any], completion: str, vote: int) -> list[dict[str, str]]:
        """Return what one vote is asked."""
        expected = problem["answer"]
        if expected is None:
            places = {"prompt": problem["prompt"], "candidate": completion}
            text = fill(self.template_alone, places)
        else:
            pair = (completion, expected) if self.swap and vote % 2 else (expected, completion)
            text = fill(self.template, {"prompt": problem["prompt"], "first": pair[0], "second": pair[1]})
        turns = [] if self.system is None else [{"role": "system", "content": self.system}]
        return [*turns, {"role": "user", "content": text}]

    def read(self, text: str) -> bool | None:
        """Return what a vote says: what it says last; None where it says nothing."""
        return said_last(text, self.yes, self.no)

    def _count(self, votes: list[bool | EngineError | None]) -> tuple[bool | None, float | None, str, str]:
        """Return (is_correct, credit, status, detail) of one completion's votes."""
        errors = [vote for vote in votes if isinstance(vote, EngineError)]
        read = [vote for vote in votes if isinstance(vote, bool)]
        yes, unreadable = sum(read), len(votes) - len(read) - len(errors)
        said = f"{yes} of {len(read)} votes"
        said += f"; {unreadable} unreadable" if unreadable else ""
        said += f"; {len(errors)} failed: {errors[0]}" if errors else ""
        if not read:
            return None, None, "error" if errors else "unparseable", said
        tie = 2 * yes == len(read)
        return (None if tie else 2 * yes > len(read)), yes / len(read), "unparseable" if tie else "ok", said
