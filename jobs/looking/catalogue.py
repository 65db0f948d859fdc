"""The catalogue: runs, datasets, costs and posteriors as tables, in SQLite or in any database that SQLAlchemy knows.

It is a copy. The manifests under the root are the truth; what changed among them is read in before every look, by the
time and size (or ETag) of each, so a catalogue that was deleted is simply made again.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, OperationalError, SQLAlchemyError

from cluster.records.reader import LOST_RUN
from cluster.storage.documents import MANIFEST, read_document
from cluster.storage.root import Root
from jobs.running.figures import VARIABLE, Sort, costs_of, dollars_of, seconds_of
from schemas.errors import BadInput
from schemas.manifest import RunManifest
from schemas.redaction import protect, redact

AT_ONCE = 500
"""Runs that one statement is about: databases bound the length of a list."""

TABLES = sa.MetaData()


def _run() -> tuple[sa.Column[str], sa.Column[str]]:
    """Return the columns that say of which run a row is."""
    return sa.Column("root", sa.String, primary_key=True), sa.Column("run_id", sa.String, primary_key=True)


RUNS = sa.Table(
    "gristmill_runs",
    TABLES,
    *_run(),
    sa.Column("pipeline", sa.String, nullable=False, index=True),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("job", sa.String, index=True),
    sa.Column("account", sa.String),
    sa.Column("started", sa.DateTime(timezone=True), nullable=False, index=True),
    sa.Column("seconds", sa.Float),
    sa.Column("problems", sa.BigInteger, nullable=False),
    sa.Column("samples", sa.BigInteger, nullable=False),
    sa.Column("dollars", sa.Float),
    sa.Column("stamp", sa.String, nullable=False),
    sa.Column("manifest", sa.Text, nullable=False),
)
"""``samples`` and ``dollars`` are what the run itself drew and paid; ``stamp`` tells whether the manifest changed."""
DATASETS = sa.Table(
    "gristmill_datasets",
    TABLES,
    *_run(),
    sa.Column("stage", sa.String, primary_key=True),
    sa.Column("dataset", sa.String, nullable=False),
    sa.Column("path", sa.String, nullable=False),
    sa.Column("planned", sa.BigInteger, nullable=False),
    sa.Column("reused", sa.BigInteger, nullable=False),
    sa.Column("computed", sa.BigInteger, nullable=False),
    sa.Column("complete", sa.Boolean, nullable=False),
)
COSTS = sa.Table(
    "gristmill_costs",
    TABLES,
    *_run(),
    sa.Column("stage", sa.String, primary_key=True),
    sa.Column("model", sa.String),
    sa.Column("samples", sa.BigInteger, nullable=False),
    sa.Column("prompt_tokens", sa.BigInteger, nullable=False),
    sa.Column("cached_prompt_tokens", sa.BigInteger, nullable=False),
    sa.Column("completion_tokens", sa.BigInteger, nullable=False),
    sa.Column("gpu_hours", sa.Float, nullable=False),
    sa.Column("dollars", sa.Float),
)
"""Of each sampling stage; dollars where a price was known."""
POSTERIORS = sa.Table(
    "gristmill_posteriors",
    TABLES,
    *_run(),
    sa.Column("stage", sa.String, primary_key=True),
    sa.Column("model", sa.String, nullable=False),
    sa.Column("a", sa.Float, nullable=False),
    sa.Column("b", sa.Float, nullable=False),
    sa.Column("problems", sa.BigInteger, nullable=False),
    sa.Column("samples", sa.BigInteger, nullable=False),
    sa.Column("correct", sa.BigInteger, nullable=False),
)
SORTS: dict[Sort, sa.Column[Any]] = {
    "started": RUNS.c.started,
    "cost": RUNS.c.dollars,
    "samples": RUNS.c.samples,
    "problems": RUNS.c.problems,
    "seconds": RUNS.c.seconds,
}


class Catalogue:
    """One root's part of a catalogue.

    Args:
        url: of the database; by default ``$GRISTMILL_CATALOGUE``, else SQLite beside a local root, or in the user's
            cache for one in an object store.

    Raises:
        BadInput: the database can't be reached.
    """

    def __init__(self, root: Root, url: str | None = None) -> None:
        self.root = root
        given = url or os.environ.get(VARIABLE)
        try:
            address = _parse(given) if given else _own(root)
            protect(address.password if isinstance(address.password, str) else None)
            self._engine = sa.create_engine(address)
            TABLES.create_all(self._engine)
        except (SQLAlchemyError, ImportError, OSError) as error:
            if given:
                raise BadInput(f"the catalogue can't be opened: {_words(error)}. Check ${VARIABLE}") from error
            self._engine = sa.create_engine("sqlite://")  # a root that can only be read
            TABLES.create_all(self._engine)

    def close(self) -> None:
        self._engine.dispose()

    def connect(self) -> sa.Connection:
        """Return a connection, for questions of one's own about the tables here; ``with`` closes it."""
        return self._engine.connect()

    def sync(self) -> int:
        """Read in the manifests that are new or changed, forget those that are gone; return how many changed."""
        there = dict(_stamps(self.root))
        mine = RUNS.c.root == self.root.url
        with self._engine.begin() as connection:
            known = {
                row.run_id: row.stamp for row in connection.execute(sa.select(RUNS.c.run_id, RUNS.c.stamp).where(mine))
            }
            changed = [run_id for run_id, stamp in there.items() if known.get(run_id) != stamp]
            gone = [run_id for run_id in known if run_id not in there]
            for table in (RUNS, DATASETS, COSTS, POSTERIORS):
                stale = [*gone, *changed]
                for first in range(0, len(stale), AT_ONCE):
                    wanted = table.c.run_id.in_(stale[first : first + AT_ONCE])
                    connection.execute(sa.delete(table).where(table.c.root == self.root.url, wanted))
            for first in range(0, len(changed), AT_ONCE):
                fresh: dict[sa.Table, list[dict[str, Any]]] = {}
                for run_id in changed[first : first + AT_ONCE]:
                    manifest = read_document(self.root, RunManifest, LOST_RUN, "runs", run_id, MANIFEST)
                    if manifest is not None:
                        for table, rows in _rows(self.root, manifest, there[run_id]).items():
                            fresh.setdefault(table, []).extend(rows)
                for table, rows in fresh.items():
                    if rows:
                        connection.execute(sa.insert(table), rows)
        return len(changed) + len(gone)

    def runs(
        self,
        *,
        pipeline: str | None = None,
        states: Sequence[str] = (),
        job: str | None = None,
        since: datetime | None = None,
        sort: Sort = "started",
        limit: int | None = None,
    ) -> list[RunManifest]:
        """Return the runs that fit, the latest (or largest) first."""
        query = sa.select(RUNS.c.manifest).where(RUNS.c.root == self.root.url)
        if pipeline is not None:
            query = query.where(RUNS.c.pipeline == pipeline)
        if states:
            query = query.where(RUNS.c.state.in_(states))
        if job is not None:
            query = query.where(RUNS.c.job.startswith(job, autoescape=True))
        if since is not None:
            query = query.where(RUNS.c.started >= since)
        order = SORTS[sort].desc().nulls_last()
        query = query.order_by(order, RUNS.c.started.desc(), RUNS.c.run_id.desc())
        with self._engine.connect() as connection:
            rows = connection.execute(query if limit is None else query.limit(limit)).scalars().all()
        return [RunManifest.model_validate_json(row) for row in rows]

    def table(self, table: sa.Table) -> list[dict[str, Any]]:
        """Return all rows of one of the tables, in order of their keys."""
        query = sa.select(table).where(table.c.root == self.root.url).order_by(*table.primary_key)
        with self._engine.connect() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]


