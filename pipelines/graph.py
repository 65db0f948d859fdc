"""Pipelines: directed acyclic graphs of stages, written so that they fit on one screen.

A pipeline is a module with a ``Config`` (one frozen pydantic model: a field per stage's operator, and the engine) and
``build(config) -> Pipeline``. Edges are made by passing stages, so a graph can't be cyclic and its order is the order
in which it was written.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from operators.base import Operator
from operators.load import Load
from operators.sample.sampling import Sampling
from schemas import datasets
from schemas.datasets import STORES
from schemas.engine import AnyEngineSpec, EngineSpec, LlamaCppSpec
from schemas.errors import BadInput
from schemas.redaction import protect_settings
from schemas.settings import Settings


class PipelineConfig(Settings):
    """Base of all pipeline configurations. Subclasses add one operator per stage."""

    engine: AnyEngineSpec = LlamaCppSpec()
    """What samples."""
    engines: dict[str, AnyEngineSpec] = {}
    """Engines that a strategy asks beside ``engine``, by role: ``engines.scorer.kind=transformers``."""

    @property
    def asked(self) -> dict[str, Any]:
        """What a sampling stage is told of engines."""
        return {"engine": self.engine, "engines": self.engines}


@dataclass(frozen=True, eq=False)
class Stage:
    """An operator with a name and inputs, placed in a pipeline."""

    name: str
    operator: Operator
    inputs: Mapping[str, Stage]
    engine: EngineSpec | None = None
    engines: Mapping[str, EngineSpec] = field(default_factory=dict[str, EngineSpec])
    """The engines of a strategy's other roles, by role."""

    @property
    def pools(self) -> dict[str, EngineSpec]:
        """Of these, the ones that have workers of their own, by role; the others are in the workers of ``engine``."""
        return {role: spec for role, spec in self.engines.items() if spec.needs_pool}

    @property
    def all_gpus(self) -> float:
        """GPUs that its engines hold while it works."""
        return sum(spec.all_gpus for spec in (self.engine, *self.engines.values()) if spec is not None)

    @property
    def turns(self) -> frozenset[str]:
        """The names under which its engines take turns with other stages'."""
        specs = () if self.engine is None else (self.engine, *self.engines.values())
        return frozenset(spec.takes_turns for spec in specs if spec.takes_turns is not None)

    @property
    def is_store(self) -> bool:
        """Whether its rows are facts about samples, kept in a store (else the result is a snapshot)."""
        return self.operator.scope == "sample"

    @property
    def samples(self) -> bool:
        """Whether this is a sampling stage."""
        return isinstance(self.operator, Sampling)


@dataclass
class Pipeline:
    """A named graph of stages, in the order in which they can run."""

    name: str
    stages: dict[str, Stage] = field(default_factory=dict[str, Stage])

    def stage(
        self,
        name: str,
        operator: Operator,
        *,
        engine: EngineSpec | None = None,
        engines: Mapping[str, EngineSpec] | None = None,
        offered: Mapping[str, Stage] | None = None,
        **inputs: Stage,
    ) -> Stage:
        """Add a stage whose inputs are earlier stages, and return it.

        Args:
            engines: of a sampling stage with a strategy, the engines that it asks beside ``engine``, by role.
            offered: inputs by name, of which the operator takes those that it has (where a user chooses the operator).

        Raises:
            BadInput: a name twice, an input that is missing, unknown or lacks a column the operator reads, an engine
                where none is used or none where one is needed.
        """
        where = f"pipeline {self.name}, stage {name}"
        inputs |= {key: stage for key, stage in (offered or {}).items() if key in operator.inputs and key not in inputs}
        if name in self.stages:
            raise BadInput(f"{where}: there is a stage of this name already")
        if share := self._held_out():
            operator = operator.with_holdout(share)
        if operator.scope == "source" and self.stages:
            raise BadInput(f"{where}: a source must come first, and there can be only one")
        if operator.scope != "source" and not self.stages:
            raise BadInput(f"{where}: the first stage must be a source of problems, such as load")
        _check_inputs(where, operator, inputs, self.stages.values())
        if ("engine" in operator.tools) != (engine is not None):
            verb = "needs" if engine is None else "doesn't use"
            raise BadInput(f"{where}: {operator.public_name()} {verb} an engine")
        if isinstance(operator, Sampling) and engine is not None:
            _check_guides(where, operator, engine)
        if isinstance(operator, Sampling):
            try:
                operator.refuse_equal_episodes()
            except BadInput as error:
                raise BadInput(f"{where}: {error}") from error
        if operator.scope == "sample" and (operator.output not in STORES or operator.output.repeats):
            raise BadInput(
                f"{where}: a sample-scope operator gives {[kind.__name__ for kind in STORES if not kind.repeats]}, not "
                f"{operator.output.__name__}; use scope 'problem' or 'dataset'"
            )
        if engine is not None:
            protect_settings(engine.model_dump())
        roles = _checked_roles(where, operator, engines or {})
        if engine is not None:
            _check_turns(where, [engine, *roles.values()])
        added = Stage(name, operator, dict(inputs), engine, roles)
        self.stages[name] = added
        return added

    def _held_out(self) -> float:
        """Return the share of the problems that the source holds out."""
        source = next((stage.operator for stage in self.stages.values()), None)
        return source.holdout if isinstance(source, Load) else 0.0


