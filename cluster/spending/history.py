"""What was spent on an account before: the ledger's entries, and for runs that ended without any, what they left.

A run that was killed settled nothing. What it spent follows from its log and the stores: each sample it committed took
what the sample says, and each one it sent beyond these its worst case.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import polars as pl
from deltalake import write_deltalake
from deltalake.exceptions import TableNotFoundError

from cluster.records import alive, manifests
from cluster.spending.account import Amount
from cluster.spending.allocations import ranges_of, read_allocations
from cluster.storage.arrow import arrow_schema
from cluster.storage.ranges import Range
from cluster.storage.root import Root
from cluster.storage.store import scan_store
from schemas.contract import polars_schema, validate
from schemas.datasets import LedgerEntry, Sample
from schemas.errors import StoreBusy
from schemas.manifest import RunManifest, StageRecord
from schemas.prices import Prices

LEDGER = "ledger"


def spent_before(root: Root, account: str, run_id: str) -> Amount:
    """Return what the other runs of an account spent; what a dead one left is settled on the way.

    Raises:
        StoreBusy: one of them is still running.
    """
    for manifest in _unsettled(root, account, run_id):
        if alive(root, manifest.run_id):
            raise StoreBusy(
                f"run {manifest.run_id} is spending on the account '{account}' now; wait for it, or name another with "
                "run.budget.account"
            )
        settle(root, manifest)
    return known_spending(root, account, run_id)


def known_spending(root: Root, account: str, run_id: str = "") -> Amount:
    """Return what is known to have been spent on an account by other runs; nothing is written.

    Of one that runs now, or was killed, it is what its log and the stores say.
    """
    runs = [found.run_id for found in manifests(root) if found.account == account and found.run_id != run_id]
    entries = [read_ledger(root).filter(pl.col("run_id").is_in(runs))]
    entries += [_table(root, manifest) for manifest in _unsettled(root, account, run_id)]
    tokens = pl.col("prompt_tokens") + pl.col("completion_tokens")
    sums = pl.concat(entries).select(pl.col("samples").sum(), tokens.sum(), pl.col("microdollars").sum())
    samples, spent, micro = sums.row(0)
    return Amount(int(samples or 0), int(spent or 0), int(micro or 0))


def _unsettled(root: Root, account: str, run_id: str) -> list[RunManifest]:
    """Return the other runs of an account of which the ledger has nothing."""
    settled = set(read_ledger(root)["run_id"])
    return [
        found
        for found in manifests(root)
        if found.account == account and found.run_id != run_id and found.run_id not in settled
    ]


def read_ledger(root: Root) -> pl.DataFrame:
    """Return the ledger's entries of kinds ``settle`` and ``orphan``; empty where there are none."""
    if not root.exists(LEDGER, "_delta_log"):
        return pl.DataFrame(schema=polars_schema(LedgerEntry))
    try:
        rows = scan_store(root, LEDGER, LedgerEntry)
        return root.patiently(lambda: rows.collect(), "reading the ledger").filter(pl.col("kind") != "reserve")
    except TableNotFoundError:
        return pl.DataFrame(schema=polars_schema(LedgerEntry))


def settle(root: Root, manifest: RunManifest) -> None:
    """Write down what a run spent, once, by what its log and the stores say."""
    rows = _table(root, manifest).to_arrow().cast(arrow_schema(LedgerEntry))

    def write() -> None:
        write_deltalake(root.uri(LEDGER), rows, mode="append", storage_options=root.storage_options() or None)

    root.patiently(write, "writing the ledger")


def _table(root: Root, manifest: RunManifest) -> pl.DataFrame:
    """Return a run's entries of the ledger."""
    prices = {name: Prices.model_validate(found) for name, found in manifest.prices.items()}
    entries = [
        entry
        for record in manifest.stages
        if record.dataset == "samples"
        for entry in _entries(root, manifest, record, prices.get(record.name))
    ]
    entries = entries or [_entry(manifest, "", "settle", {}, 0)]
    rows = [{**entry, "sequence": place} for place, entry in enumerate(entries)]
    return validate(pl.DataFrame(rows, schema=polars_schema(LedgerEntry), orient="row"), LedgerEntry, LEDGER)


