"""Where a stage's rows live: identities of stores and views.

A *store* is identified by what makes its rows the same facts: a sampling identity (engine, weights, prompt and
parameters), then a verifier's or scorer's. A *view* is a frozen choice of facts: the problems and index ranges that a
snapshot was computed from. n = 100 and n = 1,000 read one store and are two views.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pipelines.graph import Stage, sampling_stage
from schemas.datasets import STORES
from schemas.engine import EngineSpec
from schemas.identity import digest, identity
from schemas.later import pl

Resolve = Callable[[EngineSpec], tuple[str, str]]
"""From a specification to (model, revision): which weights they are, wherever they lie."""


def sampling_fingerprint(stage: Stage, resolve: Resolve) -> dict[str, Any]:
    """Return what makes two texts of one (problem, index) the same draw: engine, weights, prompt, parameters."""
    return {**_engine(stage, resolve), "sample": stage.operator.fingerprint()}


def _engine(stage: Stage, resolve: Resolve) -> dict[str, Any]:
    """Return the identity of a stage's engines, if it has any."""
    if stage.engine is None:
        return {}
    roles = {role: _resolved(spec, resolve) for role, spec in sorted(stage.engines.items())}
    return {"engine": _resolved(stage.engine, resolve), **({"engines": roles} if roles else {})}


def _resolved(engine: EngineSpec, resolve: Resolve) -> dict[str, Any]:
    model, revision = resolve(engine)
    return {**identity(engine), "model": model, "revision": revision}


def store_fingerprint(stage: Stage, sampling: Mapping[str, Any], resolve: Resolve) -> dict[str, Any]:
    """Return the identity of a store stage's rows; ``sampling`` is the sampling fingerprint of its sampling stage."""
    if stage.samples:
        return dict(sampling)
    upstream = [store_fingerprint(other, sampling, resolve) for other in stage.inputs.values() if other.is_store]
    return {"operator": stage.operator.fingerprint(), "inputs": upstream, **_engine(stage, resolve)}


def store_folder(stage: Stage, sampling: Mapping[str, Any], resolve: Resolve) -> str:
    """Return a store's folder under the root: ``samples/{sampling_id}``, ``verdicts/{sampling_id}/{verifier_id}``..."""
    kind = STORES[stage.operator.output]
    if stage.samples:
        return f"{kind}/{digest(dict(sampling))}"
    return f"{kind}/{digest(dict(sampling))}/{digest(store_fingerprint(stage, sampling, resolve))}"


class ViewOfRanges:
    """What views of several stores may share: the problems and the index ranges that they take.

    Args:
        ranges: tables of (problem_key, first, count), sorted by these from one to the next.
    """

    def __init__(self, problem_view: str, ranges: Iterable[pl.DataFrame]) -> None:
        key = pl.struct("problem_key").struct.json_encode().str.strip_prefix('{"problem_key":').str.strip_suffix("}")
        self._begun = hashlib.blake2b(f'{{"problems":{json.dumps(problem_view)},"ranges":['.encode(), digest_size=16)
        separator = b""
        for table in ranges:
            if len(table):
                rows = table.select(pl.format("[{},{},{}]", key, "first", "count").str.join(",")).item()
                self._begun.update(separator + rows.encode())
                separator = b","

    def id_in(self, folder: str) -> str:
        """Return the id of the view of one store.

        It is the ``digest`` of {"problems": ..., "ranges": [[problem_key, first, count], ...], "store": folder}.
        """
        whole = self._begun.copy()
        whole.update(f'],"store":{json.dumps(folder, ensure_ascii=False)}}}'.encode())
        return whole.hexdigest()


def snapshot_view(stage: Stage, views: Mapping[str, str], resolve: Resolve) -> str:
    """Return the id of a snapshot: operator, version and configuration, and the views it reads."""
    return digest({"operator": stage.operator.fingerprint(), "inputs": dict(views), **_engine(stage, resolve)})


__all__ = [
    "Resolve",
    "ViewOfRanges",
    "sampling_fingerprint",
    "sampling_stage",
    "snapshot_view",
    "store_fingerprint",
    "store_folder",
]
