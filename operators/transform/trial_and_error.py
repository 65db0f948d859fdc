"""Trial-and-error traces (Hou et al. 2025, "T1"): wrong attempts, the moment the error is seen, then the right one.

Cloning only perfect traces teaches a model nothing about mistakes. Here a right trace is preceded by wrong attempts of
the same model at the same problem, joined by a sentence that recognises the error.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar

from pydantic import Field, field_validator

from operators.select.classes import one_verifier
from operators.synthesize.conversation import said
from operators.transform.trace import Trace, answers_of, cut_traces
from operators.transform.transformation import Change, Row, Transformation
from schemas.conversation import turns_dtype
from schemas.datasets import SAMPLE_KEY, Sample, Sft, Verdict
from schemas.later import pl

RECOGNITIONS = (
    "Wait, {answer} can't be right. There must be a mistake in this. Let me start again.",
    "Hmm, checking this: {answer} doesn't fit the problem. I made an error. Let me try another way.",
    "But {answer} is wrong, as I see when I go over it. Let me think it through afresh.",
)
CONSIDERED = 64
"""Distinct wrong samples of a problem that are looked at."""
_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{((?:[^{}]|\{[^{}]*\})*)\}")


class SynthesizeTrialAndError(Transformation):
    """Put up to ``attempts`` wrong samples of the problem, and how the error was seen, before a right trace.

    Wrong attempts are finished samples that a verifier found wrong, that have an answer, each another one than those
    before it. ``share`` of each problem's rows are transformed, rounded, at least one where ``share`` isn't 0; where a
    trace is in ``<think>`` tags everything is thought within them.
    """

    version: ClassVar[int] = 2
    inputs = {
        "sft": Sft.select(),
        "samples": Sample.select(
            *(*SAMPLE_KEY, "completion", "reasoning", "thought_open", "completion_tokens", "completion_hash"),
            *("finish_reason", "status"),
        ),
        "verdicts": Verdict.select(*SAMPLE_KEY, "verifier", "is_correct", "status"),
    }

    share: float = Field(default=0.3, ge=0.0, le=1.0)
    """The share of each problem's rows to transform."""
    attempts: int = Field(default=1, ge=1)
    """Wrong attempts before the right one, at most; how many is drawn."""
    recognitions: Annotated[tuple[str, ...], Field(min_length=1)] = RECOGNITIONS
    """How the error is seen; one is drawn. ``{answer}`` is the wrong attempt's answer."""

    @field_validator("recognitions")
    @classmethod
    def _without_answers(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if any("boxed" in text or "####" in text for text in value):
            raise ValueError("what recognises an error mustn't look like a final answer (boxed, ####)")
        return value

    def drawn(self, sft: pl.DataFrame) -> list[Row]:
        every = sft.with_row_index("at").with_columns(text=pl.col("messages").list.last().struct.field("content"))
        rows: list[Row] = []
        for part in every.partition_by("problem_key", maintain_order=True):
            order = sorted(part.iter_rows(named=True), key=lambda row: self.draws(row, "share").random())
            wanted = max(1, round(self.share * len(order))) if self.share > 0 else 0
            rows += order[:wanted]
        return sorted(rows, key=lambda row: row["at"])

    def run(self, sft: pl.DataFrame, samples: pl.DataFrame, verdicts: pl.DataFrame) -> pl.DataFrame:
        """Return the rows of ``sft``; the lineage names the wrong samples that were put before a trace."""
        rows = self.drawn(sft)
        return self.applied(sft, rows, self._changes(rows, self._wrong(samples, verdicts)))

    def _changes(self, rows: list[Row], wrong: dict[str, list[Row]]) -> list[Change]:
        changes: list[Change] = []
        for row, trace, key in zip(rows, self.traces(rows), self.keys([row["text"] for row in rows]), strict=True):
            draws = self.draws(row, "attempts")
            usable = [attempt for attempt in wrong.get(row["problem_key"], []) if attempt["key"] != key]
            if not usable:
                changes.append(Change(unchanged="no wrong sample of the problem has another answer"))
                continue
            chosen = draws.sample(usable, min(len(usable), draws.randint(1, self.attempts)))
            before = [
                f"{attempt['thought']}\n\n{draws.choice(self.recognitions).replace('{answer}', attempt['answer'])}\n\n"
                for attempt in chosen
            ]
            note: dict[str, Any] = {"wrong": [attempt["sample_index"] for attempt in chosen]}
            changes.append(Change(trace.with_steps([*before, *trace.steps]).text, note=note))
        return changes

    def _wrong(self, samples: pl.DataFrame, verdicts: pl.DataFrame) -> dict[str, list[Row]]:
        """Return each problem's wrong attempts, one for each answer, the lowest sample_index first."""
        judged = one_verifier(verdicts).filter((pl.col("status") == "ok") & ~pl.col("is_correct"))
        ended = (pl.col("status") == "ok") & (pl.col("finish_reason") != "length")
        rows = samples.filter(ended).join(judged.select(SAMPLE_KEY), on=SAMPLE_KEY, how="semi").sort(SAMPLE_KEY)
        rows = rows.unique(["problem_key", "completion_hash"], keep="first", maintain_order=True)
        rows = rows.group_by("problem_key", maintain_order=True).head(CONSIDERED)
        # the problem's own turns are the training row's, to which an attempt is put
        texts = said(rows.with_columns(messages=pl.lit(None, turns_dtype())))
        table = rows.with_columns(said=texts).to_dicts()
        answers = answers_of([row["completion"] for row in table], self.extract, self.pattern)
        keys = self.keys([row["completion"] for row in table])
        found: dict[str, list[Row]] = {}
        for row, answer, key in zip(table, answers, keys, strict=True):
            mine = found.setdefault(row["problem_key"], [])
            if key is None or any(other["key"] == key for other in mine):
                continue
            thought = _thought(cut_traces([row["said"]], self.rule)[0])
            mine.append({**row, "answer": answer, "key": key, "thought": thought})
        return found


def _thought(attempt: Trace) -> str:
    """Return an attempt as a thought on the way: without tags, and its answer not announced as final."""
    text = "".join(attempt.steps) if attempt.before else attempt.text
    text = _BOX.sub(r"\1", text.replace("####", "so").replace("<answer>", "").replace("</answer>", ""))
    return text.strip()