def _entries(root: Root, manifest: RunManifest, record: StageRecord, prices: Prices | None) -> Iterator[dict[str, Any]]:
    sums = ("prompt_tokens", "cached_prompt_tokens", "completion_tokens")
    try:
        rows = scan_store(root, record.path, Sample).filter(pl.col("run_id") == manifest.run_id)
    except TableNotFoundError:
        rows = pl.LazyFrame(schema=polars_schema(Sample))
    counted = rows.group_by("problem_key").agg(pl.len().alias("samples"), pl.col(sums).sum())
    made = root.patiently(lambda: counted.collect(engine="streaming"), "adding up samples")
    totals = made.select("samples", *sums).sum().row(0, named=True)
    tokens = {name: int(totals[name] or 0) for name in sums}
    gpu_seconds = sum(max(0.0, replica.last - replica.first) for replica in record.replicas) * record.gpus_per_replica
    prompt, cached, completion = (tokens[name] for name in sums)
    micro = prices.microdollars(prompt, cached, completion, gpu_seconds) if prices is not None else None
    settled = _entry(manifest, record.name, "settle", {"samples": int(totals["samples"] or 0), **tokens}, micro or 0)
    settled |= {"engine": record.engine.model if record.engine else "", "gpu_seconds": gpu_seconds}
    settled["engine_seconds"] = record.busy_seconds
    yield settled
    sent = read_allocations(root, manifest.run_id).filter(pl.col("stage") == record.name)
    worst = pl.col("worst_tokens", "worst_microdollars").max()
    asked = sent.group_by("problem_key").agg(pl.col("count").sum(), worst)
    open_ = asked.join(made.select("problem_key", "samples"), on="problem_key", how="left").with_columns(
        lost=(pl.col("count") - pl.col("samples").fill_null(0)).clip(0)
    )
    lost, lost_tokens, lost_micro = open_.select(
        pl.col("lost").sum(),
        (pl.col("lost") * pl.col("worst_tokens")).sum().alias("tokens"),
        (pl.col("lost") * pl.col("worst_microdollars")).sum().alias("microdollars"),
    ).row(0)
    if lost:
        counts = {"samples": int(lost), "completion_tokens": int(lost_tokens)}
        yield _entry(manifest, record.name, "orphan", counts, int(lost_micro))


def _entry(manifest: RunManifest, stage: str, kind: str, counts: dict[str, int], micro: int) -> dict[str, Any]:
    names = ("samples", "prompt_tokens", "cached_prompt_tokens", "completion_tokens")
    return {
        "run_id": manifest.run_id,
        "time": datetime.now(UTC),
        "kind": kind,
        "stage": stage,
        "engine": "",
        **{name: counts.get(name, 0) for name in names},
        "engine_seconds": 0.0,
        "gpu_seconds": 0.0,
        "microdollars": micro,
    }


def gpu_hours_before(root: Root, account: str, run_id: str) -> float:
    """Return the GPU hours that the other runs of an account used."""
    runs = [found.run_id for found in manifests(root) if found.account == account and found.run_id != run_id]
    used = read_ledger(root).filter(pl.col("run_id").is_in(runs))["gpu_seconds"].sum()
    return float(used or 0.0) / 3600


def holes(root: Root, folder: str) -> list[Range]:
    """Return what earlier runs sent for a store, drawn or not."""
    found: list[Range] = []
    for manifest in manifests(root):
        for record in manifest.stages:
            if record.dataset == "samples" and record.path == folder:
                sent = read_allocations(root, manifest.run_id)
                found += ranges_of(sent.filter(pl.col("stage") == record.name))
    return found
