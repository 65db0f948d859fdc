"""The samples of a run: pages of what a filter finds, the beginnings of their texts, one of them with all that is
known of it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl

from cluster.records.call_trees import ROW, calls_of, episode_of
from cluster.records.reader import open_stage
from jobs.view.filters import described
from jobs.view.index import Slots
from jobs.view.problems import names, problem_text
from jobs.view.watched import Watched

BEGINNING = 300
"""Characters of a text that a list shows."""
SEARCHED = 20_000
"""Rows that are searched at once."""
ABOUT = ("verdicts", "scores", "paths", "sft")
"""Data sets with rows about single samples."""


class RunSamples:
    """The samples of a run's last sampling stage."""

    def __init__(self, watched: Watched) -> None:
        self.watched = watched

    def lines(self, slots: Slots) -> list[dict[str, Any]]:
        """Return what a list shows of some places, without any text."""
        index, places = self.watched.open()
        ids = self.watched.cached("problem names", lambda: names(self.watched), once=True)["problem_id"]
        numbers = places.problems(slots)
        named = ids.gather(numbers).to_list() if len(slots) else []
        keys = places.keys.gather(numbers).to_list() if len(slots) else []
        indices = places.indices(slots).tolist()
        facts = described(index, slots)
        return [
            {"slot": int(slot), "problem_key": key, "problem_id": name, "sample_index": at, **fact}
            for slot, key, name, at, fact in zip(slots, keys, named, indices, facts, strict=True)
        ]

    def texts(self, slots: Slots) -> dict[int, dict[str, Any]]:
        """Return the beginnings of some samples' texts, and their answers, by place."""
        index, places = self.watched.open()
        filler = self.watched.filler
        assert filler is not None
        there = slots[index.at("status", slots) > 0]
        if not len(there):
            return {}
        keys = places.keys.gather(np.unique(places.problems(there)))
        indices = np.unique(places.indices(there))
        wanted = pl.col("problem_key").is_in(keys.implode())
        wanted = wanted & pl.col("sample_index").is_in(pl.Series(indices).implode())
        low, high = str(keys.min()), str(keys.max())
        near = pl.col("problem_key").is_between(pl.lit(low), pl.lit(high)) & wanted
        text = pl.col("completion").str.slice(0, BEGINNING)
        rows = filler.samples.scan(low, high).filter(near)
        shown = rows.select("problem_key", "sample_index", "error", text=text)
        found = places.of(shown).filter(pl.col("slot").is_in(pl.Series(there).implode())).collect()
        texts = {row["slot"]: {"text": row["text"], "error": row["error"]} for row in found.iter_rows(named=True)}
        if filler.verdicts is not None:
            judged = filler.verdicts.scan(low, high).filter(near)
            said = judged.select("problem_key", "sample_index", "predicted_answer")
            for row in places.of(said).collect().iter_rows(named=True):
                if row["slot"] in texts:
                    texts[row["slot"]]["said"] = row["predicted_answer"]
        return texts

    def pieces(self) -> Iterator[pl.DataFrame]:
        """Yield slot, completion and reasoning of all samples, some at a time."""
        _, places = self.watched.open()
        filler = self.watched.filler
        assert filler is not None
        columns = ("problem_key", "sample_index", "completion", "reasoning")
        for uri, rows in zip(filler.samples.uris(), filler.samples.files["rows"].to_list(), strict=True):
            table = filler.samples.scan_one(uri).select(columns)
            for first in range(0, max(1, rows), SEARCHED):
                yield places.of(table.slice(first, SEARCHED)).select("slot", "completion", "reasoning").collect()

    def sample(self, slot: int) -> dict[str, Any]:
        """Return one sample: its problem, its text, what was said of it, where it went; nothing where there is none."""
        index, places = self.watched.open()
        filler, watched = self.watched.filler, self.watched
        assert filler is not None
        if not 0 <= slot < len(places) or index.at("status", np.array([slot]))[0] == 0:
            return {}
        at = np.array([slot])
        key, number = str(places.keys[int(places.problems(at)[0])]), int(places.indices(at)[0])
        mine = (pl.col("problem_key") == key) & (pl.col("sample_index") == number)
        rows = filler.samples.scan(key, key).filter(mine).collect().to_dicts()
        if not rows:
            return {}
        sample = rows[0]
        problem = problem_text(watched, key)
        about = {name: self._about(name, mine) for name in ABOUT}
        run = shlex.quote(watched.run_id)
        where = (
            f"--problem {shlex.quote(problem['problem_id'])} --sample {number} --root {shlex.quote(watched.root.url)}"
        )
        pairs = pair_sides(watched, problem["problem_id"]).get((problem["problem_id"], number), [])
        return {
            "slot": slot,
            **self.lines(at)[0],
            "problem": problem,
            "sample": sample,
            **about,
            "preferences": [{**pair, "slot": places.slot(key, pair["other"])} for pair in pairs],
            "episode": self._episode(key, sample),
            "command": f"gristmill samples {run} {where}",
        }

    def _about(self, dataset: str, mine: pl.Expr) -> list[dict[str, Any]]:
        """Return the rows of all stages of a dataset that are about a sample."""
        found: list[dict[str, Any]] = []
        for record in self.watched.manifest.stages:
            if record.dataset != dataset or not (record.kind == "store" or record.complete):
                continue
            rows = open_stage(self.watched.root, self.watched.manifest, record.name).filter(mine)
            found += [{"stage": record.name, **row} for row in rows.collect().to_dicts()]
        return found

    def _episode(self, key: str, sample: dict[str, Any]) -> dict[str, Any] | None:
        """Return the episode that a sample is of, with the tree of its calls; None of plain samples."""
        stage = self.watched.stage
        if sample.get("episode") is None or stage is None:
            return None
        mine = (pl.col("problem_key") == key) & (pl.col("episode") == sample["episode"])
        filler = self.watched.filler
        assert filler is not None
        rows = filler.samples.scan(key, key).filter(mine).select(ROW).sort("slot").collect()
        if not rows["episode_facts"].drop_nulls().len():
            return None
        calls = calls_of(self.watched.root, self.watched.manifest).get(stage.name)
        return episode_of(rows, None if calls is None else calls.filter(mine).collect())


def pair_sides(watched: Watched, problem_id: str | None = None) -> dict[tuple[str, int], list[dict[str, Any]]]:
    """Return the preference pairs, of one problem or of all, by the samples that are their sides.

    Each says which side the sample is, and the index of the ``other`` one.
    """
    found: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for record in watched.manifest.stages:
        if record.dataset != "preferences" or not record.complete:
            continue
        rows = open_stage(watched.root, watched.manifest, record.name).select("problem_id", "margin", "lineage")
        mine = rows if problem_id is None else rows.filter(pl.col("problem_id") == problem_id)
        for row in mine.collect().iter_rows(named=True):
            lineage = json.loads(row["lineage"])
            sides = {side: lineage.get(side) for side in ("chosen", "rejected")}
            if not all(isinstance(number, int) for number in sides.values()):
                continue
            for side, other in (("chosen", "rejected"), ("rejected", "chosen")):
                pair = {"stage": record.name, "side": side, "other": sides[other], "margin": row["margin"]}
                found.setdefault((row["problem_id"], sides[side]), []).append({**pair, "lineage": lineage})
    return found
