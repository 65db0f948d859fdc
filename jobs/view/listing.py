"""The runs of a root as the catalogue has them: filtered, sorted, paged in SQL; and what several of them differ in."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC
from typing import Any, TypeVar

import sqlalchemy as sa

from cluster.records.reader import LOST_RUN, seems_alive
from cluster.storage.documents import read_document
from cluster.storage.root import Root
from cluster.storage.snapshot import MANIFEST
from jobs.looking.catalogue import COSTS, POSTERIORS, RUNS, SORTS, Catalogue
from jobs.running.figures import VARIABLE
from jobs.view.index import cache_folder
from schemas.errors import BadInput
from schemas.manifest import RunManifest

SYNC_SECONDS = 2.0
"""How often it is looked which manifests changed, at most."""
AROUND_SECONDS = 30.0
"""What every page has is asked again after so long at the latest, and at once where runs came, went or changed."""
MOST = 500
"""Runs of a page."""
TREND = 60
"""Runs that a pipeline's spark lines are of."""
TRENDS = 12
"""Pipelines that have some."""

Result = TypeVar("Result")


def manifest_of(root: Root, run_id: str) -> RunManifest:
    """Return the manifest of a run by its whole id.

    Raises:
        BadInput: no such run, or its manifest is damaged.
    """
    odd = not run_id or len(run_id) > 200 or run_id.startswith(".") or not run_id.isprintable()
    if odd or "/" in run_id or "\\" in run_id or not root.exists("runs", run_id, MANIFEST):
        raise BadInput("there is no such run")
    found = read_document(root, RunManifest, LOST_RUN, "runs", run_id, MANIFEST)
    if found is None:
        raise BadInput(f"the manifest of run {run_id} is damaged")
    return found


class Listing:
    """The catalogue, asked by one thread."""

    def __init__(self, root: Root) -> None:
        self.root = root
        self._thread = ThreadPoolExecutor(1, "view catalogue")
        self._catalogue: Catalogue | None = None
        self._synced = -SYNC_SECONDS
        self._around: tuple[float, Any, dict[str, Any]] = (-AROUND_SECONDS, None, {})
        self._lock = threading.Lock()

    def close(self) -> None:
        if self._catalogue is not None:
            self._thread.submit(self._catalogue.close).result()
        self._thread.shutdown()

    def _ask(self, question: Callable[[sa.Connection], Result]) -> Result:
        return self._thread.submit(self._answer, question).result()

    def _answer(self, question: Callable[[sa.Connection], Result]) -> Result:
        if self._catalogue is None:
            self._catalogue = Catalogue(self.root, _address(self.root))
        if time.monotonic() - self._synced >= SYNC_SECONDS:
            if self._catalogue.sync():
                self._around = (-AROUND_SECONDS, None, {})
            self._synced = time.monotonic()
        with self._catalogue.connect() as connection:
            return question(connection)

    def page(self, asked: Mapping[str, str]) -> dict[str, Any]:
        """Return a page of runs, how many there are, and what they can be filtered by.

        Args:
            asked: pipeline, state, job, model, text (in the id), sort, order (asc), offset, limit.
        """
        limit, offset = min(MOST, _number(asked, "limit", 100)), _number(asked, "offset", 0)
        where = _where(self.root, asked)

        def question(connection: sa.Connection) -> dict[str, Any]:
            total = connection.execute(sa.select(sa.func.count()).select_from(RUNS).where(*where)).scalar_one()
            column = next((known for name, known in SORTS.items() if name == asked.get("sort")), RUNS.c.started)
            order = column.asc() if asked.get("order") == "asc" else column.desc()
            rows = connection.execute(
                _shown().where(*where).order_by(order.nulls_last(), RUNS.c.run_id.desc()).limit(limit).offset(offset)
            ).mappings()
            found = [_plain(row) for row in rows]
            return {"total": total, "runs": found, **self._surroundings(connection)}

        answer = self._ask(question)
        for row in answer["runs"]:
            row["state"] = self._state(row)
        return answer

    def _surroundings(self, connection: sa.Connection) -> dict[str, Any]:
        """Return what every page has: what can be filtered by, spark lines, nights."""
        mine = [RUNS.c.root == self.root.url]
        mark = connection.execute(sa.select(sa.func.count(), sa.func.max(RUNS.c.stamp)).where(*mine)).one()
        made, of, kept = self._around
        if of != mark or time.monotonic() - made > AROUND_SECONDS:
            facets = {name: _facet(connection, RUNS.c[name], mine) for name in ("pipeline", "state")}
            facets["model"] = _facet(connection, COSTS.c.model, [COSTS.c.root == self.root.url])
            trends = [_trend(connection, self.root, name) for name, _ in facets["pipeline"][:TRENDS]]
            kept = {"facets": facets, "trends": trends, "nights": _nights(connection, self.root)}
            self._around = (time.monotonic(), mark, kept)
        return kept

    def lines(self, ids: Sequence[str]) -> list[dict[str, Any]]:
        """Return what the list shows of some runs, of all where there are none, the newest first."""

        def question(connection: sa.Connection) -> list[dict[str, Any]]:
            wanted = [RUNS.c.root == self.root.url, *([RUNS.c.run_id.in_(ids)] if ids else [])]
            order = (RUNS.c.started.desc(), RUNS.c.run_id.desc())
            return [_plain(row) for row in connection.execute(_shown().where(*wanted).order_by(*order)).mappings()]

        return [{**row, "state": self._state(row)} for row in self._ask(question)]

    def _state(self, row: Mapping[str, Any]) -> str:
        """Return a run's state; one that was killed couldn't write down its own."""
        alive = row["state"] != "running" or seems_alive(self.root, row["run_id"])
        return row["state"] if alive else "killed"


