"""What there is, and what its settings and columns mean: ``gristmill describe``."""

from __future__ import annotations

import difflib
import importlib
import inspect
import types
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from schemas.contract import Contract
from schemas.errors import BadInput
from schemas.explained import explanations, summary
from schemas.settings import Settings


@dataclass(frozen=True)
class Line:
    """A setting, or a column of a dataset."""

    name: str
    type: str
    default: str | None
    meaning: str


@dataclass(frozen=True)
class Description:
    """What something is, in full."""

    kind: str
    name: str
    about: str
    lines: tuple[Line, ...]
    inputs: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    output: str | None = None
    examples: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def operators() -> dict[str, Callable[[], type]]:
    """Return what imports each operator's class, by name."""
    from operators import OPERATORS, operator_class

    return {name: lambda name=name: operator_class(name) for name in OPERATORS}


def kinds() -> dict[str, dict[str, Callable[[], type]]]:
    """Return all that can be described: kind -> name -> what imports its class."""
    from operators.policies.named import SPECS
    from operators.strategies.names import STRATEGIES
    from operators.strategies.scorers import Scorer
    from pipelines import PIPELINES, pipeline_module
    from schemas.datasets import DATASETS
    from schemas.engine import AnyEngineSpec

    scorers = {kind.model_fields["name"].default: kind for kind in _members(Scorer)}
    engines = {kind.model_fields["kind"].default: kind for kind in _members(AnyEngineSpec)}
    return {
        "pipeline": {name: lambda name=name: pipeline_module(name).Config for name in PIPELINES},
        "operator": operators(),
        "strategy": {name: lambda place=place: _at(place) for name, place in STRATEGIES.items()},
        "scorer": {name: lambda kind=kind: kind for name, kind in scorers.items()},
        "policy": {name: lambda kind=kind: kind for name, kind in SPECS.items()},
        "engine": {name: lambda kind=kind: kind for name, kind in engines.items()},
        "dataset": {name: lambda kind=kind: kind for name, kind in DATASETS.items()},
    }


def overview() -> dict[str, dict[str, str]]:
    """Return kind -> name -> its first sentence."""
    return {
        kind: {name: summary(_documented(kind, name, load())) for name, load in named.items()}
        for kind, named in kinds().items()
    }


def describe(name: str) -> list[Description]:
    """Return what a name stands for; several kinds may have it (``bets`` is a strategy and a pipeline).

    ``KIND:NAME`` says which; ``package.module:Class`` is an operator or a strategy of one's own.

    Raises:
        BadInput: there is nothing of that name; the nearest ones are offered.
    """
    prefix, _, rest = name.partition(":")
    there = {"operator": operators()} if prefix == "operator" else kinds()
    if prefix in there:
        there, name = {prefix: there[prefix]}, rest
    found = [_description(kind, name, named[name]()) for kind, named in there.items() if name in named]
    if not found and "." in prefix and rest:
        found = [_own(name)]
    if not found:
        near = difflib.get_close_matches(name, [one for named in there.values() for one in named], n=3)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise BadInput(f"there is nothing named '{name}'{hint} 'gristmill describe' lists all that there is")
    return found


def _own(name: str) -> Description:
    from operators import operator_class
    from operators.strategies.strategy import Strategy

    kind = _at(name)
    if issubclass(kind, Strategy):
        return _description("strategy", name, kind)
    return _description("operator", name, operator_class(name))


def _at(place: str) -> type:
    module, _, attribute = place.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ModuleNotFoundError, AttributeError) as error:
        raise BadInput(f"'{place}': {error}") from error


def _members(union: Any) -> Iterator[type[BaseModel]]:
    """Yield the models of a union, however it is annotated."""
    if isinstance(union, type):
        if issubclass(union, BaseModel):
            yield union
        return
    for part in get_args(union):
        yield from _members(part)


def _documented(kind: str, name: str, found: type) -> object:
    """Return what tells about it: of a pipeline its module, else the class."""
    return importlib.import_module(found.__module__) if kind == "pipeline" else found


