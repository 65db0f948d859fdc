"""A mixture-of-experts model in numbers: parameters, bytes per expert and per token, from its ``config.json``."""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.moe.known import CONFIGS
from cluster.moe.measure import Costs
from cluster.moe.topology import Cluster
from schemas.errors import BadInput

BITS = {"float32": 32.0, "bfloat16": 16.0, "float16": 16.0, "fp8": 8.0, "mxfp4": 4.25, "int8": 8.0, "int4": 4.5}
"""Of a weight, scales included."""
EXPERTS = ("n_routed_experts", "num_experts", "num_local_experts")
TOP_K = ("num_experts_per_tok", "num_experts_per_token")
EFFICIENCY = 0.45
"""Of the peak, what grouped matrix products reach."""


@dataclass(frozen=True)
class MoeModel:
    """What layouts and placements need to know of a model.

    Attributes:
        layers: all of them; ``moe_layers`` have experts.
        groups: of experts, which routers may prefer (1: none).
        expert: parameters of one expert.
        shared: parameters of a layer's shared experts and router.
        dense: parameters of the MLPs of all layers without experts.
        attention: parameters of one layer's attention and norms.
        embeddings: of input and output.
        heads, kv_heads: ``kv_heads`` is 1 where the cache is a shared latent (MLA), which tensor parallelism can't cut.
        kv_values: values that the cache has of one token in one layer.
        expert_bits, other_bits: of a weight.
    """

    name: str
    layers: int
    moe_layers: int
    hidden: int
    experts: int
    top_k: int
    groups: int
    expert: int
    shared: int
    dense: int
    attention: int
    embeddings: int
    heads: int
    kv_heads: int
    kv_values: int
    expert_bits: float
    other_bits: float

    @property
    def parameters(self) -> int:
        """All parameters."""
        return self._outside + self.moe_layers * self.experts * self.expert

    @property
    def active(self) -> int:
        """Parameters that one token uses."""
        return self._outside + self.moe_layers * self.top_k * self.expert

    @property
    def _outside(self) -> int:
        return self.embeddings + self.dense + self.layers * self.attention + self.moe_layers * self.shared

    @property
    def expert_bytes(self) -> float:
        """Bytes of one expert of one layer."""
        return self.expert * self.expert_bits / 8

    @property
    def slot_bytes(self) -> float:
        """Bytes of one redundant slot over all layers with experts."""
        return self.expert_bytes * self.moe_layers

    @property
    def other_bytes(self) -> float:
        """Bytes of everything but routed experts."""
        return self._outside * self.other_bits / 8

    @property
    def kv_bytes(self) -> float:
        """Bytes of the cache of one token, in all layers (16-bit values)."""
        return 2.0 * self.kv_values * self.layers


