"""Experts that go with thinking (Wang et al. 2025, "Two Experts Are All You Need for Steering Thinking", RICE).

In a mixture of experts some experts are chosen where a model begins, ends or turns its thoughts. They are found by
normalised pointwise mutual information with the tokens that mark this; strengthening the first two of them makes the
model think with more effort.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from operators.piecewise import PiecewiseOperator
from schemas.contract import polars_schema
from schemas.errors import BadInput
from schemas.experts import ExpertRelevance, Routing
from schemas.later import pl

MARKERS = ("<think>", "</think>", "Alternatively")


class MeasureRice(PiecewiseOperator):
    """Rank the experts of all layers by their mean nPMI with the markers.

    nPMI(e; x) = log2[p(e, x) / (p(e) p(x))] / -log2 p(e, x), with probabilities over the tokens of the expert's layer:
    1 where expert and marker only occur together, 0 where they are independent, -1 (by convention) where they never
    meet. Equal ones are ranked by layer and expert.
    """

    version: ClassVar[int] = 1
    inputs = {"routing": Routing.select("problem_key", "layer", "token", "experts")}
    output = ExpertRelevance

    markers: Annotated[tuple[str, ...], Field(min_length=1)] = MARKERS
    """Tokens, compared without the white space around them."""
    top: int = Field(default=2, ge=1)
    """How many experts to strengthen, the most relevant ones first."""
    multiplier: float = Field(default=64.0, gt=0.0)
    """By how much the routing weights of these experts are multiplied."""

    def partial(self, routing: pl.DataFrame) -> pl.DataFrame:
        """Return how often each expert of each layer, and each layer, met each marker (``""``: any token)."""
        token = pl.col("token").str.strip_chars()
        rows = routing.with_columns(marker=pl.when(token.is_in(list(self.markers))).then(token).otherwise(pl.lit("")))
        whole = rows.group_by("layer", "marker").agg(count=pl.len()).with_columns(expert=pl.lit(-1, dtype=pl.Int64))
        chosen = rows.explode("experts").drop_nulls("experts").group_by("layer", "marker", "experts")
        each = chosen.agg(count=pl.len()).rename({"experts": "expert"})
        columns = ["layer", "expert", "marker", pl.col("count").cast(pl.Int64)]
        return pl.concat([whole.select(columns), each.select(columns)])

    def merge(self, partials: pl.DataFrame) -> pl.DataFrame:
        """Return one row for each expert that was ever chosen, the most relevant first.

        Raises:
            BadInput: none of the markers occurs.
        """
        counts = partials.group_by("layer", "expert", "marker").agg(pl.col("count").sum())
        layers = counts.filter(pl.col("expert") < 0)
        seen = layers.filter(pl.col("marker") != "").select("layer", "marker", of_marker="count")
        if not len(seen):
            raise BadInput(f"measure.rice: none of the markers {list(self.markers)} occurs in the routing; set markers")
        tokens = layers.group_by("layer").agg(tokens_of_layer=pl.col("count").sum())
        experts = counts.filter(pl.col("expert") >= 0)
        whole = experts.group_by("layer", "expert").agg(tokens=pl.col("count").sum())
        pairs = whole.join(seen, on="layer").join(tokens, on="layer")
        pairs = pairs.join(experts.rename({"count": "both"}), on=["layer", "expert", "marker"], how="left")
        joint, either, marker = (
            pl.col(name).fill_null(0) / pl.col("tokens_of_layer") for name in ("both", "tokens", "of_marker")
        )
        npmi = (joint / (either * marker)).log(2.0) / -joint.log(2.0)
        npmi = pl.when(joint == 0.0).then(-1.0).when(joint >= 1.0).then(1.0).otherwise(npmi)
        table = pairs.with_columns(npmi=npmi.clip(-1.0, 1.0)).sort("layer", "expert", "marker")
        table = table.group_by("layer", "expert", maintain_order=True).agg(
            pl.col("npmi").mean(), pl.col("tokens").first()
        )
        table = table.sort("npmi", "layer", "expert", descending=[True, False, False])
        table = table.with_columns(rank=pl.int_range(1, pl.len() + 1))
        weight = pl.when(pl.col("rank") <= self.top).then(self.multiplier).otherwise(1.0)
        table = table.with_columns(weight=weight).sort("rank")
        return table.select(pl.col(name).cast(dtype) for name, dtype in polars_schema(ExpertRelevance).items())
