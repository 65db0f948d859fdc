"""Many runs as a table, a line each: from their manifests alone, without the imports that rows and layouts take."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from cluster.records.reader import seems_alive
from cluster.storage.root import Root
from schemas.manifest import RunManifest


def state_of(root: Root, manifest: RunManifest) -> str:
    """Return a run's state; one that was killed couldn't write down its own."""
    return "killed" if manifest.state == "running" and not seems_alive(root, manifest.run_id) else manifest.state


def run_lines(root: Root, manifests: Iterable[RunManifest]) -> Iterator[str]:
    """Yield a table of runs, its headings first, in their order."""
    rows = [("run", "pipeline", "state", "started (UTC)", "problems", "sampled", "reused")]
    for manifest in manifests:
        sampled = [record for record in manifest.stages if record.dataset == "samples"]
        rows.append(
            (
                manifest.run_id,
                manifest.pipeline,
                state_of(root, manifest),
                f"{manifest.started:%Y-%m-%d %H:%M}",
                f"{manifest.n_problems:,}",
                f"{sum(record.computed for record in sampled):,}",
                f"{sum(record.reused for record in sampled):,}",
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for *texts, problems, computed, reused in rows:
        cells = [text.ljust(width) for text, width in zip(texts, widths, strict=False)]
        numbers = [text.rjust(width) for text, width in zip((problems, computed, reused), widths[4:], strict=True)]
        yield "  ".join([*cells, *numbers])
