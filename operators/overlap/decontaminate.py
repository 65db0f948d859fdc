"""Decontamination: training rows that show what a benchmark asks."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, ClassVar

from pydantic import Field

from operators.load import Load
from operators.overlap.passages import BREAK, CHARACTER, WORD, Flags, Passages, Places, tokens
from operators.overlap.shingles import Hashes
from operators.overlap.sifting import Sifting, batches
from operators.overlap.stock import Stock, empty_words
from schemas.datasets import SAMPLE_KEY
from schemas.identity import Execution, digest
from schemas.later import np, pl

BATCH = 5_000
"""Rows whose texts are in memory at once."""
TELLING = 2 * WORD
"""A short question is looked for among other text where what tells in it weighs as much."""


@dataclass(frozen=True)
class Index:
    """Sorted hashes, and for each the first benchmark row that has it."""

    hashes: Hashes
    rows: Places

    @staticmethod
    def of(hashes: Hashes, rows: Places) -> Index:
        found, first = np.unique(hashes, return_index=True)
        return Index(found, rows[first])

    def find(self, hashes: Hashes) -> Places:
        """Return the benchmark row of each hash, -1 where there is none."""
        if not len(self.hashes):
            return np.full(len(hashes), -1)
        at = np.minimum(np.searchsorted(self.hashes, hashes), len(self.hashes) - 1)
        return np.where(self.hashes[at] == hashes, self.rows[at], -1)


@dataclass(frozen=True)
class Shared:
    """What texts share with questions: for each text the benchmark's row, -1 for none, and the tokens where it is."""

    rows: Places
    first: Places
    last: Places


@dataclass(frozen=True)
class Questions:
    """What is looked for.

    Attributes:
        runs: ``ngram`` words of a question's own, by benchmark row.
        whole: whole questions.
        short: questions with fewer words of their own, by the number of their words and signs.
    """

    stock: Stock
    runs: Index
    whole: Index
    short: dict[int, Index]


