"""What is known of a problem before its first sample, as numbers: its text, and whatever columns a table has.

A column of numbers is a feature, a column of few different texts is one for each of them (level, source), a column of
lists (embeddings, by whatever model) its leading principal components, and a text column is described: its length, its
numbers, its operators, its notation, and the leading components of its words (latent semantic analysis: Deerwester et
al. 1990). What the features are worth is learned while problems are sampled (``operators.measure.difficulty``).
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from schemas.errors import BadInput
from schemas.later import Floats, Ints, np, pl

Places = Ints

TEXTS = ("prompt", "question", "problem", "text")
"""Columns that are described, not told apart."""
KEYS = ("problem_key", "problem_id", "problem_index", "model")
"""Columns that say whose row it is."""
RESULTS = ("n", "c", "is_correct", "answer")
"""Columns that nobody knows beforehand."""
KINDS = 24
"""Different texts that a column may have to be features."""
COMPONENTS = 8
"""Of lists, and of words."""
WORDS = 512
"""Places that words are hashed to."""
FITTED, BLOCK = 4_096, 4_096
"""Rows by which components are found, and that are held at once: 16 MB of hashed words."""
FAR = 4.0
"""Standard deviations beyond which a feature isn't believed."""
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_WORD = re.compile(r"[a-z]{2,}|[^\sa-z\d]")


def features_of(table: pl.DataFrame) -> Floats:
    """Return the features of problems, a row each: shape [problems, features], each with mean 0 and deviation 1.

    Of a single problem there are none: nothing tells it from others.

    Raises:
        BadInput: no column says anything about problems.
    """
    found: list[Floats] = []
    if len(table) < 2:
        return np.zeros((len(table), 0))
    for name in table.columns:
        if name in KEYS or name in RESULTS:
            continue
        found += _columns(table[name], name)
    parts = [standard(part) for part in found]
    kept = [part for part in parts if part.shape[1]]
    if not kept:
        raise BadInput(
            f"no column says anything about problems beforehand: {', '.join(table.columns)}; give numbers, levels, "
            "sources, embeddings (lists of numbers) or the prompts"
        )
    return np.concatenate(kept, axis=1)


def own_facts(problems: pl.DataFrame) -> pl.DataFrame:
    """Return what problems say of themselves, in columns that ``features_of`` reads.

    Args:
        problems: prompt, task_type and metadata (JSON objects), of which numbers, truth values and short texts are
            taken, also of objects within it (``difficulty.terms``).
    """
    rows = [dict(_flat(json.loads(text) if text else {})) for text in problems["metadata"].to_list()]
    names = sorted({name for row in rows for name in row})
    columns: dict[str, pl.Series] = {}
    for name in names:
        values = [row.get(name) for row in rows]
        numbers = all(value is None or not isinstance(value, str) for value in values)
        said = [None if value is None else float(value) if numbers else str(value) for value in values]
        columns[f"metadata {name}"] = pl.Series(said, dtype=pl.Float64 if numbers else pl.String)
    return problems.select("prompt", "task_type").with_columns(**columns)


