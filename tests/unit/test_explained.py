"""Everything that people set or read is explained where it is declared."""

from __future__ import annotations

import json
import shlex
from typing import ClassVar

import pytest
from pydantic import TypeAdapter, field_validator
from typer.testing import CliRunner

from jobs.cli import app
from jobs.config.job_init import job_schema, template
from jobs.config.settings import build_pipeline, parse_assignments
from jobs.looking.describe import describe, kinds
from jobs.looking.worked_examples import examples_of
from operators import OPERATORS, operator_class
from operators.base import Operator
from operators.sample.sampling import Sampling
from schemas.datasets import Sample, Verdict
from schemas.engine import AnyEngineSpec
from schemas.errors import BadInput
from schemas.job import JobFile, RunSettings

KINDS = kinds()


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_setting_and_every_column_has_a_meaning(kind: str) -> None:
    found = [one for name in KINDS[kind] for one in describe(f"{kind}:{name}")]
    assert found
    assert [one.name for one in found if not one.about] == []
    assert [f"{one.name}.{line.name}" for one in found for line in one.lines if not line.meaning] == []


def test_every_key_of_a_job_file_has_a_meaning_in_its_schema() -> None:
    schema = job_schema()
    keys = {**JobFile.model_json_schema()["properties"], **RunSettings.model_json_schema()["properties"]}
    said = {**schema["properties"], **schema["$defs"]["RunSettings"]["properties"]}
    assert [key for key in keys if not said[key].get("description") and "$ref" not in said[key]] == []


def test_a_new_job_file_says_what_each_setting_means() -> None:
    text = template("night.yaml", "arithmetic")
    assert "# temperature: 1.0                      # What the logits are divided by" in text
    assert "    source: reasoning_gym:chain_sum       # " in text


def test_describe_takes_names_kinds_and_ones_own(tmp_path: object) -> None:
    assert [one.kind for one in describe("verify.math")] == ["operator"]
    assert {one.kind for one in describe("random")} == {"scorer"}
    assert [line.name for line in describe("strategy:beam")[0].lines if line.name.startswith("rule.")]
    own = describe("operators.strategies.beam:Beam")[0]
    assert own.kind == "strategy" and own.lines == describe("strategy:beam")[0].lines
    with pytest.raises(BadInput, match=r"'verfy.math'; did you mean verify.math"):
        describe("verfy.math")
    with pytest.raises(BadInput, match="No module named 'no'"):
        describe("no.such:Thing")


@pytest.mark.parametrize("name", OPERATORS)
def test_examples_of_an_operator_are_calls_that_it_takes(name: str) -> None:
    examples = describe(f"operator:{name}")[0].examples
    assert examples
    for example in examples:
        program, op, called, *words = shlex.split(example)
        assert (program, op, called) == ("gristmill", "op", name) and len(words) % 2 == 0
        options = [*zip(words[::2], words[1::2], strict=True)]
        fields = parse_assignments([value for option, value in options if option == "--set"])
        if "engine" in fields:
            assert TypeAdapter(AnyEngineSpec).validate_python(fields.pop("engine"))
        operator = operator_class(name)(**fields)
        read = {value.partition("=")[0] for option, value in options if option == "--in"}
        assert operator.inputs.keys() - operator.optional <= read <= operator.inputs.keys()
        assert ("--out", "result.parquet") in options


@pytest.mark.parametrize("kind", ["policy", "strategy", "scorer", "engine"])
def test_examples_of_what_a_run_is_set_to_build_a_pipeline(kind: str) -> None:
    for name in KINDS[kind]:
        [example] = describe(f"{kind}:{name}")[0].examples
        program, run, pipeline, *words = shlex.split(example)
        assert (program, run) == ("gristmill", "run") and {*words[::2]} == {"--set"}
        built, _ = build_pipeline(pipeline, parse_assignments(words[1::2]))
        policies = [stage.operator.policy for stage in built.stages.values() if isinstance(stage.operator, Sampling)]
        assert len({type(policy) for policy in policies}) == 1
        assert len(policies) == getattr(policies[0], "arms", 1), "what chooses among stages has as many as it says"


def test_what_only_its_author_knows_is_left_to_be_filled_in() -> None:
    class Own(Operator):
        """One of somebody's own."""

        version: ClassVar[int] = 1
        scope = "sample"
        inputs = {"samples": Sample.select("problem_key", "sample_index")}
        output = Verdict

        rubric: str
        """What is to be kept to."""

        @field_validator("rubric")
        @classmethod
        def _fits(cls, value: str) -> str:
            raise ValueError("not this one")

    assert examples_of("operator", "own:Own", Own, {}) == (
        "gristmill op own:Own --in samples=samples.parquet --set rubric=VALUE --out result.parquet",
    )


def test_the_commands_print_it() -> None:
    run = CliRunner().invoke
    assert {"operator", "dataset"} <= {*json.loads(run(app, ["describe", "--json"]).stdout)}
    columns = json.loads(run(app, ["describe", "dataset:samples", "--json"]).stdout)[0]["lines"]
    assert columns[0]["name"] == "problem_key" and columns[0]["type"] == "String, key"
    assert "Upper and lower case" in run(app, ["op", "verify.exact", "--help"]).stdout
    assert "measure.pass_at_k" in run(app, ["describe"]).stdout
