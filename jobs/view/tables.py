"""A bare Parquet file, or a folder of them, as samples: whatever its columns are called, as far as they can be told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from jobs.view.codes import answers, counts, flags, named, scores
from jobs.view.filters import described
from jobs.view.index import Index, Slots
from jobs.view.samples import BEGINNING, SEARCHED
from jobs.view.slots import Places
from operators.load.recorded import COMPLETION_NAMES
from schemas.errors import BadInput

AT_ONCE = 500_000
KEYS = ("problem_id", "problem_key", "id", "task_id", "question_id")
ROLES: dict[str, tuple[str, ...]] = {
    "verdict": ("is_correct", "correct", "passed", "right"),
    "answer": ("predicted_answer", "answer_key", "extracted_answer", "answer"),
    "tokens": ("completion_tokens", "n_tokens", "num_tokens", "tokens"),
    "finish": ("finish_reason", "stop_reason"),
    "model": ("model", "worker", "model_name", "generator"),
    "score": ("score", "reward", "credit"),
}

TOKENS = ("tokens", "token_texts", "token_strings")
LOGPROBS = ("token_logprobs", "logprobs", "log_probs")
"""Columns of lists, an element for each token of the text."""


class TableSamples:
    """The rows of some Parquet files; a row's place is its number.

    Attributes:
        columns: what each of them is taken for.
    """

    def __init__(self, path: Path) -> None:
        """Raises:
        BadInput: there is no Parquet there, or it can't be read.
        """
        self.path = path
        self.files = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
        if not self.files:
            raise BadInput(f"there is no .parquet file in {path}")
        try:
            self.sizes = [int(pl.scan_parquet(file).select(pl.len()).collect().item()) for file in self.files]
            self.schema = pl.scan_parquet(self.files[0]).collect_schema()
        except (OSError, pl.exceptions.PolarsError) as error:
            raise BadInput(f"{path} can't be read as Parquet: {error}") from error
        self.starts = np.concatenate([[0], np.cumsum(self.sizes)])
        self.text = self._text_column()
        self.key = next((name for name in KEYS if name in self.schema), None)
        self.columns = {
            role: name for role, names in ROLES.items() if (name := next((n for n in names if n in self.schema), None))
        }
        if "verdict" in self.columns and self.schema[self.columns["verdict"]] != pl.Boolean:
            del self.columns["verdict"]
        for role in ("tokens", "score"):
            if role in self.columns and not self.schema[self.columns[role]].is_numeric():
                del self.columns[role]
        self.places = Places(pl.DataFrame({"problem_key": ["rows"], "first": [0], "count": [len(self)]}))
        self.index: Index | None = None
        self.done = 0

    def __len__(self) -> int:
        return int(self.starts[-1])

    def _text_column(self) -> str:
        known = [name for name in COMPLETION_NAMES if name in self.schema]
        texts = [name for name, kind in self.schema.items() if kind == pl.String]
        if not known and not texts:
            raise BadInput(f"{self.path} has no column of texts; it has {', '.join(self.schema.names())}")
        if known:
            return known[0]
        lengths = pl.scan_parquet(self.files[0]).select(pl.col(texts).str.len_chars()).head(200).collect().sum()
        return max(texts, key=lambda name: lengths[name][0] or 0)

    def fill(self) -> None:
        """Read what filters ask for; where it was read before, nothing."""
        stamp = [[str(file), file.stat().st_mtime_ns, file.stat().st_size] for file in self.files]
        index = Index(f"table {json.dumps(stamp)} {json.dumps(self.columns)}", len(self))
        if not index.taken:
            for file, size, start in zip(self.files, self.sizes, self.starts, strict=False):
                for first in range(0, size, AT_ONCE):
                    wanted = [*dict.fromkeys(self.columns.values())]
                    rows = pl.scan_parquet(file).select(pl.lit(1, pl.UInt8).alias("\0"), *wanted)
                    self._write(index, rows.slice(first, AT_ONCE).collect(), int(start) + first)
                    self.done += min(AT_ONCE, size - first)
            index.taken["rows"] = len(self)
            index.save()
        self.index = index

    def _write(self, index: Index, rows: pl.DataFrame, first: int) -> None:
        values: dict[str, Any] = {"status": np.ones(len(rows), "u1")}
        for role, name in self.columns.items():
            column = rows[name]
            if role == "verdict":
                right = flags(column)
                values[role] = np.where(right == 0, 0, 3 - right.astype(np.int64)).astype("u1")
            elif role == "score":
                values[role] = scores(column)
            elif role == "tokens":
                values[role] = counts(column)
            elif role == "answer":
                values[role] = answers(column.cast(pl.String, strict=False))
            else:
                values[role] = named(index, role, column.cast(pl.String, strict=False))
        index.write(np.arange(first, first + len(rows)), values)

    def _rows(self, slots: Slots) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield some places with what their rows say, all columns."""
        for at, file in enumerate(self.files):
            mine = slots[(slots >= self.starts[at]) & (slots < self.starts[at + 1])] - self.starts[at]
            if len(mine):
                low, high = int(mine.min()), int(mine.max())
                rows = pl.scan_parquet(file).slice(low, high - low + 1).collect()
                for row in mine:
                    yield int(row + self.starts[at]), rows.row(int(row) - low, named=True)

    def lines(self, slots: Slots) -> list[dict[str, Any]]:
        """Return what a list shows of some rows, without any text."""
        assert self.index is not None
        facts = described(self.index, slots)
        return [
            {"slot": int(slot), "problem_id": f"row {slot}", **fact} for slot, fact in zip(slots, facts, strict=True)
        ]

    def texts(self, slots: Slots) -> dict[int, dict[str, Any]]:
        """Return the beginnings of some rows' texts, and their answers, by place."""
        said = self.columns.get("answer")
        return {
            slot: {
                "text": str(row[self.text] or "")[:BEGINNING],
                "said": None if said is None or row[said] is None else str(row[said]),
                **({"name": str(row[self.key])} if self.key else {}),
            }
            for slot, row in self._rows(slots)
        }

    def pieces(self) -> Iterator[pl.DataFrame]:
        """Yield slot, completion and reasoning of all rows, some at a time."""
        reasoning = pl.col("reasoning") if self.schema.get("reasoning") == pl.String else pl.lit(None, pl.String)
        for file, size, start in zip(self.files, self.sizes, self.starts, strict=False):
            texts = pl.scan_parquet(file).select(completion=pl.col(self.text).cast(pl.String), reasoning=reasoning)
            for first in range(0, size, SEARCHED):
                rows = texts.slice(first, SEARCHED).collect()
                yield rows.with_row_index("slot", int(start) + first).with_columns(pl.col("slot").cast(pl.Int64))

    def sample(self, slot: int) -> dict[str, Any]:
        """Return one row: its text, and all that its other columns say; nothing where there is none."""
        if not 0 <= slot < len(self):
            return {}
        _, row = next(self._rows(np.array([slot])))
        prompt = next((name for name in ("prompt", "question", "problem") if isinstance(row.get(name), str)), None)
        said = self.columns.get("answer")
        name = str(row[self.key]) if self.key else f"row {slot}"
        return {
            **self.lines(np.array([slot]))[0],
            "problem": {"problem_id": name, "prompt": row.get(prompt or "")},
            "sample": {"completion": str(row[self.text] or ""), "reasoning": row.get("reasoning")},
            "verdicts": [{"predicted_answer": row[said]}] if said else [],
            "tokens_of": token_logprobs(row),
            "columns": {other: row[other] for other in row if other not in (self.text, prompt, "reasoning")},
        }


def token_logprobs(row: dict[str, Any]) -> list[tuple[str, float | None]] | None:
    """Return the tokens of a row's text with their log-probs (nats), where they were kept; None where they weren't.

    Read as servers tell them (``logprobs.content``, of chats; ``logprobs.tokens`` beside ``token_logprobs``, of
    completions), or as two columns of equally long lists.
    """
    told: Any = row.get("logprobs")
    if isinstance(told, str):
        try:
            told = json.loads(told)
        except ValueError:
            return None
    told = told if isinstance(told, dict) else row
    if isinstance(content := told.get("content"), list):
        pairs = [(one.get("token"), one.get("logprob")) for one in content if isinstance(one, dict)]
    else:
        values = next((found for name in LOGPROBS if isinstance(found := told.get(name), list)), None)
        texts = next((found for name in TOKENS if isinstance(found := told.get(name), list)), None)
        if values is None or texts is None or len(values) != len(texts):
            return None
        pairs = list(zip(texts, values, strict=True))
    if not pairs or not all(value is None or isinstance(value, int | float) for _, value in pairs):
        return None
    return [(str(text), None if value is None else float(value)) for text, value in pairs]
