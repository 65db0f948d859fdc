"""All files below a folder of a root, with how large and how old they are: one listing, however many folders."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cluster.storage.root import Root


@dataclass(frozen=True, slots=True)
class File:
    """One file.

    Attributes:
        path: relative to the root.
        size: bytes.
        modified: unix seconds.
    """

    path: str
    size: int
    modified: float


def files_below(root: Root, folder: str) -> list[File]:
    """Return the files below a folder, in the order of their paths; none where there is no such folder."""
    listed = root.patiently(lambda: list(_files(root, folder)), f"listing {folder}")
    return sorted(listed, key=lambda file: file.path)


def by_folder(files: list[File], depth: int) -> dict[str, list[File]]:
    """Return files by the folder that they are in, or below, so many names deep (``snapshots/sample/VIEW`` is 3)."""
    found: defaultdict[str, list[File]] = defaultdict(list)
    for file in files:
        names = file.path.split("/", depth)
        if len(names) > depth:
            found["/".join(names[:depth])].append(file)
    return dict(found)


def _files(root: Root, folder: str) -> Iterator[File]:
    if root.is_local:
        yield from _local(root.uri(folder), folder)
        return
    details: dict[str, dict[str, Any]] = root.fs.find(root.uri(folder), detail=True)
    for path, info in details.items():
        when = info.get("LastModified") or info["mtime"]
        modified = when.timestamp() if isinstance(when, datetime) else float(when)
        yield File(f"{folder}/{path.rpartition(f'{folder}/')[2]}", int(info["size"]), modified)


def _local(place: str, folder: str) -> Iterator[File]:
    try:
        entries = list(os.scandir(place))
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in entries:
        path = f"{folder}/{entry.name}"
        if entry.is_dir(follow_symlinks=False):
            yield from _local(entry.path, path)
            continue
        try:
            found = entry.stat(follow_symlinks=False)
        except FileNotFoundError:  # somebody else's temporary name
            continue
        yield File(path, found.st_size, found.st_mtime)
