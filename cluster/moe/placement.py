"""A placement of experts as a file: which expert each slot of each layer holds."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.errors import BadInput


@dataclass(frozen=True)
class Shape:
    """Where experts go: slot s is on GPU ``s // (slots // gpus)``, GPU g on node ``g // (gpus // nodes)``."""

    nodes: int
    gpus: int
    slots: int

    def __post_init__(self) -> None:
        if min(self.nodes, self.gpus, self.slots) < 1 or self.gpus % self.nodes or self.slots % self.gpus:
            raise BadInput(
                f"{self.slots} slots on {self.gpus} GPUs on {self.nodes} nodes don't divide: GPUs must be a multiple "
                "of nodes, slots of GPUs"
            )

    @property
    def node_of(self) -> NDArray[np.int64]:
        """The node of each slot."""
        return np.arange(self.slots) // (self.slots // self.nodes)

    def fits(self, experts: int) -> None:
        """Refuse fewer slots than experts."""
        if self.slots < experts:
            raise BadInput(f"{self.slots} slots can't hold {experts} experts; give at least {experts} slots")


def uniform(row: NDArray[np.int64], nodes: int) -> NDArray[np.float64]:
    """Return equal shares for all replicas of an expert, [nodes, slots]; ``row`` is the expert of each slot."""
    return np.tile(1.0 / np.bincount(row)[row], (nodes, 1))


def fullest(counts: NDArray[Any], row: NDArray[np.int64], gpus: int) -> float:
    """Return the load of the fullest GPU of a layer, where replicas share their expert's tokens equally.

    Args:
        counts: tokens of each expert.
        row: the expert of each slot.
    """
    each = counts / np.maximum(np.bincount(row, minlength=len(counts)), 1)
    return float(each[row].reshape(gpus, -1).sum(axis=1).max())


@dataclass(frozen=True)
class Placement:
    """A plan.

    Attributes:
        physical_to_logical: the expert of each slot, [layers, slots].
        weights: the share of an expert's tokens from each node that goes to each slot, [layers, nodes, slots]; None:
            each replica gets the same.
        counts: tokens of each expert it was planned for, [layers, experts].
        about: what else is told of it.
    """

    shape: Shape
    experts: int
    physical_to_logical: NDArray[np.int64]
    weights: NDArray[np.float64] | None = None
    model: str = ""
    counts: NDArray[np.float64] | None = None
    about: dict[str, Any] = field(default_factory=dict[str, Any])

    def __post_init__(self) -> None:
        table = self.physical_to_logical
        if table.ndim != 2 or table.shape[1] != self.shape.slots:
            raise BadInput(f"physical_to_logical must be [layers, {self.shape.slots}], it is {list(table.shape)}")
        if table.min() < 0 or table.max() >= self.experts:
            raise BadInput(f"physical_to_logical names expert {int(table.max())}; there are {self.experts}")
        for layer, row in enumerate(table):
            absent = np.flatnonzero(np.bincount(row, minlength=self.experts) == 0)
            if len(absent):
                raise BadInput(f"layer {layer}: no slot holds expert(s) {absent[:5].tolist()}")
        if self.weights is not None:
            self._check_weights(self.weights)

    def _check_weights(self, weights: NDArray[np.float64]) -> None:
        wanted = (len(self.physical_to_logical), self.shape.nodes, self.shape.slots)
        if weights.shape != wanted:
            raise BadInput(f"weights must be {list(wanted)}, they are {list(weights.shape)}")
        for layer, row in enumerate(self.physical_to_logical):
            sums = np.zeros((self.shape.nodes, self.experts))
            np.add.at(sums.T, row, weights[layer].T)
            if (weights[layer] < 0).any() or not np.allclose(sums, 1.0, atol=1e-6):
                raise BadInput(f"layer {layer}: an expert's weights from each node must be positive and add up to 1")

    def shares(self, layer: int) -> NDArray[np.float64]:
        """Return the share of each expert's tokens from each node that goes to each slot, [nodes, slots]."""
        if self.weights is not None:
            return self.weights[layer]
        return uniform(self.physical_to_logical[layer], self.shape.nodes)

    def write(self, path: str) -> None:
        """Write the plan as JSON."""
        document: dict[str, Any] = {
            "model": self.model,
            "layers": len(self.physical_to_logical),
            "experts": self.experts,
            "nodes": self.shape.nodes,
            "gpus": self.shape.gpus,
            "slots": self.shape.slots,
            "physical_to_logical": self.physical_to_logical.tolist(),
        }
        if self.weights is not None:
            document["weights"] = np.round(self.weights, 9).tolist()
        if self.counts is not None:
            document["counts"] = self.counts.tolist()
        Path(path).write_text(json.dumps({**document, **self.about}) + "\n")


def read_placement(path: str) -> Placement:
    """Read a plan.

    Raises:
        BadInput: no such file, or no plan: the key or layer that is wrong is named.
    """
    try:
        document = json.loads(Path(path).read_text())
        shape = Shape(*(int(document.pop(name)) for name in ("nodes", "gpus", "slots")))
        experts, layers = int(document.pop("experts")), int(document.pop("layers"))
        table = np.array(document.pop("physical_to_logical"), np.int64)
        weights, counts = document.pop("weights", None), document.pop("counts", None)
        model = str(document.pop("model", ""))
    except OSError as error:
        raise BadInput(f"'{path}' can't be read: {error}") from error
    except KeyError as error:
        raise BadInput(f"'{path}' is no plan: it has no {error}") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise BadInput(f"'{path}' is no plan: {error}") from error
    if len(table) != layers:
        raise BadInput(f"'{path}': physical_to_logical has {len(table)} layers, 'layers' says {layers}")
    try:
        return Placement(
            shape,
            experts,
            table,
            None if weights is None else np.array(weights, np.float64),
            model,
            None if counts is None else np.array(counts, np.float64),
            document,
        )
    except (BadInput, ValueError) as error:
        raise BadInput(f"'{path}': {error}") from error