def _shown() -> sa.Select[Any]:
    """Select what a line of the list shows; accuracy is of all verdicts that the run's posterior was made of."""
    same = (POSTERIORS.c.root == RUNS.c.root) & (POSTERIORS.c.run_id == RUNS.c.run_id)
    of_run = (COSTS.c.root == RUNS.c.root) & (COSTS.c.run_id == RUNS.c.run_id)
    right = sa.select(sa.func.max(POSTERIORS.c.correct * 1.0 / POSTERIORS.c.samples)).where(same).scalar_subquery()
    tokens = sa.select(sa.func.sum(COSTS.c.completion_tokens)).where(of_run).scalar_subquery()
    model = sa.select(sa.func.max(COSTS.c.model)).where(of_run).scalar_subquery()
    names = ("run_id", "pipeline", "state", "job", "started", "seconds", "problems", "samples", "dollars")
    columns = [RUNS.c[name] for name in names]
    return sa.select(*columns, right.label("accuracy"), tokens.label("tokens"), model.label("model"))


def _where(root: Root, asked: Mapping[str, str]) -> list[sa.ColumnElement[bool]]:
    where: list[sa.ColumnElement[bool]] = [RUNS.c.root == root.url]
    for name in ("pipeline", "state"):
        if asked.get(name):
            where.append(RUNS.c[name].in_(asked[name].split(",")))
    if asked.get("job"):
        where.append(RUNS.c.job.startswith(asked["job"], autoescape=True))
    if asked.get("text"):
        said = asked["text"]
        where.append(RUNS.c.run_id.contains(said, autoescape=True) | RUNS.c.job.contains(said, autoescape=True))
    if asked.get("model"):
        of_run = (COSTS.c.root == RUNS.c.root) & (COSTS.c.run_id == RUNS.c.run_id)
        where.append(sa.exists().where(of_run, COSTS.c.model.in_(asked["model"].split(","))))
    return where


def _facet(
    connection: sa.Connection, column: sa.Column[Any], where: Sequence[sa.ColumnElement[bool]]
) -> list[list[Any]]:
    count = sa.func.count()
    rows = connection.execute(sa.select(column, count).where(*where, column.is_not(None)).group_by(column))
    return sorted(([value, number] for value, number in rows), key=lambda row: (-row[1], row[0]))


def _trend(connection: sa.Connection, root: Root, pipeline: str) -> dict[str, Any]:
    """Return accuracy and dollars of a pipeline's last runs, oldest first."""
    latest = _shown().where(RUNS.c.root == root.url, RUNS.c.pipeline == pipeline)
    rows = connection.execute(latest.order_by(RUNS.c.started.desc()).limit(TREND)).mappings().all()[::-1]
    return {
        "pipeline": pipeline,
        "runs": [row["run_id"] for row in rows],
        "accuracy": [row["accuracy"] for row in rows],
        "cost": [row["dollars"] if row["dollars"] is not None else row["tokens"] for row in rows],
        "unit": "dollars" if any(row["dollars"] is not None for row in rows) else "tokens",
    }


def _nights(connection: sa.Connection, root: Root) -> list[dict[str, Any]]:
    """Return the runs of nights, by the night's name and day."""
    columns = [RUNS.c[name] for name in ("run_id", "job", "state", "samples", "dollars")]
    nightly = sa.select(*columns).where(RUNS.c.root == root.url, RUNS.c.job.startswith("nightly/"))
    rows = connection.execute(nightly.order_by(RUNS.c.started.desc()).limit(1000)).mappings()
    return [dict(row) for row in rows]


def _plain(row: Mapping[Any, Any]) -> dict[str, Any]:
    return {**row, "started": row["started"].replace(tzinfo=UTC).isoformat()}  # SQLite forgets the zone


def _number(asked: Mapping[str, str], name: str, default: int) -> int:
    text = asked.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else default


def _address(root: Root) -> str | None:
    """Return the database that the catalogue is kept in where the root can't be written; None: its usual place."""
    if os.environ.get(VARIABLE) or not root.is_local or os.access(root.url, os.W_OK):
        return None
    name = hashlib.sha256(root.url.encode()).hexdigest()[:24]
    return f"sqlite:///{cache_folder() / f'{name}.sqlite'}"
