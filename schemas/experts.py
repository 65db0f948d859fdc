"""Contracts of mixtures of experts: which experts tokens went to, and which of them matter."""

from __future__ import annotations

import dataframely as dy

from schemas import columns
from schemas.contract import Contract


class ExpertCount(Contract):
    """How many tokens one expert of one layer served on one night."""

    model = dy.String(primary_key=True)
    revision = dy.String(primary_key=True)
    quantization = dy.String(primary_key=True)
    """How the weights are stored, as the engine was told; empty where their own configuration says it."""
    job_class = dy.String(primary_key=True)
    night = dy.Date(primary_key=True)
    layer = columns.key(minimum=0)
    expert = columns.key(minimum=0)
    tokens = columns.count()


class Routing(Contract):
    """Which experts one layer chose for one token of a completion: from an engine that tells."""

    problem_key = dy.String(primary_key=True)
    sample_index = columns.key(minimum=0)
    position = columns.key(minimum=0)
    layer = columns.key(minimum=0)
    token = columns.text()
    experts = dy.List(dy.Int64(nullable=False, min=0), nullable=False)


class ExpertRelevance(Contract):
    """How closely an expert goes with tokens that mark reasoning (measure.rice)."""

    layer = columns.key(minimum=0)
    expert = columns.key(minimum=0)
    npmi = dy.Float64(nullable=False, min=-1.0, max=1.0)
    """The mean over the markers that occur."""
    rank = dy.Int64(nullable=False, min=1)
    weight = dy.Float64(nullable=False, min=0.0)
    """What its routing weight is multiplied with."""
    tokens = columns.count()
    """Tokens that it was chosen for."""


EXPERTS: dict[str, type[Contract]] = {
    "expert_counts": ExpertCount,
    "routing": Routing,
    "expert_relevance": ExpertRelevance,
}
"""Dataset names."""
