"""Any checking program: a proof assistant's kernel, a compiler, a script of one's own.

It runs in the sandbox, since what it is given may make it do things: a Lean file can run code while it is elaborated.
"""

from __future__ import annotations

import json
import re
import time
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from operators.base import Operator
from operators.sandbox import CommandJob, Limits, Mounts, Outcome, Sandbox
from operators.thinking import answers_only
from operators.verify.blocks import LANGUAGES, find_program
from operators.verify.lean import FORBIDDEN, against_axioms, theorem_of
from operators.verify.verdicts import SAMPLES, candidates, outcome_verdicts
from schemas.datasets import Problem, Verdict
from schemas.errors import BadInput
from schemas.later import pl
from schemas.unicode import whole


class VerifyCommand(Operator):
    """Give each candidate to a command; its exit code, or a JSON object that it writes, is the verdict.

    ``{file}`` in the command is the candidate's file, ``{dir}`` the working directory. The file's text is ``template``
    with {candidate}, {prompt}, {answer} and {theorem} (the last that the prompt states) filled in. ``forbid`` holds
    what a candidate mustn't contain: for a proof, whatever makes a checker accept without one.

    With ``verdict = "json"`` the last line that the command writes to stdout is ``{"is_correct": true}``, with
    ``credit`` (0 to 1) and ``detail`` as it likes. A candidate that the command executes could write such a line, too:
    let the command run it with its output kept apart, or use the exit code.

    Verdicts: one that takes too long is wrong, with status ``timeout``; a command that can't be started ends the stage.
    """

    version: ClassVar[int] = 2
    scope = "sample"
    inputs = {
        "samples": SAMPLES,
        "problems": Problem.select("problem_key", "prompt", "messages", "answer", "verification"),
    }
    output = Verdict
    tools = ("sandbox",)

    command: Annotated[tuple[str, ...], Field(min_length=1)]
    """The checking program and its arguments."""
    file: str = "candidate.txt"
    """Name of the candidate's file."""
    stdin: bool = False
    """Give the text on standard input as well."""
    template: str = "{candidate}"
    """The file's text, with {candidate}, {prompt}, {answer} and {theorem}."""
    extract: Literal["whole", "code"] = "whole"
    """What of a completion is the candidate: all of it, or its last block of code."""
    verdict: Literal["exit", "json"] = "exit"
    """What the verdict is: the exit code (0 is right), or a JSON object on the last line of stdout."""
    forbid: tuple[str, ...] = ()
    """Regular expressions; a candidate that one of them finds something in is wrong without being checked. ``lean4``
    stands for all of ``operators.verify.lean.FORBIDDEN``."""
    axioms: tuple[str, ...] | None = None
    """For Lean: the axioms that a proof may rest on, as ``#print axioms {theorem}`` at the template's end tells them. A
    proof of which it tells others, or nothing, is wrong; None doesn't look."""
    paths: tuple[str, ...] = ()
    """Files and folders that the command needs to read, outside of /usr."""
    limits: Limits = Limits()
    """What the command may use."""

    def run(self, samples: pl.DataFrame, problems: pl.DataFrame, sandbox: Sandbox) -> pl.DataFrame:
        began = time.perf_counter()
        samples = answers_only(samples, problems)
        about = {row["problem_key"]: row for row in problems.iter_rows(named=True)}
        found, distinct = candidates(samples, self._candidate)
        rows = list(distinct.iter_rows(named=True))
        refused = [self._forbidden(row["predicted_answer"]) for row in rows]
        jobs = [
            self._job(row["predicted_answer"], about[row["problem_key"]])
            for row, why in zip(rows, refused, strict=True)
            if why is None
        ]
        ran = iter(sandbox.run(jobs, self.limits, Mounts(paths=self.paths)))
        judged = [
            self._judged(next(ran), about[row["problem_key"]]["prompt"])
            if why is None
            else (Outcome("failed", why), None)
            for row, why in zip(rows, refused, strict=True)
        ]
        outcomes = [outcome for outcome, _ in judged]
        verdicts = outcome_verdicts(self, samples, found, distinct, outcomes, time.perf_counter() - began)
        credits = distinct.select("problem_key", "answer_key").with_columns(
            partial=pl.Series([credit for _, credit in judged], dtype=pl.Float64)
        )
        verdicts = verdicts.join(credits, on=["problem_key", "answer_key"], how="left", maintain_order="left")
        return verdicts.with_columns(credit=pl.coalesce("partial", "credit")).drop("partial")

    def _candidate(self, _: str, text: str) -> str | None:
        if self.extract == "whole":
            return text.strip() or None
        suffix = self.file.rpartition(".")[2]
        return find_program(text, suffix if suffix in LANGUAGES else "")

    def _forbidden(self, candidate: str) -> str | None:
        for given in self.forbid:
            for pattern in FORBIDDEN if given == "lean4" else (given,):
                match = re.search(pattern, candidate)
                if match:
                    return f"contains '{match[0].strip()[:80]}', which is forbidden"
        return None

    def _job(self, candidate: str, problem: dict[str, Any]) -> CommandJob:
        text = self.template
        prompt = problem["prompt"]
        for name, value in (("theorem", theorem_of(prompt)), ("prompt", prompt), ("answer", problem["answer"] or "")):
            text = text.replace(f"{{{name}}}", value)
        text = text.replace("{candidate}", candidate)  # last: it may hold the other names' braces itself
        command = tuple(part.replace("{file}", self.file) for part in self.command)
        return CommandJob(command, ((self.file, text),), text if self.stdin else "")

    def _judged(self, outcome: Outcome, prompt: str) -> tuple[Outcome, float | None]:
        """Return what an outcome means, and its partial credit."""
        if outcome.status == "missing":
            raise BadInput(
                f"verify.command.command: {outcome.detail}. Is it installed, and below /usr or one of paths? "
                "Nothing was judged"
            )
        if self.axioms is not None and outcome.status == "passed":
            against = against_axioms(outcome.stdout, prompt, self.axioms)
            if against is not None:
                return Outcome("failed", against), None
        if self.verdict == "exit" or outcome.status in ("timeout", "refused"):
            return outcome, None
        try:
            said = json.loads(outcome.stdout.strip().splitlines()[-1])
            is_correct, credit = said["is_correct"], said.get("credit")
            if not isinstance(is_correct, bool) or not (credit is None or 0.0 <= credit <= 1.0):
                raise ValueError
        except (IndexError, KeyError, TypeError, ValueError, AttributeError):
            why = outcome.detail or "its last line isn't a JSON object with is_correct (and credit from 0 to 1)"
            return Outcome("refused", f"no verdict: {why}"), None
        detail = said.get("detail")
        return Outcome("passed" if is_correct else "failed", detail and whole(str(detail))), credit
