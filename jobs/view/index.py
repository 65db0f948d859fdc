"""The index of a run's samples: one narrow table in order of the keys, a file a column, that filters read.

A row has its place before it is drawn (``slots``), so whatever is committed is written where it belongs, in any order
and any number of times. Texts aren't in it. It lies in the viewer's own cache folder and can be deleted at any time.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.datasets import FINISH_REASONS

VERSION = 1
"""Raised when a column changes; an index of another version is made again."""
COLUMNS: dict[str, str] = {
    "status": "u1",
    "verdict": "u1",
    "finish": "u1",
    "model": "u1",
    "kept": "u1",
    "trained": "u1",
    "chosen": "u1",
    "tokens": "u4",
    "prompt_tokens": "u4",
    "answer": "u4",
    "episode": "u4",
    "score": "f4",
}
"""0 means that nothing is known, in all of them but ``score``, where NaN does. ``episode`` is the number + 1, and
``answer`` a hash of the canonical answer."""
STATUS = ("", "ok", "error", "none")
VERDICTS = ("", "right", "wrong", "unparseable", "timeout", "unknown")
JUDGED = 5
"""Verdicts below this one, and above 0, count as right or wrong."""
FLAGS = ("", "no", "yes")
CHUNK = 1 << 20
"""Rows that are looked at at once."""
KEPT_DAYS = 30.0
"""Indices that nobody opened for so long are removed."""

Slots = NDArray[np.int64]
Array = NDArray[Any]


def cache_folder() -> Path:
    """Return where the viewer keeps what it can make again."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "gristmill" / "view"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def hashed(text: str) -> int:
    """Return the code of an answer: 32 bits, never 0."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=4).digest(), "little") or 1


class Index:
    """The columns of one table of samples.

    Attributes:
        rows: places; not all of them need to be filled.
        names: of the columns ``finish``, ``model`` and ``kept``, what their codes mean.
        taken: what was read into it, by whatever name the filler gives.
    """

    def __init__(self, name: str, rows: int) -> None:
        """Open the index, or begin one.

        Args:
            name: the same for the same rows; anything.
        """
        self.rows = rows
        self._temporary = False
        self.folder = cache_folder() / hashlib.sha256(f"{VERSION} {name} {rows}".encode()).hexdigest()[:24]
        _remove_old(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = (self.folder / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # another view of the same run: each writes its own
            self._temporary = True
            self.folder = Path(tempfile.mkdtemp(dir=cache_folder()))
        self.names: dict[str, list[str]] = {}
        self.taken: dict[str, Any] = {}
        try:
            about = json.loads((self.folder / "about.json").read_text())
            self.names, self.taken = about["names"], about["taken"]
        except (OSError, ValueError, KeyError):
            self.clear()

    def clear(self) -> None:
        """Begin again."""
        (self.folder / "about.json").unlink(missing_ok=True)
        self.names = {"finish": ["", *FINISH_REASONS], "model": [""], "kept": ["", "kept"]}
        self.taken = {}
        for name, kind in COLUMNS.items():
            with (self.folder / name).open("wb") as file:
                if name == "score":
                    for first in range(0, self.rows, CHUNK):
                        file.write(np.full(min(CHUNK, self.rows - first), np.nan, kind).tobytes())
                else:
                    file.truncate(self.rows * np.dtype(kind).itemsize)  # a hole: zeros that take no space

    def save(self) -> None:
        """Write down what was taken; the columns first."""
        for name in COLUMNS:
            with (self.folder / name).open("rb") as file:
                os.fsync(file.fileno())
        fresh = self.folder / "about.new"
        fresh.write_text(json.dumps({"names": self.names, "taken": self.taken}))
        fresh.replace(self.folder / "about.json")

    def close(self) -> None:
        self._lock.close()
        if self._temporary:
            shutil.rmtree(self.folder, ignore_errors=True)

    def code(self, column: str, name: str) -> int:
        """Return the code of a name, a new one where it wasn't seen yet; the 255th and later share the last."""
        known = self.names[column]
        if name not in known:
            if len(known) >= 255:
                return 255
            known.append(name)
        return known.index(name)

    def write(self, slots: Slots, values: Mapping[str, Array]) -> None:
        """Put values of some columns at their places."""
        if not self.rows or not len(slots):
            return
        for name, column in values.items():
            there = np.memmap(self.folder / name, COLUMNS[name], "r+", shape=(self.rows,))
            there[slots] = column

    def at(self, name: str, slots: Slots) -> Array:
        """Return a column's values at some places."""
        if not self.rows:
            return np.zeros(0, COLUMNS[name])
        return np.array(np.memmap(self.folder / name, COLUMNS[name], "r", shape=(self.rows,))[slots])

    def read(self, name: str, first: int = 0, end: int | None = None) -> Array:
        """Return a column's values from ``first`` to before ``end``."""
        kind = np.dtype(COLUMNS[name])
        stop = self.rows if end is None else min(end, self.rows)
        return np.fromfile(self.folder / name, kind, count=max(0, stop - first), offset=first * kind.itemsize)

    def chunks(self, first: int = 0, end: int | None = None) -> Iterator[tuple[int, int]]:
        stop = self.rows if end is None else min(end, self.rows)
        while first < stop:
            yield first, min(first + CHUNK, stop)
            first += CHUNK


def _remove_old(but: Path) -> None:
    oldest = time.time() - KEPT_DAYS * 86_400
    for folder in cache_folder().iterdir():
        mark = folder / "lock"
        last = mark if mark.exists() else folder
        if folder.is_dir() and folder != but and last.stat().st_mtime < oldest:
            shutil.rmtree(folder, ignore_errors=True)
