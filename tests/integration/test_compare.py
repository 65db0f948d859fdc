"""The compare pipeline: strategies beside plain sampling, at an equal bill."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from cluster.records.reader import open_stage
from cluster.storage.root import Root
from jobs.export import export
from jobs.export.ask import Ask as Export
from jobs.simulate.records import read_recorded
from operators.load import Load
from operators.measure.equal_bill import MeasureEqualBill
from operators.sample.sampling import Sampling
from operators.synthesize.sft import SynthesizeSft
from operators.verify.exact import VerifyExact
from pipelines.arms import Arm
from pipelines.compare import Config, build
from pipelines.graph import Pipeline
from schemas.engine import ScriptedSpec
from schemas.errors import BadInput
from schemas.prices import Prices
from tests.strategies import Oracular
from tests.support import QUICK, make_runner, run, write_problems

ENGINE = ScriptedSpec(answers=("0\n\n\\boxed{0}", "\\boxed{1}", "so\n\n\\boxed{2}", "it is \\boxed{2}"))


def config(folder: Path) -> Config:
    write_problems(folder / "problems.jsonl", 6)
    best = {"name": "best_of", "width": 3, "select": "majority"}
    beam = {"name": "beam", "width": 4, "beam": 2, "scorer": "certainty", "rule": {"max_steps": 3}}
    return Config(
        load=Load(source=str(folder / "problems.jsonl")),
        sample=Sampling(n=24, max_tokens=16),
        arms=(Arm(name="votes", sample={"strategy": best}), Arm(name="beam", sample={"strategy": beam})),
        engine=ENGINE,
        compared=MeasureEqualBill(
            prices={"policy": Prices(dollars_per_million_prompt_tokens=1.0, dollars_per_million_completion_tokens=2.0)}
        ),
    )


def test_arms_are_compared_with_as_many_plain_samples_as_they_cost(tmp_path: Path) -> None:
    result = run(make_runner("local"), build(config(tmp_path)), tmp_path / "root", QUICK)
    root = Root.at(tmp_path / "root")

    def table(stage: str) -> pl.DataFrame:
        return open_stage(root, result.manifest, stage).collect()

    found = table("compared")
    assert set(found["arm"]) == {"votes", "beam"} and set(found["method"]) == {"majority", "rpc", "coverage"}
    assert set(found["unit"]) == {"completion_tokens", "tokens", "dollars"}
    assert found["bill"].null_count() == 0
    curve = table("curve")
    assert set(curve["unit"]) == set(found["unit"]) and curve["n"].max() == 24
    votes = found.filter(pl.col("arm") == "votes", pl.col("unit") == "tokens", pl.col("method") == "majority").row(
        0, named=True
    )
    assert 2 < votes["n_equal"] < 4 and votes["low"] <= votes["difference"] <= votes["high"]
    episodes = table("episodes_beam")
    assert len(episodes) == 2 * 6 and set(episodes["strategy"]) == {"beam"}
    measured = table("measure_beam")
    assert measured.filter(pl.col("metric") == "accuracy")["n_problems"].item() == 6
    bill = float(episodes.group_by("problem_key").agg(pl.col("completion_tokens").mean())["completion_tokens"].mean())  # type: ignore[arg-type]
    beams = found.filter(pl.col("arm") == "beam", pl.col("unit") == "completion_tokens")
    assert beams["bill"].to_list() == pytest.approx([bill] * len(beams))

    took = pl.col("prompt_tokens") + pl.col("completion_tokens") + pl.col("scorer_tokens")
    each = episodes.group_by("problem_key").agg(took.mean().alias("tokens"))
    of = dict(each.iter_rows())
    recorded = read_recorded(result.manifest.run_id, str(tmp_path / "root"), None, "tokens")
    assert recorded.cost is not None and recorded.n[:, 0].tolist() == [2] * 6, "an episode is a draw"
    assert recorded.cost[:, 0].tolist() == pytest.approx([of[key] for key in recorded.problems])
    price = {"*": Prices(dollars_per_million_prompt_tokens=2.0, dollars_per_million_completion_tokens=2.0)}
    priced = read_recorded(result.manifest.run_id, str(tmp_path / "root"), None, "dollars", price)
    assert priced.cost is not None and priced.cost[:, 0].tolist() == pytest.approx(recorded.cost[:, 0] * 2e-6)
    with pytest.raises(BadInput, match="played by policy, and no price of tokens is known for policy"):
        read_recorded(result.manifest.run_id, str(tmp_path / "root"), None, "dollars")


def test_an_arm_has_a_strategy_and_plain_sampling_none(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="'votes': an arm has a strategy"):
        build(config(tmp_path).model_copy(update={"arms": (Arm(name="votes"),)}))
    strategy = Sampling.model_validate({"strategy": "best_of"})
    with pytest.raises(BadInput, match="belongs to an arm"):
        build(config(tmp_path).model_copy(update={"sample": strategy}))


def test_what_an_oracle_found_is_exported_only_if_told(tmp_path: Path) -> None:
    write_problems(tmp_path / "problems.jsonl", 4)
    pipeline = Pipeline("oracle")
    problems = pipeline.stage("load", Load(source=str(tmp_path / "problems.jsonl")))
    sampling = Sampling(n=8, max_tokens=16, strategy=Oracular())
    samples = pipeline.stage("sample", sampling, engine=ENGINE, problems=problems)
    verdicts = pipeline.stage("verify", VerifyExact(), problems=problems, samples=samples)
    pipeline.stage("sft", SynthesizeSft(), problems=problems, samples=samples, verdicts=verdicts)
    result = run(make_runner("local"), pipeline, tmp_path / "root", QUICK)
    root, place = Root.at(tmp_path / "root"), str(tmp_path / "out")
    with pytest.raises(BadInput, match="--oracle"):
        export(root, result.manifest, Export("messages", place))
    assert export(root, result.manifest, Export("messages", place, oracle=True))["train"] > 0
