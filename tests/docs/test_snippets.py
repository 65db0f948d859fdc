"""Every command that README and docs show is run, on the scripted engine, or has a reason here why it isn't.

The tutorial's run on the embedded model (``test_pages``), those of ``endpoint.md`` in an environment of their own
(``tests/packaging``); both are marked ``console``. All others are in plain blocks, and are run here in one folder that
holds what they name. What a page writes as ``...`` is filled in.
"""

from __future__ import annotations

import ast
import json
import re
import shlex
from pathlib import Path

import polars as pl
import pytest

from cluster.records.reader import find_run, open_stage
from cluster.storage.root import Root
from jobs.config.settings import build_pipeline
from schemas.job import JobFile
from schemas.yaml_text import load_yaml
from tests.commands import gristmill

HOME = Path(__file__).resolve().parents[2]
PAGES = sorted([HOME / "README.md", *(HOME / "docs").glob("*.md")])
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
NOT_RUN = {
    "git clone": "the repository itself",
    "make ": "what tests run in",
    "python3 -m venv": "done by tests/packaging, with the wheel",
    "gristmill submit": "needs a cluster: tests/integration/test_submit.py has servers that stand for one",
    "gristmill logs": "follows a submission until it ends",
    "gristmill layout": "its cluster file is one's own: tests/unit/test_moe_layout.py",
    "gristmill moe": "needs a trace of routing: tests/integration/test_moe.py makes one",
    "gristmill nightly": "waits for nights: tests/integration/test_nightly.py has a clock for that",
    "gristmill view": "serves until it is stopped: tests/integration/test_view_in_browser.py opens it in a browser",
    "gristmill run math --view": "likewise",
    "gristmill ctl": "tells it to a run that goes on: tests/integration/test_orders.py has such runs",
    "gristmill annotations latest --import": "reads what Label Studio exports: tests/integration/test_annotations.py",
    "gristmill op verify.code": "needs a C++ compiler: tests/sandbox runs other languages",
    "gristmill op score.steps": "its steps come from a search: tests/unit/test_stress_and_steps.py",
    "gristmill op measure.scorer_steps": "likewise",
    "gristmill run math --set 'sample.strategy={name: cascade": "asks two models: tests/integration runs cascades",
    "gristmill threshold latest": "of such a cascade",
    "gristmill op synthesize.approaches": "asks a model what problems are like; tests/unit/test_approaches.py",
    "gristmill run math --set sample.strategy='{name: div_se": "takes its file",
    "gristmill export latest --format preference": "writes to a bucket: tests/integration/test_export.py",
    "gristmill simulate latest --goal accuracy": "replays votes for minutes: tests/integration/test_budget_commands.py",
}
ANSWERS = r"['\\boxed{0}', 'so \\boxed{1}', 'it is \\boxed{1}', 'x \\boxed{2}']"
ENGINE = ("--set", f"engine={{kind: scripted, answers: {ANSWERS}}}")


def commands() -> list[str]:
    """Return the commands of all plain blocks, in order, without what is said beside them."""
    found: list[str] = []
    for page in PAGES:
        for language, text in BLOCK.findall(page.read_text()):
            if language:
                continue
            lines = text.replace("\\\n", " ").splitlines()
            found += [re.sub(r"\s+#.*", "", line) for line in lines if re.match(r"(gristmill|git|make|python3) ", line)]
    return found


