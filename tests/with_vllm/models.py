"""Small real models for vLLM on a CPU: SmolLM2's weights out of its GGUF file, a random mixture, a random classifier.

``python -m tests.with_vllm.models`` makes them once, below the environment's own folder (about 600 MB).
"""

from __future__ import annotations

import sys
from pathlib import Path

FOLDER = Path(sys.prefix) / "models"
SMOLLM2 = FOLDER / "smollm2-135m-instruct"
MIXTURE = FOLDER / "tiny-qwen3-moe"
CLASSIFIER = FOLDER / "tiny-classifier"
"""A sequence classifier with one label: a reward model's shape."""
PROCESS = FOLDER / "tiny-process-reward"
"""A token classifier with two labels: a process reward model's shape."""
ADAPTER = FOLDER / "smollm2-lora"
"""A random LoRA adapter of SmolLM2, strong enough to change every text."""


def make_all() -> None:
    """Make what isn't there yet."""
    for folder, make in (
        (SMOLLM2, _smollm2),
        (MIXTURE, _mixture),
        (CLASSIFIER, _classifier),
        (PROCESS, _process),
        (ADAPTER, _adapter),
    ):
        if not (folder / "config.json").exists() and not (folder / "adapter_config.json").exists():
            make(folder)


def _smollm2(folder: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    from cluster.engines.llama_cpp import EMBEDDED, find_model

    path = find_model(EMBEDDED)
    quantized = GgufConfig(dequantize=True)
    model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, quantization_config=quantized)
    model.float().save_pretrained(folder)
    AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name).save_pretrained(folder)


def _tokenizer(folder: Path) -> int:
    """Put SmolLM2's tokenizer, with the tags of reasoning, beside a random model; return the size of its vocabulary."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(SMOLLM2)
    tokenizer.add_tokens(["<think>", "</think>"])
    tokenizer.save_pretrained(folder)
    return len(tokenizer)


def _mixture(folder: Path) -> None:
    import torch
    from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

    torch.manual_seed(0)
    config = Qwen3MoeConfig(
        vocab_size=_tokenizer(folder),
        hidden_size=64,
        intermediate_size=128,
        moe_intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        num_experts=16,
        num_experts_per_tok=4,
        norm_topk_prob=True,
        max_position_embeddings=1024,
    )
    Qwen3MoeForCausalLM(config).save_pretrained(folder)


def _qwen2(folder: Path, labels: int) -> object:
    from transformers import Qwen2Config

    return Qwen2Config(
        vocab_size=_tokenizer(folder),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,  # of 32 dimensions: the CPU backend knows none smaller
        num_key_value_heads=2,
        max_position_embeddings=1024,
        num_labels=labels,
        pad_token_id=0,
    )


def _classifier(folder: Path) -> None:
    import torch
    from transformers import Qwen2ForSequenceClassification

    torch.manual_seed(1)
    Qwen2ForSequenceClassification(_qwen2(folder, 1)).save_pretrained(folder)


def _process(folder: Path) -> None:
    import torch
    from transformers import Qwen2ForTokenClassification

    torch.manual_seed(2)
    Qwen2ForTokenClassification(_qwen2(folder, 2)).save_pretrained(folder)


def _adapter(folder: Path) -> None:
    import json

    import torch
    from safetensors.torch import save_file

    torch.manual_seed(3)
    shape = json.loads((SMOLLM2 / "config.json").read_text())
    hidden, layers, rank = shape["hidden_size"], shape["num_hidden_layers"], 8
    tensors: dict[str, torch.Tensor] = {}
    for layer in range(layers):
        name = f"base_model.model.model.layers.{layer}.self_attn.q_proj"
        tensors[f"{name}.lora_A.weight"] = 0.2 * torch.randn(rank, hidden)
        tensors[f"{name}.lora_B.weight"] = 0.2 * torch.randn(hidden, rank)
    folder.mkdir(parents=True)
    save_file(tensors, folder / "adapter_model.safetensors")
    described = {
        "peft_type": "LORA",
        "base_model_name_or_path": str(SMOLLM2),
        "r": rank,
        "lora_alpha": 2 * rank,
        "lora_dropout": 0.0,
        "target_modules": ["q_proj"],
        "bias": "none",
        "task_type": "CAUSAL_LM",
    }
    (folder / "adapter_config.json").write_text(json.dumps(described))


if __name__ == "__main__":
    make_all()
