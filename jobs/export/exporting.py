"""Writing an export: rows stream from the run's parts into shards; the card, written last, makes it whole."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import polars as pl
import xxhash

from cluster.records.reader import last_stage, open_stage
from cluster.storage.delta import stored_identity
from cluster.storage.root import Root
from jobs.export.ask import Ask
from jobs.export.card import Counts, write_card
from jobs.export.formats import FORMATS, Layout
from jobs.export.turns import narrowed
from operators.overlap.sifting import batches
from schemas.datasets import SAMPLE_KEY, SAMPLES_FOLDER
from schemas.errors import BadInput
from schemas.manifest import RunManifest, StageRecord

CARD = "README.md"
SPLITS = ("train", "validation")


class NothingToExport(BadInput):
    """A stage has no rows."""


def export(root: Root, manifest: RunManifest, ask: Ask) -> dict[str, Any]:
    """Write the shards and the card, and return what was written.

    Raises:
        NothingToExport: the run has no rows of such data.
        BadInput: the run has no such data; there is something else in that place; or the rows were found by looking at
            the answers.
    """
    layout = FORMATS[ask.format]
    record = _source(manifest, layout, ask)
    marks = _allowed(root, manifest, record, ask)
    place = Root.at(ask.to)
    rows = open_stage(root, manifest, record.name)
    dropped = _dropped(root, manifest, record)
    if dropped is not None:
        rows = _without(rows, dropped, layout.dataset)
    origin = origin_of(root, manifest, record)
    if "lineage" in rows.collect_schema():
        rows = rows.with_columns(lineage=_lineage({"exported_from": manifest.run_id, **origin, **marks}))
    rows, used = narrowed(rows)
    if used & layout.lacks:
        raise BadInput(
            f"--format {ask.format} has no place for {', '.join(sorted(used & layout.lacks))}, which turns of stage "
            f"{record.name} have; use --format messages"
        )
    if rows.select(pl.len()).collect(engine="streaming").item() == 0:
        dropped_all = "" if dropped is None or dropped.is_empty() else f" {len(dropped):,} that it had were left out."
        raise NothingToExport(
            f"stage {record.name} of run {manifest.run_id} has no rows to export.{dropped_all} Why: "
            f"gristmill show {manifest.run_id}, and gristmill samples {manifest.run_id} --only wrong"
        )
    _make_room(place, ask)
    held_out = _held_out(rows.select("problem_id").unique().collect()["problem_id"].to_list(), ask)
    files: dict[str, int] = {}
    for split in SPLITS:
        side = pl.col("problem_id").is_in(list(held_out))
        wanted = rows.filter(side if split == "validation" else ~side)
        files |= _write_shards(place, split, layout.of(wanted, ask.reasoning), ask.shard_rows)
    counts = Counts(files, len(held_out), dropped)
    write_card(root, manifest, ask, layout, counts, place, origin)
    return {
        "run_id": manifest.run_id,
        "stage": record.name,
        "format": ask.format,
        "to": place.url,
        **{split: counts.rows(split) for split in SPLITS},
        "validation_problems": len(held_out),
        "files": sorted(files),
        "card": place.uri(CARD),
    }


def _source(manifest: RunManifest, layout: Layout, ask: Ask) -> StageRecord:
    has = {record.name: record for record in manifest.stages if record.dataset == layout.dataset}
    name = ask.stage or last_stage(manifest, layout.dataset)
    if name not in has:
        given = sorted({record.dataset for record in manifest.stages})
        there = f"stages with it: {sorted(has)}" if has else f"it has {', '.join(given)}"
        raise BadInput(
            f"--format {ask.format} is made from a stage that gives '{layout.dataset}', and run {manifest.run_id} has "
            f"no such stage{f' {name!r}' if name else ''}; {there}. The pipeline sft has them all"
        )
    if not has[name].complete:
        raise BadInput(f"stage {name} of run {manifest.run_id} isn't complete; finish it with: {manifest.command}")
    return has[name]


REFUSED = {
    "counterfactual": "had the model write passages that aren't true, and answer by them",
    "oracle": "looked at the answers on its way: nobody can sample like that where answers aren't known",
}
"""What episodes may say of themselves (``episode_facts``) that rows aren't exported for unless it is asked."""


def _allowed(root: Root, manifest: RunManifest, record: StageRecord, ask: Ask) -> dict[str, bool]:
    """Return what is to be said of all rows: which of ``REFUSED`` their episodes are.

    Raises:
        BadInput: they teach what isn't true, or what nobody can do who hasn't got the answers, and it wasn't asked for.
    """
    sampling = _upstream({other.name: other for other in manifest.stages}, record)
    if sampling is None:
        return {}
    facts = open_stage(root, manifest, sampling.name).select("episode_facts").drop_nulls()
    asked = {"counterfactual": ask.counterfactual, "oracle": ask.oracle or ask.counterfactual}
    marks: dict[str, bool] = {}
    for fact, why in REFUSED.items():
        told = pl.col("episode_facts").str.json_path_match(f"$.{fact}") == "true"
        if not facts.filter(told).head(1).collect().height:
            continue
        if not asked[fact]:
            raise BadInput(
                f"stage {sampling.name} of run {manifest.run_id} sampled by a strategy that {why}. Give --{fact} to "
                "export it all the same"
            )
        marks[fact] = True
    return marks


