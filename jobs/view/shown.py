"""What one server shows: the runs of a root, each opened when it is asked for, or a bare table."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cluster.storage.root import Root
from jobs.looking.diff import diff
from jobs.view import live
from jobs.view.index import Index
from jobs.view.listing import Listing, manifest_of
from jobs.view.problems import page, problem
from jobs.view.samples import RunSamples
from jobs.view.slots import Places
from jobs.view.tables import TableSamples
from jobs.view.watched import Watched
from schemas import __version__
from schemas.errors import BadInput

TABLE = "table"
"""The name under which a bare table is asked for."""
OPEN = 8
"""Runs that are open at the same time; the one that wasn't asked for longest is closed."""


class OfRun(RunSamples):
    """A run's samples, and its problems."""

    @property
    def ready(self) -> bool:
        return self.watched.ready or bool(self.watched.trouble)

    @property
    def progress(self) -> dict[str, int]:
        return self.watched.progress

    def open(self) -> tuple[Index, Places]:
        return self.watched.open()

    def problems(self, asked: Mapping[str, str]) -> dict[str, Any]:
        return page(self.watched, asked)

    def problem(self, key: str) -> dict[str, Any]:
        return problem(self.watched, key)


class OfTable(TableSamples):
    """The rows of a bare table, read in a thread of their own."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.trouble = ""
        threading.Thread(target=self._fill, name="view table", daemon=True).start()

    def _fill(self) -> None:
        try:
            self.fill()
        except Exception as error:  # whatever a damaged file makes its reader raise
            self.trouble = f"{type(error).__name__}: {error}"

    @property
    def ready(self) -> bool:
        return self.index is not None or bool(self.trouble)

    @property
    def progress(self) -> dict[str, int]:
        return {"done": self.done, "total": len(self)}

    def open(self) -> tuple[Index, Places]:
        if self.index is None:
            raise BadInput(self.trouble)
        return self.index, self.places

    def problems(self, asked: Mapping[str, str]) -> dict[str, Any]:
        raise BadInput("a bare table has rows, not problems")

    def problem(self, key: str) -> dict[str, Any]:
        raise BadInput("a bare table has rows, not problems")


class Shown:
    """A root's runs, or a table.

    Attributes:
        closed: whether the server is ending.
    """

    def __init__(self, root: Root | None, table: Path | None = None, run: str | None = None) -> None:
        """Args:
        run: whose page is shown first.
        """
        self.root, self.first = root, run
        self.table = OfTable(table) if table is not None else None
        self.listing = Listing(root) if root is not None else None
        self.closed = False
        self._open: dict[str, Watched] = {}
        self._lock = threading.Lock()

    def close(self) -> None:
        self.closed = True
        for watched in self._open.values():
            watched.close()
        if self.listing is not None:
            self.listing.close()
        if self.table is not None and self.table.index is not None:
            self.table.index.close()

    def about(self) -> dict[str, Any]:
        """Return what the page has to know first."""
        where = self.root.url if self.root is not None else str(self.table.path if self.table else "")
        kind = TABLE if self.table is not None else "root"
        return {"where": where, "kind": kind, "run": self.first, "version": __version__}

    def _of_root(self) -> tuple[Root, Listing]:
        if self.root is None or self.listing is None:
            raise BadInput("this view shows a table; there are no runs")
        return self.root, self.listing

    def runs(self, asked: Mapping[str, str]) -> dict[str, Any]:
        return self._of_root()[1].page(asked)

    def listed(self, ids: Sequence[str]) -> list[dict[str, Any]]:
        """Return the lines of some runs, of all where there are none, the newest first."""
        return self._of_root()[1].lines(ids)

    def watched(self, run_id: str) -> Watched:
        """Return a run, opened.

        Raises:
            BadInput: no such run.
        """
        root, _ = self._of_root()
        with self._lock:
            found = self._open.pop(run_id, None)
            if found is None:
                found = Watched(root, run_id)
                while len(self._open) >= OPEN:
                    self._open.pop(next(iter(self._open))).close()
            self._open[run_id] = found
        found.ask()
        return found

    def samples(self, run_id: str) -> OfRun | OfTable:
        """Return the samples of a run, or of the table.

        Raises:
            BadInput: no such run.
        """
        if self.table is not None:
            if run_id != TABLE:
                raise BadInput("this view shows a table; there are no runs")
            return self.table
        return self.samples_of(run_id)

    def samples_of(self, run_id: str) -> OfRun:
        return OfRun(self.watched(run_id))

    def document(self, run_id: str) -> dict[str, Any]:
        """Return a run with its settings."""
        watched = self.watched(run_id)
        return {**live.document(watched), "config": watched.manifest.config, "versions": watched.manifest.versions}

    def live(self, watched: Watched) -> dict[str, Any]:
        return live.document(watched)

    def failures(self, run_id: str) -> list[dict[str, Any]]:
        return live.failures(self.watched(run_id))

    def policy(self, run_id: str) -> dict[str, Any] | None:
        return live.policy(self.watched(run_id))

    def experts(self, run_id: str) -> list[dict[str, Any]]:
        return self.watched(run_id).experts()

    def compare(self, names: str) -> dict[str, Any]:
        """Return what several runs differ in: each against the first.

        Raises:
            BadInput: fewer than two runs, more than eight, or no such run.
        """
        root, _ = self._of_root()
        ids = list(dict.fromkeys(name for name in names.split(",") if name))
        if not 2 <= len(ids) <= 8:
            raise BadInput("say two to eight runs: runs=ONE,OTHER")
        manifests = [manifest_of(root, name) for name in ids]
        return {"runs": ids, "differences": [diff(root, manifests[0], other) for other in manifests[1:]]}
