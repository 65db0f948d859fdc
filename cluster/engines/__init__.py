"""Engines: whatever produces completions from a model. One file each; only the one that is built is imported."""

from __future__ import annotations

import importlib
from typing import Any

from cluster.engines.content import EVERYTHING, Takes
from operators.engine import Engine
from schemas.engine import EngineSpec
from schemas.errors import BadInput
from schemas.extras import remedy

_BUILDERS = {
    "llama_cpp": ("cluster.engines.llama_cpp", "LlamaCppEngine", "xllamacpp"),
    "scripted": ("cluster.engines.scripted", "ScriptedEngine", ""),
    "openai": ("cluster.engines.openai.engine", "OpenAIEngine", "aiohttp"),
    "replay": ("cluster.engines.replay", "ReplayEngine", ""),
    "transformers": ("cluster.engines.transformers", "TransformersEngine", "transformers"),
    "vllm": ("cluster.engines.vllm.engine", "VllmEngine", "vllm"),
}


def _remedy(package: str) -> str:
    """Return what to do where an engine's package isn't installed."""
    if package == "xllamacpp":
        return f"{remedy('local')}, or ask a server: engine.kind=openai, engine.url=URL, engine.model=NAME"
    if package == "transformers":
        return remedy("hf")
    return f"pip install {package}{', on a machine with a GPU' if package == 'vllm' else ''}"


def _engine_class(spec: EngineSpec) -> Any:
    kind = str(getattr(spec, "kind", type(spec).__name__))
    module, name, package = _BUILDERS[kind]
    try:
        return getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        if error.name not in (package, "torch"):
            raise
        raise BadInput(f"engine '{kind}' needs the package '{package}': {_remedy(package)}") from error


def build_engine(spec: EngineSpec) -> Engine:
    """Load the model that ``spec`` describes. Slow; done once, in the worker.

    Raises:
        BadInput: the model or the engine's package can't be found.
    """
    return _engine_class(spec)(spec)


def takes(spec: EngineSpec) -> Takes:
    """Return what an engine can show its model of a conversation, as far as that is known without loading it."""
    kind = _engine_class(spec)
    return kind.takes(spec) if hasattr(kind, "takes") else EVERYTHING


def resolve(spec: EngineSpec) -> tuple[str, str]:
    """Return (model name, revision) without loading the model: what the sampling identity is made of.

    Raises:
        BadInput: the model can't be found.
    """
    return _engine_class(spec).resolve(spec)
