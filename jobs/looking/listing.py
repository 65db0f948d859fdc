"""Listing a root's runs: a few are read from their own manifests, many from the catalogue.

Reading a few hundred manifests takes less time than importing what talks to databases.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime

from cluster.records.reader import manifests
from cluster.storage.root import Root
from jobs.running.figures import VARIABLE, Sort, costs_of, dollars_of, seconds_of
from schemas.manifest import RunManifest

FEW = 300
"""Runs under a local root up to which their manifests are read; each takes a fifth of a millisecond."""


def list_runs(
    root: Root,
    *,
    pipeline: str | None = None,
    states: Sequence[str] = (),
    job: str | None = None,
    since: datetime | None = None,
    sort: Sort = "started",
    limit: int | None = None,
) -> list[RunManifest]:
    """Return the runs that fit, the latest (or largest) first.

    Args:
        states: as manifests have them; a run that was killed says there that it is running.
        job: what the name of a submission or a night begins with.

    Raises:
        BadInput: the catalogue that the environment names can't be opened.
    """
    if VARIABLE in os.environ or not root.is_local or len(root.list("runs")) > FEW:
        from jobs.looking.catalogue import Catalogue

        catalogue = Catalogue(root)
        catalogue.sync()
        try:
            return catalogue.runs(pipeline=pipeline, states=states, job=job, since=since, sort=sort, limit=limit)
        finally:
            catalogue.close()
    found = [
        run
        for run in manifests(root)
        if (pipeline is None or run.pipeline == pipeline)
        and (not states or run.state in states)
        and (job is None or (run.job or "").startswith(job))
        and (since is None or run.started >= since)
    ]
    found.sort(key=lambda run: (_size(run, sort), run.started, run.run_id), reverse=True)
    return found[:limit]


def _size(run: RunManifest, sort: Sort) -> float:
    """Return what a run is sorted by; one that has none of it comes last."""
    if sort == "started":
        return 0.0
    if sort == "problems":
        return float(run.n_problems)
    if sort == "seconds":
        seconds = seconds_of(run)
        return -1.0 if seconds is None else seconds
    costs = [*costs_of(run)]
    if sort == "samples":
        return float(sum(cost["samples"] for cost in costs))
    dollars = dollars_of(costs)
    return -1.0 if dollars is None else dollars
