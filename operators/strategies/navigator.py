"""The navigator of ``rlot``: 2,566 parameters that say what each reasoning block is worth in a state (NumPy)."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path

from schemas.errors import BadInput
from schemas.later import Floats, np, pl

RATINGS = 7
"""Numbers of a state: self-ratings in -1, 0, 1."""
BLOCKS = ("reason", "decompose", "debate", "refine", "terminate")
LAYERS = {"shared": (7, 32), "value": (32, 32), "value_out": (32, 1), "advantage": (32, 32), "advantage_out": (32, 5)}
"""A dueling network: Q = V + A - mean(A). These sizes are the only ones with equal hidden widths that give 2,566."""
PARAMETERS = sum((inputs + 1) * outputs for inputs, outputs in LAYERS.values())


class Network:
    """The network of one vector of parameters; ``gradient`` goes back through the last ``q``."""

    def __init__(self, parameters: Floats) -> None:
        if parameters.shape != (PARAMETERS,):
            raise BadInput(f"a navigator has {PARAMETERS} parameters, not {parameters.size}")
        self.parameters = parameters
        self.weights, self.biases = _views(parameters)
        self._seen: dict[str, Floats] = {}

    @staticmethod
    def fresh(seed: int) -> Network:
        """Return a network with He's initialisation, and biases of 0."""
        draws = np.random.default_rng(seed)
        parts = [
            part
            for inputs, outputs in LAYERS.values()
            for part in (draws.normal(0.0, np.sqrt(2.0 / inputs), inputs * outputs), np.zeros(outputs))
        ]
        return Network(np.concatenate(parts))

    def q(self, states: Floats) -> Floats:
        """Return the values of all blocks (states, 5), given states (states, 7)."""
        seen = {"states": states}
        seen["shared"] = np.maximum(0.0, self._through("shared", states))
        for stream in ("value", "advantage"):
            seen[stream] = np.maximum(0.0, self._through(stream, seen["shared"]))
        advantage = self._through("advantage_out", seen["advantage"])
        self._seen = seen
        return self._through("value_out", seen["value"]) + advantage - advantage.mean(axis=1, keepdims=True)

    def gradient(self, by_q: Floats) -> Floats:
        """Return the gradient by the parameters, given that by the values of the last ``q``."""
        found = np.zeros(PARAMETERS)
        weights, biases = _views(found)
        back = np.zeros_like(self._seen["shared"])
        by_out = {"value": by_q.sum(axis=1, keepdims=True), "advantage": by_q - by_q.mean(axis=1, keepdims=True)}
        for stream, by in by_out.items():
            weights[f"{stream}_out"][:] = self._seen[stream].T @ by
            biases[f"{stream}_out"][:] = by.sum(axis=0)
            hidden = (by @ self.weights[f"{stream}_out"].T) * (self._seen[stream] > 0)
            weights[stream][:] = self._seen["shared"].T @ hidden
            biases[stream][:] = hidden.sum(axis=0)
            back += hidden @ self.weights[stream].T
        back *= self._seen["shared"] > 0
        weights["shared"][:] = self._seen["states"].T @ back
        biases["shared"][:] = back.sum(axis=0)
        return found

    def best(self, state: Sequence[float], allowed: Sequence[int]) -> int:
        """Return the block of the largest value among those that are allowed."""
        values = self.q(np.array([state], dtype=np.float64))[0]
        return max(allowed, key=lambda block: (values[block], -block))

    def _through(self, layer: str, values: Floats) -> Floats:
        return values @ self.weights[layer] + self.biases[layer]


def _views(vector: Floats) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """Return the matrices and biases that lie in a vector, by layer."""
    weights, biases, at = dict[str, Floats](), dict[str, Floats](), 0
    for name, (inputs, outputs) in LAYERS.items():
        weights[name] = vector[at : at + inputs * outputs].reshape(inputs, outputs)
        biases[name] = vector[at + inputs * outputs : at + (inputs + 1) * outputs]
        at += (inputs + 1) * outputs
    return weights, biases


def as_text(network: Network) -> str:
    """Return the parameters as text (float32, base 64): they are known by what they are, wherever their file lies."""
    return base64.b64encode(network.parameters.astype("<f4").tobytes()).decode()


def from_text(text: str) -> Network:
    return Network(np.frombuffer(base64.b64decode(text), dtype="<f4").astype(np.float64))


def read(value: str) -> str:
    """Return the text of a navigator, given it or a Parquet file of ``train.navigator``."""
    if not value or len(value) == len(base64.b64encode(bytes(4 * PARAMETERS))):
        return value
    if not Path(value).exists():
        raise ValueError(f"'{value}' is neither a navigator nor a file of train.navigator")
    found = dict(pl.read_parquet(value).select("layer", "values").iter_rows())
    if list(found) != list(LAYERS) and set(found) != set(LAYERS):
        raise ValueError(f"'{value}' has layers {sorted(found)}, not {sorted(LAYERS)}")
    return as_text(Network(np.concatenate([np.array(found[layer]) for layer in LAYERS])))
