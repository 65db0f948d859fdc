"""Interleaved reading and writing (Fu et al. 2025, "EAST": simultaneous translation by a language model).

A simultaneous translator writes before it has read everything. A training row teaches when: its text is the source in
chunks, each followed by what of the target can be said by then, with a token behind each chunk read and each written.
The latency that is wanted stands in the prompt.
"""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from operators.engine import Engine, Request
from operators.text import fill
from operators.transform.transformation import AskingTransformation, Change, Row
from schemas.datasets import Problem, Sft
from schemas.identity import sample_seed
from schemas.later import pl

Latency = Literal["low", "medium", "high"]
LATENCIES: tuple[Latency, ...] = ("low", "medium", "high")
Chunks = list[tuple[str, str]]
_ALIGN = (
    "Cut this source text and its translation into the smallest chunks of meaning that follow each other in both. "
    "Every chunk of the source gets the part of the translation that can be said once it is read. Write one pair a "
    "line, as SOURCE CHUNK ||| TRANSLATION CHUNK, in order, with nothing left out, added or changed."
    "\n\nSource:\n{source}\n\n"
    "Translation:\n{target}"
)


class SynthesizeInterleave(AskingTransformation):
    """Turn source and target of a row into chunks that alternate, at a latency drawn for it.

    The source is the row's last user turn, the target its last turn. Chunks come from the problem's metadata
    (``alignment``: a list of [source chunk, target chunk]), or the engine is asked for them. Either way they must give
    source and target back, white space apart, or the row stays as it was. The lineage tells the
    latency and the number of chunks.
    """

    version: ClassVar[int] = 1
    inputs = {"sft": Sft.select(), "problems": Problem.select("problem_key", "prompt", "metadata")}
    checks_answer: ClassVar[bool] = False

    alignment: str = "alignment"
    """The metadata field with given chunks."""
    source: str = "source"
    """The metadata field with the source text, where the problem has one; else the last user turn is the source."""
    merged: Annotated[dict[Latency, Annotated[int, Field(ge=1)]], Field(min_length=1)] = {
        "low": 1,
        "medium": 2,
        "high": 4,
    }
    """How many chunks are read together at each latency; each of these latencies is equally likely."""
    read_token: str = "<|end-of-read|>"  # noqa: S105 (of a text)
    """What ends a chunk of the source."""
    write_token: str = "<|end-of-write|>"  # noqa: S105 (of a text)
    """What ends a chunk of the target."""
    instruction: str = "Translate simultaneously, with {latency} latency."
    """The user's turn of the new row, with {latency}: the source is read as it comes."""
    template: str = _ALIGN
    """A template, filled in with {source} and {target}."""
    separator: str = " "
    """What is put between merged chunks."""
    max_tokens: int = Field(default=2048, ge=1)
    """The most tokens of the reply with the chunks."""

    @model_validator(mode="after")
    def _has_places(self) -> SynthesizeInterleave:
        if "{latency}" not in self.instruction:
            raise ValueError("the instruction must contain {latency}")
        if "{source}" not in self.template or "{target}" not in self.template:
            raise ValueError("the template must contain {source} and {target}")
        return self

    def about(self, rows: list[Row], **inputs: pl.DataFrame) -> list[Row]:
        problems = {row["problem_key"]: row for row in inputs["problems"].iter_rows(named=True)}
        return [{**problems[row["problem_key"]], **row} for row in rows]

    async def change(self, engine: Engine, row: Row) -> Change:
        known: dict[str, Any] = json.loads(row["metadata"] or "{}")
        asked = [turn["content"] for turn in row["messages"][:-1] if turn["role"] == "user"]
        source = str(known.get(self.source) or (asked[-1] if asked else row["prompt"]))
        target: str = row["text"]
        given = known.get(self.alignment)
        chunks = self._given(given) if given is not None else await self._align(engine, row, source, target)
        if chunks is None:
            return Change(unchanged="its alignment isn't a list of [source chunk, target chunk]")
        for side, whole in enumerate((source, target)):
            if _letters("".join(pair[side] for pair in chunks)) != _letters(whole):
                return Change(unchanged=f"the chunks don't give the {('source', 'target')[side]} back")
        latency: Latency = self.draws(row, "latency").choice([name for name in LATENCIES if name in self.merged])
        together = merge(chunks, self.merged[latency], self.separator)
        text = "".join(f"{read}{self.read_token}{written}{self.write_token}" for read, written in together)
        system = [turn for turn in row["messages"][:-1] if turn["role"] == "system"]
        turns = [*system, {"role": "user", "content": fill(self.instruction, {"latency": latency})}]
        return Change(text, note={"latency": latency, "chunks": len(together)}, messages=turns)

    @staticmethod
    def _given(alignment: Any) -> Chunks | None:
        try:
            pairs = [(pair[0], pair[1]) for pair in alignment if len(pair) == 2]
        except (TypeError, KeyError, IndexError):
            return None
        whole = len(pairs) == len(alignment) and all(isinstance(side, str) for pair in pairs for side in pair)
        return pairs if whole and pairs else None

    async def _align(self, engine: Engine, row: Row, source: str, target: str) -> Chunks:
        text = fill(self.template, {"source": source, "target": target})
        prompt = await engine.render([{"role": "user", "content": text}], chat=self.chat)
        name = f"{row['problem_key']}/{row['sample_index']}"
        [said] = await engine.generate(Request(prompt, self.params, sample_seed(self.seed, name, 0), 1, name))
        lines = [line.split("|||") for line in said.text.splitlines() if "|||" in line]
        return [(line[0].strip(), line[1].strip()) for line in lines if len(line) == 2]


def merge(chunks: Chunks, size: int, separator: str = " ") -> Chunks:
    """Return chunks with every ``size`` neighbours made one; a chunk that nothing is written for waits for the next."""
    merged: Chunks = []
    for at in range(0, len(chunks), size):
        some = chunks[at : at + size]
        read, written = (separator.join(pair[side] for pair in some if pair[side]) for side in (0, 1))
        if merged and not merged[-1][1]:
            before = merged.pop()
            read = separator.join(part for part in (before[0], read) if part)
        merged.append((read, written))
    return merged


def _letters(text: str) -> str:
    return re.sub(r"\s+", "", text)
