"""What was spent on an account before: the ledger's entries, and for runs that ended without any, what they left.

A run that was killed settled nothing. What it spent follows from its books (``cluster.spending.books``): its bills, and
the worst case of all that it lent or sent and that no bill closed. Of a run of a version that kept no books it follows
from its log and the stores: each sample it committed took what the sample says, and each one it sent beyond these its
worst case.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import polars as pl
from deltalake.exceptions import TableNotFoundError

from cluster.records.bill import Amount
from cluster.records.reader import alive, manifests
from cluster.spending.allocations import ranges_of, read_allocations
from cluster.spending.books import read_books
from cluster.storage.appending import append, read_appended
from cluster.storage.delta import scan_store
from cluster.storage.ranges import KEYED
from cluster.storage.root import Root
from operators.strategies.words import POLICY
from schemas.books import LedgerEntry
from schemas.contract import polars_schema, validate
from schemas.datasets import Sample
from schemas.errors import StoreBusy
from schemas.manifest import RunManifest, StageRecord
from schemas.prices import Prices, priced_as

LEDGER = "ledger"
TOKENS = ("prompt_tokens", "cached_prompt_tokens", "completion_tokens")
CREDIT = ("samples", "tokens", "microdollars")
ORDER = "order"
"""Kind of the entries that say what a run was told."""
FIRST_ORDER = 1_000_000
"""Number of a run's first such entry: they are written while it goes on, before those of what it spent."""


class Spent:
    """What some runs spent. The ledger is read once."""

    def __init__(self, root: Root, runs: Iterable[RunManifest]) -> None:
        self.root = root
        named = {found.run_id: found for found in runs}
        spent = read_ledger(root).filter(pl.col("kind") != ORDER)
        self._settled = spent.filter(pl.col("run_id").is_in(list(named)))
        known = set(self._settled["run_id"])
        self._open = [found for name, found in named.items() if name not in known]

    @cached_property
    def _unsettled(self) -> pl.DataFrame:
        """What runs spent of which the ledger has nothing: they run now, or were killed."""
        return pl.concat([_table(self.root, manifest) for manifest in self._open])

    @cached_property
    def _entries(self) -> pl.DataFrame:
        return pl.concat([self._settled, self._unsettled]) if self._open else self._settled

    @property
    def spent(self) -> Amount:
        tokens = pl.col("prompt_tokens") + pl.col("completion_tokens")
        sums = self._entries.select(pl.col("samples").sum(), tokens.sum(), pl.col("microdollars").sum())
        samples, spent, micro = sums.row(0)
        return Amount(int(samples or 0), int(spent or 0), int(micro or 0))

    @property
    def gpu_hours(self) -> float:
        return float(self._entries["gpu_seconds"].sum() or 0.0) / 3600


class History(Spent):
    """What the other runs of an account spent.

    Args:
        run_id: the run that asks, which isn't counted.
    """

    def __init__(self, root: Root, account: str, run_id: str = "") -> None:
        self.account = account
        super().__init__(root, (one for one in manifests(root) if one.account == account and one.run_id != run_id))

    def settle(self) -> None:
        """Write down what dead runs left.

        Raises:
            StoreBusy: one of the runs is still running.
        """
        for manifest in self._open:
            if alive(self.root, manifest.run_id):
                raise StoreBusy(
                    f"run {manifest.run_id} is spending on the account '{self.account}' now; wait for it, or name "
                    "another with run.budget.account"
                )
        if self._open:
            append_ledger(self.root, self._unsettled)
            for manifest in self._open:
                append_orders(self.root, manifest)


def spent_under(root: Root, beginning: str, but: str = "") -> Amount:
    """Return what all runs spent on accounts of a common beginning, those that are still running included.

    Args:
        but: an account that isn't counted.
    """
    runs = (one for one in manifests(root) if (one.account or "").startswith(beginning) and one.account != but)
    return Spent(root, runs).spent


def read_ledger(root: Root) -> pl.DataFrame:
    """Return the ledger's entries; empty where there are none.

    Raises:
        DamagedLog: there were some, and the log that names them isn't whole.
    """
    return read_appended(root, LEDGER, LedgerEntry)


def spent_by(root: Root, manifest: RunManifest) -> pl.DataFrame:
    """Return what one run spent, as entries of the ledger; of a run that isn't settled, as they would be now."""
    settled = read_ledger(root).filter(pl.col("run_id") == manifest.run_id, pl.col("kind") != ORDER)
    return settled if len(settled) else _table(root, manifest)


def settle(root: Root, manifest: RunManifest) -> None:
    """Write down what a run spent, once, by what its log and the stores say."""
    append_ledger(root, _table(root, manifest))


def append_orders(root: Root, manifest: RunManifest) -> None:
    """Write down what a run was told, as far as the ledger hasn't got it yet."""
    if not manifest.orders:
        return
    mine = read_ledger(root).filter(pl.col("run_id") == manifest.run_id, pl.col("kind") == ORDER)
    known = set(mine["sequence"])
    rows = [
        _entry(manifest, "", ORDER, {}, 0)
        | {"sequence": place, "time": one.answered, "action": f"{one.what}: {one.result}", "author": one.by}
        | {"reason": one.reason}
        for place, one in enumerate(manifest.orders, FIRST_ORDER)
        if place not in known
    ]
    schema = polars_schema(LedgerEntry)
    append_ledger(root, validate(pl.DataFrame(rows, schema=schema, orient="row"), LedgerEntry, LEDGER))


