"""New job files: a commented one to begin with, and the JSON schema that editors complete and check it with."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

import yaml

from operators import OPERATORS, operator_class
from operators.strategies.names import STRATEGIES
from pipelines import PIPELINES, pipeline_module
from schemas.errors import BadInput
from schemas.job import JobFile, RunSettings

SCHEMA = "job.schema.json"
"""The schema's file, beside the job file."""

SAID = {"load": "source", "sample": "n"}
"""The settings that stand in a new job file; all others are comments."""

TEMPLATE = """\
# yaml-language-server: $schema=./{schema}
# A Gristmill job. Check it: gristmill validate {path}
#   what it would do, and cost:  gristmill plan {path}
#   here:                        gristmill run {path}
#   on a cluster:                gristmill submit {path} --to ray|slurm|kuberay|local
#   every night:                 gristmill nightly run {path}
# Values can be taken from the environment: ${{env:NAME}} or ${{env:NAME:-default}}. Secrets are never written here.

pipeline: {pipeline}
name: {name}                      # its nights and submissions are kept under this

# Where data is kept: a folder or an s3:// URL. All nodes of a cluster must reach it.
root: ./gristmill-data

# How things are done. What isn't said has the default that is shown here.
settings:
{settings}

run:
  if_busy: refuse                 # where another run writes the same samples: refuse, wait, or read what is there
  # budget:                       # hard caps; for a job with a schedule these are a night's
  #   dollars: 20                 # also: samples, tokens, gpu_hours, hours
  #   gate: {{samples: 200, least_parsed: 0.8, most_truncated: 0.2}}   # what the first samples must show
  # prices:                       # needed for caps in dollars; also the path of a YAML table
  #   "Qwen/*": {{dollars_per_gpu_hour: 2.5}}

# Variables that are set wherever it runs, and secrets that must be there (on Kubernetes: which Secret has them).
# environment: {{HF_HOME: /data/models}}
# secrets: {{AWS_ACCESS_KEY_ID: s3/access-key, AWS_SECRET_ACCESS_KEY: s3/secret-key}}

# What a cluster is asked for.
# resources:
#   groups:
#     - {{name: workers, nodes: 1, gpus: 8, gpu: h100, cpus: 64, memory_gb: 512}}
#   hours: 12
#   shards: 1                     # Slurm: an array of so many jobs, each with its share of the problems
#   slurm: {{partition: gpu, account: team}}
#   ray: {{address: "http://127.0.0.1:8265"}}
#   kuberay: {{image: "registry.example/gristmill:latest", namespace: default, claim: data}}

# One run a date: gristmill nightly run {path} (see infra/systemd and infra/kubernetes).
# schedule:
#   cron: "30 1 * * *"
#   timezone: Europe/Berlin
#   catch_up: latest              # of missed nights: latest, all or none
#   window_hours: 6               # it may begin, and is tried again, for so long
#   month: {{dollars: 400}}
# exports:
#   - format: messages
# notify:
#   - {{kind: webhook, url_env: GRISTMILL_WEBHOOK, events: [failed, budget]}}
#   - {{kind: command, command: [logger, -t, gristmill]}}
#   - {{kind: email, host: smtp.example, sender: mill@example, to: [me@example], user: me, password_env: SMTP_PW}}

# What gristmill gc keeps of its runs; paid samples always stay.
# retention: {{runs: 30, days: 90}}
"""


def init(path: str, pipeline: str) -> list[str]:
    """Write a commented job file of a pipeline, and the schema beside it; return the files written.

    Raises:
        BadInput: the file is there already, doesn't end in .yaml, or there is no such pipeline.
    """
    target = Path(path)
    if target.suffix not in (".yaml", ".yml"):
        raise BadInput(f"'{path}' must end in .yaml or .yml: by that a job file is told from a pipeline's name")
    if target.exists():
        raise BadInput(f"'{path}' is there already; choose another name, or remove it")
    text = template(path, pipeline)
    schema = target.with_name(SCHEMA)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)
    schema.write_text(json.dumps(job_schema(), indent=2) + "\n")
    return [path, str(schema)]


