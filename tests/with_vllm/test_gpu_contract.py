"""What only a GPU can run, held against vLLM's own signatures: arguments, sleep and wake, versions."""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path
from typing import Any

import pytest
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.platforms import current_platform
from vllm.v1.engine.async_llm import AsyncLLM

from cluster.engines.vllm.arguments import arguments
from cluster.engines.vllm.engine import VllmEngine
from schemas.engine import VLLM_EXECUTION, VLLM_FIELDS, VllmSpec
from tests.engines import Running
from tests.with_vllm.models import ADAPTER, SMOLLM2

pytestmark = pytest.mark.vllm

KNOWN = {field.name for field in dataclasses.fields(AsyncEngineArgs)}


def on_a_gpu(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> dict[str, Any]:
    """Return what vLLM would be told on a machine with GPUs."""
    monkeypatch.setattr(current_platform, "is_cpu", lambda: False)
    return arguments(VllmSpec.model_validate({"model": str(SMOLLM2), **changes}))


def test_all_arguments_are_vllms(monkeypatch: pytest.MonkeyPatch) -> None:
    everything = {
        "tensor_parallel": 4,
        "pipeline_parallel": 2,
        "data_parallel": 2,
        "expert_parallel": True,
        "quantization": "fp8",
        "adapter": str(ADAPTER),
        "takes_turns": "gpu",
        "engine_kwargs": {"kv_cache_dtype": "fp8"},
    }
    told = on_a_gpu(monkeypatch, **everything)
    assert told.keys() <= KNOWN
    assert told["tensor_parallel_size"] == 4
    assert told["pipeline_parallel_size"] == 2
    assert told["data_parallel_size"] == 2
    assert told["data_parallel_backend"] == "ray"
    assert told["distributed_executor_backend"] == "ray"
    assert told["enable_expert_parallel"] is True
    assert told["quantization"] == "fp8"
    assert told["enable_sleep_mode"] is True
    assert told["gpu_memory_utilization"] == 0.9
    assert told["kv_cache_dtype"] == "fp8"
    assert told["max_lora_rank"] == 8
    assert "enable_chunked_prefill" not in told
    assert on_a_gpu(monkeypatch)["enable_sleep_mode"] is False


def test_fields_and_execution_arguments_have_vllms_names() -> None:
    assert VLLM_FIELDS.keys() <= KNOWN
    assert KNOWN >= VLLM_EXECUTION


def test_sleep_gives_the_memory_back_and_wake_takes_it(monkeypatch: pytest.MonkeyPatch, smollm2: Running) -> None:
    calls: list[Any] = []

    class Asked:
        async def sleep(self, *args: Any, **kwargs: Any) -> None:
            calls.append(inspect.signature(AsyncLLM.sleep).bind(self, *args, **kwargs).arguments)

        async def wake_up(self, *args: Any, **kwargs: Any) -> None:
            calls.append(inspect.signature(AsyncLLM.wake_up).bind(self, *args, **kwargs).arguments)

    engine = smollm2.engine
    assert isinstance(engine, VllmEngine)
    monkeypatch.setattr(engine, "_on_gpu", lambda: True)
    monkeypatch.setattr(engine, "_engine", Asked())
    smollm2.do(engine.sleep())
    smollm2.do(engine.wake())
    assert calls[0]["level"] == 1  # weights to main memory, the cache forgotten
    assert len(calls) == 2


def test_the_gpu_requirements_name_the_version_that_the_code_was_read_against() -> None:
    lines = (Path(__file__).parents[2] / "infra" / "gpu" / "requirements.txt").read_text().splitlines()
    assert [line for line in lines if line.startswith("vllm")] == ["vllm==0.33.0"]
