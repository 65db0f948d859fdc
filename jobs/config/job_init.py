"""New job files: a commented one to begin with, and the JSON schema that editors complete and check it with."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from operators import OPERATORS, operator_class
from operators.strategies.names import STRATEGIES
from operators.strategies.strategy import strategy_class
from pipelines import PIPELINES, pipeline_module
from schemas.errors import BadInput
from schemas.explained import explanations
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
    config: BaseModel = pipeline_module(pipeline).Config()
    meanings = dict(_meanings(config))
    settings = config.model_dump(mode="json")
    if "source" in settings.get("load", {}):
        settings["load"]["source"] = settings["load"]["source"] or "problems.jsonl"
    parts = (_setting(key, value, meanings) for key, value in settings.items())
    return TEMPLATE.format(
        path=path,
        schema=SCHEMA,
        pipeline=pipeline,
        name=pipeline.rpartition(".")[2].replace("_", "-").lower(),
        settings=textwrap.indent("".join(parts).rstrip(), "  "),
    )


def _meanings(settings: BaseModel, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield the path of each setting, and the first sentence of what it means."""
    said = explanations(type(settings))
    for name in type(settings).model_fields:
        text = " ".join(said.get(name, "").split())
        yield (*path, name), re.split(r"(?<=\.) (?=[A-Z])", text)[0].removesuffix(".")
        below = getattr(settings, name)
        if isinstance(below, BaseModel):
            yield from _meanings(below, (*path, name))


def _setting(key: str, value: Any, meanings: dict[tuple[str, ...], str]) -> str:
    """Return the lines of one part of the settings: as comments, but for what everybody changes."""
    text = _explained(_yaml({key: value}), meanings)
    said = SAID.get(key)
    if said is None or not isinstance(value, dict) or said not in value:
        return textwrap.indent(text, "# ", lambda line: True)
    first, *lines = text.splitlines(keepends=True)
    known = [line for line in lines if line.startswith(f"  {said}:")]
    rest = [line for line in lines if line not in known]
    return first + "".join(known) + textwrap.indent(textwrap.dedent("".join(rest)), "  # ", lambda line: True)


def _explained(text: str, meanings: dict[tuple[str, ...], str]) -> str:
    """Put what each setting means behind its line."""
    lines = text.splitlines()
    above: list[tuple[int, str]] = []
    for place, line in enumerate(lines):
        found = re.match(r"( *)([A-Za-z_]\w*):(?: (.*))?$", line)
        if found is None:
            continue
        depth = len(found[1])
        below = next(filter(None, lines[place + 1 :]), "")
        goes_on = len(below) - len(below.lstrip()) > depth
        above = [*((deep, name) for deep, name in above if deep < depth), (depth, found[2])]
        meaning = meanings.get(tuple(name for _, name in above))
        if meaning and not (found[3] and goes_on):  # a text of several lines takes no comment
            lines[place] = f"{line:<38}  # {meaning}"
    return "\n".join(lines) + "\n"


def _yaml(value: Any) -> str:
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=100)


def job_schema() -> dict[str, Any]:
    """Return the JSON schema of job files; ``settings`` are those of the pipeline that is named."""
    schema = JobFile.model_json_schema()
    definitions: dict[str, Any] = schema.setdefault("$defs", {})
    schema["properties"]["run"] = _embed("RunSettings", RunSettings.model_json_schema(), definitions)
    definitions["Operator"] = _any_of(definitions, "operator", OPERATORS, operator_class)
    definitions["Strategy"] = _any_of(definitions, "strategy", STRATEGIES, strategy_class)
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


def _any_of(
    definitions: dict[str, Any], kind: str, names: Collection[str], find: Callable[[str], type[BaseModel]]
) -> dict[str, Any]:
    """Return the schema of a setting that any operator (or strategy) can fill; one that isn't named keeps its own."""
    tag = "operator" if kind == "operator" else "name"
    branches: list[dict[str, Any]] = []
    for name in names:
        fields = _embed(f"{kind} {name}", find(name).model_json_schema(), definitions)
        definitions[f"{kind} {name}"].setdefault("properties", {})[tag] = {"const": name}
        branches.append({"if": {"properties": {tag: {"const": name}}, "required": [tag]}, "then": fields})
    named = {"type": "string", "description": "A name, or package.module:Class.", "examples": list(names)}
    filled = {"type": "object", "properties": {tag: named}, "allOf": branches}
    return filled if kind == "operator" else {"anyOf": [named, filled]}


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
