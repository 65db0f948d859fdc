"""From problems to a data set: the sft pipeline, and what ``gristmill export`` writes of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from tests.commands import as_json, gristmill
from tests.integration.test_cli import SCRIPTED
from tests.support import write_problems

FORMATS = {
    "messages": ["messages", "thinking", "problem_id", "sample_index", "score", "lineage"],
    "prompt-completion": ["prompt", "completion", "thinking", "problem_id", "sample_index", "score", "lineage"],
    "preference": ["prompt", "chosen", "rejected", "margin", "problem_id", "lineage"],
    "step-rewards": ["prompt", "completions", "labels", "problem_id", "sample_index"],
    "sharegpt": ["conversations", "problem_id", "lineage"],
    "alpaca": ["instruction", "input", "output", "system", "history", "problem_id", "lineage"],
}
LEAKED = "What is 4 + 4?"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of 40 problems, of which a benchmark has one."""
    folder = tmp_path_factory.mktemp("export")
    write_problems(folder / "problems.jsonl", 40)
    (folder / "bench.jsonl").write_text(json.dumps({"id": "b7", "question": LEAKED}) + "\n")
    settings = ("load.source=problems.jsonl", "sample.n=12", "decontaminate.benchmarks=[bench.jsonl]")
    assigned = [word for setting in settings for word in ("--set", setting)]
    document = as_json("run", "sft", *assigned, *SCRIPTED, cwd=folder)
    assert document["state"] == "done"
    return folder


def export(place: Path, name: str, *more: str) -> dict[str, Any]:
    return as_json("export", "latest", "--format", name, "--to", f"out/{name}", "--overwrite", *more, cwd=place)


def rows(place: Path, name: str, split: str) -> pl.DataFrame:
    return pl.read_parquet(place / "out" / name / f"{split}-*.parquet")


@pytest.mark.parametrize("name", FORMATS)
def test_each_format_has_its_columns_and_no_problem_on_both_sides(place: Path, name: str) -> None:
    found = export(place, name, "--validation", "0.2")
    train, validation = rows(place, name, "train"), rows(place, name, "validation")
    assert train.columns == FORMATS[name] and validation.columns == FORMATS[name]
    assert (len(train), len(validation)) == (found["train"], found["validation"])
    assert found["train"] > 0 and found["validation"] > 0
    assert not set(train["problem_id"]) & set(validation["problem_id"])
    assert "p4" not in {*train["problem_id"], *validation["problem_id"]}, "it is the benchmark's"
    again = export(place, name, "--validation", "0.2")
    assert again == found
    assert rows(place, name, "validation").equals(validation)


def test_the_card_tells_what_the_data_say(place: Path) -> None:
    export(place, "messages", "--validation", "0.2", "--licence", "mit")
    card = (place / "out/messages/README.md").read_text()
    _, header, text = card.split("---\n", 2)
    read = yaml.safe_load(header)
    assert read["license"] == "mit" and read["size_categories"] == ["n<1K"]
    assert [item["path"] for item in read["configs"][0]["data_files"]] == ["train-*.parquet", "validation-*.parquet"]
    [document] = as_json("runs", cwd=place)
    verdicts = pl.read_delta(document["datasets"]["verify"])
    right = int(verdicts["is_correct"].sum())
    assert f"{right:,} right, {len(verdicts) - right:,} wrong" in text
    decided = pl.read_parquet(f"{document['datasets']['decontaminate']}/*.parquet")
    contaminated = decided.filter(pl.col("reason").str.starts_with("contaminated"))
    assert contaminated["problem_id"].unique().to_list() == ["p4"]
    assert f"| decontaminate | contaminated | {len(contaminated)} |" in text
    assert "bench.jsonl row 1 (id b7)" in text
    rates = verdicts.group_by("problem_key").agg(pl.col("is_correct").mean())["is_correct"]
    assert f"| 0 (never solved) | {(rates == 0).sum()} |" in text
    assert "gristmill export latest --format messages" in text.replace("python -m jobs.cli", "gristmill")


def test_every_row_says_where_it_is_from(place: Path) -> None:
    export(place, "messages")
    [document] = as_json("runs", cwd=place)
    for text in rows(place, "messages", "train")["lineage"]:
        lineage = json.loads(text)
        assert lineage["exported_from"] == lineage["run_id"] == document["run_id"]
        assert lineage["model"] == "scripted" and lineage["verifier"] == "verify.math"
        assert document["datasets"]["sample"].endswith(lineage["sampling_id"])


