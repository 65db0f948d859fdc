"""``docs/json.md`` says what commands print with ``--json``: each is run, and every field compared, with its type."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from tests.commands import gristmill

PAGE = Path(__file__).resolve().parents[2] / "docs" / "json.md"
JOB = """\
pipeline: math
runner: local
name: sums
settings:
  load: {source: problems.jsonl}
  sample: {n: 6}
  engine: {kind: scripted, answers: ['\\boxed{4}', '\\boxed{8}', '\\boxed{4}!']}
run: {budget: {tokens: 100000}}
schedule: {cron: "0 1 * * *"}
"""
TYPES = {
    "text": str, "whole number": int, "number": float, "true": bool, "false": bool, "list": list, "object": dict,
    "null": type(None),
}  # fmt: skip
FILLED_IN = {
    "RUN": "latest", "RUN1": "latest", "RUN2": "latest", "PIPELINE": "job.yaml", "NAME": "latest", "SOURCE": "latest",
    "JOB.yaml": "job.yaml", "FILE:NUMBER": "sft/train-00000-of-00001.parquet:0",
}  # fmt: skip
MORE = {
    "samples": ["--limit", "2"],
    "simulate": ["--compare", "--budget", "8", "--seeds", "2"],
    "export": ["--format", "messages", "--to", "sft", "--overwrite"],
}
Fields = dict[str, tuple[type, ...]]


def sections() -> dict[str, Fields]:
    """Return the page: command -> path of a field -> its types."""
    found: dict[str, Fields] = {}
    for text in re.split(r"^## ", PAGE.read_text(), flags=re.MULTILINE)[1:]:
        rows = re.findall(r"^\| `([^`]+)` \| ([^|]+?) \|", text, re.MULTILINE)
        found[text.splitlines()[0]] = {path: tuple(TYPES[one] for one in types.split(" or ")) for path, types in rows}
    return found


def steps(path: str) -> list[str]:
    """Return the steps to a field: ``a[].b`` is a, [], b."""
    return re.findall(r"\[\]|[^.\[\]]+", path)


def reached(document: Any, way: list[str]) -> list[Any]:
    """Return everything that a way leads to."""
    values = [document]
    for step in way:
        if step == "[]":
            values = [item for value in values for item in value]
        elif step == "*":
            values = [item for value in values for item in value.values()]
        else:
            values = [value[step] for value in values]
    return values


def compare(document: Any, fields: Fields, named: str) -> list[str]:
    """Return what is different between a document and what the page says of it."""
    wrong: list[str] = []
    children: defaultdict[tuple[str, ...], set[str]] = defaultdict(set)
    for path in fields:
        *above, last = steps(path)
        children[tuple(above)].add(last)
    for above, names in children.items():
        for value in reached(document, list(above)):
            if set(value) != names:
                wrong.append(f"{named} {'.'.join(above)}: {sorted(set(value) ^ names)} on one side only")
    for path, types in fields.items():
        *above, last = steps(path)
        for value in reached(document, list(above)):
            kinds = (*types, int) if float in types else types
            if last in value and type(value[last]) not in kinds:
                wrong.append(f"{named} {path}: {value[last]!r} is no {types}")
    return wrong


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("json")
    (place / "job.yaml").write_text(JOB)
    problems = [{"problem_id": name, "question": f"What is {name}?", "answer": "4"} for name in ("2 + 2", "1 + 3")]
    (place / "problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in problems))
    assert gristmill("run", "job.yaml", cwd=place).returncode == 0
    assert gristmill("export", "latest", "--format", "messages", "--to", "sft", cwd=place).returncode == 0
    return place


def printed(folder: Path, *words: str, code: int = 0) -> Any:
    done = gristmill(*words, "--json", cwd=folder)
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout)


def test_every_command_prints_what_the_page_says(folder: Path) -> None:
    pages = sections()
    commands = {title: fields for title, fields in pages.items() if title.startswith("gristmill ")}
    assert len(commands) > 15
    wrong: list[str] = []
    for title, fields in commands.items():
        words = [FILLED_IN.get(word, word) for word in title.split()[1:]]
        if words[0] == "check-golds":
            words[1] = "problems.jsonl"
        if words[0] == "describe":
            words[1] = "select.majority"
        wrong += compare(printed(folder, *words, *MORE.get(words[0], [])), fields, words[0])
    assert not wrong, "\n".join(wrong)


def test_an_error_is_a_document_too(folder: Path) -> None:
    document = printed(folder, "show", "nothing", code=2)
    assert not compare(document, sections()["Errors"], "error")


def test_what_can_not_be_read_of_golds_is_one_document(folder: Path) -> None:
    (folder / "odd.jsonl").write_text(json.dumps({"question": "?", "answer": "\\frac{1}{", "task_type": "math"}) + "\n")
    document = printed(folder, "check-golds", "odd.jsonl", "--verifier", "verify.math", code=2)
    assert set(document) == set(printed(folder, "check-golds", "problems.jsonl"))


def test_run_and_runs_print_what_show_does_but_for_settings_and_versions(folder: Path) -> None:
    shown = set(printed(folder, "show", "latest"))
    assert set(printed(folder, "run", "job.yaml")) == shown - {"config", "versions"}
    assert set(printed(folder, "runs")[0]) == shown - {"config", "versions"}
    assert set(printed(folder, "run", "job.yaml", "--dry-run")) == {
        *printed(folder, "plan", "job.yaml"), "objections", "first_prompts"
    }  # fmt: skip
