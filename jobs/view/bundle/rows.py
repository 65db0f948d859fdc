"""What a bundle holds of a run, read a few problems at a time: what a list shows of samples, their texts with all that
is known of them, episodes, problems."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from cluster.records.call_trees import ROW, calls_of, episode_of
from cluster.records.reader import open_stage
from jobs.view.app import dumps
from jobs.view.filling import problem_names
from jobs.view.index import Slots
from jobs.view.problems import PROBLEM, names, table
from jobs.view.samples import ABOUT, RunSamples, pair_sides

ROWS = 20_000
TOKENS = 10_000_000
"""So many rows, or tokens of completions, are read at once; always whole problems."""
KEYS = ["problem_key", "sample_index"]
TEXTS = ("completion", "reasoning", "error")
LINE = {
    "problem": pl.Int32, "problem_key": pl.String, "problem_id": pl.String, "sample_index": pl.Int32,
    **dict.fromkeys(("verdict", "status", "finish", "model", "kept", "trained", "chosen"), pl.String),
    "tokens": pl.Int32, "score": pl.Float32, "episode": pl.Int32, "answer": pl.String,
}  # fmt: skip
"""Columns of ``lines``."""


@dataclass(frozen=True)
class Piece:
    """Some problems, whole.

    Attributes:
        lines: a row for each sample, in the view's order: what filters ask for.
        texts: as many rows: completion, reasoning, error, said, and ``about``, all else as JSON.
        episodes: problem, episode, and the episode with the tree of its calls as JSON.
        problems: ``about``, a row for each problem: its text and what methods selected, as JSON.
    """

    lines: pl.DataFrame
    texts: pl.DataFrame
    episodes: pl.DataFrame
    problems: pl.DataFrame


class Rows:
    """A run whose index is filled."""

    def __init__(self, samples: RunSamples) -> None:
        self.samples, self.watched = samples, samples.watched
        self.index, self.places = self.watched.open()
        self.manifest, self.root = self.watched.manifest, self.watched.root
        self.calls = calls_of(self.root, self.manifest)
        self.pairs = pair_sides(self.watched)
        self.before = 0
        """Samples in the pieces that were yielded."""

    def problems(self) -> pl.DataFrame:
        """Return the table of problems, each with the number of samples that are there."""
        found = pl.concat([table(self.watched), names(self.watched).drop("problem_key")], how="horizontal")
        drawn = pl.col("drawn").cum_sum() - pl.col("drawn")
        return found.with_columns(first=drawn).with_columns(pl.selectors.numeric().cast(pl.Float64))

    def pieces(self) -> Iterator[Piece]:
        """Yield everything, in order of the problems."""
        sums = self._sums()
        first, count = 0, len(self.places.keys)
        while first < count:
            rows = self.places.starts[first + 1 :] - self.places.starts[first] <= ROWS
            light = sums[first + 1 :] - sums[first] <= TOKENS
            end = first + max(1, int(np.argmin(np.append(rows & light, False))))
            yield self._piece(first, end)
            first = end

    def _sums(self) -> Slots:
        assert self.watched.filler is not None
        tally = self.watched.filler.tally.sums["tokens"]
        return np.concatenate([[0], np.cumsum(tally)])

    def _piece(self, first: int, end: int) -> Piece:
        low, high = str(self.places.keys[first]), str(self.places.keys[end - 1])
        begin = int(self.places.starts[first])
        there = self.index.read("status", begin, int(self.places.starts[end])) > 0
        slots = np.flatnonzero(there) + begin
        near = pl.col("problem_key").is_between(pl.lit(low), pl.lit(high))
        numbers = pl.Series(self.places.problems(slots), dtype=pl.Int32)
        lines = pl.DataFrame(self.samples.lines(slots), schema_overrides=dict(LINE)) if len(slots) else None
        problems = self._problem_texts(first, end, near)
        if lines is None:
            return Piece(pl.DataFrame(schema=LINE), pl.DataFrame(), pl.DataFrame(), problems)
        texts = lines.select(*KEYS, "problem_id").join(
            self._samples(low, high, near), on=KEYS, how="left", maintain_order="left"
        )
        texts = texts.join(self._said(low, high, near), on=KEYS, how="left", maintain_order="left")
        lines = lines.with_columns(answer=texts["answer"], problem=numbers).select(list(LINE))
        texts = texts.with_columns(pairs=self._pairs(texts, slots))
        self.before += len(slots)
        return Piece(lines, self._with_about(texts, near), self._episodes(first, low, high, near), problems)

    def _samples(self, low: str, high: str, near: pl.Expr) -> pl.DataFrame:
        assert self.watched.filler is not None
        rows = self.watched.filler.samples.scan(low, high).filter(near)
        others = [name for name in rows.collect_schema().names() if name not in TEXTS]
        sample = pl.struct(others).struct.json_encode()
        key = [pl.col("problem_key"), pl.col("sample_index").cast(pl.Int32)]
        return rows.select(*key, *TEXTS, sample=sample).collect()

    def _said(self, low: str, high: str, near: pl.Expr) -> pl.DataFrame:
        """Return each sample's answer, as it was written and as it is counted."""
        filler = self.watched.filler
        assert filler is not None
        if filler.verdicts is None:
            schema = {"problem_key": pl.String, "sample_index": pl.Int32, "said": pl.String, "answer": pl.String}
            return pl.DataFrame(schema=schema)
        rows = filler.verdicts.scan(low, high).filter(near).unique(KEYS, keep="last")
        said = {"said": pl.col("predicted_answer"), "answer": pl.col("answer_key")}
        return rows.select("problem_key", pl.col("sample_index").cast(pl.Int32), **said).collect()

    def _with_about(self, texts: pl.DataFrame, near: pl.Expr) -> pl.DataFrame:
        """Put what all other stages say of each sample into one JSON document beside its text."""
        parts: list[pl.Expr] = [pl.col("sample").alias("sample")]
        for number, record in enumerate(self.manifest.stages):
            if record.dataset not in ABOUT or not (record.kind == "store" or record.complete):
                continue
            rows = open_stage(self.root, self.manifest, record.name).filter(near)
            said = pl.struct(pl.lit(record.name).alias("stage"), pl.all()).struct.json_encode()
            found = rows.select("problem_key", pl.col("sample_index").cast(pl.Int32), row=said).collect()
            column = f"{record.dataset} {number}"
            texts = texts.join(
                found.group_by(KEYS, maintain_order=True).agg(pl.col("row").str.join(",").alias(column)),
                on=KEYS, how="left", maintain_order="left",
            )  # fmt: skip
            parts.append(pl.col(column))
        made: list[pl.Expr] = []
        for name in ABOUT:
            mine = [pl.col(column) for column in texts.columns if column.startswith(f"{name} ")]
            if mine:
                made += [pl.lit(f',"{name}":['), pl.concat_str(mine, separator=",", ignore_nulls=True), pl.lit("]")]
        sample = pl.col("sample").fill_null("null")
        about = pl.concat_str(pl.lit('{"sample":'), sample, *made, pl.col("pairs"), pl.lit("}"))
        return texts.select(*TEXTS, "said", about=about)

    def _pairs(self, texts: pl.DataFrame, slots: Slots) -> pl.Series:
        """Return the pairs of each sample as a part of its document; the other side by its row in the bundle."""
        said: list[str] = []
        for name, key, number in texts.select("problem_id", *KEYS).iter_rows():
            mine: list[dict[str, Any]] = []
            for pair in self.pairs.get((name, number), ()):
                slot = self.places.slot(key, pair["other"])
                row = None if slot is None else self.before + int(np.searchsorted(slots, slot))
                mine.append({**pair, "slot": row})
            said.append(f',"preferences":{dumps(mine).decode()}' if mine else "")
        return pl.Series(said, dtype=pl.String)

    def _episodes(self, first: int, low: str, high: str, near: pl.Expr) -> pl.DataFrame:
        stage, filler = self.watched.stage, self.watched.filler
        assert stage is not None and filler is not None
        made: defaultdict[str, list[Any]] = defaultdict(list)
        rows = filler.samples.scan(low, high).filter(near, pl.col("episode").is_not_null()).select(ROW).collect()
        calls = self.calls.get(stage.name)
        told = None if calls is None or not len(rows) else calls.filter(near).collect()
        for (key, episode), mine in rows.sort("slot").group_by(["problem_key", "episode"], maintain_order=True):
            if not mine["episode_facts"].drop_nulls().len():
                continue
            of = None if told is None else told.filter(pl.col("problem_key") == key, pl.col("episode") == episode)
            made["problem"].append(self.places.number(str(key)))
            made["episode"].append(episode)
            made["about"].append(dumps(episode_of(mine, of)).decode())
        schema = {"problem": pl.Int32, "episode": pl.Int32, "about": pl.String}
        return pl.DataFrame(dict(made), schema=schema).sort("problem", "episode")

    def _problem_texts(self, first: int, end: int, near: pl.Expr) -> pl.DataFrame:
        texts: dict[str, dict[str, Any]] = {}
        for found in problem_names(self.root, self.manifest, PROBLEM):
            for row in found.filter(near).collect().iter_rows(named=True):
                texts.setdefault(row["problem_key"], {**row, "expected": row["answer"]})
        methods: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
        for record in self.manifest.stages:
            if record.dataset == "answers" and record.complete:
                rows = open_stage(self.root, self.manifest, record.name).filter(near).collect()
                for row in rows.iter_rows(named=True):
                    methods[row.pop("problem_key")].append({"stage": record.name, **row})
        keys = self.places.keys[first:end]
        none = {"prompt": "", "expected": None}
        documents = [{"problem": texts.get(key, {"problem_id": key, **none}), "methods": methods[key]} for key in keys]
        return pl.DataFrame({"about": [dumps(one).decode() for one in documents]}, schema={"about": pl.String})