def _parse(url: str) -> sa.URL:
    """Return a database's address; what is wrong with one isn't quoted, since it may be the password."""
    try:
        return sa.make_url(url)
    except (ArgumentError, ValueError) as error:
        raise BadInput(f"${VARIABLE} isn't the URL of a database, such as sqlite:///catalogue.sqlite") from error


def _own(root: Root) -> sa.URL:
    """Return the address of a root's own SQLite file."""
    if root.is_local:
        path = Path(root.url) / "catalogue.sqlite"
        if not path.parent.is_dir():
            return sa.make_url("sqlite://")  # nothing ran there yet
    else:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "gristmill"
        cache.mkdir(parents=True, exist_ok=True)
        path = cache / f"{hashlib.sha256(root.url.encode()).hexdigest()[:16]}.sqlite"
    return sa.URL.create("sqlite", database=str(path))


def _stamps(root: Root) -> Iterator[tuple[str, str]]:
    """Yield run id and stamp of every manifest: one listing."""
    if root.is_local:
        yield from _local_stamps(Path(root.uri("runs")))
        return
    pattern = root.uri("runs", "*", MANIFEST)
    found: dict[str, dict[str, Any]] = root.patiently(lambda: root.fs.glob(pattern, detail=True), "listing runs")
    for path, info in found.items():
        version = info.get("ETag") or info.get("mtime") or info.get("LastModified")
        yield path.rsplit("/", 2)[-2], f"{version} {info['size']}"


def _local_stamps(folder: Path) -> Iterator[tuple[str, str]]:
    if not folder.is_dir():
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                found = os.stat(os.path.join(entry.path, MANIFEST))
            except OSError:
                continue
            yield entry.name, f"{found.st_mtime_ns} {found.st_size}"


def _rows(root: Root, manifest: RunManifest, stamp: str) -> dict[sa.Table, list[dict[str, Any]]]:
    """Return what the catalogue keeps of a run."""
    key = {"root": root.url, "run_id": manifest.run_id}
    costs = [{**key, **cost} for cost in costs_of(manifest)]
    run = {
        **key,
        "pipeline": manifest.pipeline,
        "state": manifest.state,
        "job": manifest.job,
        "account": manifest.account,
        "started": manifest.started,
        "seconds": seconds_of(manifest),
        "problems": manifest.n_problems,
        "samples": sum(cost["samples"] for cost in costs),
        "dollars": dollars_of(costs),
        "stamp": stamp,
        "manifest": manifest.model_dump_json(),
    }
    fields = ("dataset", "path", "planned", "reused", "computed", "complete")
    return {
        RUNS: [run],
        DATASETS: [
            {**key, "stage": record.name, **{name: getattr(record, name) for name in fields}}
            for record in manifest.stages
        ],
        COSTS: costs,
        POSTERIORS: [{**key, "stage": stage, **found.model_dump()} for stage, found in manifest.posteriors.items()],
    }


def _words(error: Exception) -> str:
    """Return what a database said, without its address or our statements."""
    said = error.orig if isinstance(error, OperationalError) and error.orig is not None else error
    return redact(str(said)).splitlines()[0]
