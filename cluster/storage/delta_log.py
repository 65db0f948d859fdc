"""The log of a Delta table, as files: whether all of it is there, and how its entries become durable.

delta-rs takes an empty entry for one that says nothing, and one that was cut between two lines for a whole one; rows
that were paid for would be drawn again without a word. So a log is looked at before it is believed: its entries have no
gap since the last checkpoint, none is empty, and each has as many lines as its first one says. Who finds damage says
which file it is and what mends it (``cluster.upkeep.mend_log``).

An entry that delta-rs writes to a local disk has a name before it has bytes that survive a power cut. It is synced
right after, and only then is the commit believed: damage that a power cut leaves is about the last entry alone, which
nobody has acted upon.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.storage.durable import sync_file, sync_folder
from cluster.storage.root import Root
from schemas.errors import DamagedLog

LOG = "_delta_log"
HINT = "_last_checkpoint"
"""Says where the last checkpoint is. Without it readers look for themselves."""
LINES = "gristmill.lines"
"""Key in an entry's first line: how many lines the entry has."""
CHECKPOINT_INTERVAL = 100
"""Commits between two checkpoints, which make earlier entries dispensable."""
_ENTRY = re.compile(r"(\d{20})\.json")
_CHECKPOINT = re.compile(r"(\d{20})\.checkpoint.*\.parquet")

Remedy = Literal["set aside", "rebuild"]


@dataclass(frozen=True)
class LogDamage:
    """What is wrong with a log.

    Attributes:
        name: of the file in the log's folder; empty where the log is gone altogether.
        what: goes after the file's name in a sentence.
        remedy: whether the log is whole without the file, or has to be made anew from what the table's files hold.
    """

    name: str
    what: str
    remedy: Remedy


def table_exists(root: Root, folder: str) -> bool:
    """Whether there is a table: a log, or a log that was.

    Raises:
        DamagedLog: files are there, and no log is.
    """
    names = root.list(folder)
    if LOG in names and root.list(folder, LOG):
        return True
    if any(name.endswith(".parquet") for name in names):
        raise damaged(root, folder, LogDamage("", "is gone or empty, and the table's files are there", "rebuild"))
    return False


def check_log(root: Root, folder: str, *, thorough: bool = False) -> None:
    """Look whether a table's log is whole, before it is read.

    Raises:
        DamagedLog: it isn't.
    """
    found = find_damage(root, folder, thorough=thorough)
    if found is not None:
        raise damaged(root, folder, found)


def damaged(root: Root, folder: str, damage: LogDamage) -> DamagedLog:
    """Return the error that tells of damage."""
    place = "/".join(filter(None, [root.uri(folder, LOG), damage.name]))
    kind = folder.split("/")[0]
    return DamagedLog(
        f"{place} {damage.what}. It concerns {folder}, and with it every run that has {kind} there; nothing is drawn "
        "or paid again before it is mended: gristmill verify-data RUN --repair, with one of these runs, takes in what "
        "the files still hold"
    )


def find_damage(root: Root, folder: str, *, thorough: bool = False) -> LogDamage | None:
    """Return the first damage of a table's log; None where it is whole.

    Args:
        thorough: read every line of every entry, and the last checkpoint.
    """
    sizes = _sizes(root, folder)
    entries = {int(found[1]): name for name in sizes if (found := _ENTRY.fullmatch(name))}
    checkpoints = [-1]
    for name in sorted(sizes):
        if found := _CHECKPOINT.fullmatch(name):
            if not sizes[name] or (thorough and not _reads(root, folder, name)):
                left = entries.keys() >= {*range(checkpoints[-1] + 1, int(found[1]) + 1)}
                return LogDamage(name, "is empty or cut off", "set aside" if left else "rebuild")
            checkpoints.append(int(found[1]))
    last = checkpoints[-1]
    if (hint := _hinted(root, folder, sizes)) is not None and hint not in checkpoints:
        return LogDamage(HINT, f"names the checkpoint {hint}, which isn't there", "set aside")
    if last < 0 and not entries:
        return LogDamage("", "has no entries", "rebuild")
    newest = max(entries, default=-1)
    for version in range(last + 1, newest + 1):
        name = f"{version:020}.json"
        if version not in entries:
            return LogDamage(name, "is missing", "rebuild")
        why: str | None = None
        if not sizes[name]:
            why = "is empty"
        elif root.is_local or thorough:
            why = _cut(root, folder, name, thorough)
        if why is not None:
            return LogDamage(name, why, "set aside" if version == newest and version > 0 else "rebuild")
    return None


