"""By what rule problems are sampled: what runs under a policy write down before they send, for measures to go by.

Coverage can't be told from counts alone: n = 3 with one success means one thing where sampling stopped at successes and
another where a server lost the rest. So each run under a policy begins its log with a row of allocations for each
problem: the policy, its limit and the caps, what the policy was told of the problem, and from which sample on that
holds (``schemas.datasets.Allocation``). A policy or a cap that is changed while a run goes on is another such
row of each. Measures get the rows of all runs that drew what they read.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from cluster.records.reader import manifests
from cluster.storage.ranges import RangeSet
from cluster.storage.root import Root
from operators.measure.counts import RULE
from operators.measure.difficulty import log_odds
from operators.policies.policy import Floats, Known
from schemas.books import Allocation
from schemas.contract import polars_schema, validate
from schemas.identity import digest, digest_of

FOLDER = "allocations"
"""Of a run's log of what it sends."""
BLOCK = 4_096
"""Problems whose hints are Python numbers at once."""


class Rules(NamedTuple):
    """The rules by which what is in a store was sampled.

    Attributes:
        uris: files of rows of allocations.
        identity: the same for the same policies that were told the same, however many runs there were.
    """

    uris: tuple[str, ...]
    identity: str


def write_rules(
    root: Root,
    run_id: str,
    stage: str,
    rule: dict[str, Any],
    keys: pl.Series,
    held: RangeSet,
    known: Known,
    before: pl.DataFrame | None = None,
) -> None:
    """Write down by what rule a run samples from now on.

    Args:
        rule: policy, n, caps; of one that was changed meanwhile, also who did so.
        keys: of the run's problems, by number.
        held: what is there, or was sent, by earlier rules.
        known: what the policy was told of each problem.
        before: rows of the run's earlier rules for the stage, which stay.
    """
    told = [] if known.before is None else [log_odds(known.before)]
    told += [] if known.features is None else [known.features]
    hints = np.concatenate(told, axis=1) if told else None
    said = {**rule, "told": None if hints is None else digest_of(_rows(hints))}
    if known.features is not None:
        said["features"] = known.features.shape[1]
    text = json.dumps(said, sort_keys=True)
    ends = np.zeros(len(keys), np.int64)
    there = held.ranges[held.ranges.numbers < len(keys)]
    np.maximum.at(ends, there.numbers, there.firsts + there.sizes)
    table = pl.DataFrame(
        {
            "sequence": np.arange(len(keys), dtype=np.int64),
            "problem_key": keys,
            "first_index": ends,
            "hints": None if hints is None else _listed(hints),
        },
        schema_overrides={"first_index": pl.Int64, "hints": pl.List(pl.Float64)},
    ).with_columns(
        pl.lit(stage).alias("stage"),
        pl.lit(RULE).alias("reason"),
        pl.lit(text).alias("rule"),
        *(pl.lit(0, pl.Int64).alias(name) for name in ("count", "worst_tokens", "worst_microdollars")),
        pl.lit(-1, pl.Int64).alias("observed_through"),
        pl.lit(0.0).alias("value"),
        pl.lit(None, pl.Float64).alias("shadow_price"),
    )
    table = table.select(list(polars_schema(Allocation)))
    if before is not None:
        table = pl.concat([before, table.with_columns(pl.col("sequence") + len(before))])
    rows = validate(table, Allocation, FOLDER)
    buffer = io.BytesIO()
    rows.write_parquet(buffer)
    root.write_bytes(buffer.getvalue(), "runs", run_id, FOLDER, _name(stage))


def read_rules(root: Root, run_id: str, stage: str) -> pl.DataFrame:
    """Return the rules of one run for one stage, in the order in which they held."""
    rows = pl.read_parquet(io.BytesIO(root.read_bytes("runs", run_id, FOLDER, _name(stage))))
    return rows.select(list(polars_schema(Allocation)))


def _rows(hints: Floats) -> Iterator[list[float | None]]:
    """Yield what each problem's hints are in JSON, a block of them in memory."""
    for start in range(0, len(hints), BLOCK):
        for row in hints[start : start + BLOCK].tolist():
            yield [None if math.isnan(one) else one for one in row]


def _listed(hints: Floats) -> pl.Series:
    """Return hints as lists with null where nothing is known."""
    flat = pl.Series(hints.ravel(), dtype=pl.Float64).fill_nan(None)
    return flat.reshape(hints.shape).arr.to_list()


def rules_of_store(root: Root, folder: str) -> Rules:
    """Return the rules of all runs that sampled a store under a policy."""
    uris: list[str] = []
    known: set[str] = set()
    for manifest in manifests(root):
        for record in manifest.stages:
            if record.dataset == "samples" and record.path == folder and record.policy is not None:
                place = ("runs", manifest.run_id, FOLDER, _name(record.name))
                if root.exists(*place):
                    uris.append(root.uri(*place))
                    known |= _rules_in(root, place)
    return Rules(tuple(sorted(uris)), digest(sorted(known)))


def _rules_in(root: Root, place: Iterable[str]) -> set[str]:
    """Return what the rules of a file say of how problems were chosen: policies, and what they were told."""
    rows = pl.read_parquet(io.BytesIO(root.read_bytes(*place)), columns=["rule"])
    said = [json.loads(text) for text in rows["rule"].unique(maintain_order=True)]
    return {json.dumps({key: rule.get(key) for key in ("policy", "told")}, sort_keys=True) for rule in said}


def _name(stage: str) -> str:
    return f"rules/{stage}.parquet"
