"""What a bundle's documents leave out of where and by whom a run was made."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from cluster.records.orders import new_order
from jobs.view.bundle.elsewhere import for_others, without_places
from schemas.manifest import RunManifest
from schemas.orders import Answered


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("/home/anna/p.jsonl", "…/p.jsonl"),
        ("~/my data/p.jsonl", "…/p.jsonl"),
        ("see /srv/root/runs/a/quarantine.jsonl; then", "see …/quarantine.jsonl; then"),
        ("s3://bucket/team/p.parquet", "…/p.parquet"),
        ("asked http://10.0.0.5:8000/v1?key=x twice", "asked …/v1 twice"),
        ("http://node7:8000", "…"),
        ("http://[fe80::1]:8000/v1: refused", "…/v1: refused"),
        ("file:///etc/passwd", "…/passwd"),
        ("../../data/x", "…/x"),
        ("hf://datasets/openai/gsm8k", "hf://datasets/openai/gsm8k"),
        ("Qwen/Qwen2-1B and/or 1/2, 3 km/h on 2026/01/02", "Qwen/Qwen2-1B and/or 1/2, 3 km/h on 2026/01/02"),
        ("$\\frac{a}{b}$", "$\\frac{a}{b}$"),
        ("a/" * 50_000, "a/" * 50_000),
    ],
)
def test_of_paths_and_addresses_the_last_part_stays(text: str, left: str) -> None:
    assert without_places({"a": [text]}) == {"a": [left]}


def test_who_told_a_run_something_isnt_told_elsewhere() -> None:
    told = Answered(
        **new_order("cancel", "anna@node7", "the (server) is needed").model_dump(),
        result="applied", answer="it ends", answered=datetime.now(UTC),
    )  # fmt: skip
    manifest = RunManifest(run_id="r", pipeline="p", state="interrupted", started=told.time, orders=[told])
    document = {
        "command": "gristmill run job.yaml --root /data/anna",
        "account": "anna's",
        "error": f"cancelled by {told.whose}",
        "orders": [told.model_dump(mode="json")],
        "told": [{"message": f"run ended: cancelled by {told.whose}", "time": "2026-01-01T00:00:00"}],
        "stages": [{"replicas": [{"node": "node7", "number": 0}], "roles": {"scorer": {"replicas": [{"node": "n"}]}}}],
    }
    shown = for_others(document, manifest)
    assert shown["error"] == "cancelled by somebody" and shown["told"][0]["message"].endswith("cancelled by somebody")
    assert "anna" not in str(shown) and "node7" not in str(shown) and "/data" not in str(shown)
    assert shown["stages"][0]["replicas"] == [{"node": "", "number": 0}]
    assert document["stages"][0]["replicas"][0]["node"] == "node7", "the view's own document stays as it was"