def _flat(said: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the numbers, truth values and texts of an object, and of the objects in it, by their names."""
    for name, value in said.items():
        if name in RESULTS or name in KEYS:
            continue
        if isinstance(value, Mapping):
            yield from _flat(cast("Mapping[str, Any]", value), f"{above}{name}.")
        elif isinstance(value, bool | int | float | str):
            yield f"{above}{name}", value


def _columns(values: pl.Series, name: str) -> list[Floats]:
    """Return a column's features, [problems, some] each."""
    if isinstance(values.dtype, pl.Array):
        values = values.arr.to_list()
    if isinstance(values.dtype, pl.List):
        width = _width(values, name)
        return [components(len(values), lambda places: _lists(values[places], width))] if width else []
    if values.dtype.is_numeric() or values.dtype == pl.Boolean:
        numbers = values.cast(pl.Float64).to_numpy()
        absent = ~np.isfinite(numbers)
        filled = np.where(absent, np.nanmean(np.where(absent, np.nan, numbers)) if not absent.all() else 0.0, numbers)
        return [np.stack([filled, absent.astype(np.float64)], axis=1)]
    texts = values.cast(pl.String, strict=False).fill_null("")
    if name in TEXTS:
        looks = [described(texts[start : start + BLOCK].to_list()) for start in range(0, len(texts), BLOCK)]
        words = Words.of(texts[_spread(len(texts))].to_list())
        return [np.concatenate(looks), components(len(texts), lambda places: words(texts[places].to_list()))]
    kinds = texts.unique().sort()
    if len(kinds) > KINDS:
        return []
    return [np.stack([(texts == kind).to_numpy() for kind in kinds.to_list()], axis=1).astype(np.float64)]


def _width(values: pl.Series, name: str) -> int:
    """Return how long all lists of a column are.

    Raises:
        BadInput: they aren't equally long, or hold no numbers.
    """
    if not cast(Any, values.dtype).inner.is_numeric():
        raise BadInput(f"column {name}: embeddings are lists of numbers")
    lengths = values.list.len().drop_nulls().unique().to_list()
    if len(lengths) > 1:
        raise BadInput(f"column {name}: embeddings are equally long lists; there are {min(lengths)} to {max(lengths)}")
    return int(lengths[0]) if lengths else 0


def _lists(values: pl.Series, width: int) -> Floats:
    """Return lists as rows; what is missing, or no finite number, is 0."""
    empty = pl.Series([[0.0] * width], dtype=pl.List(pl.Float64))
    found = values.cast(pl.List(pl.Float64)).to_frame("x").select(pl.col("x").fill_null(pl.lit(empty).first()))
    rows = found["x"].explode().to_numpy().reshape(-1, width).astype(np.float64)
    return np.nan_to_num(rows, nan=0.0, posinf=0.0, neginf=0.0)


def described(texts: list[str]) -> Floats:
    """Return what texts look like: [texts, 8]."""
    rows: list[list[float]] = []
    for text in texts:
        numbers = [min(float(number), 1e12) for number in _NUMBER.findall(text)]
        digits = sum(character.isdigit() for character in text)
        operators = sum(text.count(sign) for sign in "+-*/^=<>")
        rows.append(
            [
                np.log1p(len(text)),
                np.log1p(len(text.split())),
                np.log1p(len(numbers)),
                np.log1p(digits),
                np.log1p(max(numbers, default=0.0)),
                np.log1p(operators),
                np.log1p(text.count("\\") + text.count("$")),
                np.log1p(text.count("\n")),
            ]
        )
    return np.array(rows).reshape(-1, 8)


@dataclass(frozen=True)
class Words:
    """Tf-idf of hashed words.

    Attributes:
        rare: what a word in each place counts, by how few of some texts have it: [WORDS].
    """

    rare: Floats

    @classmethod
    def of(cls, texts: list[str]) -> Words:
        """Return it, with what is rare among these."""
        seen = np.zeros(WORDS)
        for start in range(0, len(texts), BLOCK):
            seen += (_word_counts(texts[start : start + BLOCK]) > 0).sum(axis=0)
        return cls(np.log((1.0 + len(texts)) / (1.0 + seen)))

    def __call__(self, texts: list[str]) -> Floats:
        """Return a row of each text, of length 1: [texts, WORDS]."""
        weighted = np.log1p(_word_counts(texts)) * self.rare
        return weighted / np.maximum(np.linalg.norm(weighted, axis=1, keepdims=True), 1e-12)


def _word_counts(texts: list[str]) -> Floats:
    """Return how often each text has words of each place: [texts, WORDS]."""
    counts = np.zeros((len(texts), WORDS))
    for row, text in enumerate(texts):
        for word in _WORD.findall(text.lower()):
            counts[row, zlib.crc32(word.encode()) % WORDS] += 1.0
    return counts


def _spread(rows: int) -> Places:
    """Return ``FITTED`` evenly spaced places at most."""
    return np.arange(0, rows, max(1, -(-rows // FITTED)))


def components(rows: int, read: Callable[[Places], Floats]) -> Floats:
    """Return the leading principal components of rows: [rows, some]; their signs are made the same everywhere.

    They are those of ``FITTED`` evenly spaced rows at most, and all rows are projected a block at a time.

    Args:
        read: returns the rows at some places, [places, columns].
    """
    fitted = read(_spread(rows))
    mean = fitted.mean(axis=0)
    _, size, right = np.linalg.svd(fitted - mean, full_matrices=False)
    some = min(COMPONENTS, int((size > 1e-9 * max(1.0, size.max(initial=0.0))).sum()))
    largest = np.abs(right[:some]).argmax(axis=1)
    axes = (right[:some] * np.sign(right[np.arange(some), largest])[:, None]).T
    found = [(read(np.arange(at, min(at + BLOCK, rows))) - mean) @ axes for at in range(0, rows, BLOCK)]
    return np.concatenate(found)


def standard(values: Floats) -> Floats:
    """Return columns with mean 0 and deviation 1, within ``FAR``; constant ones and repetitions are left out."""
    varying = values.std(axis=0) > 1e-9
    some = values[:, varying]
    found: Floats = np.clip((some - some.mean(axis=0)) / np.maximum(some.std(axis=0), 1e-9), -FAR, FAR).round(6)
    first = [
        place for place, column in enumerate(found.T) if not (found[:, :place] == column[:, None]).all(axis=0).any()
    ]
    return found[:, first]