def _description(kind: str, name: str, found: type) -> Description:
    about = inspect.getdoc(_documented(kind, name, found)) or ""
    if issubclass(found, Contract):
        return Description(kind, name, about, tuple(_columns(found)))
    assert issubclass(found, BaseModel)
    reads = getattr(found, "inputs", {})  # of some operators they depend on the settings
    inputs = {key: list(columns.names) for key, columns in reads.items()} if isinstance(reads, dict) else {}
    gives = getattr(found, "output", None)
    output = gives.__name__ if isinstance(gives, type) else None
    lines = tuple(_settings(found))
    return Description(kind, name, about, lines, inputs, output, _examples(kind, name, found, lines))


def _examples(kind: str, name: str, found: type[BaseModel], lines: tuple[Line, ...]) -> tuple[str, ...]:
    from jobs.looking.worked_examples import examples_of

    defaults = {line.name: line.default for line in lines if line.default and line.name in found.model_fields}
    return examples_of(kind, name, found, {key: text for key, text in defaults.items() if text != "null"})


def _settings(model: type[BaseModel], prefix: str = "") -> Iterator[Line]:
    """Yield a model's settings; those of a group are named as ``--set`` names them (``rule.max_steps``)."""
    said = explanations(model)
    for name, info in model.model_fields.items():
        yield Line(prefix + name, type_of(info.annotation, info), _default(info), said.get(name, ""))
        group = info.annotation
        if isinstance(group, type) and issubclass(group, Settings) and not getattr(group, "public_name", None):
            yield from _settings(group, f"{prefix}{name}.")


def _columns(contract: type[Contract]) -> Iterator[Line]:
    said = contract.meanings()
    for name, column in contract.columns().items():
        notes = [str(column.dtype), *(["key"] if column.primary_key else []), *(["or null"] if column.nullable else [])]
        yield Line(name, ", ".join(notes), None, said.get(name, ""))


def _default(info: FieldInfo) -> str | None:
    """Return a default as ``--set`` would have it; None where the setting must be given."""
    if info.default is PydanticUndefined:
        return None if info.default_factory is None else ""
    value = info.default
    if isinstance(value, BaseModel):
        name = getattr(type(value), "public_name", None)
        return name() if name else str(getattr(value, "kind", getattr(value, "name", "its defaults")))
    text = "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    text = text.replace("\n", "\\n")
    return text if len(text) <= 60 else f"{text[:57]}..."


def type_of(annotation: Any, info: FieldInfo | None = None) -> str:
    """Return a type in words: ``whole number, at least 1``, ``best or majority``."""
    rules = [(one, key, words) for one in (info.metadata if info else ()) for key, words in _LIMITS]
    limits = [f"{words} {getattr(one, key):g}" for one, key, words in rules if hasattr(one, key)]
    return ", ".join([_words(annotation), *limits])


def _tag(model: type[BaseModel]) -> str:
    """Return the name by which one of several models is chosen."""
    tag = model.model_fields.get("kind") or model.model_fields.get("name")
    return str(tag.default) if tag and isinstance(tag.default, str) and tag.default else f"settings of {model.__name__}"


_LIMITS = (("gt", "above"), ("ge", "at least"), ("lt", "below"), ("le", "at most"))
_NAMES = {str: "text", int: "whole number", float: "number", bool: "true or false", type(None): "null", Any: "anything"}


def _words(annotation: Any) -> str:
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _words(parts[0])
    if origin is Literal:
        return " or ".join(str(part) for part in parts)
    if origin in (Union, types.UnionType):
        models = [part for part in parts if isinstance(part, type) and issubclass(part, BaseModel)]
        words = [_words(part) for part in parts if part not in models]
        words = [*(_tag(model) for model in models), *words]
        return " or ".join(dict.fromkeys(words))
    if origin in (tuple, list, set, frozenset):
        inner = [part for part in parts if part is not ...]
        if len(inner) == len(parts) > 1:
            return f"({', '.join(map(_words, inner))})"
        return f"list of {_words(inner[0])}"
    if origin is dict:
        return f"{_words(parts[0])} to {_words(parts[1])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "an operator" if annotation.__name__ == "Operator" else f"settings of {annotation.__name__}"
    return _NAMES.get(annotation, getattr(annotation, "__name__", str(annotation)))