@pytest.mark.parametrize("name", ["messages", "preference"])
def test_a_row_leads_back_to_its_samples(place: Path, name: str) -> None:
    export(place, name)
    [file] = sorted((place / "out" / name).glob("train-*.parquet"))
    row = pl.read_parquet(file).row(3, named=True)
    found = as_json("trace", f"{file}:3", cwd=place)
    assert found["problem"]["problem_id"] == row["problem_id"]
    said = {sample["role"]: sample["completion"] for sample in found["samples"]}
    turns = {"sample": row["messages"]} if name == "messages" else {s: row[s] for s in ("chosen", "rejected")}
    assert said == {role: given[-1]["content"] for role, given in turns.items()}
    right = {sample["role"]: sample["verdicts"][0]["is_correct"] for sample in found["samples"]}
    assert right == ({"sample": True} if name == "messages" else {"chosen": True, "rejected": False})
    assert as_json("trace", row["lineage"], cwd=place) == found
    shown = gristmill("trace", f"{file}:3", cwd=place)
    assert shown.returncode == 0 and found["samples"][0]["sampling_id"] in shown.stdout


def test_a_row_that_is_not_there_is_told(place: Path) -> None:
    export(place, "step-rewards")
    for row, told in (("nowhere", "FILE:NUMBER"), ("{}", "problem_key"), ("bench.jsonl:0", "no column 'lineage'")):
        refused = gristmill("trace", row, cwd=place)
        assert refused.returncode == 2 and told in refused.stderr


def test_shards_hold_so_many_rows(place: Path) -> None:
    whole = export(place, "step-rewards", "--validation", "0")
    everything = rows(place, "step-rewards", "train")
    cut = export(place, "step-rewards", "--validation", "0", "--shard-rows", "7")
    count = -(-len(everything) // 7)
    assert cut["files"] == [f"train-{i:05d}-of-{count:05d}.parquet" for i in range(count)]
    assert cut["train"] == whole["train"] and rows(place, "step-rewards", "train").equals(everything)


def test_nothing_else_is_overwritten(place: Path) -> None:
    taken = place / "taken"
    taken.mkdir()
    (taken / "thesis.tex").write_text("mine")
    refused = gristmill("export", "latest", "--format", "messages", "--to", "taken", "--overwrite", cwd=place)
    assert refused.returncode == 2 and "thesis.tex" in refused.stderr
    export(place, "alpaca")
    twice = gristmill("export", "latest", "--format", "alpaca", "--to", "out/alpaca", cwd=place)
    assert twice.returncode == 2 and "--overwrite" in twice.stderr


def test_an_unfinished_export_is_done_again(place: Path) -> None:
    export(place, "sharegpt")
    (place / "out/sharegpt/README.md").unlink()
    (place / "out/sharegpt/train-00007-of-00009.parquet").write_bytes(b"half")
    as_json("export", "latest", "--format", "sharegpt", "--to", "out/sharegpt", cwd=place)
    assert len(rows(place, "sharegpt", "train")) > 0


def test_a_run_without_such_data_is_told(tmp_path: Path) -> None:
    write_problems(tmp_path / "problems.jsonl", 3)
    as_json("run", "math", "--set", "load.source=problems.jsonl", "--set", "sample.n=4", *SCRIPTED, cwd=tmp_path)
    refused = gristmill("export", "latest", "--format", "preference", "--to", "out", cwd=tmp_path)
    assert refused.returncode == 2 and "preferences" in refused.stderr and "pipeline sft" in refused.stderr


def test_nothing_is_no_export(tmp_path: Path) -> None:
    (tmp_path / "problems.jsonl").write_text('{"question": "What is 2 + 2?", "answer": "a number that nobody says"}\n')
    (tmp_path / "out").mkdir()
    done = as_json("run", "math", "--set", "load.source=problems.jsonl", "--set", "sample.n=4", *SCRIPTED, cwd=tmp_path)
    refused = gristmill("export", "latest", "--format", "messages", "--to", "out", cwd=tmp_path)
    assert refused.returncode == 2 and "has no rows to export" in refused.stderr
    assert f"gristmill samples {done['run_id']} --only wrong" in refused.stderr
    assert not [*(tmp_path / "out").iterdir()]
