"""From a job's settings and ``--set key=value`` to a checked configuration.

The pipeline's own defaults come first, then the job file's settings, then ``--set``. An unknown key is an error that
offers the nearest valid one; all errors are told at once.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from operators import operator_class
from operators.base import Operator
from operators.policies.named import POLICIES
from pipelines import pipeline_module
from pipelines.graph import Pipeline, PipelineConfig
from schemas.errors import BadInput
from schemas.job import RunSettings
from schemas.yaml_text import load_yaml, read_text


def parse_assignments(assignments: Iterable[str]) -> dict[str, Any]:
    """Return ``["sample.n=256"]`` as ``{"sample": {"n": 256}}``; values are YAML.

    Raises:
        BadInput: an assignment without ``=``, or one that sets a key inside a value set before.
    """
    settings: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals or not key:
            raise BadInput(f"--set takes key=value, such as sample.n=256; got '{assignment}'")
        try:
            value = load_yaml(text)
        except ValueError as error:
            raise BadInput(f"--set {key}: the value '{_short(text)}' is not valid YAML: {error}") from error
        place, last = place_of(settings, key, f"--set {key}")
        place[last] = value
    return settings


def place_of(settings: dict[str, Any], key: str, where: str) -> tuple[dict[str, Any], str]:
    """Return the mapping in which a dotted key's last part stands, made where it isn't there, and that part.

    Raises:
        BadInput: the key leads into a plain value; ``where`` says whose it is.
    """
    *parents, last = key.split(".")
    for parent in parents:
        settings = settings.setdefault(parent, {})
        if not isinstance(settings, dict):
            raise BadInput(f"{where}: '{parent}' was set to a plain value before")
    return settings, last


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``base`` with ``over`` laid on top, key by key; another ``kind`` or ``operator`` replaces the whole."""
    for switch in ("kind", "operator"):
        if switch in over and over[switch] != base.get(switch):
            return dict(over)
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = merge(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def run_settings(settings: Mapping[str, Any], limit: int | None) -> RunSettings:
    """Return how a run is executed: ``run:`` of a job file and ``--set run.KEY=VALUE``.

    Raises:
        BadInput: every unknown key and every value that doesn't fit.
    """
    if "allow_unsafe_execution" in settings:
        raise BadInput(
            "run.allow_unsafe_execution can't be set here: it takes somebody who types --allow-unsafe-execution"
        )
    settings = dict(settings)
    if isinstance(settings.get("prices"), str):
        settings["prices"] = read_prices(settings["prices"])
    try:
        return RunSettings.model_validate({**settings, "limit": limit})
    except ValidationError as error:
        raise BadInput(explain(error, "run", RunSettings.model_fields, prefix="run")) from error


def read_prices(path: str) -> Any:
    """Return a table of prices from a YAML file (``schemas.prices``).

    Raises:
        BadInput: there is no such file, or it isn't YAML.
    """
    try:
        return load_yaml(read_text(path))
    except OSError as error:
        raise BadInput(f"run.prices '{path}' can't be read: {error.strerror or error}") from error
    except ValueError as error:
        raise BadInput(f"run.prices '{path}' isn't YAML: {error}") from error


def build_pipeline(name: str, settings: Mapping[str, Any]) -> tuple[Pipeline, PipelineConfig]:
    """Return the pipeline of ``name`` under ``settings``, and its whole configuration.

    Raises:
        BadInput: every unknown key (with the nearest valid one) and every value that doesn't fit.
    """
    module = pipeline_module(name)
    defaults: dict[str, Any] = module.Config().model_dump(mode="json")
    merged = merge(defaults, settings)
    config_class: type[PipelineConfig] = module.Config
    problems: list[str] = []
    fields: dict[str, Any] = {}
    for key, value in merged.items():
        if isinstance(value, dict) and "operator" in value:
            try:
                fields[key] = build_operator(value, key)
            except BadInput as error:
                problems.append(str(error))
        else:
            fields[key] = value
    try:
        config = config_class.model_validate(fields)
    except ValidationError as error:
        told = explain(
            error,
            f"pipeline {name}",
            defaults,
            skip={key for key in merged if key not in fields},
            fields=config_class.model_fields,
        )
        raise BadInput("\n".join(filter(None, [*problems, told]))) from error
    if problems:
        raise BadInput("\n".join(problems))
    return module.build(config), config


def build_operator(description: Mapping[str, Any], where: str) -> Operator:
    """Return the operator that ``{"operator": NAME, field: value}`` describes.

    Raises:
        BadInput: no such operator, or fields that don't fit it.
    """
    fields = {key: value for key, value in description.items() if key != "operator"}
    known = operator_class(str(description["operator"]))
    try:
        return known(**fields)
    except ValidationError as error:
        raise BadInput(explain(error, f"{where} ({known.public_name()})", known.model_fields, prefix=where)) from error


def explain(
    error: ValidationError,
    where: str,
    valid: Mapping[str, Any],
    *,
    prefix: str = "",
    skip: Iterable[str] = (),
    fields: Mapping[str, Any] | None = None,
) -> str:
    """Describe all validation errors, one a line, with the nearest valid name for each unknown key.

    Args:
        valid: the valid keys; nested mappings give the valid keys below them.
        fields: where ``valid`` says nothing, such as below a setting that is null by default, the models' own fields.
        prefix: what the keys are under, as ``--set`` would name it.
        skip: top-level keys whose errors are told elsewhere.
    """
    lines: list[str] = []
    for item in error.errors():
        unknown, end = item["type"] == "extra_forbidden", len(item["loc"]) - 1
        location = [
            str(part)
            for place, part in enumerate(item["loc"])
            if part not in _UNION_TAGS or (unknown and place == end)  # what people call a key is theirs
        ]
        if location and location[0] in skip and item["type"] == "missing":
            continue
        key = ".".join([*([prefix] if prefix else []), *location])
        if unknown:
            names = _names_at(valid, location[:-1]) or _names_at(fields or {}, location[:-1])
            stages = [] if location[:-1] else names  # whose setting may have been meant
            below = [f"{name}.{location[-1]}" for name in stages if location[-1] in _names_at(valid, [name])]
            near = below[:3] or difflib.get_close_matches(location[-1], names, n=1, cutoff=0.5)
            meant = " or ".join(f"'{one}'" for one in near)
            hint = f"did you mean {meant}? " if near else ""
            valid_here = (
                f"Valid here: {', '.join(names)}" if len(names) <= MANY else f"{len(names)} keys are valid here"
            )
            lines.append(f"{where}: unknown key '{key}'; {hint}{valid_here}")
        else:
            given = item.get("input")
            shown = f" (got {_short(repr(given))})" if isinstance(given, str | int | float | bool | None) else ""
            lines.append(f"{where}: {key or 'configuration'}: {_in_words(item)}{shown}")
    return "\n".join(lines)


def _in_words(item: Mapping[str, Any]) -> str:
    """Return what pydantic finds wrong with a value as somebody would say it who doesn't know pydantic."""
    words = _WORDS.get(item["type"])
    if words is None:
        return str(item["msg"]).removeprefix("Value error, ").removeprefix("Assertion failed, ")
    about = {key: _bare(str(value)) for key, value in item.get("ctx", {}).items()}
    near = difflib.get_close_matches(about["tag"], about["expected_tags"].split(", "), n=1) if "tag" in about else []
    return words.format(**about) + (f"; did you mean {near[0]}?" if near else "")


def _bare(text: str) -> str:
    """Return a text without the quotes that pydantic puts around names."""
    return re.sub(r"'([\w.-]*)'", r"\1", text)


_WORDS = {
    "missing": "must be given",
    "greater_than": "must be above {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be below {lt}",
    "less_than_equal": "must be at most {le}",
    "too_short": "needs at least {min_length}",
    "literal_error": "must be {expected}",
    "union_tag_invalid": "{discriminator} can't be '{tag}'; it is one of {expected_tags}",
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "string_type": "must be a text",
    "tuple_type": "must be a list",
    "dict_type": "must hold keys and values",
}
MANY = 12
"""Keys that are listed where one of them is meant; more are a wall of text (``gristmill describe`` has them)."""
_UNION_TAGS = frozenset({"llama_cpp", "scripted", "replay", "openai", "vllm", "transformers", *POLICIES})
"""Parts of a pydantic error location that name a union's member, not a key."""


def _names_at(valid: Any, path: list[str]) -> list[str]:
    for part in path:
        valid = _fields_of(valid).get(part, {})
    return [str(name) for name in _fields_of(valid)]


def _fields_of(valid: Any) -> Mapping[str, Any]:
    """Return the names below something: a mapping's keys, or the fields of the models that a field may hold."""
    if isinstance(valid, FieldInfo):
        return {name: field for model in _models_in(valid.annotation) for name, field in model.model_fields.items()}
    if isinstance(valid, Mapping):
        return cast("Mapping[str, Any]", valid)
    return {}


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the models in an annotation: of ``X | None``, of a union, of ``Annotated``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models_in(part)