def _make_room(place: Root, ask: Ask) -> None:
    """See that there is nothing in the place but an export that was never finished, or is to be replaced."""
    ours = [name for name in place.list() if name == CARD or _is_shard(name)]
    others = sorted(set(place.list()) - set(ours))
    if others:
        raise BadInput(f"--to {ask.to}: there is something else in that place ({others[0]}); choose an empty one")
    if CARD in ours and not ask.overwrite:
        raise BadInput(f"--to {ask.to}: there is an export already; choose another place, or give --overwrite")
    for name in sorted(ours, key=lambda name: name != CARD):  # without its card it isn't whole
        place.remove(name)


def _is_shard(name: str) -> bool:
    return name.endswith(".parquet") and name.startswith(tuple(f"{split}-" for split in SPLITS))


def _dropped(root: Root, manifest: RunManifest, record: StageRecord) -> pl.DataFrame | None:
    """Return what later decisions left out of a stage's rows: key, problem_id and reason; None where none were made.

    Of preferences and step rewards these are the decisions on the run's SFT rows.
    """
    about = record.name if record.dataset == "sft" else last_stage(manifest, "sft")
    found = [
        other.name
        for other in manifest.stages
        if other.dataset == "paths" and other.complete and other.inputs.get("sft") == about
    ]
    if not found:
        return None
    decisions = open_stage(root, manifest, found[-1]).filter(~pl.col("kept"))
    return decisions.select(*SAMPLE_KEY, "problem_id", pl.col("reason").fill_null("dropped")).collect()


def _without(rows: pl.LazyFrame, dropped: pl.DataFrame, dataset: str) -> pl.LazyFrame:
    """Leave the dropped rows out; where rows aren't samples, all rows of contaminated problems."""
    if dataset == "sft":
        return rows.join(dropped.lazy().select(SAMPLE_KEY), on=SAMPLE_KEY, how="anti", maintain_order="left")
    problems = dropped.filter(pl.col("reason").str.starts_with("contaminated"))["problem_id"].unique()
    return rows.filter(~pl.col("problem_id").is_in(problems.to_list()))


def _lineage(shared: dict[str, Any]) -> pl.Expr:
    """Return rows' lineage with what all of them share: the run, the model, how it was drawn from."""
    own = pl.col("lineage").str.strip_chars().str.slice(1)
    comma = pl.when(own.str.strip_chars() == "}").then(pl.lit("")).otherwise(pl.lit(", "))
    return pl.lit(json.dumps(shared)[:-1]) + comma + own


def origin_of(root: Root, manifest: RunManifest, record: StageRecord) -> dict[str, Any]:
    """Return model, revision and sampling identity of the samples that a stage's rows were made from."""
    stages = {other.name: other for other in manifest.stages}
    sampling = _upstream(stages, record)
    if sampling is None:
        return {}
    sampling_id = sampling.path.removeprefix(f"{SAMPLES_FOLDER}/")
    engine = stored_identity(root, f"{SAMPLES_FOLDER}/{sampling_id}").get("engine", {})
    return {"model": engine.get("model"), "revision": engine.get("revision"), "sampling_id": sampling_id}


def _upstream(stages: dict[str, StageRecord], record: StageRecord) -> StageRecord | None:
    if record.dataset == "samples":
        return record
    found = (_upstream(stages, stages[name]) for name in record.inputs.values() if name in stages)
    return next((sampling for sampling in found if sampling is not None), None)


def _held_out(problems: list[str], ask: Ask) -> set[str]:
    """Return the problems of the validation split: those whose hash falls below its share, one at least of several.

    A problem stays on its side whatever other problems there are.
    """
    if ask.validation <= 0.0 or len(problems) < 2:
        return set()
    chance = {name: xxhash.xxh3_64_intdigest(f"{ask.seed}/{name}".encode()) / 2**64 for name in problems}
    found = {name for name, value in chance.items() if value < ask.validation}
    lowest = sorted(problems, key=lambda name: (chance[name], name))
    return (found or {lowest[0]}) - ({lowest[-1]} if len(found) == len(problems) else set())


def _write_shards(place: Root, split: str, rows: pl.LazyFrame, most: int) -> dict[str, int]:
    """Write a split's rows to files of at most so many; return their names and rows."""
    total = rows.select(pl.len()).collect(engine="streaming").item()
    shards = -(-total // most)
    files: dict[str, int] = {}
    for number, table in enumerate(_cut(rows, most)):
        name = f"{split}-{number:05d}-of-{shards:05d}.parquet"
        buffer = io.BytesIO()
        table.write_parquet(buffer)
        place.write_bytes(buffer.getvalue(), name)
        files[name] = len(table)
    return files


def _cut(rows: pl.LazyFrame, most: int) -> Iterator[pl.DataFrame]:
    """Yield tables of ``most`` rows and a last one with what is left."""
    waiting: list[pl.DataFrame] = []
    for batch in batches(rows, min(most, 20_000)):
        waiting.append(batch)
        while sum(map(len, waiting)) >= most:
            together = pl.concat(waiting)
            yield together.head(most)
            waiting = [together.slice(most)]
    if sum(map(len, waiting)):
        yield pl.concat(waiting)