def read_model(text: str) -> MoeModel:
    """Read a model by its published name, from a ``config.json``, or from a folder with one.

    Raises:
        BadInput: no such name or file, or no mixture of experts; the key that lacks is named.
    """
    known = {name.lower(): name for name in CONFIGS}
    if text.lower() in known:
        name = known[text.lower()]
        return of_config(name, CONFIGS[name])
    path = Path(text) / "config.json" if Path(text).is_dir() else Path(text)
    if not path.exists():
        near = difflib.get_close_matches(text, CONFIGS, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise BadInput(f"no model '{text}': {hint}give a config.json, or one of {', '.join(CONFIGS)}")
    try:
        config = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise BadInput(f"'{path}' can't be read as JSON: {error}") from error
    if not isinstance(config, dict):
        raise BadInput(f"'{path}' must be a JSON object")
    return of_config(str(config.get("_name_or_path") or text), config)  # pyright: ignore[reportUnknownArgumentType, reportUnknownMemberType]


def of_config(name: str, config: dict[str, Any]) -> MoeModel:
    """Return the numbers of a Hugging Face configuration.

    Raises:
        BadInput: a key that lacks.
    """
    config = {**config, **config["text_config"]} if isinstance(config.get("text_config"), dict) else config

    def need(*keys: str) -> int:
        for key in keys:
            if config.get(key) is not None:
                return int(config[key])
        raise BadInput(f"model '{name}': its config has no {' or '.join(keys)}; is it a mixture of experts?")

    hidden, layers, experts = need("hidden_size"), need("num_hidden_layers"), need(*EXPERTS)
    family = str(config.get("model_type", ""))
    inner = need("moe_intermediate_size", "intermediate_size")
    moe_layers = _moe_layers(config, layers)
    biases = family == "gpt_oss"
    expert = 3 * hidden * inner + (2 * inner + hidden if biases else 0)
    shared = hidden * experts + (experts if biases else 0)
    shared += 3 * hidden * inner * int(config.get("n_shared_experts") or 0)
    if config.get("shared_expert_intermediate_size"):
        shared += 3 * hidden * int(config["shared_expert_intermediate_size"]) + hidden
    dense = (layers - moe_layers) * 3 * hidden * int(config.get("intermediate_size") or inner)
    heads = need("num_attention_heads")
    attention, kv_heads, kv_values = _attention(config, hidden, heads, biases or family == "qwen2_moe")
    expert_bits, other_bits = _bits(config)
    tied = bool(config.get("tie_word_embeddings", False))
    return MoeModel(
        name=name,
        layers=layers,
        moe_layers=moe_layers,
        hidden=hidden,
        experts=experts,
        top_k=need(*TOP_K),
        groups=int(config.get("n_group") or 1),
        expert=expert,
        shared=shared,
        dense=dense,
        attention=attention + 2 * hidden,
        embeddings=need("vocab_size") * hidden * (1 if tied else 2),
        heads=heads,
        kv_heads=kv_heads,
        kv_values=kv_values,
        expert_bits=expert_bits,
        other_bits=other_bits,
    )


def _moe_layers(config: dict[str, Any], layers: int) -> int:
    first = int(config.get("first_k_dense_replace") or 0)
    every = int(config.get("moe_layer_freq") or config.get("decoder_sparse_step") or 1)
    plain = set(config.get("mlp_only_layers") or ())
    if "decoder_sparse_step" in config:
        return sum(1 for layer in range(layers) if layer not in plain and (layer + 1) % every == 0)
    return sum(1 for layer in range(first, layers) if layer % every == 0 and layer not in plain)


def _attention(config: dict[str, Any], hidden: int, heads: int, biases: bool) -> tuple[int, int, int]:
    """Return (parameters of a layer, heads of the cache, values of the cache per token)."""
    if config.get("kv_lora_rank"):
        latent, rope = int(config["kv_lora_rank"]), int(config["qk_rope_head_dim"])
        nope, value = int(config["qk_nope_head_dim"]), int(config["v_head_dim"])
        rank = int(config.get("q_lora_rank") or 0)
        query = hidden * rank + rank * heads * (nope + rope) if rank else hidden * heads * (nope + rope)
        keys = hidden * (latent + rope) + latent * heads * (nope + value)
        return query + keys + heads * value * hidden, 1, latent + rope
    kv_heads = int(config.get("num_key_value_heads") or heads)
    size = int(config.get("head_dim") or hidden // heads)
    found = hidden * size * (2 * heads + 2 * kv_heads)
    if biases:
        found += size * (heads + 2 * kv_heads)
    return found, kv_heads, 2 * kv_heads * size


def _bits(config: dict[str, Any]) -> tuple[float, float]:
    """Return bits of an expert's weight and of another one's."""
    plain = BITS.get(str(config.get("torch_dtype") or config.get("dtype") or "bfloat16"), 16.0)
    quantised: dict[str, Any] = config.get("quantization_config") or {}
    method = str(quantised.get("quant_method", ""))
    if method == "mxfp4":
        return BITS["mxfp4"], plain
    if method == "fp8":
        return BITS["fp8"], BITS["fp8"]
    bits = quantised.get("bits")
    return (float(bits) * 1.1, float(bits) * 1.1) if bits else (plain, plain)


def costs_of(model: MoeModel, cluster: Cluster) -> Costs:
    """Return what a token costs in an expert and on its way between nodes (sent as 8 bits a value, returned as 16)."""
    return Costs(
        compute=2.0 * model.expert / (cluster.tflops * 1e12 * EFFICIENCY),
        traffic=3.0 * model.hidden / (cluster.network_gb_s * 1e9),
    )
