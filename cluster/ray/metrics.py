"""A run's figures as Prometheus metrics: through Ray, whose nodes export what their processes report.

``ray metrics launch-prometheus`` or KubeRay's pod monitors scrape them; the dashboard is ``infra/grafana``.
"""

from __future__ import annotations

from ray.util.metrics import Gauge

from schemas.manifest import RunManifest, StageRecord
from schemas.prices import MICRO

RUN = ("run", "pipeline")
STAGE = (*RUN, "stage")

FIGURES: dict[str, tuple[str, tuple[str, ...]]] = {
    "gristmill_rows": (
        "Rows that are facts, or problems done, reused ones included",
        STAGE,
    ),
    "gristmill_rows_planned": ("Rows or problems that the run asks for", STAGE),
    "gristmill_rows_computed": ("Rows or problems that this run made", STAGE),
    "gristmill_queue_depth": ("Rows in an engine or with a worker, or waiting there", STAGE),
    "gristmill_tokens": (
        "Tokens of this run's calls to engines, by kind: prompt, cached or completion",
        (*STAGE, "kind"),
    ),
    "gristmill_failures": ("Rows without a result, by kind: failed or quarantined", (*STAGE, "kind")),
    "gristmill_accepted": ("Correct verdicts that this run made", STAGE),
    "gristmill_engine_busy_share": ("Share of its time in which an engine had work", (*STAGE, "replica")),
    "gristmill_engine_deaths": ("How often an engine had to be started again", (*STAGE, "replica")),
    "gristmill_dollars": ("Dollars spent on the run's account", (*RUN, "account")),
    "gristmill_budget_share": ("Share of the tightest cap that is spent", (*RUN, "account")),
    "gristmill_waiting": ("1 while the run stands still", RUN),
}
"""Name -> what it is, and its labels. All are gauges: a run that goes on begins at what is there."""


class RunMetrics:
    """Publishes one run at a time."""

    def __init__(self) -> None:
        self._gauges = {name: Gauge(name, about, tag_keys=labels) for name, (about, labels) in FIGURES.items()}

    def publish(self, manifest: RunManifest) -> None:
        """Set all figures to what a manifest says."""
        run = {"run": manifest.run_id, "pipeline": manifest.pipeline}
        for record in manifest.stages:
            self._stage(record, {**run, "stage": record.name})
        self._set("gristmill_waiting", float(manifest.waits_for is not None), run)
        if (spending := manifest.spending) is not None:
            account = {**run, "account": spending.account}
            self._set("gristmill_dollars", spending.microdollars / MICRO, account)
            self._set("gristmill_budget_share", spending.share, account)

    def _stage(self, record: StageRecord, labels: dict[str, str]) -> None:
        self._set("gristmill_rows", record.reused + record.computed, labels)
        self._set("gristmill_rows_planned", record.planned, labels)
        self._set("gristmill_rows_computed", record.computed, labels)
        self._set("gristmill_queue_depth", record.queued, labels)
        for kind, rows in (("failed", record.failed), ("quarantined", record.quarantined)):
            self._set("gristmill_failures", rows, {**labels, "kind": kind})
        if record.dataset == "verdicts":
            self._set("gristmill_accepted", record.accepted, labels)
        if record.engine is not None:
            fresh = record.prompt_tokens - record.cached_prompt_tokens
            tokens = {"prompt": fresh, "cached": record.cached_prompt_tokens, "completion": record.completion_tokens}
            for kind, count in tokens.items():
                self._set("gristmill_tokens", count, {**labels, "kind": kind})
        for role, pool in record.pools.items():
            for replica in pool.replicas:
                which = {**labels, "replica": f"{role}-{replica.number}" if role else str(replica.number)}
                self._set("gristmill_engine_busy_share", replica.busy_share, which)
                self._set("gristmill_engine_deaths", replica.deaths, which)

    def _set(self, name: str, value: float, labels: dict[str, str]) -> None:
        self._gauges[name].set(value, labels)
