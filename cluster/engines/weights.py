"""Which weights these are: their hash, or their commit. A sampling identity knows a model by this, not by its path.

Hashing a large model takes minutes, so a file's hash is remembered (by path, size and time of change) in a small file
below the user's cache folder; the names of a model hub's own snapshots are commits, and need no hashing.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from functools import cache
from pathlib import Path
from typing import Any

from schemas.identity import digest

DEFINES = ("*.safetensors", "*.bin", "*.pt", "*.gguf", "*.json", "*.jinja", "*.model", "*.txt")
"""The files of a model's folder that change what it gives."""
COMMIT = re.compile(r"[0-9a-f]{40}")


@cache
def file_hash(path: Path) -> str:
    """Return 32 hex digits of BLAKE2b over a file's content."""
    known, status = _remembered(), path.stat()
    mark = [status.st_size, status.st_mtime_ns]
    entry = known.get(str(path))
    if entry is not None and entry[:2] == mark:
        return str(entry[2])
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    _remember(str(path), [*mark, found])
    return found


@cache
def folder_revision(folder: Path) -> str:
    """Return the commit that a hub's snapshot folder is named by, or the hash of what a folder holds."""
    if COMMIT.fullmatch(folder.name) and folder.parent.name == "snapshots":
        return folder.name
    files = sorted({path for pattern in DEFINES for path in folder.glob(pattern)})
    return digest([[path.name, file_hash(path.resolve())] for path in files])


def model_revision(model: str, revision: str) -> tuple[str, str]:
    """Return (name, revision) of a model: of a folder its content's, of a name on the hub the commit it stands for."""
    folder = Path(model).expanduser()
    if folder.is_dir():
        return folder.resolve().name, folder_revision(folder.resolve())
    return model, hub_commit(model, revision) or revision or "unversioned"


def hub_commit(model: str, revision: str) -> str | None:
    """Return the commit that a model's ``revision`` stands for on the hub, or in the local cache; None if unknown."""
    if COMMIT.fullmatch(revision):
        return revision
    name, branch = f"models--{model.replace('/', '--')}", revision or "main"
    reference = _hub_cache() / name / "refs" / branch
    if os.environ.get("HF_HUB_OFFLINE") != "1":
        try:
            from huggingface_hub import HfApi  # pyright: ignore[reportMissingImports]  (comes with vLLM)

            return HfApi().model_info(model, revision=branch, timeout=10).sha
        except Exception:  # noqa: S110 (no such package, network or model: the cache may know, and vLLM will say)
            pass
    return reference.read_text().strip() if reference.is_file() else None


def _hub_cache() -> Path:
    home = Path(os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface"))
    return Path(os.environ.get("HF_HUB_CACHE", home / "hub"))


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
