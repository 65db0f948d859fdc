"""Decontamination: training rows that show what a benchmark asks."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, ClassVar

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from operators.load import Load
from operators.overlap.shingles import Flat, Hashes, hashed_words, ngrams, normalised, words
from operators.overlap.sifting import Sifting, batches
from operators.select.classes import SAMPLE_KEY
from schemas.identity import Execution, digest

WHOLE = 2**31
"""An n-gram as long as any text."""


@dataclass(frozen=True)
class Index:
    """Sorted hashes, and for each the first benchmark row that has it."""

    hashes: Hashes
    rows: NDArray[np.int64]

    @staticmethod
    def of(flat: Flat, wanted: NDArray[np.bool_]) -> Index:
        """Index the hashes of the wanted texts."""
        hashes, offsets = flat
        row = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
        keep = wanted[row]
        found, first = np.unique(hashes[keep], return_index=True)
        return Index(found, row[keep][first])

    def find(self, hashes: Hashes) -> NDArray[np.int64]:
        """Return the benchmark row of each hash, -1 where there is none."""
        if not len(self.hashes):
            return np.full(len(hashes), -1)
        at = np.minimum(np.searchsorted(self.hashes, hashes), len(self.hashes) - 1)
        return np.where(self.hashes[at] == hashes, self.rows[at], -1)


class SynthesizeDecontaminate(Sifting):
    """Leave out rows of which a turn shares a run of ``ngram`` words with a benchmark, or is one of its texts.

    N-gram overlap as in Brown et al. (2020, appendix C), and equality of whole texts for those that are shorter. Case,
    blanks and punctuation don't count. The reason names the benchmark's file and row.
    """

    version: ClassVar[int] = 1

    benchmarks: Annotated[tuple[str, ...], Execution] = ()
    """Benchmark files (.parquet, .jsonl, .csv, a folder, ``hf:NAME``): their contents, not their names, are part of the
    identity."""
    column: str | None = None
    """The benchmarks' column to look for; by default the one that ``load`` would take for the prompt."""
    ngram: Annotated[int, Field(ge=1)] = 13
    mask_numbers: bool = False
    """Find questions whose numbers were changed, too."""

    @cached_property
    def _texts(self) -> pl.DataFrame:
        """Return ``text`` of every benchmark row and its ``name``."""
        tables = [pl.DataFrame(schema={"text": pl.String, "name": pl.String})]
        for source in self.benchmarks:
            load = Load(source=source, prompt_column=self.column)
            table = load.table()
            names = load.mapping(table.columns)
            if "prompt" in names:
                text = pl.col(names["prompt"]).cast(pl.String)
            else:
                text = pl.col("messages").list.eval(pl.element().struct.field("content")).list.join("\n")
            row = pl.int_range(1, pl.len() + 1).cast(pl.String)
            name = pl.format("{} row {}", pl.lit(source), row)
            if "problem_id" in names:
                name = pl.format("{} (id {})", name, pl.col(names["problem_id"]).cast(pl.String))
            tables.append(table.select(text=text.fill_null(""), name=name))
        return pl.concat(tables)

    def fingerprint(self) -> dict[str, Any]:
        content = hashlib.blake2b(digest_size=16)
        for text in sorted(self._texts["text"].unique().to_list()):
            content.update(digest(text).encode())
        return {**super().fingerprint(), "benchmarks": content.hexdigest()}

    def reasons(self, sft: pl.LazyFrame, **others: pl.LazyFrame) -> pl.DataFrame:
        found = [pl.DataFrame(schema={"problem_key": pl.String, "sample_index": pl.Int64, "reason": pl.String})]
        if self.benchmarks:
            flat = self._hashed(self._texts["text"])
            lengths = np.diff(flat[1])
            runs = Index.of(ngrams(flat, self.ngram), lengths >= self.ngram)
            whole = Index.of(ngrams(flat, WHOLE), lengths > 0)
            content = pl.col("messages").list.eval(pl.element().struct.field("content")).alias("text")
            rows = sft.select(*SAMPLE_KEY, content).explode("text")
            found += [self._overlaps(batch, runs, whole) for batch in batches(rows)]
        together = pl.concat(found)
        return together.sort(*SAMPLE_KEY, "reason").unique(SAMPLE_KEY, keep="first", maintain_order=True)

    def _hashed(self, texts: pl.Series) -> Flat:
        return hashed_words(pl.DataFrame({"text": texts}).select(words(self._plain)).to_series())

    @property
    def _plain(self) -> pl.Expr:
        return normalised(pl.col("text").fill_null(""), mask_numbers=self.mask_numbers)

    def _overlaps(self, batch: pl.DataFrame, runs: Index, whole: Index) -> pl.DataFrame:
        """Return the turns of one batch that overlap, and with what."""
        flat = self._hashed(batch["text"])
        lengths = np.diff(flat[1])
        grams, offsets = ngrams(flat, self.ngram)
        long_enough = np.repeat(lengths >= self.ngram, np.diff(offsets))
        hit = np.flatnonzero((runs.find(grams) >= 0) & long_enough)
        turn = np.searchsorted(offsets, hit, side="right") - 1
        turn, first = np.unique(turn, return_index=True)
        position = hit[first] - offsets[turn]
        row = np.full(len(batch), -1)
        at = np.zeros(len(batch), np.int64)
        row[turn], at[turn] = runs.find(grams[hit[first]]), position
        said = lengths > 0
        equal = np.full(len(batch), -1)
        equal[said] = whole.find(ngrams(flat, WHOLE)[0])
        names = self._texts["name"]
        marked = batch.with_columns(row=pl.Series(row), at=pl.Series(at), equal=pl.Series(equal))
        marked = marked.filter((pl.col("row") >= 0) | (pl.col("equal") >= 0))
        quoted = words(self._plain).list.slice(pl.col("at"), self.ngram).list.join(" ")
        name = (
            pl.when(pl.col("equal") >= 0)
            .then("equal")
            .otherwise("row")
            .replace_strict(
                {i: names[i] for i in {*row.tolist(), *equal.tolist()} - {-1}}, default=None, return_dtype=pl.String
            )
        )
        how = pl.when(pl.col("equal") >= 0).then(pl.lit("is")).otherwise(pl.format('"{}" is in', quoted))
        return marked.select(*SAMPLE_KEY, reason=pl.format("contaminated: {} {}", how, name))
