"""Mending the log of a table: what can't be read is set aside, and what the table's files hold is taken in again.

Files outlast their log: a part is whole and synced before an entry names it. So where an entry is lost, its rows are
not: every whole file that no entry names and none removed is committed again, the newest first, less what the table
has. Only where two such files say different things of one sample nobody can tell which of them was a fact; such a
sample is left out, and with it goes what was computed from it (``cluster.upkeep.repair.take_out``).

What is set aside stays in the folder ``_damaged`` of the table.
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator
from typing import Any

import polars as pl

from cluster.records.annotations import FOLDER as ANNOTATIONS
from cluster.spending.history import LEDGER
from cluster.storage.appending import append, read_appended
from cluster.storage.delta import make_table
from cluster.storage.delta_log import LOG, LogDamage, find_damage
from cluster.storage.lease import LEASE, read_lease, watch
from cluster.storage.numbering import Numbering
from cluster.storage.parts import Part, part_of, write_part
from cluster.storage.ranges import Ranges, RangeSet, ranges_of, restrict
from cluster.storage.root import Root
from cluster.storage.slices import UNREADABLE, scan_files
from cluster.upkeep.verify_store import LenientStore
from schemas.books import Annotation, LedgerEntry
from schemas.contract import Contract
from schemas.datasets import CONTRACTS
from schemas.errors import StoreBusy

ASIDE = "_damaged"
APPENDED: dict[str, type[Contract]] = {LEDGER: LedgerEntry, ANNOTATIONS: Annotation}
"""Tables that nobody holds a lease on."""


def mend_log(root: Root, folder: str, name: str) -> list[str]:
    """Mend the log of a store, of the ledger or of annotations; return what was done, a sentence each.

    Args:
        name: of what holds the store meanwhile.

    Raises:
        StoreBusy: a run is writing it; nothing was done.
    """
    lease = watch(lambda: read_lease(root, folder))
    if lease is not None and lease.alive():
        raise StoreBusy(f"store {folder} is being written by {lease.describe()}: mend it once that is done")
    done: list[str] = []
    removed: set[str] = set()
    identity: dict[str, Any] = {}
    while (damage := find_damage(root, folder, thorough=True)) is not None:
        for action in _actions(root, folder):
            if "remove" in action:
                removed.add(action["remove"]["path"])
            if "metaData" in action:
                identity = json.loads(action["metaData"].get("description") or "{}").get("identity", {})
        done.append(_set_aside(root, folder, damage))
        if damage.remedy == "rebuild":
            make_table(root, folder, _contract(folder), identity, anew=True)
            root.remove(folder, LEASE)  # its epoch is the old log's
    if folder in APPENDED:
        return done + _take_in_appended(root, folder, APPENDED[folder])
    store = LenientStore(root, folder, _contract(folder), identity, Numbering())
    store.acquire(name)
    try:
        return done + _take_in(store, removed)
    finally:
        store.release()


def _contract(folder: str) -> type[Contract]:
    return APPENDED.get(folder) or CONTRACTS[folder.split("/")[0]]


def _actions(root: Root, folder: str) -> Iterator[dict[str, Any]]:
    """Yield what can be read of a log, in order; of checkpoints only what the table is."""
    for name in root.list(folder, LOG):
        data = root.read_bytes(folder, LOG, name)
        if name.endswith(".json"):
            for line in data.splitlines():
                try:
                    found = json.loads(line)
                except ValueError:
                    continue
                if isinstance(found, dict):
                    yield found
        elif name.endswith(".parquet"):
            try:
                table = pl.read_parquet(io.BytesIO(data))
            except UNREADABLE:
                continue
            for kind in ("metaData", "remove"):
                if kind in table.columns:
                    yield from ({kind: found} for found in table[kind].to_list() if found and any(found.values()))


def _set_aside(root: Root, folder: str, damage: LogDamage) -> str:
    """Take a damaged file out of a log, or all of a log that has to be made anew."""
    stamp = f"{time.time_ns()}"
    names = [damage.name] if damage.remedy == "set aside" else root.list(folder, LOG)
    for name in names:
        root.write_bytes(root.read_bytes(folder, LOG, name), folder, ASIDE, stamp, name)
    for name in sorted(names, reverse=True):
        root.remove(folder, LOG, name)
    where = f"what was there is in {folder}/{ASIDE}/{stamp}"
    if damage.remedy == "set aside":
        return f"{folder}/{LOG}/{damage.name}: set aside; {where}"
    return f"{folder}/{LOG}: made anew, since {damage.name or 'it'} {damage.what}; {where}"


def _take_in(store: LenientStore, removed: set[str]) -> list[str]:
    """Commit what whole files hold that no entry names and none removed."""
    if store.contract.repeats:
        return _take_in_rows(store, removed)
    unnamed: list[tuple[Part, Ranges]] = []
    seen, doubtful, skipped = RangeSet(), RangeSet(), 0
    for name in _unnamed(store, removed):
        try:
            part = _part(store, name)
        except UNREADABLE:
            skipped += 1
            continue
        ranges = store.held.missing(store.numbering.ranges(part.ranges))
        for other, earlier in unnamed if seen.present(ranges) else ():
            if twice := RangeSet(earlier).present(ranges):
                doubtful.add(_differing(store, other.name, name, twice))
        fresh = seen.missing(ranges)
        seen.add(fresh)
        unnamed.append((part, fresh))
    taken = 0
    for part, ranges in unnamed:
        wanted = doubtful.missing(ranges)
        if wanted.total:
            taken += sum(one.rows for one in store.commit([_only(store, part, wanted)]))
    return _told(store.folder, taken, doubtful.ranges.total if doubtful else 0, skipped)


def _take_in_rows(store: LenientStore, removed: set[str]) -> list[str]:
    """Do the same where many rows have one problem and index, in any number of files: whole keys tell them apart."""
    keys, skipped = store.contract.primary_key(), 0
    digests: list[pl.DataFrame] = []
    for name in _unnamed(store, removed):
        try:
            table = _rows(store, name)
        except UNREADABLE:
            skipped += 1
            continue
        digests.append(table.select(*keys, pl.lit(name).alias("file"), digest=table.hash_rows()))
    if not digests:
        return _told(store.folder, 0, 0, skipped)
    uris = [store.root.uri(store.folder, name) for name in store.files]
    named = scan_files(store.root, uris, store.contract).select(keys)
    known = store.root.patiently(lambda: named.collect(), f"reading {store.folder}")
    fresh = pl.concat(digests).join(known, on=keys, how="anti")
    doubtful = fresh.group_by(keys).agg(pl.col("digest").n_unique()).filter(pl.col("digest") > 1)
    fresh = fresh.join(doubtful, on=keys, how="anti").unique(keys, keep="first", maintain_order=True)
    taken = 0
    for (name,), wanted in fresh.group_by(["file"], maintain_order=True):
        table = _rows(store, str(name)).join(wanted, on=keys, how="semi")
        part = write_part(store.root, store.folder, table, store.contract, store.folder)
        taken += sum(one.rows for one in store.commit([part]))
    return _told(store.folder, taken, len(doubtful), skipped)


def _told(folder: str, taken: int, doubtful: int, skipped: int) -> list[str]:
    done = [f"{folder}: {taken:,} row(s) taken in from files that no entry names"] if taken else []
    if doubtful:
        done.append(f"{folder}: {doubtful:,} row(s) left out, of which files say different things")
    if skipped:
        done.append(f"{folder}: {skipped:,} file(s) that can't be read were left out")
    return done


def _unnamed(store: LenientStore, removed: set[str]) -> list[str]:
    """Return the files of a store that nothing names, the newest first."""
    root = store.root
    listed: list[dict[str, Any]] = root.patiently(
        lambda: root.fs.ls(root.uri(store.folder), detail=True), f"listing {store.folder}"
    )
    files = {str(info["name"]).rsplit("/", 1)[-1]: info for info in listed}
    wanted = [name for name in files if name.endswith(".parquet") and name not in removed and name not in store.files]
    return sorted(wanted, key=lambda name: str(files[name].get("LastModified") or files[name].get("mtime")))[::-1]


def _part(store: LenientStore, name: str) -> Part:
    """Return a file as a part that can be committed; all of it is read."""
    table = _rows(store, name)
    size = int(store.root.fs.size(store.root.uri(store.folder, name)))
    return part_of(name, table, size, store.contract)


def _rows(store: LenientStore, name: str) -> pl.DataFrame:
    """Return all rows of a file."""
    rows = scan_files(store.root, store.root.uri(store.folder, name), store.contract)
    return store.root.patiently(lambda: rows.collect(), f"reading {store.folder}/{name}")


def _differing(store: LenientStore, one: str, other: str, both: Ranges) -> Ranges:
    """Return the keys of which two files say different things."""
    contract = store.contract
    tables = [_read(store, name, both).sort(contract.primary_key()) for name in (one, other)]
    digests = [table.select(*contract.primary_key(), digest=table.hash_rows()) for table in tables]
    joined = digests[0].join(digests[1], on=contract.primary_key(), how="full", coalesce=True)
    differing = joined.filter(pl.col("digest").ne_missing(pl.col("digest_right")))
    keys = differing.select("problem_key", contract.index).unique().sort("problem_key", contract.index)
    return store.numbering.ranges(ranges_of(keys, contract.index))


def _only(store: LenientStore, part: Part, wanted: Ranges) -> Part:
    if wanted.total == store.numbering.ranges(part.ranges).total:
        return part
    return write_part(store.root, store.folder, _read(store, part.name, wanted), store.contract, store.folder)


def _read(store: LenientStore, name: str, ranges: Ranges) -> pl.DataFrame:
    """Return those rows of a file."""
    rows = scan_files(store.root, store.root.uri(store.folder, name), store.contract)
    wanted = restrict(rows, store.numbering.keyed(ranges), store.contract.index)
    return store.root.patiently(lambda: wanted.collect(), f"reading {store.folder}/{name}")


def _take_in_appended(root: Root, folder: str, contract: type[Contract]) -> list[str]:
    """Append to a table what its files say that its log doesn't name."""
    tables = [read_appended(root, folder, contract)]
    names = [name for name in root.list(folder) if name.endswith(".parquet")]
    for name in names:
        try:
            tables.append(scan_files(root, root.uri(folder, name), contract).collect())
        except UNREADABLE:
            continue
    keys = contract.primary_key()
    found = pl.concat(tables[1:]) if len(tables) > 1 else tables[0].clear()
    fresh = found.join(tables[0], on=keys, how="anti").unique(keys, keep="last")
    append(root, folder, contract, fresh.sort(keys))
    return [f"{folder}: {len(fresh):,} rows taken in from files that its log doesn't name"] if len(fresh) else []
