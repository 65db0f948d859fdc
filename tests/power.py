"""A power cut, simulated: what would be on the disk if the machine lost power now.

While a ``Disk`` watches, it notes what each ``fsync`` makes durable: of a file the bytes it has, of a folder the names
in it. What was never synced isn't there afterwards; a name that was, of bytes that weren't, is an empty file.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType

Identity = tuple[int, int]


class Disk:
    """Watches one folder; use as a context manager. Only this process's own ``os.fsync`` counts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._bytes: dict[Identity, bytes] = {}
        self._names: dict[Identity, dict[str, tuple[Identity, bool]]] = {}
        self._fsync = os.fsync

    def __enter__(self) -> Disk:
        os.fsync = self._note  # pyright: ignore[reportAttributeAccessIssue]
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        os.fsync = self._fsync

    def _note(self, handle: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{handle}"))
        found = os.stat(path)
        identity = (found.st_dev, found.st_ino)
        if path.is_dir():
            self._names[identity] = {
                entry.name: ((entry.stat().st_dev, entry.inode()), entry.is_dir()) for entry in os.scandir(path)
            }
        else:
            self._bytes[identity] = path.read_bytes()

    def after_a_cut(self, to: Path) -> None:
        """Write to ``to`` what would be there of the folder."""
        found = os.stat(self.folder)
        self._restore((found.st_dev, found.st_ino), to)

    def _restore(self, identity: Identity, to: Path) -> None:
        to.mkdir()
        for name, (below, is_folder) in self._names.get(identity, {}).items():
            if is_folder:
                self._restore(below, to / name)
            else:
                (to / name).write_bytes(self._bytes.get(below, b""))