def left_out(command: str) -> str | None:
    return next((why for start, why in NOT_RUN.items() if command.startswith(start)), None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with two runs, and with the files that pages name."""
    place = tmp_path_factory.mktemp("snippets")
    problems = [
        {"problem_id": f"p{i}", "question": f"What is {i} - {i - i % 3}?", "answer": str(i % 3), "level": i % 2}
        for i in range(8)
    ]
    (place / "problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in problems))
    (place / "aime.jsonl").write_text(
        json.dumps({"question": "What is the radius of the circle?", "answer": "7"}) + "\n"
    )
    pl.DataFrame({"problem": ["How many primes are there below 100?"], "answer": ["25"]}).write_parquet(
        place / "math500.parquet"
    )
    (place / "prices.yaml").write_text(
        "scripted: {dollars_per_million_prompt_tokens: 1, dollars_per_million_completion_tokens: 2}\n"
    )
    counts = pl.DataFrame([{"problem_id": f"p{i}", "n": 100, "c": (7 * i) % 60} for i in range(20)])
    counts.write_parquet(place / "counts.parquet")
    counts.write_parquet(place / "pilot.parquet")
    answers = pl.DataFrame([{"problem_id": f"p{i}", "score": i / 60, "is_correct": i % 9 != 0} for i in range(60)])
    answers.write_csv(place / "answers.csv")
    (place / "mypackage").mkdir()
    for page in PAGES:
        for _, text in BLOCK.findall(page.read_text()):
            if text.startswith("# mypackage/"):
                (place / text.splitlines()[0].removeprefix("# ")).write_text(text)
    for n in (8, 12):
        run(f"gristmill run math --set load.source=problems.jsonl --set sample.n={n}", place)
    root = Root.at(str(place / "gristmill-data"))
    last = find_run(root, "latest")
    tables = {name: open_stage(root, last, name).collect() for name in ("load", "sample", "verify")}
    tables["sample"].write_parquet(place / "samples.parquet")
    for name in ("verdicts", "strong"):
        tables["verify"].write_parquet(place / f"{name}.parquet")
    tables["verify"].with_columns(verifier=pl.lit("weak")).write_parquet(place / "weak.parquet")
    return place


def run(command: str, folder: Path) -> None:
    """Run a command as it stands, but on the scripted engine, on this machine, and of few samples."""
    words = shlex.split(command.replace(" ...", " --set load.source=problems.jsonl"))[1:]
    if words[0] in ("run", "plan"):
        if not any(word.startswith("load.source=") for word in words):
            words += ["--set", "load.source=problems.jsonl"]
        words += ENGINE
        words += ["--set", "load.holdout=0.5"]
        many = [word for word in words if word.startswith("sample.n=") and len(word) > len("sample.n=99")]
        words += ["--set", "sample.n=8"] if many and words[0] == "run" else []
    if words[0] == "run":
        words += ["--runner", "local"]
    done = gristmill(*words, cwd=folder, env={"PYTHONPATH": str(folder)})
    assert done.returncode == 0, f"$ {command}\n{done.stdout[-1500:]}\n{done.stderr[-1500:]}"


def label(file: Path) -> None:
    """Do what people do with the samples that an audit asks for: say of each whether it is right."""
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    file.write_text("".join(json.dumps({**row, "is_correct": at % 2 == 0}) + "\n" for at, row in enumerate(rows)))


def test_every_command_runs_or_has_a_reason(folder: Path) -> None:
    root = Root.at(str(folder / "gristmill-data"))
    shown = [command for command in commands() if left_out(command) is None]
    assert len(shown) > 25

    wrong: list[str] = []
    for command in shown:
        names = sorted(root.list("runs"))
        try:
            run(command.replace("RUN1 RUN2", f"{names[0]} {names[1]}"), folder)
        except AssertionError as error:
            wrong.append(str(error))
        if "--next" in command:
            label(folder / "round1.jsonl")
    assert not wrong, "\n".join(wrong)


def test_the_pipeline_and_the_strategy_that_are_shown_run(folder: Path) -> None:
    run("gristmill run mypackage.mine --set sample.n=100", folder)
    run("gristmill run math --set sample.n=3 --set sample.strategy.name=mypackage.twice:Twice", folder)


def test_stores_are_read_as_shown(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    [store, *_] = sorted((folder / "gristmill-data" / "samples").iterdir())
    found = BLOCK.findall((HOME / "docs" / "looking.md").read_text())
    [text] = [text for language, text in found if language == "python"]
    exec(text.replace("<id>", store.name), {})


def test_every_other_snippet_is_sound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """YAML is what a job file may hold, Python compiles: these need models, servers or clusters to run."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rewards.gguf").touch()  # a model's file is looked for before anything is built
    for page in PAGES:
        for language, text in BLOCK.findall(page.read_text()):
            if language == "python":
                compile(text, page.name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            if language == "yaml":
                job = load_yaml(re.sub(r"\$\{env:\w+\}", "http://127.0.0.1:8000/v1", text))
                if not set(job) & {*JobFile.model_fields}:
                    job = {"settings": job}
                made = JobFile.model_validate({"pipeline": "math", **job})
                build_pipeline(made.pipeline, made.settings)


def test_reasons_are_of_commands_that_are_shown() -> None:
    there = commands()
    assert [start for start in NOT_RUN if not any(command.startswith(start) for command in there)] == []
