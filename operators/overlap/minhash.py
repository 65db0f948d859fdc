"""MinHash signatures of texts (Broder 1997), and the groups of near-duplicates among them (Leskovec et al., ch. 3).

The share of equal entries of two signatures estimates the Jaccard similarity of the texts' sets of word n-grams.
Candidates share at least one band of their signatures (locality-sensitive hashing); candidates are then compared by
their whole signatures. Signatures come from rensa.
"""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any, cast

import rensa

from operators.overlap.shingles import Flat, mixed
from schemas.later import Bools, Hashes, Ints, Signatures, graphs, np, sparse

ROUNDS = 256
"""In a bucket, rows are compared with up to so many that are unlike each other."""


def signatures(shingles: Flat, permutations: int, seed: int) -> Signatures:
    """Return one row of ``permutations`` minima for each text."""
    hashes, offsets = shingles
    if len(offsets) < 2:
        return np.zeros((0, permutations), np.uint32)
    digests = cast(Any, rensa).RMinHash.digest_matrix_from_flat_token_hashes
    matrix = digests(hashes, offsets.astype(np.uint64), permutations, seed)
    return np.array(matrix.to_rows(), dtype=np.uint32)


def bands(permutations: int, threshold: float) -> tuple[int, int]:
    """Return (bands, rows) with the fewest missed pairs at the threshold: at most 2% of those exactly at it.

    A pair of similarity s shares a band with probability 1 - (1 - s^rows)^bands. More rows mean fewer candidates to
    compare; the most are taken that still find 98% at the threshold.
    """
    for rows in range(permutations, 1, -1):
        count = permutations // rows
        if (1.0 - threshold**rows) ** count <= 0.02:
            return count, rows
    return permutations, 1


class Sketches(AbstractContextManager["Sketches"]):
    """Signatures of many texts in a temporary file, so that memory holds one band of them at a time."""

    def __init__(self, permutations: int, seed: int) -> None:
        self.permutations = permutations
        self.seed = seed
        self.rows = 0
        self._file = tempfile.TemporaryFile(prefix="gristmill-minhash-")  # noqa: SIM115 (closed in __exit__)

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, batches: Iterable[Flat]) -> None:
        """Append the texts of batches of shingles."""
        for shingles in batches:
            found = signatures(shingles, self.permutations, self.seed)
            self._file.write(found.tobytes())
            self.rows += len(found)
        self._file.flush()

    def groups(self, order: Ints, threshold: float) -> Ints:
        """Return a number for each text, the same for texts that a chain of near-duplicates connects.

        Args:
            order: the texts in an order that doesn't depend on where they were read from; of a bucket's texts the first
                ones are compared with the others.
        """
        if not self.rows:
            return np.zeros(0, np.int64)
        table = np.memmap(self._file, np.uint32, "r", shape=(self.rows, self.permutations))
        count, rows = bands(self.permutations, threshold)
        needed = math.ceil(threshold * self.permutations - 1e-9)
        place = np.empty(self.rows, np.int64)
        place[order] = np.arange(self.rows)
        group = np.arange(self.rows)
        for band in range(count):
            keys = _band(table, band * rows, rows)
            pairs = _similar(table, keys, place, group, needed)
            if len(pairs):
                group = _united(group, group[pairs[:, 0]], group[pairs[:, 1]])
        return group


def _united(group: Ints, left: Ints, right: Ints) -> Ints:
    """Return the groups of all texts after those on the left were united with those on the right."""
    graph = sparse.coo_array((np.ones(len(left), np.bool_), (left, right)), shape=(len(group), len(group)))
    component: Any = graphs.connected_components(graph, directed=False)[1]
    return cast(Ints, component.astype(np.int64))[group]


def _band(table: Signatures, first: int, rows: int) -> Hashes:
    """Return one hash for each text of one band of its signature."""
    keys = np.zeros(len(table), np.uint64)
    for column in range(first, first + rows):
        keys = mixed(keys + table[:, column].astype(np.uint64) + np.uint64(1))
    return keys


def _similar(table: Signatures, keys: Hashes, place: Ints, group: Ints, needed: int) -> Ints:
    """Return pairs of texts of one bucket each that agree in ``needed`` entries of their signatures or more.

    The first text of each bucket is compared with all others; of those that aren't like it the first is compared with
    the rest of them, and so on. Texts that are in one group already are not compared.
    """
    rows = np.lexsort((place, keys))
    pairs: list[Ints] = []
    bucket = keys[rows]
    for _ in range(ROUNDS):
        starts = np.flatnonzero(np.concatenate([[True], bucket[1:] != bucket[:-1]]))
        sizes = np.diff(np.append(starts, len(rows)))
        many = np.repeat(sizes > 1, sizes)
        first = np.repeat(rows[starts], sizes)[many]
        rows, bucket, is_first = rows[many], bucket[many], np.isin(np.flatnonzero(many), starts)
        if not len(rows):
            break
        same = group[first] == group[rows]
        alike = same | _agree(table, first, rows, ~same, needed)
        found = alike & ~same
        pairs.append(np.stack([first[found], rows[found]], axis=1))
        rows, bucket = rows[~alike & ~is_first], bucket[~alike & ~is_first]
        if not len(rows):
            break
    return np.concatenate(pairs) if pairs else np.zeros((0, 2), np.int64)


def _agree(table: Signatures, left: Ints, right: Ints, wanted: Bools, needed: int) -> Bools:
    """Return where the signatures of two texts agree in ``needed`` entries or more, looking only where wanted."""
    result = np.zeros(len(left), np.bool_)
    places = np.flatnonzero(wanted)
    for at in range(0, len(places), 65_536):
        some = places[at : at + 65_536]
        result[some] = (table[left[some]] == table[right[some]]).sum(axis=1) >= needed
    return result
