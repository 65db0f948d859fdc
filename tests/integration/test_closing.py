"""What is said when a run has ended: what it cost, how many are right, why rows are missing, what comes next."""

from __future__ import annotations

from pathlib import Path

from cluster.driving.driver import run_pipeline
from cluster.records.run import RunResult
from cluster.runners.local import LocalRunner
from jobs.config.settings import build_pipeline
from jobs.running.closing import MOST, closing
from tests.support import QUICK

REPLIES = ["It is \\boxed{0}.", "So \\boxed{0}.", "\\boxed{1}", "No idea."]


def run(folder: Path, n: int, **more: object) -> RunResult:
    (folder / "p.jsonl").write_text("".join(f'{{"question": "{i} - {i}?", "answer": "0"}}\n' for i in range(1, 4)))
    settings = {
        "load": {"source": str(folder / "p.jsonl")},
        "sample": {"n": n},
        "engine": {"kind": "scripted", "answers": REPLIES},
        **more,
    }
    pipeline, _ = build_pipeline("math", settings)
    return run_pipeline(pipeline, LocalRunner(), str(folder / "data"), QUICK)


def test_missing_rows_have_reasons_that_add_up(tmp_path: Path) -> None:
    done = run(tmp_path, 24)
    said = closing(done.root, done.manifest)
    right = int(done.dataset("verify").collect()["is_correct"].sum())
    rows = done.dataset("sft").collect().height
    (line,) = [one for one in said if one.startswith("sft: ") and "training rows" in one]
    assert line.startswith(f"sft: {right} right samples, {rows} training rows: ")
    counts = [int(part.split()[0]) for part in line.partition("rows: ")[2].split(", ")]
    assert right - rows == sum(counts) > 0 and "the same text as another" in line
    assert any(one.startswith("select: of 5 methods '") and " of 3 problems (" in one for one in said)
    assert any(one.startswith("cost: ") and "no price known" in one for one in said)
    place = said.index("next:")
    assert [one.split()[:2] for one in said[place + 1 :]] == [
        ["gristmill", name] for name in ("samples", "export", "view")
    ]
    assert all(done.manifest.run_id in one and str(tmp_path / "data") in one for one in said[place + 1 :])


def test_shares_over_all_and_over_the_new_ones_are_told_apart(tmp_path: Path) -> None:
    run(tmp_path, 8)
    done = run(tmp_path, 24)
    record = next(one for one in done.manifest.stages if one.name == "verify")
    assert record.reused == 24 and record.computed == 48
    (line,) = [one for one in closing(done.root, done.manifest) if one.startswith("verify: ")]
    right = int(done.dataset("verify").collect()["is_correct"].sum())
    assert line.startswith(f"verify: {right} of 72 samples are right (")
    assert f"of the 48 new ones {record.accepted} (" in line
    again = run(tmp_path, 24)
    assert closing(again.root, again.manifest)[0] == "cost: nothing (no tokens were used by this run)"


def test_many_samples_arent_read_again_to_say_why_they_are_missing(tmp_path: Path) -> None:
    done = run(tmp_path, 4)
    record = next(one for one in done.manifest.stages if one.name == "sample")
    record.reused = MOST + 1
    assert not [one for one in closing(done.root, done.manifest) if "training rows" in one]
