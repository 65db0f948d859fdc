"""Writes the Grafana dashboard of a run's figures: python infra/grafana/make.py > infra/grafana/gristmill.json

Ray exports every metric of ours with ``ray_`` before its name.
"""

from __future__ import annotations

import json
import sys
from typing import Any

RUN = 'run=~"$run"'
PANELS: list[tuple[str, str, list[tuple[str, str]], str]] = [
    # title, unit, (expression, legend)..., what it tells
    (
        "Samples a second",
        "ops",
        [(f"sum by (stage) (deriv(ray_gristmill_rows_computed{{{RUN}}}[2m]))", "{{stage}}")],
        "Rows that became facts, by stage. Verification should keep up with sampling.",
    ),
    (
        "Tokens a second",
        "ops",
        [(f"sum by (kind) (deriv(ray_gristmill_tokens{{{RUN}}}[2m]))", "{{kind}}")],
        "Prompt tokens that were computed, prompt tokens from the cache, completion tokens.",
    ),
    (
        "Done",
        "percentunit",
        [(f"ray_gristmill_rows{{{RUN}}} / ray_gristmill_rows_planned{{{RUN}}}", "{{stage}}")],
        "Share of what is asked for. A policy may end a stage well below 1.",
    ),
    (
        "Engine busy",
        "percentunit",
        [(f"ray_gristmill_engine_busy_share{{{RUN}}}", "{{stage}} {{replica}}")],
        "Share of its time in which an engine had work: below 0.95 it waits for us.",
    ),
    (
        "Queues",
        "short",
        [(f"ray_gristmill_queue_depth{{{RUN}}}", "{{stage}}")],
        "Rows in an engine or with a worker, or waiting there.",
    ),
    (
        "Spent",
        "currencyUSD",
        [(f"max by (account) (ray_gristmill_dollars{{{RUN}}})", "{{account}}")],
        "Dollars on the run's account, earlier runs on it included.",
    ),
    (
        "Budget used",
        "percentunit",
        [(f"max by (account) (ray_gristmill_budget_share{{{RUN}}})", "{{account}}")],
        "Of the tightest cap. At 1 the run ends as 'budget reached'.",
    ),
    (
        "Failures",
        "short",
        [
            (f"sum by (stage, kind) (ray_gristmill_failures{{{RUN}}})", "{{stage}} {{kind}}"),
            (f"sum by (stage) (ray_gristmill_engine_deaths{{{RUN}}})", "{{stage}} engine deaths"),
        ],
        "Rows without a result, and engines that had to be started again.",
    ),
    (
        "Accepted",
        "percentunit",
        [
            (
                f'sum(ray_gristmill_accepted{{{RUN}}}) / sum(ray_gristmill_rows_computed{{{RUN}, stage=~"verify.*"}})',
                "accepted",
            )
        ],
        "Share of new verdicts that are correct.",
    ),
    (
        "Standing still",
        "short",
        [(f"ray_gristmill_waiting{{{RUN}}}", "{{run}}")],
        "1 while a run doesn't get on; gristmill status says what it waits for.",
    ),
]


def dashboard() -> dict[str, Any]:
    """Return the dashboard: two columns of time series, runs to choose from above."""
    source = {"type": "prometheus", "uid": "${datasource}"}
    panels = [
        {
            "id": place + 1,
            "type": "timeseries",
            "title": title,
            "description": about,
            "datasource": source,
            "gridPos": {"h": 8, "w": 12, "x": 12 * (place % 2), "y": 8 * (place // 2)},
            "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
            "targets": [
                {"refId": chr(65 + number), "datasource": source, "expr": expression, "legendFormat": legend}
                for number, (expression, legend) in enumerate(queries)
            ],
        }
        for place, (title, unit, queries, about) in enumerate(PANELS)
    ]
    variables = [
        {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Prometheus"},
        {
            "name": "run",
            "type": "query",
            "label": "Run",
            "datasource": source,
            "query": {"query": "label_values(ray_gristmill_rows, run)", "refId": "run"},
            "refresh": 2,
            "sort": 4,
            "includeAll": True,
            "multi": True,
        },
    ]
    return {
        "uid": "gristmill",
        "title": "Gristmill runs",
        "schemaVersion": 39,
        "tags": ["gristmill"],
        "time": {"from": "now-6h", "to": "now"},
        "refresh": "10s",
        "templating": {"list": variables},
        "panels": panels,
    }


if __name__ == "__main__":
    json.dump(dashboard(), sys.stdout, indent=2)
    sys.stdout.write("\n")
