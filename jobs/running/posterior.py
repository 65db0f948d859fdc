"""What a run learned about its problems, in the few figures that its manifest and the catalogue keep."""

from __future__ import annotations

import numpy as np
import polars as pl

from cluster.records.reader import open_stage
from cluster.storage.root import Root
from operators.draws import draws
from operators.measure.counts import DRAWN
from schemas.manifest import Posterior, RunManifest


def posteriors(root: Root, manifest: RunManifest) -> dict[str, Posterior]:
    """Return verdict stage -> the Beta that the success rates of its problems come from."""
    models = [record.engine.model for record in manifest.stages if record.dataset == "samples" and record.engine]
    found: dict[str, Posterior] = {}
    from operators.measure.forecast import fit_beta  # loads scipy: only the end of a run pays for it

    for record in manifest.stages:
        if record.dataset != "verdicts":
            continue
        drawn = pl.col("is_correct").is_not_null() & pl.col("status").is_in(DRAWN)
        rows = draws(open_stage(root, manifest, record.name)).filter(drawn)
        counts = rows.group_by("problem_key").agg(pl.len().alias("n"), pl.col("is_correct").sum().alias("c")).collect()
        n, c = (counts[name].to_numpy().astype(np.int64) for name in ("n", "c"))
        if c.any():
            a, b = fit_beta(n, c)
            found[record.name] = Posterior(
                model=models[0] if models else "",
                a=a,
                b=b,
                problems=len(counts),
                samples=int(n.sum()),
                correct=int(c.sum()),
            )
    return found
