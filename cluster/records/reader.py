"""Reading what runs wrote about themselves: their manifests, and a stage's rows by one of these.

Commands that look at manifests alone don't wait for the imports that rows take.
"""

from __future__ import annotations

import difflib
import io
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cluster.storage.documents import MANIFEST, documents, read_document, read_snapshot
from cluster.storage.lease import read_lease, watch
from cluster.storage.root import Root
from schemas.errors import BadInput, GristmillError
from schemas.manifest import RunManifest, StageRecord

if TYPE_CHECKING:
    import polars as pl

_TIME = re.compile(r"-(\d{8}-\d{6})-[0-9a-f]+$")
NEARBY = 8
"""Runs before one that are looked at for the same results."""
HEARTBEAT = "heartbeat.json"
"""Beside a run's manifest: its driver is at work while this is renewed."""


LOST_RUN = (
    "What that run drew stays in its stores, and the same command finds it; the run can't be shown any more, and what "
    "it spent counts on its account only as far as the ledger has it. Restore the file from a copy, or delete it"
)
"""What to do about a damaged manifest of a run."""


def alive(root: Root, run_id: str) -> bool:
    """Whether a run's driver is still at work; where that isn't clear, it is watched for a while."""
    lease = watch(lambda: read_lease(root, f"runs/{run_id}", HEARTBEAT))
    return lease is not None and lease.alive()


def seems_alive(root: Root, run_id: str) -> bool:
    """Whether a run's driver is still at work, as far as can be told at once."""
    lease = read_lease(root, f"runs/{run_id}", HEARTBEAT)
    return lease is not None and not lease.seems_lapsed


def which_live(root: Root, run_ids: Iterable[str]) -> set[str]:
    """Return which runs' drivers are still at work; all that aren't clear are watched at the same time."""
    names = [*run_ids]
    for run_id in names:
        read_lease(root, f"runs/{run_id}", HEARTBEAT)
    return {run_id for run_id in names if alive(root, run_id)}


def manifests(root: Root) -> Iterator[RunManifest]:
    """Yield the manifests of all runs under the root, newest first; damaged ones are told of and left out."""
    found = [manifest for _, manifest in documents(root, "runs", MANIFEST, RunManifest, LOST_RUN)]
    yield from sorted(found, key=lambda manifest: manifest.started, reverse=True)


def same_results(root: Root, manifest: RunManifest) -> RunManifest | None:
    """Return a late run with a report that has all datasets of this one, which made none itself; None if there is none.

    Only a few runs are looked at: whoever repeats a command repeats it soon.
    """
    if manifest.state != "done" or any(record.computed for record in manifest.stages):
        return None
    wanted = [(record.name, record.path, record.view_id) for record in manifest.stages]
    others = sorted((name for name in root.list("runs") if name < manifest.run_id), key=_begun, reverse=True)
    for name in others[:NEARBY]:
        found = _read(root, name)
        if (
            found is not None
            and found.state == "done"
            and found.report
            and [(record.name, record.path, record.view_id) for record in found.stages] == wanted
            and root.exists(found.report)
        ):
            return found
    return None


def damaged_runs(root: Root, known: Iterable[RunManifest]) -> list[str]:
    """Return the ids of runs whose manifests are there and couldn't be read; ``known`` are those that could."""
    ids = {manifest.run_id for manifest in known}
    return [name for name in root.list("runs") if name not in ids and root.exists("runs", name, MANIFEST)]


def find_run(root: Root, name: str) -> RunManifest:
    """Return the manifest of a run by its id, an unambiguous beginning of it, or ``latest``.

    Raises:
        BadInput: no such run, or several.
    """
    return find_runs(root, [name])[0]


def find_runs(root: Root, names: Iterable[str]) -> list[RunManifest]:
    """Return the manifests of several runs, by what ``find_run`` takes; only these are read.

    Raises:
        BadInput: of one there is no such run, or several, or its manifest is damaged.
    """
    known = sorted(root.list("runs"), key=_begun, reverse=True)
    if not known:
        raise BadInput(f"there are no runs under '{root.url}'; start one with: gristmill run arithmetic")
    return [_latest(root, known) if name == "latest" else _match(root, known, name) for name in names]


def _begun(run_id: str) -> str:
    """Return when a run began, as its id has it; the largest where its id has nothing like it."""
    found = _TIME.search(run_id)
    return found[1] if found else "~"


