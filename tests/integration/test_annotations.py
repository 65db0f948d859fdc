"""What people say of verdicts: kept, weighed by an audit, asked for, exchanged with Label Studio."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from cluster.records.annotations import FOLDER, annotate, annotations_of
from cluster.records.run import RunResult
from cluster.runners.local import LocalRunner
from cluster.storage.root import Root
from cluster.upkeep.garbage import collect
from cluster.upkeep.gather import gather
from cluster.upkeep.repair import repair
from cluster.upkeep.verify_data import verify
from jobs.cli import app
from jobs.looking.labels import audit, labels_of, next_labels
from schemas.errors import BadInput
from tests.support import run, scripted_pipeline, write_problems


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    folder = tmp_path_factory.mktemp("annotated")
    return run(LocalRunner(), scripted_pipeline(write_problems(folder / "p.jsonl", 5), 40), folder / "root")


def test_the_last_word_counts_and_nothing_is_lost(made: RunResult) -> None:
    root, manifest = made.root, made.manifest
    first = made.dataset("verify").sort("problem_key", "sample_index").collect().row(0, named=True)
    key = {"problem_key": first["problem_key"], "sample_index": first["sample_index"]}
    annotate(root, manifest, [{**key, "author": "anna", "is_correct": not first["is_correct"], "note": "no"}])
    annotate(root, manifest, [{**key, "author": "ben", "is_correct": first["is_correct"]}])
    said = annotations_of(root, manifest)
    assert said.select("author", "is_correct", "accepted").rows() == [("ben", first["is_correct"], first["is_correct"])]
    assert len(pl.read_delta(root.uri(FOLDER))) == 2
    annotate(root, manifest, [{**key, "author": "anna", "is_correct": None}])
    assert annotations_of(root, manifest).is_empty() and len(pl.read_delta(root.uri(FOLDER))) == 3
    with pytest.raises(BadInput, match="has no verdict on nowhere/0"):
        annotate(root, manifest, [{**key, "problem_key": "nowhere", "author": "anna", "is_correct": True}])
    with pytest.raises(BadInput, match="can't be written"):
        annotate(root, manifest, [{**key, "author": None, "is_correct": True}])
    collect(root, older_than=0.0)
    assert len(pl.read_delta(root.uri(FOLDER))) == 3
    assert verify(root, manifest).findings == []


def test_a_damaged_log_is_mended_and_gathering_takes_them_along(made: RunResult, tmp_path: Path) -> None:
    shutil.copytree(made.root.url, tmp_path / "root")
    root, manifest = Root.at(tmp_path / "root"), made.manifest
    row = made.dataset("verify").head(1).collect().row(0, named=True)
    for author in ("anna", "ben"):
        annotate(root, manifest, [{**row, "is_correct": True, "author": author}])
    before = pl.read_delta(root.uri(FOLDER)).sort("id")
    last = sorted((tmp_path / "root" / FOLDER / "_delta_log").glob("*.json"))[-1]
    last.write_bytes(last.read_bytes()[:-30])
    findings = verify(root, manifest).findings
    assert [finding.file.partition("/")[0] for finding in findings] == [FOLDER]
    repair(root, manifest, findings)
    assert verify(root, manifest).findings == []
    assert pl.read_delta(root.uri(FOLDER)).sort("id").select(before.columns).equals(before)
    other = Root.at(tmp_path / "other")
    gather(other, [root], lambda _: None)
    gather(other, [root], lambda _: None)
    assert sorted(pl.read_delta(other.uri(FOLDER))["id"]) == before["id"].to_list()


def test_an_audit_uses_what_was_asked_for_and_nothing_else(made: RunResult) -> None:
    root, manifest = made.root, made.manifest
    assert audit(root, manifest)["rows"] == [] and audit(root, manifest)["why"]
    asked = next_labels(root, manifest, 60)
    assert len(asked) == 60 and asked["completion"].null_count() == 0 == asked["prompt"].null_count()
    wrong = asked.filter("accepted").head(3)["sample_index"].to_list()

    def said(row: dict, at: int) -> dict:
        right = row["accepted"] if at not in wrong_rows else not row["accepted"]
        return {**row, "is_correct": right, "author": "anna"}

    rows = asked.to_dicts()
    wrong_rows = {at for at, row in enumerate(rows) if row["accepted"] and row["sample_index"] in wrong}
    annotate(root, manifest, [said(row, at) for at, row in enumerate(rows)])
    free = made.dataset("verify").join(asked.lazy(), on=["problem_key", "sample_index"], how="anti").head(5).collect()
    annotate(root, manifest, [{**row, "is_correct": True, "author": "ben"} for row in free.to_dicts()])
    labels = labels_of(root, manifest)
    assert len(labels) == 60 and len(annotations_of(root, manifest)) == 65
    found = audit(root, manifest)
    assert (found["annotated"], found["labels"]) == (65, 60)
    figures = {row["metric"]: row for row in found["rows"]}
    precision = figures["precision"]
    assert precision["low"] < precision["value"] < 1.0 and figures["soundness"]["value"] > 0.9
    again = next_labels(root, manifest, 10)
    assert again.join(labels, on=["problem_key", "sample_index"]).is_empty()


def test_labels_of_an_earlier_lot_say_nothing_of_what_was_drawn_since(tmp_path: Path) -> None:
    source = write_problems(tmp_path / "p.jsonl", 5)

    def said(result: RunResult, count: int) -> None:
        rows = next_labels(result.root, result.manifest, count).to_dicts()
        rows = [{**row, "is_correct": row["accepted"], "author": "anna"} for row in rows]
        annotate(result.root, result.manifest, rows)

    few = run(LocalRunner(), scripted_pipeline(source, 8), tmp_path / "root")
    said(few, 10)
    said(few, 10)
    assert len(labels_of(few.root, few.manifest)) == 20, "another round of the same samples goes on"
    many = run(LocalRunner(), scripted_pipeline(source, 64), tmp_path / "root")
    said(many, 30)
    labels = labels_of(many.root, many.manifest)
    assert (
        len(labels) == 30
        and labels.group_by("stratum").agg(pl.col("stratum_size").n_unique())["stratum_size"].max() == 1
    )
    assert int(labels.unique("stratum")["stratum_size"].sum()) == 5 * 64
    assert len(annotations_of(many.root, many.manifest)) == 50


def test_label_studio_gets_tasks_and_gives_them_back(made: RunResult, tmp_path: Path) -> None:
    root = str(made.root.url)
    call = CliRunner().invoke
    tasks = tmp_path / "tasks.jsonl"
    done = call(app, ["annotations", "latest", "--next", "7", "--export", str(tasks), "--root", root])
    assert done.exit_code == 0 and '<Choices name="correct" toName="completion"' in done.stdout
    written = [json.loads(line) for line in tasks.read_text().splitlines()]
    assert len(written) == 7
    for task in written:
        result = task["predictions"][0]["result"][0]
        assert {"from_name": "correct", "to_name": "completion", "type": "choices"}.items() <= result.items()
        assert result["value"]["choices"] in (["right"], ["wrong"]) and task["data"]["prompt"].startswith("What is")
        assert "annotations" not in task

    def control(name: str, kind: str, value: dict) -> dict:
        return {
            "from_name": name,
            "to_name": "completion",
            "type": kind,
            "id": "x1",
            "origin": "manual",
            "value": value,
        }

    right = [control("correct", "choices", {"choices": ["right"]})]
    wrong = [control("correct", "choices", {"choices": ["wrong"]}), control("note", "textarea", {"text": ["a", "b"]})]
    given = [
        [{"id": 1, "completed_by": 3, "result": wrong, "was_cancelled": False, "updated_at": "2026-01-02T00:00:00Z"},
         {"id": 2, "completed_by": 3, "result": right, "was_cancelled": False, "updated_at": "2026-01-01T00:00:00Z"}],
        [{"id": 3, "completed_by": {"email": "c@example.org"}, "result": right, "updated_at": "2026-01-03T10:00:00Z"}],
        [{"id": 4, "result": right, "was_cancelled": True}],
        [],
        [{"id": 5, "result": [], "was_cancelled": False}],
    ]  # fmt: skip
    export = [{"data": task["data"], "annotations": each} for task, each in zip(written, given, strict=False)]
    path = tmp_path / "export.json"
    path.write_text(json.dumps(export))
    done = call(app, ["annotations", "latest", "--import", str(path), "--root", root, "--json"])
    assert json.loads(done.stdout) == {"taken": 2}
    data = written[0]["data"]
    said = annotations_of(made.root, made.manifest)
    one = said.filter(problem_key=data["problem_key"], sample_index=data["sample_index"]).row(0, named=True)
    assert (one["is_correct"], one["note"], one["author"]) == (False, "a\nb", "Label Studio user 3")
    assert one["stratum"] == data["stratum"] and f"{one['time']:%Y-%m-%d}" == "2026-01-02"
    done = call(app, ["annotations", "latest", "--export", str(tasks), "--root", root, "--json"])
    mine = next(
        task for line in tasks.read_text().splitlines() if (task := json.loads(line))["data"]["problem_key"]
        == data["problem_key"] and task["data"]["sample_index"] == data["sample_index"]
    )  # fmt: skip
    assert [part["value"] for part in mine["annotations"][0]["result"]] == [{"choices": ["wrong"]}, {"text": ["a\nb"]}]
    labels = tmp_path / "labels.jsonl"
    assert call(app, ["annotations", "latest", "--labels", str(labels), "--root", root]).exit_code == 0
    assert {*pl.read_ndjson(labels)["is_correct"].drop_nulls()} <= {True, False}


SAID = """{"completed_by": 1, "updated_at": "0001-01-01T00:00:00+05:00",
"result": [{"from_name": "correct", "value": {"choices": ["right"]}}]}""".replace("\n", " ")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "taken"),
        ("no json", "neither a JSON list nor JSON lines"),
        ("[1]", "task 1 isn't one of ours"),
        ('{"data": {"text": "theirs"}}', "task 1 isn't one of ours"),
        ('{"data": {"problem_key": "x", "sample_index": 1}, "annotations": 5}', "taken"),
        (f'{{"data": {{"problem_key": "x", "sample_index": {2**70}}}, "annotations": [{SAID}]}}', "can't be written"),
        (f'{{"data": {{"problem_key": "\\ud800", "sample_index": 1}}, "annotations": [{SAID}]}}', "can't be written"),
        ('[{"data": {"problem_key": "x", "sample_index": true}}]', "isn't one of ours"),
        ("[" * 20_000, "neither a JSON list"),
    ],
)
def test_other_files_are_refused(made: RunResult, tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "odd.json"
    path.write_text(text)
    done = CliRunner().invoke(app, ["annotations", "latest", "--import", str(path), "--root", str(made.root.url)])
    assert why in (done.stdout if done.exit_code == 0 else str(done.exception))


@pytest.mark.parametrize(
    "odd",
    [
        {"author": "\ud800"}, {"author": ""}, {"author": "x" * 201}, {"author": "a\x1b[2J"}, {"author": 5},
        {"note": "\ud800"}, {"note": "x" * 10_001}, {"note": ["a"]}, {"stratum": {"a": 1}}, {"stratum": "\x00"},
        {"stratum_size": 0}, {"stratum_size": 2**70}, {"stratum_size": 1.5}, {"stratum_size": "3"},
        {"is_correct": 1}, {"is_correct": "yes"}, {"sample_index": -1}, {"sample_index": 2**40}, {"sample_index": True},
        {"problem_key": "x" * 10_000}, {"problem_key": None}, {"time": "2026-01-01"},
    ],
)  # fmt: skip
def test_what_cant_be_said_is_refused_and_nothing_is_written(made: RunResult, odd: dict) -> None:
    row = made.dataset("verify").head(1).collect().row(0, named=True)
    good = {**row, "is_correct": True, "author": "anna"}
    before = len(pl.read_delta(made.root.uri(FOLDER))) if made.root.exists(FOLDER) else 0
    with pytest.raises(BadInput) as refused:
        annotate(made.root, made.manifest, [good, {**good, **odd}])
    assert len(str(refused.value)) < 400
    assert (len(pl.read_delta(made.root.uri(FOLDER))) if made.root.exists(FOLDER) else 0) == before


def test_hostile_exports_are_taken_as_data_or_refused(made: RunResult, tmp_path: Path) -> None:
    """Another run's tasks, nested notes, duplicates, moments to come: the last word is still the last one said."""
    other = run(LocalRunner(), scripted_pipeline(write_problems(tmp_path / "p.jsonl", 2, first=70), 2), tmp_path / "r")
    row, theirs = (one.dataset("verify").head(1).collect().row(0, named=True) for one in (made, other))
    path = tmp_path / "export.json"

    def task(about: dict, says: object = "right", **more: object) -> dict:
        said = {"result": [{"from_name": "correct", "value": {"choices": [says]}}], **more}
        return {"data": {name: about[name] for name in ("problem_key", "sample_index")}, "annotations": [said]}

    def taken(*tasks: dict) -> int:
        path.write_text(json.dumps(tasks))
        done = CliRunner().invoke(
            app, ["annotations", "latest", "--import", str(path), "--root", made.root.url, "--json"]
        )
        if done.exception is not None:
            raise done.exception
        return json.loads(done.stdout)["taken"]

    with pytest.raises(BadInput, match="has no verdict on"):
        taken(task(row), task(theirs))
    for author in ("x" * 1_000, "\x1b]0;title\x07", "\ud800", {"email": ["nested"] * 100}):
        with pytest.raises(BadInput, match="author"):
            taken(task(row, completed_by=author))
    assert taken(task(row, ["right"]), task(row, {"right": 1}), task(row, "RIGHT"), task(row, None)) == 0
    nested: object = "a note"
    for _ in range(50):
        nested = [nested]
    later = task(row, "wrong", updated_at="9999-12-31T23:59:59Z", completed_by="<b>anna</b>")
    later["annotations"][0]["result"].append({"from_name": "note", "value": {"text": nested}})
    assert taken(later, task(row, "right", updated_at="2026-01-01"), later) == 3
    mine = (row["problem_key"], row["sample_index"])
    [said] = annotations_of(made.root, made.manifest, mine).to_dicts()
    assert (said["is_correct"], said["author"]) == (False, "<b>anna</b>") and "a note" in said["note"]
    annotate(made.root, made.manifest, [{**row, "is_correct": True, "author": "ben"}])
    [said] = annotations_of(made.root, made.manifest, mine).to_dicts()
    assert said["author"] == "ben", "what is said now comes after what claimed to be said in times to come"
    assert annotations_of(made.root, made.manifest, ("nowhere", 0)).is_empty()
