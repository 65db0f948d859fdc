"""Selections by score: of reward models, verifiers or pruning."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

from pydantic import Field

from operators.select.classes import one_verifier
from operators.select.selection import PATHS, SCORES, VERDICTS, Voting, refuse_negative
from schemas.datasets import Verdict
from schemas.errors import BadInput
from schemas.later import pl

Transform = Literal["none", "sigmoid", "softmax"]


class _Scored(Voting):
    transform: Transform = "none"
    """What is made of a score: ``sigmoid`` for a reward model's logits, ``softmax`` over the samples of a problem."""
    temperature: float = Field(default=1.0, gt=0.0)
    """The temperature of ``sigmoid`` and ``softmax``: scores are divided by it before."""

    def transformed(self) -> pl.Expr:
        """Return the score as a weight."""
        score = pl.when(pl.col("score").is_finite()).then(pl.col("score"))
        if self.transform == "sigmoid":
            return 1.0 / (1.0 + (-score / self.temperature).clip(-math.inf, 700.0).exp())
        if self.transform == "softmax":
            return ((score - score.max().over("problem_key")) / self.temperature).exp()
        return score


class WeightedVote(_Scored):
    """Pick the answer with the largest sum of scores (weighted self-consistency, Li et al. 2023).

    Weights are the ``scores``; or, where there are none, those of ``paths`` (``prune.confidence``). A pruned path
    weighs nothing. Of several scorers each gets an answer of its own. With ``by = "credit"`` weights are the verifiers'
    credits (1 or 0 where a verifier gives none), and each verifier gets an answer of its own.
    """

    version: ClassVar[int] = 1
    inputs = {
        "verdicts": Verdict.select(*VERDICTS.names, "credit"),
        "scores": SCORES,
        "paths": PATHS,
    }
    optional = frozenset({"scores", "paths"})

    by: Literal["scores", "credit"] = "scores"
    """What weighs a sample: its score, or the verifier's credit."""

    def run(
        self,
        verdicts: pl.DataFrame,
        samples: pl.DataFrame | None = None,
        scores: pl.DataFrame | None = None,
        paths: pl.DataFrame | None = None,
    ) -> pl.DataFrame:
        """Return one row per problem and scorer.

        Raises:
            BadInput: neither scores nor paths, or negative weights.
        """
        if self.by == "credit":
            scores = verdicts.select(
                "problem_key",
                "sample_index",
                pl.col("verifier").alias("scorer"),
                pl.coalesce("credit", pl.col("is_correct").cast(pl.Float64)).alias("score"),
            )
        elif scores is None and paths is None:
            raise BadInput(
                "select.weighted has nothing to weigh by: connect 'scores' (score.*) or 'paths' (prune.*), or set "
                "by = credit"
            )
        return super().run(one_verifier(verdicts).drop("credit"), scores=scores, paths=paths)

    def weigh(self, ballots: pl.DataFrame) -> pl.Expr:
        if "score" not in ballots.columns:
            return pl.col("weight")
        weight = self.transformed()
        refuse_negative(ballots, weight, "select.weighted", "Set transform = sigmoid where scores are logits")
        return weight * pl.col("kept").fill_null(False) if "kept" in ballots.columns else weight


class BestOfN(_Scored):
    """Pick the answer of the sample with the best score (Best-of-N).

    Confidence is the score itself, up to 1: set ``transform`` where scores aren't probabilities. Of several scorers
    each gets an answer of its own.
    """

    version: ClassVar[int] = 1
    inputs = {"verdicts": VERDICTS, "scores": SCORES}
    largest = True

    def weigh(self, ballots: pl.DataFrame) -> pl.Expr:
        return self.transformed()
