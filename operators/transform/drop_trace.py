"""Structured trace dropping (Su et al. 2025, "Dualformer"): train on whole traces, shortcuts and bare answers at once.

A model trained on such a mixture thinks fast or slow, as it is asked or as it sees fit. What a level drops, the next
one drops too, and every level keeps the answer.

==  ==========================================  ============================================================
\\   A* search (``create 1 2 c0 c3``)            Reasoning in words
==  ==========================================  ============================================================
1   close clauses                               steps that only check what was found
2   and the costs of all others                 and of each step all but its last sentence, what it comes to
3   and ``extra`` of the remaining clauses      and ``extra`` of the remaining steps
4   the whole trace                             the whole trace
==  ==========================================  ============================================================
"""

from __future__ import annotations

import random
import re
from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator

from operators.reflections import REFLECTION
from operators.text import Pattern
from operators.transform.trace import Trace, steps_of
from operators.transform.transformation import Change, Row, Transformation
from schemas.later import pl

Probability = Annotated[float, Field(ge=0.0, le=1.0)]
_COST = r"c-?\d+(?:\.\d+)?"
_STATE = rf"(?:[ \t]+(?!{_COST}\b|create\b|close\b|plan\b)[^\s<]+)+"
_CLAUSE = re.compile(rf"\b(create|close)\b({_STATE})((?:[ \t]+{_COST}\b)+)\s*")


class SynthesizeDropTrace(Transformation):
    """Drop a part of each trace, at a level drawn for it.

    The trace is what is in ``<think>`` tags, or everything before the steps that state the answer; of a search trace
    everything up to its last clause.
    """

    version: ClassVar[int] = 1

    levels: tuple[Probability, Probability, Probability, Probability, Probability] = (0.2, 0.2, 0.2, 0.2, 0.2)
    """Probabilities of the levels 0 (nothing is dropped) to 4."""
    extra: Probability = 0.3
    """Share of the remaining clauses or steps that level 3 drops, each drawn by itself."""
    structure: Literal["auto", "search", "words"] = "auto"
    """What the traces are; ``auto``: search traces where there is a clause of one."""
    checking: Pattern = REFLECTION
    """How a step begins that only checks (a regular expression)."""

    @field_validator("levels")
    @classmethod
    def _adds_up(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if abs(sum(value) - 1.0) > 1e-6:
            raise ValueError(f"the probabilities of the levels 0 to 4 must add up to 1; these come to {sum(value):g}")
        return value

    def run(self, sft: pl.DataFrame) -> pl.DataFrame:
        """Return the rows of ``sft``; the lineage tells each one's level."""
        rows = self.drawn(sft)
        return self.applied(sft, rows, self._changes(rows))

    def _changes(self, rows: list[Row]) -> list[Change]:
        changes: list[Change] = []
        for row, trace in zip(rows, self.traces(rows), strict=True):
            draws = self.draws(row, "level")
            level = draws.choices(range(5), self.levels)[0]
            text = self.dropped(row["text"], trace, level, draws.randrange(2**32))
            note = {"level": level}
            changes.append(Change(text, note=note) if text != row["text"] else Change(note=note))
        return changes

    def dropped(self, text: str, trace: Trace, level: int, seed: int) -> str:
        """Return a trace at a level; with the same seed, less at each level than at the one below."""
        if level == 0:
            return text
        search = list(_CLAUSE.finditer(text))
        if self.structure != "words" and search:
            return self._search(text, search, level, random.Random(seed))
        return self._words(trace, level, random.Random(seed)) if self.structure != "search" else text

    def _search(self, text: str, clauses: list[re.Match[str]], level: int, draws: random.Random) -> str:
        first, last = clauses[0].start(), clauses[-1].end()
        rest = text[last:]
        if level == 4:
            return text[:first] + rest
        kept: list[str] = []
        at = first
        for clause in clauses:
            kept.append(text[at : clause.start()])
            at = clause.end()
            extra = draws.random() < self.extra  # drawn for each, so that levels agree
            if clause[1] == "close" or (level == 3 and extra):
                continue
            space = clause[0][len(clause[0].rstrip()) :]
            kept.append(clause[0] if level == 1 else f"{clause[1]}{clause[2]}{space}")
        return text[:first] + "".join(kept) + rest

    def _words(self, trace: Trace, level: int, draws: random.Random) -> str:
        if level == 4:
            return trace.with_steps(()).text
        kept: list[str] = []
        for step in trace.steps:
            extra = draws.random() < self.extra
            if re.search(self.checking, step.strip()) or (level == 3 and extra):
                continue
            kept.append(step if level == 1 else _last_sentence(step))
        return trace.with_steps(kept).text


def _last_sentence(step: str) -> str:
    body = step.rstrip()
    return steps_of(body, "sentence")[-1] + step[len(body) :] if body else step
