"""Transformations of traces: training rows in, the same rows out, with another last turn where it worked.

A row that can't be transformed, or whose answer wouldn't survive, stays as it was. Its lineage says so: every row that
was drawn gets an entry in ``transformations`` there, with ``unchanged`` and the reason where nothing was done.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from pydantic import Field

from operators.asking import AskingOperator
from operators.base import Operator
from operators.cutting import StepRule
from operators.engine import Engine, EngineError
from operators.transform.trace import ANSWER_RULES, Trace, answer_keys, cut_traces
from operators.verify.extract import Rule
from schemas.contract import polars_schema
from schemas.conversation import Turn, described, spoken
from schemas.datasets import Sft
from schemas.engine import SamplingParams
from schemas.identity import sample_seed
from schemas.later import pl

Row = dict[str, Any]


@dataclass(frozen=True)
class Change:
    """What becomes of one row: its new last turn, or the reason why it stays; and what its lineage tells of it."""

    text: str | None = None
    unchanged: str | None = None
    note: dict[str, Any] = field(default_factory=dict[str, Any])
    messages: Sequence[Turn] | None = None
    """The turns before it, where they change too."""


class Transformation(Operator):
    """Base of transformations: ``drawn`` says which rows to change, ``applied`` changes them."""

    scope = "problem"
    inputs = {"sft": Sft.select()}
    output = Sft
    checks_answer: ClassVar[bool] = True
    """Keep the original where the new text comes to another answer."""

    share: float = Field(default=1.0, ge=0.0, le=1.0)
    """The share of rows to transform; each row is drawn by itself."""
    seed: int = 0
    """Base seed: which rows are drawn, and what is drawn for each, depends on it and the row alone."""
    rule: StepRule = "blank_line"
    """Where a step ends, as in ``score.process``."""
    extract: tuple[Rule, ...] = ANSWER_RULES
    """Where to look for the answer, in order."""
    pattern: str | None = None
    """A regular expression with one group, instead of ``extract``."""

    def draws(self, row: Row, what: str = "") -> random.Random:
        """Return a source of what is drawn at random for a row, one for each purpose."""
        return random.Random(
            sample_seed(self.seed, f"{self.public_name()}/{what}/{row['problem_key']}", row["sample_index"])
        )

    def drawn(self, sft: pl.DataFrame) -> list[Row]:
        """Return the rows to transform. They end in an assistant's turn, whose text is their ``text``."""
        every = sft.with_row_index("at").with_columns(text=pl.col("messages").list.last().struct.field("content"))
        return [row for row in every.iter_rows(named=True) if self.draws(row, "share").random() < self.share]

    def traces(self, rows: list[Row]) -> list[Trace]:
        """Return the texts of rows in parts."""
        return cut_traces([row["text"] for row in rows], self.rule, self.extract, self.pattern)

    def keys(self, texts: Sequence[str]) -> list[str | None]:
        """Return a key of the answer that each text comes to."""
        return answer_keys(texts, self.extract, self.pattern)

    def applied(self, sft: pl.DataFrame, rows: list[Row], changes: list[Change]) -> pl.DataFrame:
        """Return the rows of ``sft`` in their order, with the changes of those that were drawn.

        ``completion_tokens`` of changed rows is scaled by their length in characters: an estimate.
        """
        if self.checks_answer:
            before = self.keys([row["text"] for row in rows])
            after = self.keys([row["text"] if change.text is None else change.text
                               for row, change in zip(rows, changes, strict=True)])  # fmt: skip
            pairs = zip(changes, before, after, strict=True)
            changes = [self._surviving(change, was, is_) for change, was, is_ in pairs]
        name = f"{self.public_name()} {self.version}"
        table = sft.to_dict(as_series=False)
        for row, change in zip(rows, changes, strict=True):
            at = row["at"]
            entry = {"operator": name, **change.note}
            if change.text is None or change.unchanged is not None:
                entry["unchanged"] = change.unchanged or "nothing to change"
            else:
                turns = row["messages"][:-1] if change.messages is None else change.messages
                table["messages"][at] = [*turns, {**row["messages"][-1], "content": change.text}]
                scaled = row["completion_tokens"] * len(change.text) / max(1, len(row["text"]))
                table["completion_tokens"][at] = max(1, round(scaled))
            table["lineage"][at] = with_transformation(row["lineage"], entry)
        return pl.DataFrame(table, schema=polars_schema(Sft))

    @staticmethod
    def _surviving(change: Change, before: str | None, after: str | None) -> Change:
        if change.text is None or (before is not None and before == after):
            return change
        reason = "no answer can be found in it" if before is None else "the answer would change"
        return Change(None, reason, change.note)


class AskingTransformation(AskingOperator, Transformation, SamplingParams):
    """Base of transformations that ask a model; define ``change``."""

    chat: bool = True
    """Apply the model's chat template."""

    async def ask(self, engine: Engine, **inputs: Any) -> pl.DataFrame:
        """Return the rows of ``sft``; one whose request failed stays as it was, with the error as the reason."""
        sft: pl.DataFrame = inputs["sft"]
        rows = self.about(self.drawn(sft), **inputs)
        found = await self.ask_each(engine, rows, lambda row: self.change(engine, row))
        changes = [Change(unchanged=str(one)) if isinstance(one, EngineError) else one for one in found]
        return self.applied(sft, rows, changes)

    def about(self, rows: list[Row], **inputs: pl.DataFrame) -> list[Row]:
        """Return the rows with what else ``change`` needs to know of them."""
        return rows

    async def rendered(self, engine: Engine, row: Row) -> str:
        """Return the prompt of a row: all turns but its last."""
        return await engine.render(spoken(row["messages"][:-1]), chat=self.chat, tools=described(row["tools"]))

    async def change(self, engine: Engine, row: Row) -> Change:
        """Return what becomes of a row."""
        raise TypeError(f"{type(self).__name__} doesn't define change()")


def with_transformation(lineage: str, entry: dict[str, Any]) -> str:
    """Return a lineage with one more entry in ``transformations``."""
    known: dict[str, Any] = json.loads(lineage)
    known["transformations"] = [*known.get("transformations", []), entry]
    return json.dumps(known, ensure_ascii=False)
