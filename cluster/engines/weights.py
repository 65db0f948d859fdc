"""Which weights these are: their hash, or their commit. A sampling identity knows a model by this, not by its path.

The names of a model hub's own snapshots are commits, and need no hashing; of other files see ``schemas.file_hash``.
"""

from __future__ import annotations

import os
import re
from functools import cache
from pathlib import Path

from schemas.file_hash import file_hash
from schemas.identity import digest

DEFINES = ("*.safetensors", "*.bin", "*.pt", "*.gguf", "*.json", "*.jinja", "*.model", "*.txt")
"""The files of a model's folder that change what it gives."""
COMMIT = re.compile(r"[0-9a-f]{40}")


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