def append_ledger(root: Root, entries: pl.DataFrame) -> None:
    """Add entries to the ledger."""
    append(root, LEDGER, LedgerEntry, entries)


def _table(root: Root, manifest: RunManifest) -> pl.DataFrame:
    """Return a run's entries of the ledger."""
    prices = {name: Prices.model_validate(found) for name, found in manifest.prices.items()}
    books, sent = read_books(root, manifest.run_id), read_allocations(root, manifest.run_id)
    entries: list[dict[str, Any]] = []
    for record in manifest.stages:
        if len(books):
            entries += _booked(manifest, record, books, sent, prices)
        elif record.dataset == "samples":
            entries += _entries(root, manifest, record, prices.get(record.name))
    entries = entries or [_entry(manifest, "", "settle", {}, 0)]
    rows = [{**entry, "sequence": place} for place, entry in enumerate(entries)]
    return validate(pl.DataFrame(rows, schema=polars_schema(LedgerEntry), orient="row"), LedgerEntry, LEDGER)


def _booked(
    manifest: RunManifest,
    record: StageRecord,
    books: pl.DataFrame,
    sent: pl.DataFrame,
    prices: Mapping[str, Prices],
) -> Iterator[dict[str, Any]]:
    """Yield what a stage spent, by the run's books: its bills, and the credit that no bill and no return closed."""
    mine = books.filter(pl.col("stage") == record.name)
    own = POLICY if record.dataset == "samples" else mine["role"][0] if len(mine) else None
    for role in mine["role"].unique(maintain_order=True).to_list() or ([own] if record.gpu_seconds else []):
        of_role = mine.filter(pl.col("role") == role)
        yield from _booked_role(manifest, record, role, of_role, sent if role == own else sent.clear(), prices)


def _booked_role(
    manifest: RunManifest,
    record: StageRecord,
    role: str | None,
    books: pl.DataFrame,
    sent: pl.DataFrame,
    prices: Mapping[str, Prices],
) -> Iterator[dict[str, Any]]:
    other = None if role is None else record.roles.get(role)
    name = record.name if other is None or role is None else priced_as(record.name, role)
    bills = books.filter(pl.col("kind") == "bill").select(
        pl.col("samples", "calls", "passes", "estimated_tokens", *TOKENS).sum()
    )
    took = {name: int(value or 0) for name, value in bills.row(0, named=True).items()}
    prompt, cached, completion = (took[name] for name in TOKENS)
    pool = record if other is None else other
    micro = prices[name].microdollars(prompt, cached, completion, pool.gpu_seconds) if name in prices else None
    yield _entry(manifest, record.name, "settle", took, micro or 0) | {
        "role": role,
        "engine": pool.engine.model if pool.engine else "",
        "engine_seconds": pool.busy_seconds,
        "gpu_seconds": pool.gpu_seconds,
    }
    sent = sent.filter(pl.col("stage") == record.name, pl.col("count") > 0)
    tokens, micros = (pl.col("count") * pl.col(f"worst_{name}") for name in CREDIT[1:])
    lent = sent.select(samples="count", tokens=tokens, microdollars=micros)
    # what was lost closed its credit, and is lost all the same
    sign = pl.when(pl.col("kind") == "credit").then(1).when(pl.col("kind") == "lost").then(0).otherwise(-1)
    credit = books.select((pl.col(f"credit_{name}") * sign).alias(name) for name in CREDIT)
    lost = [max(0, int(value or 0)) for value in pl.concat([lent, credit]).sum().row(0)]
    if any(lost):
        counts = {"samples": lost[0], "completion_tokens": lost[1]}
        yield _entry(manifest, record.name, "orphan", counts, lost[2]) | {"role": role}


def _entries(root: Root, manifest: RunManifest, record: StageRecord, prices: Prices | None) -> Iterator[dict[str, Any]]:
    sums = TOKENS
    try:
        rows = scan_store(root, record.path, Sample).filter(pl.col("run_id") == manifest.run_id)
    except TableNotFoundError:
        rows = pl.LazyFrame(schema=polars_schema(Sample))
    counted = rows.group_by("problem_key").agg(pl.len().alias("samples"), pl.col(sums).sum())
    made = root.patiently(lambda: counted.collect(engine="streaming"), "adding up samples")
    totals = made.select("samples", *sums).sum().row(0, named=True)
    tokens = {name: int(totals[name] or 0) for name in sums}
    gpu_seconds = record.gpu_seconds
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
    names = ("samples", *TOKENS)
    return {
        "run_id": manifest.run_id,
        "time": datetime.now(UTC),
        "kind": kind,
        "stage": stage,
        "engine": "",
        **{name: counts.get(name, 0) for name in names},
        "role": None,
        "calls": counts.get("calls"),
        "passes": counts.get("passes"),
        "estimated_tokens": counts.get("estimated_tokens"),
        "engine_seconds": 0.0,
        "gpu_seconds": 0.0,
        "microdollars": micro,
        **dict.fromkeys(("action", "author", "reason")),
    }


def holes(root: Root, folder: str) -> pl.DataFrame:
    """Return what earlier runs sent for a store, drawn or not, as keyed ranges."""
    found = [pl.DataFrame(schema=KEYED)]
    for manifest in manifests(root):
        for record in manifest.stages:
            if record.dataset == "samples" and record.path == folder:
                sent = read_allocations(root, manifest.run_id)
                found.append(ranges_of(sent.filter(pl.col("stage") == record.name)))
    return pl.concat(found)
