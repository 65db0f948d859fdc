"""Documents of a root (manifests, submissions): one that is damaged is named, and everything else goes on.

A document that a crash cut off, or that a disk lost, concerns its own run alone. It is told of once in each process,
with what it concerns and what mends it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from cluster.storage.root import Root
from schemas.manifest import SnapshotManifest

Model = TypeVar("Model", bound=BaseModel)

MANIFEST = "manifest.json"
"""What a run or a snapshot says about itself, in its folder."""

_LOG = logging.getLogger("gristmill")
_told: set[str] = set()


def documents(root: Root, folder: str, name: str, model: type[Model], remedy: str) -> Iterator[tuple[str, Model]]:
    """Yield (folder name, document) for each ``{folder}/*/{name}``; damaged ones are told of and left out.

    Args:
        remedy: what somebody can do about a damaged one, with ``{path}`` for the file.
    """
    for entry in root.list(folder):
        try:
            found = read_document(root, model, remedy, folder, entry, name)
        except (FileNotFoundError, NotADirectoryError):
            continue
        if found is not None:
            yield entry, found


def read_document(root: Root, model: type[Model], remedy: str, *parts: str) -> Model | None:
    """Return one document; None where it is damaged, which is told of."""
    try:
        data = root.read_bytes(*parts)
    except OSError as error:
        if isinstance(error, FileNotFoundError | NotADirectoryError) or not root.is_local:
            raise
        tell_damage(root.uri(*parts), error.strerror or str(error), remedy)
        return None
    try:
        return model.model_validate_json(data)
    except (ValidationError, ValueError) as error:
        tell_damage(root.uri(*parts), _why(data, error), remedy)
        return None


def read_snapshot(root: Root, folder: str) -> SnapshotManifest | None:
    """Return a snapshot's manifest; None where there is none, or where it is damaged, which is told of."""
    if not root.exists(folder, MANIFEST):
        return None
    remedy = "It is a result that can be made again: the command of its run does that by itself"
    return read_document(root, SnapshotManifest, remedy, folder, MANIFEST)


def tell_damage(path: str, why: str, remedy: str) -> None:
    """Say once that a file is damaged."""
    tell(f"{path} ({why}). {remedy.format(path=path)}", path)


def tell(text: str, about: str = "") -> None:
    """Say once that something is damaged.

    Args:
        about: what it is, where that is less than the text.
    """
    about = about or text
    if about not in _told:
        _told.add(about)
        _LOG.warning("damaged: %s", text)


def _why(data: bytes, error: Exception) -> str:
    if not data.strip(b"\0 \n"):
        return "it is empty"
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return f"{where}: {first['msg']}" if where else str(first["msg"])
    return str(error)