def _latest(root: Root, known: list[str]) -> RunManifest:
    """Return the run that was started last; of ids that begin in one second the manifests tell."""
    at = 0
    while at < len(known):
        same = [name for name in known[at:] if _begun(name) in ("~", _begun(known[at]))]
        at += len(same)
        found = [manifest for name in same if (manifest := _read(root, name)) is not None]
        if found:
            return max(found, key=lambda manifest: manifest.started)
    raise BadInput(f"none of the runs under '{root.url}' has a manifest that can be read")


def _match(root: Root, known: list[str], name: str) -> RunManifest:
    found = [run_id for run_id in known if run_id == name] or [run_id for run_id in known if run_id.startswith(name)]
    if len(found) != 1:
        ids = ", ".join((found or difflib.get_close_matches(name, known, n=3) or known)[:5])
        raise BadInput(f"{'several runs begin' if found else 'no run begins'} with '{name}'; for example: {ids}")
    manifest = _read(root, found[0])
    if manifest is None:
        raise BadInput(f"run {found[0]} has no manifest that can be read: {root.uri('runs', found[0], MANIFEST)}")
    return manifest


def _read(root: Root, run_id: str) -> RunManifest | None:
    if not root.exists("runs", run_id, MANIFEST):
        return None
    return read_document(root, RunManifest, LOST_RUN, "runs", run_id, MANIFEST)


def open_stage(root: Root, manifest: RunManifest, stage: str) -> pl.LazyFrame:
    """Return a stage's rows as a lazy scan: of a store, the rows of this run's problems and indices only.

    A stage that has no rows yet gives an empty frame.

    Raises:
        BadInput: the run has no such stage.
    """
    import polars as pl
    from deltalake.exceptions import TableNotFoundError

    from cluster.storage.delta import scan_store
    from cluster.storage.ranges import restrict
    from cluster.storage.slices import scan_files
    from schemas.datasets import DATASETS

    record = next((record for record in manifest.stages if record.name == stage), None)
    if record is None:
        raise BadInput(f"run {manifest.run_id} has no stage '{stage}'; it has {[r.name for r in manifest.stages]}")
    if record.kind == "snapshot":
        manifest_of = read_snapshot(root, record.path)
        if manifest_of is None:
            return _empty(record)
        files = [root.uri(record.path, name) for name in manifest_of.parts]
        if record.dataset in DATASETS:
            return scan_files(root, files, DATASETS[record.dataset])
        return pl.scan_parquet(files, storage_options=root.storage_options())
    try:
        rows = scan_store(root, record.path, DATASETS[record.dataset])
    except TableNotFoundError:
        return _empty(record)
    assert record.view is not None
    return restrict(rows, pl.read_parquet(io.BytesIO(root.read_bytes(record.view))))


@contextmanager
def naming_damage(root: Root, manifest: RunManifest, stage: str) -> Iterator[None]:
    """Read a stage's rows inside: where a file of theirs is damaged, the error names it and says what mends it.

    Raises:
        DamagedFile: one is.
    """
    try:
        yield
    except GristmillError:
        raise
    except BaseException as error:
        from cluster.storage.delta import listed_files, open_table
        from cluster.storage.slices import UNREADABLE, damaged_file
        from schemas.datasets import DATASETS

        record = next((record for record in manifest.stages if record.name == stage), None)
        if record is None or not isinstance(error, UNREADABLE):
            raise
        if record.kind == "snapshot":
            snapshot = read_snapshot(root, record.path)
            names = [] if snapshot is None else [*snapshot.parts]
        else:
            names = listed_files(open_table(root, record.path))["name"].to_list()
        contract = DATASETS.get(record.dataset)
        columns = contract.column_names() if contract is not None else []
        damaged = damaged_file(root, [root.uri(record.path, name) for name in names], columns)
        if damaged is None:
            raise
        raise damaged from error


def last_stage(manifest: RunManifest, dataset: str) -> str | None:
    """Return the name of the last stage of a run that gives a dataset; None where it has none."""
    return next((record.name for record in reversed(manifest.stages) if record.dataset == dataset), None)


def _empty(record: StageRecord) -> pl.LazyFrame:
    import polars as pl

    from schemas.contract import polars_schema
    from schemas.datasets import DATASETS

    contract = DATASETS.get(record.dataset)
    return pl.LazyFrame(schema=polars_schema(contract) if contract else None)
