"""Which problems a run takes: all that its source gives, but for a limit, a shard, or what earlier runs finished."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import polars as pl

from cluster.records.reader import find_runs, open_stage
from cluster.storage.numbering import Numbering
from cluster.storage.root import Root
from schemas.errors import BadInput, NothingToDo
from schemas.job import RunSettings
from schemas.manifest import RunManifest


def choose(problems: Iterable[pl.DataFrame], root: Root, settings: RunSettings) -> Iterator[pl.DataFrame]:
    """Yield, of each table, the problems that a run takes, in their order.

    Raises:
        BadInput: a shard that isn't one of the n, or a run that isn't there.
        NothingToDo: none is left.
    """
    found = fresh = mine = 0
    done = _finished_by(root, settings)
    for table in problems:
        found += len(table)
        if done is not None:
            table = table.filter(done.find(table["problem_key"]) < 0)
        fresh += len(table)
        if settings.shard is not None:
            table = table.filter(_share(table["problem_key"], settings.shard))
        if settings.limit is not None:
            table = table.head(settings.limit - mine)
        mine += len(table)
        if len(table):
            yield table
    if not found:
        raise BadInput("there are no problems; check the source")
    if not fresh:
        raise NothingToDo(f"all problems were finished by earlier runs ({len(settings.without_runs)} were looked at)")
    if not mine:
        raise NothingToDo(f"shard {settings.shard} has no problems")


def _finished_by(root: Root, settings: RunSettings) -> Numbering | None:
    """Return the problems that some runs finished; None where no run is named."""
    if not settings.without_runs:
        return None
    return Numbering([finished_problems(root, find_runs(root, settings.without_runs)).sort()])


def _share(keys: pl.Series, shard: str) -> pl.Series:
    """Return which problems a shard takes: by their keys alone, so that others don't move when some are added."""
    number, _, of = shard.partition("/")
    if int(number) >= int(of):
        raise BadInput(f"run.shard '{shard}': shards of {of} are numbered from 0 to {int(of) - 1}")
    return keys.str.head(8).str.to_integer(base=16, dtype=pl.Int64) % int(of) == int(number)


def finished_problems(root: Root, runs: Iterable[RunManifest]) -> pl.Series:
    """Return the keys of the problems that runs finished.

    A run that is done has finished all of its problems. One whose budget ended has finished those with as many samples
    as were asked for; the others go on where they were left. Any other has finished none.
    """
    found = [keys for manifest in runs if (keys := _finished(root, manifest)) is not None]
    return pl.concat(found).unique() if found else pl.Series("problem_key", [], dtype=pl.String)


def _finished(root: Root, manifest: RunManifest) -> pl.Series | None:
    if manifest.state not in ("done", "budget reached") or not manifest.stages:
        return None
    reading = f"reading what run {manifest.run_id} finished"
    keys = root.patiently(open_stage(root, manifest, manifest.stages[0].name).select("problem_key").collect, reading)
    if manifest.state == "budget reached":
        for record in manifest.stages:
            if record.dataset == "samples":
                wanted = int(manifest.config[record.name]["n"])
                held = open_stage(root, manifest, record.name).group_by("problem_key").agg(pl.len().alias("held"))
                enough = root.patiently(held.filter(pl.col("held") >= wanted).collect, reading)
                keys = keys.join(enough, on="problem_key", how="semi")
    return keys["problem_key"]