def template(path: str, pipeline: str) -> str:
    """Return a commented job file; what a user must say stands there, everything else as a comment."""
    module = pipeline_module(pipeline)
    defaults: dict[str, Any] = module.Config().model_dump(mode="json")
    return TEMPLATE.format(
        path=path,
        schema=SCHEMA,
        pipeline=pipeline,
        name=pipeline.rpartition(".")[2].replace("_", "-").lower(),
        settings=textwrap.indent("".join(_setting(key, value) for key, value in defaults.items()).rstrip(), "  "),
    )


def _setting(key: str, value: Any) -> str:
    """Return the lines of one part of the settings: as comments, but for what everybody changes."""
    said = SAID.get(key)
    if said is None or not isinstance(value, dict) or said not in value:
        return textwrap.indent(_yaml({key: value}), "# ", lambda line: True)
    rest = _yaml({name: below for name, below in value.items() if name != said})
    return f"{key}:\n  {_yaml({said: value[said]})}" + textwrap.indent(rest, "  # ", lambda line: True)


def _yaml(value: Any) -> str:
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=100)


def job_schema() -> dict[str, Any]:
    """Return the JSON schema of job files; ``settings`` are those of the pipeline that is named."""
    schema = JobFile.model_json_schema()
    definitions: dict[str, Any] = schema.setdefault("$defs", {})
    schema["properties"]["run"] = _embed("RunSettings", RunSettings.model_json_schema(), definitions)
    definitions["Operator"] = _any_operator(definitions)
    definitions["Strategy"] = _any_strategy()
    branches: list[dict[str, Any]] = []
    for name in PIPELINES:
        config = pipeline_module(name).Config.model_json_schema()
        settings = _embed(f"settings of {name}", config, definitions)
        branches.append(
            {
                "if": {"properties": {"pipeline": {"const": name}}, "required": ["pipeline"]},
                "then": {"properties": {"settings": settings}},
            }
        )
    schema["properties"]["pipeline"]["examples"] = list(PIPELINES)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "allOf": branches,
        "title": "Gristmill job",
    }


def _any_operator(definitions: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a setting that any operator can fill; one that isn't named keeps the pipeline's."""
    branches: list[dict[str, Any]] = []
    for name in OPERATORS:
        fields = _embed(f"operator {name}", operator_class(name).model_json_schema(), definitions)
        definitions[f"operator {name}"].setdefault("properties", {})["operator"] = {"const": name}
        branches.append({"if": {"properties": {"operator": {"const": name}}, "required": ["operator"]}, "then": fields})
    named = {"type": "string", "description": "A name, or package.module:Class.", "examples": list(OPERATORS)}
    return {"type": "object", "properties": {"operator": named}, "allOf": branches}


def _any_strategy() -> dict[str, Any]:
    """Return the schema of a setting that any strategy can fill: its name and its own settings, or the bare name."""
    named = {"type": "string", "description": "A name, or package.module:Class.", "examples": list(STRATEGIES)}
    return {"anyOf": [named, {"type": "object", "properties": {"name": named}}]}


def _embed(name: str, model: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """Put a model's schema under ``$defs`` with everything optional (the rest has defaults); return a reference."""
    found: dict[str, Any] = _optional(model)
    for inner, schema in found.pop("$defs", {}).items():
        definitions.setdefault(inner, schema)
    definitions[name] = found
    return {"$ref": f"#/$defs/{name.replace(' ', '%20')}"}


def _optional(schema: Any) -> Any:
    """Return a schema in which nothing is required; a union's members keep what tells them apart."""
    if isinstance(schema, dict):
        return {
            key: _optional(value)
            for key, value in schema.items()
            if not (key == "required" and isinstance(value, list))
        }
    return [_optional(item) for item in schema] if isinstance(schema, list) else schema
