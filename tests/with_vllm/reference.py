"""The reference: transformers, full precision, teacher-forced. What a text's log-probs are, by direct evaluation."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.with_vllm.models import SMOLLM2


@cache
def _model(folder: Path) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)


def token_ids(text: str, folder: Path = SMOLLM2) -> list[int]:
    return _model(folder)[1].encode(text, add_special_tokens=False)


def end_token(folder: Path = SMOLLM2) -> int:
    return int(_model(folder)[1].eos_token_id)


def distributions(prompt: list[int], completion: list[int], folder: Path = SMOLLM2) -> NDArray[np.float64]:
    """Return the log-probs [completion tokens, vocabulary] that the model gives at each place of a completion."""
    import torch

    model, _ = _model(folder)
    with torch.no_grad():
        logits = model(torch.tensor([prompt + completion])).logits[0, len(prompt) - 1 : -1]
    return torch.log_softmax(logits.double(), dim=-1).numpy()


def logprobs(prompt: list[int], completion: list[int], folder: Path = SMOLLM2) -> NDArray[np.float64]:
    """Return the log-prob of each token of a completion."""
    return distributions(prompt, completion, folder)[np.arange(len(completion)), completion]


def classify(text: str, folder: Path) -> NDArray[np.float64]:
    """Return the logits of a sequence classifier [labels], or of a token classifier [tokens, labels]."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification, AutoTokenizer

    tokens = "TokenClassification" in (folder / "config.json").read_text()
    kind = AutoModelForTokenClassification if tokens else AutoModelForSequenceClassification
    ids = AutoTokenizer.from_pretrained(folder).encode(text, add_special_tokens=False)
    with torch.no_grad():
        return kind.from_pretrained(folder).eval()(torch.tensor([ids])).logits[0].double().numpy()
