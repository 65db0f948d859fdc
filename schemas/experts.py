"""Contracts of mixtures of experts: which experts tokens went to, and which of them matter."""

from __future__ import annotations

from schemas import columns
from schemas.contract import Contract


class ExpertCount(Contract):
    """How many tokens one expert of one layer served on one night."""

    model = columns.String(primary_key=True)
    """The model's name."""
    revision = columns.String(primary_key=True)
    """Its revision."""
    quantization = columns.String(primary_key=True)
    """How the weights are stored, as the engine was told; empty where their own configuration says it."""
    job_class = columns.String(primary_key=True)
    """What kind of work it was."""
    night = columns.Date(primary_key=True)
    """The date of the night."""
    layer = columns.key(minimum=0)
    expert = columns.key(minimum=0)
    tokens = columns.count()
    """Tokens that the router sent to the expert."""


class Routing(Contract):
    """Which experts one layer chose for one token of a completion: from an engine that tells."""

    problem_key = columns.String(primary_key=True)
    sample_index = columns.key(minimum=0)
    position = columns.key(minimum=0)
    layer = columns.key(minimum=0)
    token = columns.text()
    """The token's place in the model's vocabulary."""
    experts = columns.List(columns.Int64(nullable=False, min=0), nullable=False)
    """The experts that were chosen, the most weighty first."""


class ExpertRelevance(Contract):
    """How closely an expert goes with tokens that mark reasoning (measure.rice)."""

    layer = columns.key(minimum=0)
    expert = columns.key(minimum=0)
    npmi = columns.Float64(nullable=False, min=-1.0, max=1.0)
    """The mean over the markers that occur."""
    rank = columns.Int64(nullable=False, min=1)
    """1 is the closest."""
    weight = columns.Float64(nullable=False, min=0.0)
    """What its routing weight is multiplied with."""
    tokens = columns.count()
    """Tokens that it was chosen for."""


EXPERTS: dict[str, type[Contract]] = {
    "expert_counts": ExpertCount,
    "routing": Routing,
    "expert_relevance": ExpertRelevance,
}
"""Dataset names."""