def _reads(root: Root, folder: str, name: str) -> bool:
    """Whether a checkpoint can be read."""
    data = root.read_bytes(folder, LOG, name)
    try:
        pq.read_table(pa.BufferReader(data))
    except (pa.ArrowException, OSError, ValueError):
        return False
    return True


def _sizes(root: Root, folder: str) -> dict[str, int]:
    """Return name -> bytes of the files of a log."""
    place = root.uri(folder, LOG)

    def listed() -> dict[str, int]:
        root.fs.invalidate_cache()
        try:
            found = root.fs.ls(place, detail=True)
        except FileNotFoundError:  # the whole log is gone
            return {}
        return {str(info["name"]).rsplit("/", 1)[-1]: int(info["size"]) for info in found}

    return root.patiently(listed, f"listing {folder}/{LOG}")


def _hinted(root: Root, folder: str, sizes: dict[str, int]) -> int | None:
    """Return the version of the checkpoint that the hint names; readers do without one that says nothing."""
    if not sizes.get(HINT):
        return None
    try:
        return int(json.loads(root.read_bytes(folder, LOG, HINT))["version"])
    except (ValueError, KeyError, TypeError):
        return None


def _cut(root: Root, folder: str, name: str, thorough: bool) -> str | None:
    """Return what is wrong with an entry's text; None where it is whole."""
    lines = root.read_bytes(folder, LOG, name).rstrip(b"\n").split(b"\n")
    try:
        told = expected_lines(json.loads(lines[0]))
        for line in lines[1:] if thorough else lines[-1:]:
            json.loads(line)
    except ValueError:
        return "is cut off or overwritten"
    if told is not None and told != len(lines):
        return f"is cut off: it has {len(lines):,} of its {told:,} lines"
    return None


def expected_lines(first: Any) -> int | None:
    """Return how many lines an entry should have, by its first one; None where an earlier version wrote it."""
    information = first.get("commitInfo") if isinstance(first, dict) else None
    told = information.get(LINES) if isinstance(information, dict) else None
    return int(told) if told is not None else None


def newest_entry(root: Root, folder: str) -> int:
    """Return the version of a table's newest entry; -1 where there is none."""
    return max((int(found[1]) for name in root.list(folder, LOG) if (found := _ENTRY.fullmatch(name))), default=-1)


def sync_appended(root: Root, folder: str, after: int) -> None:
    """Make durable what delta-rs wrote by itself since a version: its files too."""
    if not root.is_local:
        return
    newest = newest_entry(root, folder)
    for version in range(after + 1, newest + 1):
        for line in root.read_bytes(folder, LOG, f"{version:020}.json").splitlines():
            added = json.loads(line).get("add")
            if added is not None:
                sync_file(Path(root.uri(folder, added["path"])))
    sync_folder(Path(root.uri(folder)))
    sync_log(root, folder, after, newest)


def sync_log(root: Root, folder: str, after: int, newest: int) -> None:
    """Make the entries ``after`` < version <= ``newest`` durable, with checkpoints that were written with them."""
    if not root.is_local:
        return
    log = Path(root.uri(folder, LOG))
    for version in range(after + 1, newest + 1):
        sync_file(log / f"{version:020}.json")
    if (newest + 1) // CHECKPOINT_INTERVAL > (after + 1) // CHECKPOINT_INTERVAL:
        for path in [*log.glob("*.checkpoint*.parquet"), *log.glob(HINT)]:
            sync_file(path)
    sync_folder(log)
    if after < 0:  # the table is new
        for above in [log.parent, *log.parent.parents]:
            sync_folder(above)
            if above == Path(root.url):
                break
