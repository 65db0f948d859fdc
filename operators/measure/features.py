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
from collections.abc import Iterator, Mapping
from typing import Any, cast

import numpy as np
import polars as pl
from numpy.typing import NDArray

from schemas.errors import BadInput

Floats = NDArray[np.float64]

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
FAR = 4.0
"""Standard deviations beyond which a feature isn't believed."""
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_WORD = re.compile(r"[a-z]{2,}|[^\sa-z\d]")


def features_of(table: pl.DataFrame) -> Floats:
    """Return the features of problems, a row each: shape [problems, features], each with mean 0 and deviation 1.

    Raises:
        BadInput: no column says anything about problems.
    """
    found: list[Floats] = []
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
    if isinstance(values.dtype, pl.List | pl.Array):
        lists = np.array([[float(one) for one in row] for row in values.to_list()], dtype=np.float64)
        return [components(lists)]
    if values.dtype.is_numeric() or values.dtype == pl.Boolean:
        numbers = values.cast(pl.Float64).to_numpy()
        absent = ~np.isfinite(numbers)
        filled = np.where(absent, np.nanmean(np.where(absent, np.nan, numbers)) if not absent.all() else 0.0, numbers)
        return [np.stack([filled, absent.astype(np.float64)], axis=1)]
    texts = [str(text) if text is not None else "" for text in values.to_list()]
    if name in TEXTS:
        return [described(texts), components(word_counts(texts))]
    kinds = sorted(set(texts))
    if len(kinds) > KINDS:
        return []
    return [np.array([[float(text == kind) for kind in kinds] for text in texts])]


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
    return np.array(rows)


def word_counts(texts: list[str]) -> Floats:
    """Return tf-idf of hashed words: [texts, WORDS]."""
    counts = np.zeros((len(texts), WORDS))
    for row, text in enumerate(texts):
        for word in _WORD.findall(text.lower()):
            counts[row, zlib.crc32(word.encode()) % WORDS] += 1.0
    seen = (counts > 0).sum(axis=0)
    weighted = np.log1p(counts) * np.log((1.0 + len(texts)) / (1.0 + seen))
    return weighted / np.maximum(np.linalg.norm(weighted, axis=1, keepdims=True), 1e-12)


def components(values: Floats) -> Floats:
    """Return the leading principal components of rows: [rows, some]; their signs are made the same everywhere."""
    centred = values - values.mean(axis=0)
    left, size, right = np.linalg.svd(centred, full_matrices=False)
    some = min(COMPONENTS, int((size > 1e-9 * max(1.0, size.max(initial=0.0))).sum()))
    largest = np.abs(right[:some]).argmax(axis=1)
    signs = np.sign(right[np.arange(some), largest])
    return left[:, :some] * size[:some] * signs


def standard(values: Floats) -> Floats:
    """Return columns with mean 0 and deviation 1, within ``FAR``; constant ones and repetitions are left out."""
    varying = values.std(axis=0) > 1e-9
    some = values[:, varying]
    found: Floats = np.clip((some - some.mean(axis=0)) / np.maximum(some.std(axis=0), 1e-9), -FAR, FAR).round(6)
    first = [
        place for place, column in enumerate(found.T) if not (found[:, :place] == column[:, None]).all(axis=0).any()
    ]
    return found[:, first]
