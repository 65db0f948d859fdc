"""Studies run as pipelines: each on a model that answers by a script, and what is made of its answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from cluster.records.reader import open_stage
from cluster.storage.root import Root
from jobs.config.settings import build_pipeline
from jobs.export import export
from jobs.export.ask import Ask as Export
from jobs.running.summary import document
from operators.load import Load
from operators.sample.sampling import Sampling
from operators.strategies.clash import Clash
from operators.synthesize.sft import SynthesizeSft
from operators.verify.exact import VerifyExact
from pipelines.graph import Pipeline
from schemas.engine import ScriptedSpec
from schemas.errors import BadInput
from tests.support import QUICK, make_runner, run, write_problems


def studied(name: str, folder: Path, **settings: Any) -> dict[str, pl.DataFrame]:
    """Run a pipeline and return what its stages gave."""
    pipeline, _ = build_pipeline(name, settings)
    result = run(make_runner("local"), pipeline, folder / "root", QUICK)
    root = Root.at(folder / "root")
    return {stage: open_stage(root, result.manifest, stage).collect() for stage in pipeline.stages}


def scripted(**fields: Any) -> dict[str, Any]:
    return {"kind": "scripted", **fields}


def value(table: pl.DataFrame, **chosen: Any) -> float:
    return table.filter(*[pl.col(name) == one for name, one in chosen.items()])["value"].item()


def test_bounds(tmp_path: Path) -> None:
    write_problems(tmp_path / "problems.jsonl", 4)
    answers = scripted(answers=["\\boxed{0}", "it is hard to say: \\boxed{1}"])
    told = studied(
        "bounds", tmp_path, engine=answers, load={"source": str(tmp_path / "problems.jsonl")}, sample={"n": 8}
    )
    measure = told["measure"]
    best, average, worst = (value(measure, metric=name, n=at) for name, at in
                            (("best", 8), ("average", 1), ("worst", 8)))  # fmt: skip
    assert best >= average >= worst and best > 0 and len(told["sample"]) == 32


def test_paired_is_sorted_by_loss(tmp_path: Path) -> None:
    rows = [{"id": f"{task}{at}", "prompt": f"{task} {at}", "answer": "1", "task": task}
            for task in ("easy", "hard") for at in range(3)]  # fmt: skip
    (tmp_path / "problems.jsonl").write_text("\n".join(map(json.dumps, rows)))
    hurts = {"easy 0\n\nThink": ["\\boxed{2}"], "easy 1\n\nThink": ["\\boxed{2}"], "easy 2\n\nThink": ["\\boxed{2}"]}
    told = studied(
        "paired", tmp_path, engine=scripted(answers=["\\boxed{1}"], by_prompt=hurts),
        load={"source": str(tmp_path / "problems.jsonl")}, direct={"n": 2}, reasoned={"n": 2}, measure={"by": "task"},
    )["measure"].sort("rank")  # fmt: skip
    assert told["task"].to_list() == ["all", "easy", "hard"]
    assert told["difference"].to_list() == [-0.5, -1.0, 0.0] and told["worse"].to_list()[1]


def test_mcq_asks_shipped_questions_twice(tmp_path: Path) -> None:
    told = studied("mcq", tmp_path, engine=scripted(answers=["The answer is (A)."]), load={"limit": 8},
                   direct={"n": 1}, reasoned={"n": 1})  # fmt: skip
    measure = told["measure"]
    right = sum(answer == "A" for answer in told["load"]["answer"]) / 8
    assert value(measure, subject="", metric="accuracy", arm="direct") == right
    assert value(measure, subject="", metric="accuracy", arm="difference") == 0.0
    assert {"capitals"} <= set(measure["subject"]) and told["score_direct"]["step_scores"].list.len().to_list() == [
        4
    ] * 8


def test_stress_asks_each_problem_at_each_place(tmp_path: Path) -> None:
    write_problems(tmp_path / "problems.jsonl", 5)
    told = studied(
        "stress", tmp_path, engine=scripted(answers=["Q1: \\boxed{0}\nQ2: \\boxed{1}\nQ3: \\boxed{2}"]),
        load={"source": str(tmp_path / "problems.jsonl"), "made": {"levels": [1, 3]}}, sample={"n": 1},
    )  # fmt: skip
    assert len(told["load"]) == 10
    measure = told["measure"].filter(pl.col("metric") == "accuracy")
    assert set(measure["level"]) == {1, 3} and set(measure.filter(pl.col("level") == 3)["position"]) == {0, 1, 2, 3}
    with pytest.raises(BadInput, match="level 9 asks"):
        Load(source=str(tmp_path / "problems.jsonl"), made={"operator": "synthesize.rest", "levels": [9]}).run()  # type: ignore[arg-type]
    held = Load(source=str(tmp_path / "problems.jsonl"), made="synthesize.rest", holdout=0.5)  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="can't be held out"):
        held.run()
    with pytest.raises(ValueError, match="doesn't make problems"):
        Load(source="x", made="synthesize.sft")  # type: ignore[arg-type]


def test_a_procedure_in_one_call_and_one_step_a_call(tmp_path: Path) -> None:
    rows = [{"id": str(at), "prompt": f"P{at}", "verification": {"steps": ["a", "b", "c"][: at + 2]}, "answer": None,
             "task_type": "procedure"} for at in range(2)]  # fmt: skip
    (tmp_path / "problems.jsonl").write_text("\n".join(map(json.dumps, rows)))
    steps = {"a\n": ["b\nand"], "b\n": ["."]}
    told = studied(
        "procedure", tmp_path, engine=scripted(answers=["a\nb\nc"], by_prefix=steps),
        load={"source": str(tmp_path / "problems.jsonl")}, whole={"n": 1}, stepwise={"n": 1},
    )  # fmt: skip
    assert set(told["whole"]["completion"]) == {"a\nb\nc"}
    assert set(told["stepwise"]["completion"]) == {"a\nb\n."}
    assert value(told["measure_whole"], metric="sequence", steps="3") == 1.0
    assert value(told["measure_stepwise"], metric="prefix", steps="3") == pytest.approx(2 / 3)
    assert told["compared"]["difference"].to_list() == [-0.5]


def test_bets(tmp_path: Path) -> None:
    said = "we <reasoning>70%</reasoning><bet>{}</bet>"
    told = studied("bets", tmp_path, engine=scripted(answers=[said.format(70), said.format(90)]), load={"limit": 4})
    assert len(told["bets"]) == 24 and set(told["bets"]["bet"]) <= {70.0, 90.0}
    assert value(told["measure"], metric="sum_above_100") == 1.0 and value(told["measure"], metric="surplus") > 0


SAYS = {
    "from what you know:": ["Paris\nThe seat of the government is there."],
    "Answer from this": ["Paris"],
    "Write a short paragraph": ["It is so."],
    "letter alone": ["A"],
}


def test_conflict_is_measured_and_not_exported_unless_told(tmp_path: Path) -> None:
    told = studied("conflict", tmp_path, engine=scripted(by_prompt=SAYS), load={"limit": 3},
                   sample={"strategy": {"name": "clash", "entailed": 0}})  # fmt: skip
    assert value(told["measure"], about="", metric="kept", condition="") == 1.0
    assert value(told["measure"], about="memory right", metric="unreadable", condition="single") == 0.0
    assert len(told["sample"]) == 3 * len(Clash().conditions) and told["episodes"]["oracle"].all()
    row = {"id": "1", "prompt": "Which is it?", "answer": "A", "objects": ["A", "B", "C"]}
    (tmp_path / "problems.jsonl").write_text(json.dumps(row))
    pipeline = Pipeline("p")
    problems = pipeline.stage("load", Load(source=str(tmp_path / "problems.jsonl")))
    sampling = Sampling(n=7, max_tokens=64, strategy=Clash(entailed=0))
    says = {key: tuple(text.replace("Paris", "A") for text in texts) for key, texts in SAYS.items()}
    engine = ScriptedSpec(by_prompt=says)
    samples = pipeline.stage("sample", sampling, engine=engine, problems=problems)
    verdicts = pipeline.stage("verify", VerifyExact(), problems=problems, samples=samples)
    pipeline.stage("sft", SynthesizeSft(), problems=problems, samples=samples, verdicts=verdicts)
    result = run(make_runner("local"), pipeline, tmp_path / "other", QUICK)
    root, place = Root.at(tmp_path / "other"), str(tmp_path / "out")
    with pytest.raises(BadInput, match="Give --counterfactual"):
        export(root, result.manifest, Export("messages", place, oracle=True))
    export(root, result.manifest, Export("messages", place, counterfactual=True, validation=0.0))
    rows = pl.read_parquet(f"{place}/*.parquet")
    assert len(rows) and all(json.loads(text)["counterfactual"] for text in rows["lineage"])


WRITES: dict[str, tuple[str, ...]] = {
    "spawn": ("<spawn><thread>a</thread><thread>b</thread></spawn>", "\\boxed{1}"),
    "multiverse": ("<Parallel><Goal><Outline>1: a</Outline><Outline>2: b</Outline></Goal>",),
    "workers": ("it is \\boxed{1}",),
}


@pytest.mark.parametrize("strategy", WRITES)
@pytest.mark.parametrize("writes", [True, False])
def test_a_model_that_does_not_write_what_a_strategy_waits_for_is_told(
    strategy: str, writes: bool, tmp_path: Path
) -> None:
    write_problems(tmp_path / "problems.jsonl", 2)
    pipeline = Pipeline("p")
    problems = pipeline.stage("load", Load(source=str(tmp_path / "problems.jsonl")))
    fields = {"name": strategy} | ({"turns": 2} if strategy == "workers" else {})
    sampling = Sampling.model_validate({"n": 1, "max_tokens": 40, "strategy": fields})
    engine = ScriptedSpec(answers=WRITES[strategy] if writes else ("plain words",))
    pipeline.stage("sample", sampling, engine=engine, problems=problems)
    result = run(make_runner("local"), pipeline, tmp_path / "root", QUICK)
    told = [note for note in document(Root.at(tmp_path / "root"), result.manifest)["notes"] if "doesn't write" in note]
    assert len(told) == (not writes) and all(f"strategy '{strategy}'" in note for note in told)
