"""What vLLM is told of an engine's settings: arguments, an adapter, a parser of reasoning."""

# pyright: reportMissingImports=false
# vLLM has an environment of its own: the one that types are checked in hasn't got it

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from schemas.engine import VllmSpec
from schemas.errors import BadInput


def arguments(spec: VllmSpec) -> dict[str, Any]:
    """Return vLLM's own arguments; ``engine_kwargs`` come last."""
    from vllm.platforms import current_platform

    told: dict[str, Any] = {
        "model": str(Path(spec.model).expanduser()) if Path(spec.model).expanduser().is_dir() else spec.model,
        "revision": spec.revision or None,
        "runner": "generate" if spec.task == "generate" else "pooling",
        "dtype": spec.dtype,
        "quantization": spec.quantization,
        "max_model_len": spec.context,
        "max_num_seqs": spec.slots,
        "tensor_parallel_size": spec.tensor_parallel,
        "pipeline_parallel_size": spec.pipeline_parallel,
        "data_parallel_size": spec.data_parallel,
        "enable_expert_parallel": spec.expert_parallel,
        "enable_prefix_caching": spec.task != "token_classify",
        "generation_config": "vllm",  # a model's own defaults (top_k, temperature) would change the distribution
        "disable_log_stats": True,
    }
    if spec.expert_counts:
        told |= {"worker_extension_cls": "cluster.engines.vllm.routing.RoutingCounts", "enforce_eager": True}
    if spec.adapter:
        told |= {"enable_lora": True, "max_loras": 1, "max_lora_rank": _lora_rank(spec.adapter)}
    if current_platform.is_cpu():
        # a seeded request whose prefill is cut into chunks ends the CPU backend
        told |= {"enable_chunked_prefill": False, "max_num_batched_tokens": max(4096, spec.context)}
    else:
        told |= {
            "gpu_memory_utilization": spec.gpu_memory_utilization,
            "enable_sleep_mode": spec.takes_turns is not None,
        }
    if spec.ranks > 1:  # its workers are Ray's, in the placement group of this one
        told["distributed_executor_backend"] = "ray"
    if spec.data_parallel > 1:
        told["data_parallel_backend"] = "ray"
    return told | spec.engine_kwargs


def lora(adapter: str) -> Any:
    from vllm.lora.request import LoRARequest

    return LoRARequest("adapter", 1, str(Path(adapter).expanduser()))


def _lora_rank(adapter: str) -> int:
    """Return the smallest of vLLM's ranks that holds the adapter's."""
    rank = int(json.loads((Path(adapter).expanduser() / "adapter_config.json").read_text())["r"])
    return next((known for known in (8, 16, 32, 64, 128, 256, 320, 512) if known >= rank), rank)


def reasoning_parser(spec: VllmSpec, tokenizer: Any) -> tuple[Any, Any]:
    """Return vLLM's reasoning parser and the chat request that it wants to see; (None, None) where none is asked for.

    Raises:
        BadInput: vLLM has no parser of this name.
    """
    if not spec.reasoning_parser:
        return None, None
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
    from vllm.reasoning import ReasoningParserManager

    try:
        parser = ReasoningParserManager.get_reasoning_parser(spec.reasoning_parser)(tokenizer)
    except KeyError as error:
        raise BadInput(f"engine.reasoning_parser: vLLM has no parser '{spec.reasoning_parser}' ({error})") from error
    except (RuntimeError, ValueError) as error:
        raise BadInput(f"engine.reasoning_parser '{spec.reasoning_parser}' is for other models: {error}") from error
    return parser, parser.adjust_request(ChatCompletionRequest(messages=[], model=spec.model))
