"""Tokens per expert, counted inside vLLM's workers: hooks on the routers of a mixture of experts.

An extension of vLLM's worker, for engines whose load balancer doesn't run (one rank, a CPU); where it does, the counts
come from ``vllm_experts``. A router's best k are taken from its output, as Mixtral's, Qwen's and OLMoE's layers do;
models that limit a token to groups of experts choose otherwise. Compiled graphs skip hooks: engines that count are
eager.
"""

# torch is only in engines' environments, and only partly typed.
# pyright: reportMissingImports=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false

from __future__ import annotations

import re
from typing import Any

GATE = re.compile(r"\.(\d+)\.(?:mlp|block_sparse_moe|feed_forward)\.(?:gate|router)$")
"""A router's name in vLLM's models: its layer."""
TOP_K = ("num_experts_per_tok", "num_experts_per_token")


class RoutingCounts:
    """Methods that vLLM adds to its worker (``worker_extension_cls``)."""

    model_runner: Any

    def begin_counting(self) -> int:
        """Hook all routers; return how many there are."""
        import torch

        model = self.model_runner.get_model()
        config = self.model_runner.model_config.hf_text_config
        k = next((int(getattr(config, name)) for name in TOP_K if getattr(config, name, None)), 0)
        self._expert_counts: dict[int, Any] = {}

        def hook(layer: int) -> Any:
            def count(module: Any, inputs: Any, output: Any) -> None:
                logits = output[0] if isinstance(output, tuple) else output
                best = torch.topk(logits, k, dim=-1).indices
                found = torch.bincount(best.flatten(), minlength=logits.shape[-1])
                known = self._expert_counts.get(layer)
                self._expert_counts[layer] = found if known is None else known + found

            return count

        routers = {int(match[1]): module for name, module in model.named_modules() if (match := GATE.search(name))}
        if k:
            for layer, module in routers.items():
                module.register_forward_hook(hook(layer))
        return len(routers) if k else 0

    def expert_counts(self) -> dict[int, list[int]]:
        """Return the tokens of each expert since counting began, by layer."""
        return {layer: counts.tolist() for layer, counts in sorted(self._expert_counts.items())}