def _checked_roles(where: str, operator: Operator, engines: Mapping[str, EngineSpec]) -> dict[str, EngineSpec]:
    """Return the engines of the roles that a strategy asks.

    Raises:
        BadInput: a role that it needs has none, or one is given that nobody asks.
    """
    strategy = operator.strategy if isinstance(operator, Sampling) else None
    known = () if strategy is None else tuple(dict.fromkeys((*strategy.asks, *strategy.optional_roles)))
    for role, spec in engines.items():
        if role not in known:
            asks = f"it asks {', '.join(known)}" if known else "it asks no engine but the stage's own"
            raise BadInput(f"{where}: no role '{role}': {asks}")
        protect_settings(spec.model_dump())
    lacking = [] if strategy is None else [role for role in strategy.asks if role not in engines]
    if strategy is not None and lacking:
        raise BadInput(f"{where}: strategy {strategy.public_name()} asks {', '.join(lacking)}: give engines={{...}}")
    return dict(engines)


def _check_turns(where: str, specs: Sequence[EngineSpec]) -> None:
    """Refuse engines of one stage that would have to work at the same time on the same GPUs."""
    names = [spec.takes_turns for spec in specs if spec.takes_turns is not None]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise BadInput(
            f"{where}: two of its engines take turns as '{twice[0]}', but they work at the same time: give each a name "
            "of its own, or share a GPU side by side (engine.gpus=0.5)"
        )


def _check_guides(where: str, operator: Sampling, engine: EngineSpec) -> None:
    for guide in ("json_schema", "regex"):
        if getattr(operator, guide) is not None and guide not in engine.guides:
            can = f"it can do {sorted(engine.guides)}" if engine.guides else "it can't guide decoding"
            raise BadInput(f"{where}: engine '{getattr(engine, 'kind', '')}' doesn't know {guide}; {can}")

    strategy = operator.strategy
    if strategy is not None and strategy.by_tokens and engine.cannot_grow_trees:
        raise BadInput(
            f"{where}: engine '{getattr(engine, 'kind', '')}' can't search by tokens (strategy "
            f"{strategy.public_name()}): {engine.cannot_grow_trees}"
        )
    if operator.cut is not None and engine.cannot_cut:
        raise BadInput(
            f"{where}: engine '{getattr(engine, 'kind', '')}' can't cut traces (sample.cut): {engine.cannot_cut}"
        )


def _check_inputs(where: str, operator: Operator, inputs: Mapping[str, Stage], known: Iterable[Stage]) -> None:
    unknown = inputs.keys() - operator.inputs.keys()
    if unknown:
        name = min(unknown)
        near = difflib.get_close_matches(name, operator.inputs, n=1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        raise BadInput(f"{where}: {operator.public_name()} has no input '{name}'{hint} It has {list(operator.inputs)}")
    absent = operator.inputs.keys() - inputs.keys() - operator.optional
    if absent:
        raise BadInput(f"{where}: {operator.public_name()} needs input(s) {sorted(absent)}")
    known = list(known)
    for name, upstream in inputs.items():
        if upstream not in known:
            raise BadInput(f"{where}: input '{name}' is a stage of another pipeline")
        given = upstream.operator.output
        lacking = [column for column in operator.inputs[name].names if column not in given.column_names()]
        if lacking:
            raise BadInput(
                f"{where}: input '{name}' reads column(s) {lacking}, but stage {upstream.name} gives {given.__name__} "
                f"with {given.column_names()}"
            )
        if operator.scope != "dataset" and upstream.operator.scope == "dataset":
            raise BadInput(f"{where}: only dataset-scope operators read a dataset-scope result ({upstream.name})")
        if operator.scope == "sample" and upstream.operator.scope == "problem":
            raise BadInput(f"{where}: a sample-scope operator can't read a problem-scope result ({upstream.name})")
    if operator.scope == "sample" and not isinstance(operator, Sampling):
        stores = [stage for stage in inputs.values() if stage.is_store]
        if not any(stage.operator.output is datasets.Sample for stage in stores):
            raise BadInput(f"{where}: a sample-scope operator reads the samples of a sampling stage")


def sampling_stage(stage: Stage) -> Stage:
    """Return the sampling stage that a store stage's rows are about."""
    if stage.samples:
        return stage
    return next(sampling_stage(upstream) for upstream in stage.inputs.values() if upstream.is_store)