class SynthesizeDecontaminate(Sifting):
    """Leave out rows that show what a benchmark asks.

    A row does where one of its turns shares ``ngram`` words on end with a question (n-gram overlap: Brown et al. 2020,
    appendix C), is one, or, unless it is the assistant's, holds a shorter one whole, between breaks (sentences' ends,
    lines, stock phrases). Stock phrases (``operators.overlap.stock``) are nobody's words and don't count; nor do case,
    blanks and punctuation. Han, Kana and Hangul count two characters a word (``operators.overlap.passages``). The
    reason names the benchmark's file and row.
    """

    version: ClassVar[int] = 2

    benchmarks: Annotated[tuple[str, ...], Execution] = ()
    """Benchmark files (.parquet, .jsonl, .csv, a folder, ``hf:NAME``): their contents, not their names, are part of the
    identity."""
    column: str | None = None
    """The benchmarks' column to look for; by default the one that ``load`` would take for the prompt."""
    ngram: Annotated[int, Field(ge=1)] = 13
    """Words on end that a row and a question must share."""
    mask_numbers: bool = False
    """Find questions whose numbers were changed, too."""

    @cached_property
    def _texts(self) -> pl.DataFrame:
        """Return ``text`` of every benchmark row, its ``name`` and its ``file``."""
        tables = [pl.DataFrame(schema={"text": pl.String, "name": pl.String, "file": pl.String})]
        row = pl.format("{} row {}", "file", pl.int_range(1, pl.len() + 1))
        name = pl.coalesce(pl.format("{} (id {})", row, "problem_id"), row)
        for source in self.benchmarks:
            asked = Load(source=source, prompt_column=self.column).prompts().with_columns(file=pl.lit(source))
            tables.append(asked.select("text", name=name, file="file"))
        return pl.concat(tables)

    def fingerprint(self) -> dict[str, Any]:
        content = hashlib.blake2b(digest_size=16)
        for text in sorted(self._texts["text"].unique().to_list()):
            content.update(digest(text).encode())
        return {**super().fingerprint(), "benchmarks": content.hexdigest()}

    @property
    def _weight(self) -> int:
        return self.ngram * WORD

    def reasons(self, sft: pl.LazyFrame, **others: pl.LazyFrame) -> pl.DataFrame:
        found = [pl.DataFrame(schema={"problem_key": pl.String, "sample_index": pl.Int64, "reason": pl.String})]
        if self.benchmarks:
            questions = self._questions()
            turn = pl.element().struct
            said = pl.struct(text=turn.field("content"), answer=turn.field("role") == "assistant")
            rows = sft.select(*SAMPLE_KEY, turn=pl.col("messages").list.eval(said)).explode("turn").unnest("turn")
            found += [self._overlaps(batch, questions) for batch in batches(rows, BATCH)]
        together = pl.concat(found)
        return together.sort(*SAMPLE_KEY, "reason").unique(SAMPLE_KEY, keep="first", maintain_order=True)

    def _read(self, texts: pl.Series) -> tuple[pl.Series, Passages]:
        text = pl.col("text").fill_null("")
        lists = pl.DataFrame({"text": texts}).select(tokens(text, mask_numbers=self.mask_numbers)).to_series()
        return lists, Passages.of(lists, empty_words() | ({"0"} if self.mask_numbers else set[str]()))

    def _questions(self) -> Questions:
        texts = self._texts
        _, passages = self._read(texts["text"])
        # the same question in several files is one question
        whole = passages.spans(passages.offsets[:-1], passages.offsets[1:])
        first = np.sort(np.unique(whole, return_index=True)[1])
        learned = Stock(self._read(texts["text"].gather(first))[1], texts["file"].gather(first))
        marked = learned.marked(passages)
        own = passages.only(~marked & (passages.weights > 0))
        start, _, hashes = own.runs(self._weight)
        runs = Index.of(hashes, own.texts[start])
        sizes = np.diff(passages.offsets)
        rows = np.flatnonzero(sizes > 0)
        tells = passages.sums(np.where(passages.tells & ~marked, passages.weights, 0)) >= TELLING
        few = np.flatnonzero((own.sums(own.weights) < self._weight) & tells)
        short = {
            int(size): Index.of(whole[few[sizes[few] == size]], few[sizes[few] == size])
            for size in np.unique(sizes[few])
        }
        return Questions(learned, runs, Index.of(whole[rows], rows), short)

    def _overlaps(self, batch: pl.DataFrame, questions: Questions) -> pl.DataFrame:
        """Return the turns of one batch that overlap, and with what."""
        lists, passages = self._read(batch["text"])
        marked = questions.stock.marked(passages)
        shared = self._shared(passages.only(~marked & (passages.weights > 0)), questions.runs)
        held = self._held(passages, marked, ~batch["answer"].fill_null(False).to_numpy(), questions.short)
        equal = np.full(len(batch), -1)
        said = np.flatnonzero(np.diff(passages.offsets) > 0)
        equal[said] = questions.whole.find(passages.spans(passages.offsets[said], passages.offsets[said + 1]))
        row, how = np.where(equal >= 0, equal, np.where(held >= 0, held, shared.rows)), np.full(len(batch), "shares")
        how[held >= 0], how[equal >= 0] = "holds", "is"
        columns = {"row": row, "how": how, "first": shared.first, "last": shared.last}
        table = batch.select(SAMPLE_KEY).with_columns(pl.Series(name, values) for name, values in columns.items())
        table = table.with_columns(lists.alias("tokens")).filter(pl.col("row") >= 0)
        return table.with_columns(name=self._texts["name"].gather(table["row"])).select(*SAMPLE_KEY, reason=_told())

    def _shared(self, own: Passages, runs: Index) -> Shared:
        """Return the first run of each text that a question has."""
        start, end, hashes = own.runs(self._weight)
        rows = runs.find(hashes)
        hit = np.flatnonzero(rows >= 0)
        text, first = np.unique(own.texts[start[hit]], return_index=True)
        hit = hit[first]
        count = len(own.offsets) - 1
        found = Shared(np.full(count, -1), np.zeros(count, np.int64), np.zeros(count, np.int64))
        found.rows[text] = rows[hit]
        found.first[text], found.last[text] = own.places[start[hit]], own.places[end[hit] - 1]
        return found

    def _held(self, passages: Passages, marked: Flags, asked: Flags, short: dict[int, Index]) -> Places:
        """Return which short question each text holds whole, -1 for none."""
        begins = passages.begins[:-1] | np.append(False, marked[:-1])
        ends = passages.begins[1:] | np.append(marked[1:], True)
        starts = np.flatnonzero(begins & asked[passages.texts])
        limit = passages.offsets[passages.texts[starts] + 1]
        held = np.full(len(passages.offsets) - 1, -1)
        for size, index in short.items():
            inside = starts[starts + size <= limit]
            inside = inside[ends[inside + size - 1]]
            rows = index.find(passages.spans(inside, inside + size))
            hit = rows >= 0
            held[passages.texts[inside[hit]]] = rows[hit]
        return held


def _told() -> pl.Expr:
    """Return the reason in words, of ``how``, ``name``, ``tokens``, and ``first`` and ``last`` among these."""
    some = pl.col("tokens").list.slice(pl.col("first"), pl.col("last") - pl.col("first") + 1)
    quoted = some.list.eval(pl.element().filter(~pl.element().str.contains(f"^(?:{BREAK})$"))).list.join(" ")
    for _ in range(2):  # neighbours share a character
        quoted = quoted.str.replace_all(f"([{CHARACTER}]) ([{CHARACTER}])", "$1$2")
    shares = pl.format('contaminated: "{}" is in {}', quoted, pl.col("name"))
    return pl.when(pl.col("how") == "shares").then(shares).otherwise(pl.format("contaminated: {} {}", "how", "name"))
