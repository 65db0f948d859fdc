"""The hash of a file's content: a model is known by this, not by its path.

Hashing a large file takes minutes, so a hash is remembered (by path, size and time of change) in a small file below the
user's cache folder.
"""

from __future__ import annotations

import hashlib
import json
import os
from functools import cache
from pathlib import Path
from typing import Any


def file_hash(path: Path) -> str:
    """Return 32 hex digits of BLAKE2b over a file's content."""
    status = path.stat()
    return _hash(path, status.st_size, status.st_mtime_ns)


@cache
def _hash(path: Path, *mark: int) -> str:
    """Return the hash of a file of this size, changed at this time."""
    entry = _remembered().get(str(path))
    if entry is not None and entry[:2] == [*mark]:
        return str(entry[2])
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    _remember(str(path), [*mark, found])
    return found


def _memory() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "gristmill" / "weights.json"


def _remembered() -> dict[str, Any]:
    try:
        return json.loads(_memory().read_text())
    except (OSError, ValueError):
        return {}


def _remember(path: str, entry: list[Any]) -> None:
    place = _memory()
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        fresh = place.with_suffix(f".{os.getpid()}")
        fresh.write_text(json.dumps({**_remembered(), path: entry}))
        fresh.replace(place)
    except OSError:  # nowhere to write: hashed again next time
        pass
