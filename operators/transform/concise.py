"""Concise traces: reasoning without the second thoughts that a model has when it already knows (Qiao et al. 2025).

"ConCISE: Confidence-guided Compression in Step-by-step Efficient Reasoning" finds two sources of length. A model doubts
a step that was right: *confidence injection* puts a confident phrase where a reflection would begin, and lets the model
go on from there. It goes on after it knows: *early stopping* ends the trace at the first step from which the model is
sure of the answer.
"""

from __future__ import annotations

import math
import re
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from operators.engine import Completion, Engine, Request, ScoreRequest
from operators.reflections import PHRASES, REFLECTION
from operators.text import Pattern
from operators.transform.trace import Trace, answers_of, steps_of
from operators.transform.transformation import AskingTransformation, Change, Row
from schemas.identity import sample_seed


class SynthesizeConcise(AskingTransformation):
    """Shorten each trace with the help of a model; keep the original unless the same answer is reached in less text.

    ``inject`` asks the engine to go on from a confident phrase in place of the first reflection, again where the
    continuation reflects, up to ``injections`` times. ``stop`` asks, after each step, for the likelihood of the trace's
    own answer, and leaves out what comes after the first step where it passes ``confidence``; above one half, it is
    what the model would say (the engine must give likelihoods). The lineage tells how many phrases were put in, or
    after which step a trace ends.
    """

    version: ClassVar[int] = 1
    method: Literal["inject", "stop"] = "inject"
    """Put confident phrases in place of reflections, or stop where the answer is sure."""
    phrases: Annotated[tuple[str, ...], Field(min_length=1)] = PHRASES
    """One is drawn for each injection."""
    reflection: Pattern = REFLECTION
    """How a step begins that doubts or checks (a regular expression)."""
    injections: int = Field(default=4, ge=1)
    """The most phrases that are put into a trace."""
    probe: str = "\n\nThe final answer is \\boxed{"
    """What asks for the answer, put behind a step."""
    probe_end: str = "}"
    """What ends the answer."""
    confidence: float = Field(default=0.5, ge=0.5, lt=1.0)
    """The probability of its own answer after which a trace stops."""
    max_tokens: int = Field(default=1024, ge=1)
    """The most tokens of each continuation."""

    async def change(self, engine: Engine, row: Row) -> Change:
        [trace] = self.traces([row])
        change = await (self._inject if self.method == "inject" else self._stop)(engine, row, trace)
        if change.text is None or len(change.text) < len(row["text"]):
            return change
        return Change(None, "it wouldn't be shorter", change.note)

    async def _inject(self, engine: Engine, row: Row, trace: Trace) -> Change:
        prompt = await self.rendered(engine, row)
        draws = self.draws(row, "phrases")
        begun, steps, injected = trace.before, [*trace.steps, trace.after], 0
        while injected < self.injections:
            at = next((at for at, step in enumerate(steps) if re.search(self.reflection, step)), None)
            if at is None:
                break
            begun += "".join(steps[:at]) + draws.choice(self.phrases) + "\n\n"
            injected += 1
            name = f"{row['problem_key']}/{row['sample_index']}/{injected}"
            request = Request(prompt, self.params, sample_seed(self.seed, name, injected), 1, name, prefix=begun)
            [completion] = await engine.generate(request)
            if completion.finish_reason == "length":
                return Change(None, f"the continuation has more than {self.max_tokens} tokens", {"injected": injected})
            steps = steps_of(_said(completion), self.rule)
        if not injected:
            return Change(None, "no reflection in it", {"injected": 0})
        return Change(begun + "".join(steps), note={"injected": injected})

    async def _stop(self, engine: Engine, row: Row, trace: Trace) -> Change:
        [answer] = answers_of([row["text"]], self.extract, self.pattern)
        if answer is None:
            return Change(unchanged="no answer can be found in it")
        prompt = await self.rendered(engine, row)
        for kept in range(1, len(trace.steps)):
            begun = trace.before + "".join(trace.steps[:kept]).rstrip()
            name = f"{row['problem_key']}/{row['sample_index']}/{kept}"
            asked = ScoreRequest(prompt + begun + self.probe, answer + self.probe_end, "likelihood", request_id=name)
            found = await engine.score(asked)
            if math.exp(found.score) > self.confidence:
                note = {"steps": len(trace.steps), "kept": kept, "confidence": round(math.exp(found.score), 4)}
                return Change(trace.with_steps(trace.steps[:kept]).text, note=note)
        return Change(None, "never sure before its last step", {"steps": len(trace.steps)})


def _said(completion: Completion) -> str:
    """Return a continuation as one text; an engine that keeps reasoning apart has cut it at its end."""
    if not completion.reasoning:
        return completion.text
    return f"{completion.reasoning.rstrip()}\n</think>\n\n{completion.text}"
