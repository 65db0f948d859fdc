"""The engines that have to conform, and what each of them promises. A new engine is one more ``Case``."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from importlib.util import find_spec

import pytest

from schemas.engine import EngineSpec, LlamaCppSpec, OpenAISpec, ScriptedSpec
from tests.engines import llama_server

KEY_ENV = "GRISTMILL_CONFORMANCE_KEY"
KEY = "conformance-key"


TEXT = frozenset({"understands", "fits", "continues"})
"""What a model behind a prompt of plain text promises."""
LOADS_AGAIN = frozenset({"another loop", "closes twice"})


@dataclass(frozen=True)
class Case:
    """One engine under test. A test of what it doesn't promise isn't collected (``needs`` in the tests).

    Attributes:
        serving: a context that yields the specification of the engine; servers live as long as it.
        promises: ``understands``: a model answers what the prompt says (not so exactly behind a chat template);
            ``fits``: a text that can't fit is refused; ``continues``: a begun completion; ``tells stops``: that a stop
            string, and not the model's own end, ended a text; ``likelihood``: it scores; ``json_schema``, ``regex``: it
            keeps to guides; ``searches by tokens``; ``tells cached``: how much of a prompt it knew; ``another loop``,
            ``closes twice``: cheap enough to be tried.
        chat: whether prompts are conversations (a chat endpoint) or text.
        slots: how many requests it works on at once.
        reference: the case whose likelihoods are the reference of this one's log-probs: itself (teacher-forced),
            another with the same weights, or none where there is no model.
        tolerance: nats per token.
        marks: of the tests.
    """

    name: str
    serving: Callable[[], AbstractContextManager[EngineSpec]]
    promises: frozenset[str]
    chat: bool = False
    slots: int = 4
    reference: str | None = None
    tolerance: float = 0.02
    marks: tuple[pytest.MarkDecorator, ...] = field(default_factory=tuple)

    @property
    def model(self) -> bool:
        """Whether there is one behind it."""
        return "fits" in self.promises

    def keeps(self, needed: str) -> bool:
        return self.reference is not None if needed == "reference" else needed in self.promises


@contextlib.contextmanager
def scripted() -> Iterator[EngineSpec]:
    answers = tuple(f"answer {number} ☂ é" for number in range(200))
    yield ScriptedSpec(answers=answers, slots=4, context=256, latency=0.01)


@contextlib.contextmanager
def llama_cpp() -> Iterator[EngineSpec]:
    yield LlamaCppSpec(slots=4, context=256)


def served(api: str) -> Callable[[], AbstractContextManager[EngineSpec]]:
    @contextlib.contextmanager
    def serving() -> Iterator[EngineSpec]:
        with pytest.MonkeyPatch.context() as patch, llama_server(KEY) as url:
            patch.setenv(KEY_ENV, KEY)
            yield OpenAISpec.model_validate(
                {"url": url, "model": "smollm2", "api": api, "key_env": KEY_ENV, "context": 256, "concurrency": 8}
                | {"logprobs": True, "extra_body": LLAMA_DEFAULTS_OFF}
            )

    return serving


LLAMA_DEFAULTS_OFF = {"top_k": 0, "min_p": 0.0, "samplers": ["top_k", "top_p", "min_p", "temperature"]}
"""llama.cpp's server has defaults of its own (40, 0.05) that change the distribution."""


@contextlib.contextmanager
def vllm() -> Iterator[EngineSpec]:
    from tests.with_vllm.vllm_cpu import on_cpu

    yield on_cpu(confidence=True)  # which other tests have, too


def vllm_served(api: str) -> Callable[[], AbstractContextManager[EngineSpec]]:
    @contextlib.contextmanager
    def serving() -> Iterator[EngineSpec]:
        from tests.with_vllm.vllm_cpu import SERVED, vllm_serve

        common = {"model": SERVED, "api": api, "context": 512, "concurrency": 16, "logprobs": True}
        yield OpenAISpec.model_validate({"url": vllm_serve(), **common})

    return serving


CASES = [
    Case("scripted", scripted, LOADS_AGAIN | {"likelihood", "tells stops", "searches by tokens"}),
    Case(
        "llama_cpp",
        llama_cpp,
        TEXT | LOADS_AGAIN | {"likelihood", "tells stops", "tells cached", "json_schema", "searches by tokens"},
        reference="itself",
    ),
    Case(
        "llama.cpp server, completions",
        served("completions"),
        TEXT | LOADS_AGAIN | {"tells cached"},
        reference="llama_cpp",
    ),
    Case(
        "llama.cpp server, chat",
        served("chat"),
        frozenset({"fits", "continues", "tells cached", "json_schema"}),
        chat=True,
        reference="llama_cpp",
    ),
]
"""What every environment can run."""
WITH_VLLM = [
    Case(
        "vllm",
        vllm,
        TEXT | {"likelihood", "tells stops", "json_schema", "regex"},
        slots=16,
        reference="itself",
        marks=(pytest.mark.vllm,),
    ),
    Case(
        "vllm serve, completions",
        vllm_served("completions"),
        TEXT | {"likelihood", "tells stops", "json_schema", "regex"},
        slots=16,
        reference="itself",
        marks=(pytest.mark.vllm,),
    ),
    Case(
        "vllm serve, chat",
        vllm_served("chat"),
        frozenset({"fits", "continues", "tells stops", "json_schema", "regex"}),
        chat=True,
        slots=16,
        marks=(pytest.mark.vllm,),
    ),
]
if find_spec("vllm"):
    CASES += WITH_VLLM
